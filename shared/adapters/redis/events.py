"""The event log in Redis: one stream and one counter per session, both under the same cluster slot.

Implements `EventLog`.

One script numbers, appends, trims and announces a batch atomically; batches of different sessions share a
pipeline. Readers follow through pub/sub, one connection per process however many streams it serves.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from shared.adapters.redis.guard import LOST, RedisGuard
from shared.batching import Batcher
from shared.errors import CacheUnavailable
from shared.ids import new_id
from shared.sessions.events import READ_BYTES, EventLogUnavailable, EventTarget, LogSlice, SeqLeaseNeeded

log = logging.getLogger(__name__)

_COUNTER_SECONDS = 90 * 86_400
"""A counter lives much longer than its stream: without it, the next event would leave a gap in the numbers."""

_SUBSCRIBE_S = 2.0
"""For what goes over the listening connection, which has no timeout of its own."""
_HEARTBEAT_S = 1.0
"""After a second without news the listening connection is pinged, and after another without an answer it is dead."""
_IDLE = "parley:idle"
_KNOWN_LIMIT = 10_000

_QUEUE_LIMIT = 1_000
"""Batches that a slow follower may lag behind before it is told to catch up from the stream."""
_QUEUE_BYTES = 256 * 1024
"""The same in bytes, unless it is one batch alone."""
_QUEUES_BYTES = 16 * 1024 * 1024
"""Of all followers of the process together: then the one that lags furthest behind is told to catch up."""

# KEYS: counter hash, stream. ARGV: floor, ceiling, may_seed, max length, stream ttl, counter ttl, channel, append id,
# newest number that the process knows, body... Returns the first number, or -1: no counter (lost), or one that has gone
# back, or -2: the ceiling is reached. The client repeats a call when it missed the answer; by the append id the script
# recognises the repeat.
_APPEND = """
local kept = redis.call('HMGET', KEYS[1], 'seq', 'ceiling', 'append', 'first')
if kept[3] == ARGV[8] then return tonumber(kept[4]) end
local floor = tonumber(ARGV[1])
local ceiling = math.max(tonumber(kept[2] or '0'), tonumber(ARGV[2]))
local seq = tonumber(kept[1] or '-1')
if seq < 0 and ARGV[3] ~= '1' then return -1 end
if seq < floor then seq = floor end
-- A replica that was promoted before it had everything: these numbers were given out.
if seq < tonumber(ARGV[9]) then return -1 end
local count = #ARGV - 9
if seq + count > ceiling then return -2 end
local announced = {seq + 1}
for i = 1, count do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], string.format('%.0f-0', seq + i), 'e', ARGV[9 + i])
  announced[i + 1] = ARGV[9 + i]
