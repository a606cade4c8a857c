"""Concurrency limits: at most N pieces of work of one kind run at the same time, first come, first served.

Invariant: no polling. Work starts when it is submitted or when a slot becomes free.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine

logger = logging.getLogger("devhost.durable")

type Work = Callable[[], Coroutine[None, None, None]]


class Slots:
    """A queue with a limit. Work must handle its own errors; an escaped exception is logged as a defect."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[Work] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, work: Work) -> None:
        if self._closed:
            return
        if len(self._running) < self._limit:
            self._begin(work)
        else:
            self._waiting.append(work)

    async def drain(self, seconds: float) -> None:
        """Begin nothing more, and give what runs this long to end."""
        self._closed = True
        self._waiting.clear()
        if self._running and seconds > 0:
            logger.info("waiting for %d activities, at most %g s", len(self._running), seconds)
            await asyncio.wait(list(self._running), timeout=seconds)

    async def close(self) -> None:
        """Cancel running work and drop waiting work."""
        await self.drain(0)
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=2)

    def _begin(self, work: Work) -> None:
        task = asyncio.get_running_loop().create_task(work())
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("durable work failed inside the dev host", exc_info=error)
        while self._waiting and not self._closed and len(self._running) < self._limit:
            self._begin(self._waiting.popleft())
