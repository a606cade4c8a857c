"""Timer triggers.

A timer's status (last and next run) is stored in the data folder, so that a run missed while the host was
down happens at the next start, marked as past due.
Invariant: a timer never overlaps itself; its next due time is computed when a run has ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from devhost.app.describe import RetryPolicy
from devhost.app.dispatch import Dispatcher
from devhost.clock import Clock
from devhost.correlation import new_correlation_id
from devhost.extensions.contract import TIMER_TRIGGER, Function, FunctionFailed, HostError
from devhost.settings.datadir import read_json, write_json
from devhost.timers.ncrontab import IntervalSchedule, Schedule, parse_schedule

logger = logging.getLogger("devhost.timers")

STATUS_FILE = "timers.json"
# Azure does not monitor more frequent schedules either: when the host is up again, the next run is due anyway.
_SHORTEST_MONITORED = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer function."""

    function: Function
    schedule: Schedule
    run_on_startup: bool
    use_monitor: bool
    retry: RetryPolicy | None


@dataclass(frozen=True, slots=True)
class Status:
    """The stored status of a timer. Aware UTC instants."""

    last: datetime | None
    next: datetime | None
    updated: datetime

    def to_json(self) -> dict[str, str]:
        """The keys of `TimerRequest.schedule_status`; a timer that never ran has .NET's zero date."""
        zero = "0001-01-01T00:00:00+00:00"
        return {
            "Last": self.last.isoformat() if self.last else zero,
            "Next": self.next.isoformat() if self.next else zero,
            "LastUpdated": self.updated.isoformat(),
        }


class TimerService:
    """Runs the timer functions of an app."""

    def __init__(self, dispatcher: Dispatcher, timers: tuple[Timer, ...], clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._timers = {timer.function.name: timer for timer in timers}
        self._clock = clock
        self._store = _StatusStore(dispatcher.context.data_dir / STATUS_FILE)
        self._running = {name: asyncio.Lock() for name in self._timers}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start watching every enabled timer."""
        for timer in self._timers.values():
            if not timer.function.disabled:
                self._tasks.append(asyncio.create_task(self._watch(timer), name=f"timer {timer.function.name}"))

    async def stop(self) -> None:
        """Stop watching and cancel running timer functions."""
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.error("a timer loop had ended with %r", outcome)
        self._tasks.clear()

    async def run_by_hand(self, function: Function) -> None:
        """Run a timer function now, between its scheduled runs. Raises FunctionFailed."""
        timer = self._timers[function.name]
        async with self._running[function.name]:
            await self._call(timer, is_past_due=False)

    async def _watch(self, timer: Timer) -> None:
        name = timer.function.name
        now = self._clock.now()
        past_due = timer.use_monitor and self._check_past_due(timer, now)
        if past_due or timer.run_on_startup:
            await self._run(timer, is_past_due=past_due)
        due = timer.schedule.next_after(self._clock.now())
        while due is not None:
            self._remember(timer, self._store.last(name), due)
            await self._clock.sleep_until(due)
            await self._run(timer, is_past_due=False, due=due)
            due = self._following(timer.schedule, due)
        logger.warning("%s has no further run: its schedule never matches again", name)

    def _check_past_due(self, timer: Timer, now: datetime) -> bool:
        """Whether a run was missed while the host was down, by the current schedule."""
        known = self._store.get(timer.function.name)
        if known is None:
            return False
        expected = timer.schedule.next_after(known.last or known.updated)
        return expected is not None and expected < now

    def _following(self, schedule: Schedule, due: datetime) -> datetime | None:
        now = self._clock.now()
        if isinstance(schedule, IntervalSchedule):
            return schedule.next_after(now)
        # The clock may wake us slightly early; counting from `due` avoids running the same instant twice.
        return schedule.next_after(max(now, due))

    async def _run(self, timer: Timer, *, is_past_due: bool, due: datetime | None = None) -> None:
        name = timer.function.name
        async with self._running[name]:
            started = due or self._clock.now()
            try:
                await self._call(timer, is_past_due=is_past_due)
            except FunctionFailed:
                # Already logged by the dispatcher; a failed run counts as a run, as in Azure.
                logger.debug("timer %s failed", name)
            self._remember(timer, started, timer.schedule.next_after(self._clock.now()))

    async def _call(self, timer: Timer, *, is_past_due: bool) -> None:
        status = self._store.get(timer.function.name) if timer.use_monitor else None
        payload = json.dumps(
            {
                "Schedule": {"AdjustForDST": True},
                "ScheduleStatus": status.to_json() if status else None,
                "IsPastDue": is_past_due,
            }
        )
        correlation = new_correlation_id()
        most = timer.retry.max_retries if timer.retry else 0
        attempt = 0
        while True:
            try:
                await self._dispatcher.invoke(
                    timer.function, payload, correlation_id=correlation, retry=(attempt, most)
                )
                return
            except FunctionFailed:
                if timer.retry is None or 0 <= most <= attempt:
                    raise
            attempt += 1
            await self._clock.sleep_until(self._clock.now() + timedelta(seconds=timer.retry.delay_s(attempt)))

    def _remember(self, timer: Timer, last: datetime | None, following: datetime | None) -> None:
        if timer.use_monitor:
            self._store.put(timer.function.name, Status(last, following, self._clock.now()))


class _StatusStore:
    """timers.json."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._all: dict[str, Any] = read_json(path)

    def get(self, name: str) -> Status | None:
        raw = self._all.get(name)
        if raw is None:
            return None
        return Status(_instant(raw["last"]), _instant(raw["next"]), datetime.fromisoformat(raw["updated"]))

    def last(self, name: str) -> datetime | None:
        known = self.get(name)
        return known.last if known else None

    def put(self, name: str, status: Status) -> None:
        self._all[name] = {
            "last": status.last.isoformat() if status.last else None,
            "next": status.next.isoformat() if status.next else None,
            "updated": status.updated.isoformat(),
        }
        write_json(self._path, self._all)


def find_timers(
    functions: tuple[Function, ...], retries: Mapping[str, RetryPolicy], settings: Mapping[str, str], now: datetime
) -> tuple[Timer, ...]:
    """The app's timers. Raises HostError naming a function whose schedule or zone cannot be read."""
    zone = _zone(settings.get("WEBSITE_TIME_ZONE"))
    timers = []
    for function in functions:
        if function.trigger.type != TIMER_TRIGGER:
            continue
        raw = function.trigger.raw
        try:
            schedule = parse_schedule(str(raw.get("schedule", "")), zone)
        except ValueError as exc:
            raise HostError(f"function '{function.name}': {exc}") from exc
        monitor = raw.get("useMonitor")
        monitored = (monitor is None or _is_true(monitor)) and _is_sparse(schedule, now)
        timers.append(
            Timer(function, schedule, _is_true(raw.get("runOnStartup")), monitored, retries.get(function.function_id))
        )
    return tuple(timers)


def _is_sparse(schedule: Schedule, now: datetime) -> bool:
    """Whether the next few runs are all at least a minute apart."""
    moment = schedule.next_after(now)
    for _ in range(5):
        following = schedule.next_after(moment) if moment else None
        if moment is None or following is None:
            return True
        if following - moment < _SHORTEST_MONITORED:
            return False
        moment = following
    return True


def _zone(name: str | None) -> tzinfo:
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise HostError(f"WEBSITE_TIME_ZONE {name!r} is not an IANA time zone such as Europe/Prague") from exc


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