end
redis.call('HSET', KEYS[1], 'seq', string.format('%.0f', seq + count), 'ceiling', string.format('%.0f', ceiling),
  'append', ARGV[8], 'first', string.format('%.0f', seq + 1))
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('EXPIRE', KEYS[2], ARGV[5])
redis.call('PUBLISH', ARGV[7], table.concat(announced, '\\n'))
return seq + 1
"""

# KEYS: counter hash, stream. ARGV: XRANGE or XREVRANGE, the two ends, most entries, most bytes. Returns the counter,
# whether the bytes were the bound, and the entries: at least the first, however large it is. It looks at a few at a
# time, and at fewer where they are large, so that Redis copies little that it does not send.
_READ = """
local left, found, asked, largest, from = tonumber(ARGV[5]), {}, 4, 1, ARGV[2]
local newest = redis.call('HGET', KEYS[1], 'seq')
while #found < tonumber(ARGV[4]) do
  local count = math.min(asked, tonumber(ARGV[4]) - #found, math.max(1, math.floor(left / largest)))
  local entries = redis.call(ARGV[1], KEYS[2], from, ARGV[3], 'COUNT', count)
  for _, entry in ipairs(entries) do
    local size = #entry[2][2]
    if #found > 0 and size > left then return {newest, 1, found} end
    found[#found + 1] = entry
    left, largest, from = left - size, math.max(largest, size), '(' .. entry[1]
  end
  if #entries < count then break end
  asked = math.min(32, asked * 2)
end
return {newest, 0, found}
"""


def _slot(feed: str) -> str:
    return f"parley:{{{feed}}}"


def _counter(feed: str) -> str:
    return _slot(feed) + ":seq"


def _stream(feed: str) -> str:
    return _slot(feed) + ":events"


def _channel(feed: str) -> str:
    return _slot(feed) + ":live"


class RedisEventLog:
    """`EventLog` over Redis streams.

    listening: a client without a read timeout, for the one connection that waits for live events.

    length: events kept per session (approximately). ttl_seconds: how long a session's stream is kept after its last
    event.
    """

    def __init__(
        self, redis: Redis, listening: Redis, guard: RedisGuard | None = None, *, length: int, ttl_seconds: int
    ) -> None:
        self._redis = redis
        self._guard = guard or RedisGuard(redis)
        self._length = length
        self._ttl_seconds = ttl_seconds
        self._read = redis.register_script(_READ)
        self._sha: str | None = None
        self._writer = new_id()
        self._appends = itertools.count()
        self._batcher = Batcher[tuple[EventTarget, Sequence[bytes]], int](self._append_many)
        self._followers = _Followers(listening)
        self._known = _Newest()

    async def append(self, target: EventTarget, bodies: Sequence[bytes]) -> int:
        first = await self._batcher.submit((target, bodies))
        if first == -1:
            raise SeqLeaseNeeded(lost=True)
        if first == -2:
            raise SeqLeaseNeeded(lost=False)
        self._known.see(target.feed, first + len(bodies) - 1)
        return first

    async def _append_many(self, batch: Sequence[tuple[EventTarget, Sequence[bytes]]]) -> Sequence[int | BaseException]:
        results = await self._guarded(lambda: self._numbered(batch))
        return [
            EventLogUnavailable(str(result)) if isinstance(result, RedisError) else int(result) for result in results
        ]

    async def _numbered(self, batch: Sequence[tuple[EventTarget, Sequence[bytes]]]) -> list[Any]:
        if self._sha is None:
            self._sha = await self._redis.script_load(_APPEND)
        results = await self._run(self._sha, batch)
        if any(isinstance(result, NoScriptError) for result in results):
            # The server restarted and lost its scripts; none of these calls ran.
            self._sha = await self._redis.script_load(_APPEND)
            again = [index for index, result in enumerate(results) if isinstance(result, NoScriptError)]
            redone = await self._run(self._sha, [batch[index] for index in again])
            for index, result in zip(again, redone, strict=True):
                results[index] = result
        return results

    async def _guarded[T](self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._guard.run(call)
        except CacheUnavailable as exc:
            raise EventLogUnavailable(str(exc)) from exc

    async def _run(self, sha: str, batch: Sequence[tuple[EventTarget, Sequence[bytes]]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for target, bodies in batch:
            feed = target.feed
            pipeline.evalsha(
                sha,
                2,
                _counter(feed),
                _stream(feed),
                target.seq_floor,
                target.seq_ceiling,
                1 if target.may_seed else 0,
                self._length,
                self._ttl_seconds,
                _COUNTER_SECONDS,
                _channel(feed),
                f"{self._writer}:{next(self._appends)}",
                self._known.get(feed),
                *bodies,
            )
        return await pipeline.execute(raise_on_error=False)

    async def read(self, feed: str, after: int, limit: int) -> LogSlice:
        newest, is_cut, found = await self._some(feed, "XRANGE", f"({after}-0", "+", limit)
        if newest is not None:
            self._known.see(feed, int(newest))
        items = [_entry(entry) for entry in found]
        return LogSlice(items, last_seq=None if newest is None else int(newest), is_cut=bool(is_cut))

    async def read_back(self, feed: str, before: int | None, limit: int) -> list[tuple[int, bytes]]:
        if before is not None and before <= 1:
            return []
        _, _, found = await self._some(feed, "XREVRANGE", "+" if before is None else f"({before}-0", "-", limit)
        return [_entry(entry) for entry in found]

    async def _some(self, feed: str, command: str, first: str, last: str, limit: int) -> Any:
        keys = [_counter(feed), _stream(feed)]
        return await self._guarded(lambda: self._read(keys=keys, args=[command, first, last, limit, READ_BYTES]))

    async def follow(self, feed: str) -> AsyncGenerator[list[tuple[int, bytes]] | None]:
        queue = _Queue(self._followers.held)
        try:
            # Shielded: a reader that is cancelled here must not leave the shared connection half subscribed.
            await asyncio.shield(self._followers.add(_channel(feed), queue))
            while True:
                item = await queue.get()
                if isinstance(item, EventLogUnavailable):
                    raise item
                if item:
                    self._known.see(feed, item[-1][0])
                yield item
        finally:
            try:
                await asyncio.shield(self._followers.remove(_channel(feed), queue))
            finally:
                queue.clear()

    async def erase(self, feed: str) -> None:
        await self._guarded(lambda: self._redis.delete(_counter(feed), _stream(feed)))

    async def ping(self) -> None:
        """Raises EventLogUnavailable when Redis does not answer."""
        await self._guarded(self._redis.ping)

    async def renew(self) -> None:
        """Move live following to a new connection, since a subscribed connection cannot renew its credentials."""
        await self._followers.renew()

    async def aclose(self) -> None:
        """Stop following; the Redis client itself belongs to the composition root."""
        await self._followers.aclose()


def _entry(entry: Any) -> tuple[int, bytes]:
    """(b"17-0", [b"e", body]) as (17, body)."""
    name, (_, body) = entry
    return int(bytes(name).split(b"-", 1)[0]), body


class _Newest:
    """The newest number of each feed that this process has given out, read or heard of; of the feeds used last."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()

    def get(self, feed: str) -> int:
        return self._numbers.get(feed, 0)

    def see(self, feed: str, number: int) -> None:
        self._numbers[feed] = max(number, self.get(feed))
        self._numbers.move_to_end(feed)
        if len(self._numbers) > _KNOWN_LIMIT:
            self._numbers.popitem(last=False)


type _News = list[tuple[int, bytes]] | EventLogUnavailable | None


class _Queue(asyncio.Queue[_News]):
    """What a follower has not taken yet."""

    def __init__(self, all_together: _Held) -> None:
        super().__init__(_QUEUE_LIMIT)
        self.held = _Held()
        self._all_together = all_together

    def _put(self, item: _News) -> None:
        super()._put(item)
        self._count(_size_bytes(item))

    def _get(self) -> _News:
        item = super()._get()
        self._count(-_size_bytes(item))
        return item

    def _count(self, size_bytes: int) -> None:
        self.held.size_bytes += size_bytes
        self._all_together.size_bytes += size_bytes

    def has_room_for(self, size_bytes: int) -> bool:
        return not self.full() and (not self.held.size_bytes or self.held.size_bytes + size_bytes <= _QUEUE_BYTES)

    def replace(self, item: _News) -> None:
        """Drop everything for this; None tells the follower to read the stream instead."""
        self.clear()
        self.put_nowait(item)

    def clear(self) -> None:
        while not self.empty():
            self.get_nowait()


@dataclass(slots=True)
class _Held:
    size_bytes: int = 0


def _size_bytes(item: _News) -> int:
    return sum(len(body) for _, body in item) if isinstance(item, list) else 0


class _Followers:
    """All live readers of this process over one pub/sub connection."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queues: dict[bytes, set[_Queue]] = {}
        self.held = _Held()
        self._pubsub: Any = None
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def add(self, channel: str, queue: _Queue) -> None:
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

    async def remove(self, channel: str, queue: _Queue) -> None:
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

    def _hand(self, channel: bytes, item: _News) -> None:
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
