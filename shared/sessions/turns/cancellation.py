"""Stopping what runs when its turn is cancelled: one query for all turns of this process, a few times a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context

from shared.errors import AppError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.3
"""A cancel is noticed within this and one query: below the promised half second."""


class TurnCancelled(Exception):
    """The turn was cancelled while this ran."""


class CancelWatch:
    """Watches turns for a cancel request while something of theirs runs in this process."""

    def __init__(
        self, cancelled_of: Callable[[Sequence[str]], Awaitable[set[str]]], *, poll_s: float = POLL_SECONDS
    ) -> None:
        self._cancelled_of = cancelled_of
        self._poll_s = poll_s
        self._watched: dict[str, set[_Guard]] = {}
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def guard(self, turn_id: str) -> AsyncIterator[None]:
        """Run the body; raises TurnCancelled at its next await once the turn is cancelled."""
        task = asyncio.current_task()
        assert task is not None
        guard = _Guard(task)
        self._watched.setdefault(turn_id, set()).add(guard)
        if self._task is None:
            # It watches for all turns: what it logs is not about the one that happened to come first.
            self._task = asyncio.create_task(self._poll(), context=Context())
        try:
            yield
        except asyncio.CancelledError:
            # As asyncio.timeout does it: only our own cancellation becomes ours to report.
            if guard.fired and task.uncancel() <= guard.cancelling:
                raise TurnCancelled from None
            raise
        except BaseException:
            if guard.fired:
                task.uncancel()  # the body made another error of it; that one is reported
            raise
        else:
            if guard.fired:
                # The body was faster than the cancellation: take it back, or it would hit whoever awaits next.
                task.uncancel()
        finally:
            guards = self._watched[turn_id]
            guards.discard(guard)
            if not guards:
                del self._watched[turn_id]

    async def _poll(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._poll_s)
                if not self._watched:
                    return
                try:
                    cancelled = await self._cancelled_of(list(self._watched))
                except AppError as exc:
                    log.warning("cancel requests cannot be read: %s", exc)
                    continue
                for turn_id in cancelled:
                    for guard in self._watched.get(turn_id, ()):
                        guard.fire()
        finally:
            self._task = None


class _Guard:
    """One running body."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self.cancelling = task.cancelling()
        self.fired = False

    def fire(self) -> None:
        if not self.fired:
            self.fired = True
            self._task.cancel()
