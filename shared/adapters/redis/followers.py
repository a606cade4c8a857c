"""All live readers of this process over one pub/sub connection to Redis.

Invariant: a follower is told when it may have missed something (None), and when the connection is gone (an error);
what it has not taken yet is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from shared.adapters.redis.guard import LOST
from shared.sessions.events import EventLogUnavailable

log = logging.getLogger(__name__)

_SUBSCRIBE_S = 2.0
"""For what goes over the listening connection, which has no timeout of its own."""
_HEARTBEAT_S = 1.0
"""After a second without news the listening connection is pinged, and after another without an answer it is dead."""
_IDLE = "parley:idle"

_QUEUE_LIMIT = 1_000
"""Batches that a slow follower may lag behind before it is told to catch up from the stream."""
_QUEUE_BYTES = 256 * 1024
"""The same in bytes, unless it is one batch alone."""
_QUEUES_BYTES = 16 * 1024 * 1024
"""Of all followers of the process together: then the one that lags furthest behind is told to catch up."""

type News = list[tuple[int, bytes]] | EventLogUnavailable | None


class Queue(asyncio.Queue[News]):
    """What a follower has not taken yet."""

    def __init__(self, all_together: _Held) -> None:
        super().__init__(_QUEUE_LIMIT)
        self.held = _Held()
        self._all_together = all_together

    def _put(self, item: News) -> None:
        super()._put(item)
        self._count(_size_bytes(item))

    def _get(self) -> News:
        item = super()._get()
        self._count(-_size_bytes(item))
        return item

    def _count(self, size_bytes: int) -> None:
        self.held.size_bytes += size_bytes
        self._all_together.size_bytes += size_bytes

    def has_room_for(self, size_bytes: int) -> bool:
        return not self.full() and (not self.held.size_bytes or self.held.size_bytes + size_bytes <= _QUEUE_BYTES)

    def replace(self, item: News) -> None:
        """Drop everything for this; None tells the follower to read the stream instead."""
        self.clear()
        self.put_nowait(item)

    def clear(self) -> None:
        while not self.empty():
            self.get_nowait()


@dataclass(slots=True)
class _Held:
    size_bytes: int = 0


def _size_bytes(item: News) -> int:
    return sum(len(body) for _, body in item) if isinstance(item, list) else 0


class Followers:
    """All live readers of this process over one pub/sub connection."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queues: dict[bytes, set[Queue]] = {}
        self.held = _Held()
        self._pubsub: Any = None
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def add(self, channel: str, queue: Queue) -> None:
        """Feed `queue` until it is removed. Its first item is None, when the subscription is confirmed."""
        name = channel.encode()
        async with self._lock:
            waiting = self._queues.setdefault(name, set())
            waiting.add(queue)
            try:
                async with asyncio.timeout(_SUBSCRIBE_S):
                    if self._pubsub is None:
                        self._pubsub = self._redis.pubsub()
                        # Reading ends without any subscription; this one keeps it running between followers.
                        await self._pubsub.subscribe(_IDLE)
                    # A repeated subscription is confirmed again, so this queue gets its None too.
                    await self._pubsub.subscribe(channel)
            except LOST as exc:
                waiting.discard(queue)
                await self._reset(exc)
                raise EventLogUnavailable(str(exc)) from exc
            if self._task is None:
                # In an empty context, since its logs concern all followers, not the first one's request.
                self._task = asyncio.create_task(self._pump(self._pubsub), context=Context())

    async def remove(self, channel: str, queue: Queue) -> None:
        """Remove a queue, also one whose `add` was cancelled."""
        name = channel.encode()
        async with self._lock:
            waiting = self._queues.get(name)
            if waiting is None:
                return
            waiting.discard(queue)
            if not waiting:
                del self._queues[name]
                if self._pubsub is not None:
                    with suppress(*LOST):
                        async with asyncio.timeout(_SUBSCRIBE_S):
                            await self._pubsub.unsubscribe(channel)

    async def renew(self) -> None:
        """Move to a new connection. Each new confirmation (None) makes its followers read the stream, which has the
        events missed meanwhile."""
        async with self._lock:
            if self._pubsub is None:
                return
            task, self._task = self._task, None
            old, self._pubsub = self._pubsub, self._redis.pubsub()
            try:
                async with asyncio.timeout(_SUBSCRIBE_S):
                    await self._pubsub.subscribe(_IDLE, *self._queues)
                self._task = asyncio.create_task(self._pump(self._pubsub))
            except LOST as exc:
                await self._reset(exc)
            finally:
                if task is not None:
                    task.cancel()
                with suppress(*LOST):
                    await old.aclose()

    async def aclose(self) -> None:
        async with self._lock:
            await self._reset(ConnectionError("closing"))

    async def _pump(self, pubsub: Any) -> None:
        reason: Exception = ConnectionError("the subscription ended")
        asked = False
        try:
            while pubsub.subscribed:
                # It connects again by itself, to somebody who may accept and never say a word.
                async with asyncio.timeout(_HEARTBEAT_S + _SUBSCRIBE_S):
                    message = await pubsub.get_message(timeout=_HEARTBEAT_S)
                if message is None:
                    # A connection whose other end is gone is as silent as one without news.
                    if asked:
                        reason = TimeoutError("no answer to a ping")
                        break
                    asked = True
                    async with asyncio.timeout(_HEARTBEAT_S):
                        await pubsub.ping()
                    continue
                asked = False
                if message["type"] == "message":
                    first, *bodies = message["data"].split(b"\n")
                    start = int(first)
                    self._hand(message["channel"], [(start + i, body) for i, body in enumerate(bodies)])
                elif message["type"] == "subscribe":
                    self._hand(message["channel"], None)
        except LOST as exc:
            reason = exc
        log.warning("live events interrupted: %s", reason)
        async with self._lock:
            if self._pubsub is pubsub:
                self._task = None  # this task itself: `_reset` must not cancel it
                await self._reset(reason)

    def _hand(self, channel: bytes, item: News) -> None:
        size_bytes = _size_bytes(item)
        for queue in self._queues.get(channel, ()):
            if queue.has_room_for(size_bytes):
                queue.put_nowait(item)
            else:
                queue.replace(None)
        if self.held.size_bytes > _QUEUES_BYTES:
            everybody = [queue for queues in self._queues.values() for queue in queues]
            for queue in sorted(everybody, key=lambda queue: queue.held.size_bytes, reverse=True):
                queue.replace(None)
                if self.held.size_bytes <= _QUEUES_BYTES:
                    break

    async def _reset(self, exc: BaseException) -> None:
        """Close the connection and send every follower an error; each decides whether to follow again."""
        gone, self._queues = self._queues, {}
        for queues in gone.values():
            for queue in queues:
                queue.replace(EventLogUnavailable(str(exc)))
        task, self._task = self._task, None
        pubsub, self._pubsub = self._pubsub, None
        if task is not None:
            task.cancel()
        if pubsub is not None:
            with suppress(*LOST):
                async with asyncio.timeout(_SUBSCRIBE_S):
                    await pubsub.aclose()
