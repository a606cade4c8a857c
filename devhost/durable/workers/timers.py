"""Durable timers in memory: one heap, one alarm for the earliest.

Invariant: a timer fires once, not before its due time by the wall clock (a harsh engine's may be early). The alarm
uses the loop's monotonic clock for at most a minute at a time, so a suspended laptop or a changed clock is noticed
within a minute.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from devhost.durable.store.history import now_us
from devhost.durable.store.records import TaskRow

_LONGEST_ALARM_S = 60.0


class Timers:
    """fire is called on the loop with each due timer, earliest first."""

    def __init__(self, fire: Callable[[list[TaskRow]], None], early_s: Callable[[], float] = lambda: 0.0) -> None:
        self._fire = fire
        self._early_s = early_s
        self._heap: list[tuple[int, int, int]] = []
        self._armed: dict[tuple[int, int], TaskRow] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_due_us = 0

    def arm(self, timer: TaskRow) -> None:
        self._armed[timer.gen, timer.task_id] = timer
        rings_at_us = timer.fire_at_us - int(self._early_s() * 1e6)
        heapq.heappush(self._heap, (rings_at_us, timer.gen, timer.task_id))
        if self._alarm is None or rings_at_us < self._alarm_due_us:
            self._set_alarm()

    def cancel(self, gen: int, task_id: int) -> None:
        """Drop a timer; unknown ones are ignored. Its heap entry is skipped later."""
        self._armed.pop((gen, task_id), None)
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._armed):
            self._heap = [(timer.fire_at_us, *key) for key, timer in self._armed.items()]
            heapq.heapify(self._heap)

    def close(self) -> None:
        self._armed.clear()
        self._heap.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._heap and self._heap[0][1:] not in self._armed:
            heapq.heappop(self._heap)
        if self._heap:
            self._alarm_due_us = self._heap[0][0]
            delay_s = max(0.0, (self._alarm_due_us - now_us()) / 1e6)
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(min(delay_s, _LONGEST_ALARM_S), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now = now_us()
        due: list[TaskRow] = []
        while self._heap and self._heap[0][0] <= now:
            _, gen, task_id = heapq.heappop(self._heap)
            timer = self._armed.pop((gen, task_id), None)
            if timer is not None:
                due.append(timer)
        if due:
            self._fire(due)
        self._set_alarm()
