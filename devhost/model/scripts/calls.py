"""The call log of each script key: how often it was called and how those calls ended."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

MAX_KEYS = 10_000
_ARRIVALS_KEPT = 64


@dataclass(slots=True)
class CallLog:
    """The calls of one key."""

    calls: int = 0
    completed: int = 0
    failed: int = 0
    """Calls that got a fault."""
    abandoned: int = 0
    """Calls whose client disconnected before the end."""
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=_ARRIVALS_KEPT))
    """Times of the newest calls, seconds on a monotonic clock."""


class CallLogs:
    """Logs by key; the least recently used key is dropped first."""

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._logs: OrderedDict[str, CallLog] = OrderedDict()

    def arrived(self, key: str) -> CallLog:
        """Count a call and return the log of its key."""
        log = self._logs.setdefault(key, CallLog())
        self._logs.move_to_end(key)
        log.calls += 1
        log.arrivals.append(time.monotonic())
        if len(self._logs) > self._max_keys:
            self._logs.popitem(last=False)
        return log

    def get(self, key: str) -> CallLog:
        return self._logs.get(key, CallLog())
