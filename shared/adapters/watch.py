"""Whether a store can be reached, found out beside those who need it. Implements no port: `postgres` and `redis` build
on it.

Invariant: one question at a time, however many suspect the store; while it is away it is asked again and again, and its
first answer ends that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod

log = logging.getLogger(__name__)


class Watch(ABC):
    """Asks a store when somebody suspects it, and while it is away. A subclass says how, and what follows."""

    name = ""
    """Of the store, as the log says it."""

    def __init__(self) -> None:
        self.is_away = False
        self._task: asyncio.Task[None] | None = None

    def suspect(self) -> None:
        """Somebody waits for long, was refused, or lost a connection. Find out, unless that is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._find_out())

    async def settled(self) -> None:
        """Wait until it is known to answer, if that is in doubt."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @abstractmethod
    async def _answers(self) -> bool:
        """Ask it once, within a bound."""

    @abstractmethod
    def _leave(self) -> None:
        """It is away since now."""

    @abstractmethod
    async def _return(self) -> None:
        """It answers again; afterwards all use it."""

    @abstractmethod
    def _pause_s(self) -> float:
        """Between two questions while it is away."""

    async def _find_out(self) -> None:
        began = time.monotonic()
        while not await self._answers():
            if not self.is_away:
                self.is_away = True
                self._leave()
            await asyncio.sleep(self._pause_s())
        if self.is_away:
            await self._return()
            self.is_away = False
            log.warning("%s is back after %.1f s", self.name, time.monotonic() - began)

    def _tell(self, exc: Exception) -> None:
        """Log why it is away, once."""
        if not self.is_away:
            log.warning("%s is away: %s: %s", self.name, type(exc).__name__, exc)
