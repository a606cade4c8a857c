"""SharedMetrics: adds up what all processes count.

Once a second a process adds its counts to a store that all processes share. Each flush has an id: a flush that is sent
again, because its answer was lost, counts once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextvars import Context
from typing import Protocol

from shared.ids import new_id
from shared.sessions.measuring.catalogue import Totals

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
RETRY_SECONDS = 5.0
"""Between two tries while the store is away; what is counted meanwhile waits in memory, summed up."""

LAST_FLUSH_SECONDS = 2.0
"""What a process that is stopping gives its last flush."""


class MetricsUnavailable(Exception):
    """The store of the totals cannot be reached."""


class MetricsStore(Protocol):
    """Where the totals of all processes come together (Redis)."""

    async def add(self, writer: str, flush: int, deltas: Totals) -> None:
        """Add `deltas`, once per (writer, flush) however often it is asked. Raises MetricsUnavailable."""
        ...

    async def totals(self) -> dict[str, int]:
        """Every field there is. Raises MetricsUnavailable."""
        ...


class Counts(Protocol):
    """What a process has counted and not brought yet (`MetricsCollector`)."""

    @property
    def is_empty(self) -> bool: ...

    def take(self) -> dict[str, int]:
        """All of it; it is the caller's now."""
        ...


class SharedMetrics:
    """Brings a process's counts to the shared store, and reads what all processes brought.

    While nothing is counted nothing runs: the first count after a flush begins the second until the next one.
    """

    def __init__(self, counts: Counts, store: MetricsStore, *, interval_s: float = FLUSH_SECONDS) -> None:
        self._counts = counts
        self._store = store
        self._interval_s = interval_s
        self._writer = new_id()
        self._flushes = itertools.count(1)
        self._unsure: tuple[int, dict[str, int]] | None = None
        """A flush that was sent and not confirmed: it goes again as it is, under its own number."""
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is something to bring."""
        if self._task is None:
            # In a context of its own: it is no part of the request that happened to count first.
            self._task = asyncio.create_task(self._run(), name="metrics", context=Context())

    async def flush(self) -> None:
        """Bring everything counted so far. Raises MetricsUnavailable; nothing is lost then."""
        async with self._sending:
            while self._unsure is not None or not self._counts.is_empty:
                if self._unsure is None:
                    self._unsure = next(self._flushes), self._counts.take()
                await self._store.add(self._writer, *self._unsure)
                self._unsure = None

    async def totals(self) -> dict[str, int]:
        """The sums of all processes, with all of this one. Raises MetricsUnavailable."""
        await self.flush()
        return await self._store.totals()

    async def _run(self) -> None:
        delay_s, told = self._interval_s, False
        try:
            while self._unsure is not None or not self._counts.is_empty:
                await asyncio.sleep(delay_s)
                try:
                    await self.flush()
                except MetricsUnavailable as exc:
                    if not told:
                        log.warning("metrics stay in this process until their store is back: %s", exc)
                    delay_s, told = max(self._interval_s, RETRY_SECONDS), True
                else:
                    delay_s, told = self._interval_s, False
        except asyncio.CancelledError:
            # The loop is closing. What is not brought now is lost.
            try:
                async with asyncio.timeout(LAST_FLUSH_SECONDS):
                    await self.flush()
            except (MetricsUnavailable, TimeoutError) as exc:
                log.warning("the last counts of this process are lost: %s", exc)
            raise
        finally:
            self._task = None
