"""Which sessions have open event streams, noted in Redis so that whoever writes events knows it.

A note is a time, which each process renews while it has a reader, and which says nothing when it is old: a process
that is killed leaves none that lasts. It says how soon events are wanted, and never whether: they are announced all the
same.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

from shared.adapters.redis.feeds import counter
from shared.errors import CacheUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.adapters.redis.guard import RedisGuard

NOTE_LASTS_S = 60.0
"""Much longer than RENEWED_EVERY_S: a note may be late, and clocks may differ."""
RENEWED_EVERY_S = 20.0

# KEYS: counter hash. ARGV: now. A counter that is gone is not made again.
_NOTE = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'followed', ARGV[1]) end
"""


def is_followed(noted_s: float, now_s: float) -> bool:
    """Both in seconds since 1970."""
    return now_s - noted_s < NOTE_LASTS_S


class FollowedFeeds:
    """Those that this process has readers of. While Redis is away nothing is noted, and nothing fails."""

    def __init__(self, redis: Redis, guard: RedisGuard, *, renewed_every_s: float = RENEWED_EVERY_S) -> None:
        self._redis = redis
        self._guard = guard
        self._renewed_every_s = renewed_every_s
        self._readers = Counter[str]()
        self._new = set[str]()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, feed: str) -> None:
        """A reader has come. It does not wait for the note."""
        self._readers[feed] += 1
        if self._readers[feed] > 1:
            return
        self._new.add(feed)
        self._wake.set()
        if self._task is None:
            # In an empty context: it notes the feeds of all readers, not only the first one's.
            self._task = asyncio.create_task(self._run(), context=Context())

    def remove(self, feed: str) -> None:
        """A reader has gone, which nobody needs to know at once."""
        self._readers[feed] -= 1
        if self._readers[feed] <= 0:
            del self._readers[feed]

    def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self) -> None:
        try:
            while self._readers:
                self._wake.clear()
                new, self._new = self._new, set()
                # Woken by a newcomer, else all are noted again.
                await self._note(new or set(self._readers))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._renewed_every_s):
                        await self._wake.wait()
        finally:
            self._task = None

    async def _note(self, feeds: Iterable[str]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for feed in feeds:
            pipeline.eval(_NOTE, 1, counter(feed), f"{time.time():.0f}")
        with suppress(CacheUnavailable):  # readers hear the events all the same, if less often
            await self._guard.run(pipeline.execute)
