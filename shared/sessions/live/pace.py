"""Pace: when the text that a model has streamed so far leaves as the next batch.

Each batch costs a call to Redis, and with a SignalR reader a function execution of its own. A reader sees no
difference between text that comes every 50 ms and every 150 ms; so batches grow once the first text is out:
- the first text leaves at once, and the next after SOON_S;
- later ones leave every PERIOD_S: fewer than eight in any second, none later than PERIOD_S after the one before;
- while nobody reads, batches leave ever more seldom, at most UNREAD_PERIODS apart: they keep the text for a reader who
  comes, and for an answer that is cut.

What is kept in the log and what is sent through SignalR leaves as the same events: they carry the same numbers, so a
finer log would be more messages too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PERIOD_S = 0.15
SOON_S = 0.05
UNREAD_PERIODS = (1, 2, 4)


class Pace:
    """Of one stream. All streams of the process leave on the same ticks, so that they share one pipeline to Redis and
    one call of the relay: its cost then does not grow with the number of streams."""

    def __init__(
        self, period_s: float = PERIOD_S, soon_s: float = SOON_S, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """clock: seconds from any beginning, the same for all streams of the process."""
        self._period_s = period_s
        self._soon_s = soon_s
        self._clock = clock
        self._is_first = True
        self._unread = 0

    def next_s(self, *, is_read: bool) -> float:
        """Seconds from now, when a batch has left, to the next one."""
        if not self._period_s:
            return 0.0
        left = self._period_s - self._clock() % self._period_s
        if left < self._soon_s:
            left += self._period_s
        is_first, self._is_first = self._is_first, False
        if is_read:
            self._unread = 0
            # Unless a tick comes about then anyway.
            return self._soon_s if is_first and left >= 2 * self._soon_s else left
        skipped = UNREAD_PERIODS[min(self._unread, len(UNREAD_PERIODS) - 1)] - 1
        self._unread += 1
        return left + skipped * self._period_s
