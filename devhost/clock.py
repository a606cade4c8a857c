"""Time as a value: code that waits for an instant uses a clock, so tests can pass their own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol

# Long sleeps are split, so that a suspended laptop or a changed system clock is noticed within a minute.
_LONGEST_SLEEP_S = 60.0


class Clock(Protocol):
    """Wall-clock time."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    async def sleep_until(self, when: datetime) -> None:
        """Return once `now() >= when`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, when: datetime) -> None:
        # No event to wait for: only time passes.
        while (left := (when - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - see above
            await asyncio.sleep(min(left, _LONGEST_SLEEP_S))
