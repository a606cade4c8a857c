"""NCRONTAB schedules: `{second} {minute} {hour} {day} {month} {day-of-week}`, and `hh:mm:ss` intervals.

Five fields mean second 0. Unlike Unix cron, day and day-of-week must both match.
Invariant: `next_after(t)` is strictly later than `t`, and no matching instant lies between.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Protocol

_FIELDS = (
    ("second", 0, 59),
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day", 1, 31),
    ("month", 1, 12),
    ("day-of-week", 0, 7),
)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_INTERVAL = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})")
# The next 29 February can be eight years away (1896-1904, 2096-2104), and one on a given weekday forty.
_SEARCH_YEARS = 41


class Schedule(Protocol):
    """When a timer is due."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first due instant later than `moment` (both aware UTC); None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class IntervalSchedule:
    """A fixed interval, counted from the last run."""

    every: timedelta

    def next_after(self, moment: datetime) -> datetime | None:
        return moment + self.every


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A cron expression read in a time zone."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 = Sunday."""
    zone: tzinfo = UTC

    def next_after(self, moment: datetime) -> datetime | None:
        local = moment.astimezone(self.zone)
        if len(self.hours) == 24:
            # Step with the current UTC offset, so that it also runs in the hour that autumn repeats. If the
            # offset changes on the way, the found instant still counts when its own local time matches.
            offset = local.utcoffset() or timedelta()
            found = self._next_local(local.replace(tzinfo=None))
            if found is not None:
                instant = (found - offset).replace(tzinfo=UTC)
                if self._matches(instant.astimezone(self.zone)):
                    return instant
        wall: datetime | None = local.replace(tzinfo=None)
        while wall is not None and (wall := self._next_local(wall)) is not None:
            # A local time that spring skips is read with the offset before the change, so it fires that much later.
            instant = wall.replace(tzinfo=self.zone).astimezone(UTC)
            if instant > moment:
                return instant
        return None

    def _next_local(self, after: datetime) -> datetime | None:
        start = after.replace(microsecond=0) + timedelta(seconds=1)
        day, earliest = start.date(), start.time()
        for _ in range(366 * _SEARCH_YEARS):
            if self._matches_day(day) and (found := self._time_from(earliest)) is not None:
                return datetime.combine(day, found)
            if day >= date.max - timedelta(days=1):
                return None
            day, earliest = day + timedelta(days=1), time()
            if day.month not in self.months:
                day = _first_of_next_month(day)
        return None

    def _matches(self, local: datetime) -> bool:
        exact = local.hour in self.hours and local.minute in self.minutes and local.second in self.seconds
        return exact and self._matches_day(local.date())

    def _matches_day(self, day: date) -> bool:
        return day.day in self.days and day.month in self.months and day.isoweekday() % 7 in self.weekdays

    def _time_from(self, earliest: time) -> time | None:
        """The first matching time of a day at or after `earliest`."""
        for hour in self.hours[bisect_left(self.hours, earliest.hour) :]:
            from_minute = earliest.minute if hour == earliest.hour else 0
            for minute in self.minutes[bisect_left(self.minutes, from_minute) :]:
                exact = hour == earliest.hour and minute == earliest.minute
                index = bisect_left(self.seconds, earliest.second if exact else 0)
                if index < len(self.seconds):
                    return time(hour, minute, self.seconds[index])
        return None


def parse_schedule(text: str, zone: tzinfo = UTC) -> Schedule:
    """A schedule expression. Raises ValueError saying which field is wrong."""
    stripped = text.strip()
    if match := _INTERVAL.fullmatch(stripped):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        every = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if not every:
            raise ValueError(f"interval {text!r} is zero")
        return IntervalSchedule(every)
    fields = stripped.split()
    if len(fields) == 5:
        fields.insert(0, "0")
    if len(fields) != 6:
        raise ValueError(f"schedule {text!r} has {len(fields)} fields; it needs 6 (or 5, or hh:mm:ss)")
    seconds_, minutes_, hours_, days_, months_, weekdays_ = (
        _parse_field(field, *spec) for field, spec in zip(fields, _FIELDS, strict=True)
    )
    return CronSchedule(
        tuple(sorted(seconds_)),
        tuple(sorted(minutes_)),
        tuple(sorted(hours_)),
        frozenset(days_),
        frozenset(months_),
        frozenset(day % 7 for day in weekdays_),
        zone,
    )


def _parse_field(field: str, name: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        span, slash, step_text = part.partition("/")
        if slash and not (step_text.isdigit() and int(step_text) > 0):
            raise ValueError(f"{name} field {field!r}: {step_text!r} is not a step")
        first, last = _span(span, name, low, high, field, open_ended=bool(slash))
        values.update(range(first, last + 1, int(step_text) if slash else 1))
    return values


def _span(text: str, name: str, low: int, high: int, field: str, *, open_ended: bool) -> tuple[int, int]:
    top = 6 if name == "day-of-week" else high
    if text in {"*", "?"}:
        return low, top
    start_text, dash, end_text = text.partition("-")
    start = _value(start_text, name, low, high, field)
    if not dash:
        return start, (top if open_ended else start)
    end = _value(end_text, name, low, high, field)
    if end < start:
        raise ValueError(f"{name} field {field!r}: {text!r} runs backwards")
    return start, end


def _value(text: str, name: str, low: int, high: int, field: str) -> int:
    names = {"month": _MONTHS, "day-of-week": _DAYS}.get(name, ())
    short = text.upper()[:3]
    if names and text.isalpha() and short in names:
        return names.index(short) + (1 if name == "month" else 0)
    if not text.isdigit() or not low <= int(text) <= high:
        raise ValueError(f"{name} field {field!r}: {text!r} is not between {low} and {high}")
    return int(text)


def _first_of_next_month(day: date) -> date:
    if day.day == 1:
        return day.replace(month=day.month + 1) if day.month < 12 else date(day.year + 1, 1, 1)
    return _first_of_next_month(day.replace(day=1))
