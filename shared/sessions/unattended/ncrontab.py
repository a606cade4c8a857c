"""When an NCRONTAB expression is due in a time zone, over changes of its clock.

The six fields are those of Azure's timers: second, minute, hour, day, month, day of week; day and day of week must both
match. The second is one number, so nothing is due more than once a minute.

The rule for clock changes: a time that the clock leaves out is due as much later as the clock jumps. A time that the
clock shows twice is due the first time only, unless the hour is `*`: what is due every hour is due in both.

Invariant: `next_after(t)` is later than `t`, and nothing is due between the two.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

MAX_EXPRESSION_CHARS = 120
_FIELDS = ("second", "minute", "hour", "day", "month", "day of week")
_NAMES = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|SUN|MON|TUE|WED|THU|FRI|SAT"
_ATOM = rf"(?:\d{{1,2}}|{_NAMES})"
_FIELD = re.compile(rf"(?:\*|{_ATOM}(?:-{_ATOM})?)(?:/\d{{1,2}})?(?:,(?:\*|{_ATOM}(?:-{_ATOM})?)(?:/\d{{1,2}})?)*")
_OPEN_STEP = re.compile(rf"(?<![-\w])({_ATOM})/")
_SEVEN = re.compile(r"(?<!\w)7(?!\w)")

_DAY = timedelta(days=1)
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_BEHIND = 200
"""Due times that are counted one by one before the search jumps to those of the last hours."""
_LAST_HOURS = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class Passed:
    """Due times that have passed, oldest first: the newest of them. is_cut: there were more before these."""

    due: list[datetime]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Ncrontab:
    """An expression in a zone. Times are aware; those that it returns are UTC."""

    expression: str
    zone: ZoneInfo

    @classmethod
    def of_store(cls, expression: str, zone: ZoneInfo) -> Ncrontab:
        """One that was parsed before."""
        fields = expression.upper().split()
        # The library lets the days of a step that has no end run to 7, which is Sunday again.
        fields[5] = _OPEN_STEP.sub(r"\1-6/", fields[5])
        return cls(" ".join(fields), zone)

    @classmethod
    def parse(cls, expression: str, zone: ZoneInfo) -> Ncrontab:
        """Raises ValueError, which says what is wrong."""
        fields = expression.upper().split()
        if len(fields) != len(_FIELDS):
            raise ValueError(f"needs 6 fields: {', '.join(_FIELDS)}")
        for name, field in zip(_FIELDS, fields, strict=True):
            if _FIELD.fullmatch(field) is None:
                raise ValueError(f"the field {name} is not understood")
        if not fields[0].isdigit():
            raise ValueError("the field second must be one number: nothing runs more than once a minute")
        if _SEVEN.search(fields[5]):
            raise ValueError("the field day of week goes from 0 (Sunday) to 6")
        found = cls.of_store(expression, zone)
        try:
            found._simulation(_ANY_TIME.replace(tzinfo=None))
        except CronSimError as exc:
            raise ValueError(str(exc).replace("Bad", "the value is out of range in the field")) from None
        if found.next_after(_ANY_TIME) is None:
            raise ValueError("matches no date")
        return found

    def next_after(self, moment: datetime) -> datetime | None:
        """The first due time later than `moment`; None when there is none in the next 50 years."""
        slack = self._jump(moment)
        best = until = None
        for wall in self._walls(moment.astimezone(self.zone).replace(tzinfo=None) - slack):
            if until is not None and wall > until:
                break
            for instant in self._instants(wall):
                if instant > moment and (best is None or instant < best):
                    best, until = instant, wall + self._jump(instant)
        return best

    def passed(self, since: datetime, now: datetime, *, most: int) -> Passed:
        """The due times from `since`, which is one, until `now`: the newest `most`.

        What is due every minute for a year is not counted through: of so many, those of the last hours are looked at.
        """
        kept = deque([since], maxlen=most)
        count = 1
        for due in islice(self._until(since, now), _BEHIND):
            kept.append(due)
            count += 1
        if count > _BEHIND:
            kept.extend(self._until(max(kept[-1], now - _LAST_HOURS), now))
        return Passed(list(kept), count > most)

    def _until(self, after: datetime, now: datetime) -> Iterator[datetime]:
        due = self.next_after(after)
        while due is not None and due <= now:
            yield due
            due = self.next_after(due)

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """Local times that match, as a clock without changes would show them. after: naive."""
        try:
            yield from self._simulation(after)
        except OverflowError:
            return

    def _simulation(self, after: datetime) -> CronSim:
        simulation = CronSim(self.expression, after)
        simulation.day_and = True  # cron's own rule is "either day", where both are given
        return simulation

    def _instants(self, wall: datetime) -> Iterator[datetime]:
        """When a local time is: once, unless the clock shows it twice and the hour is `*`."""
        # What the clock leaves out is read with the offset from before its change, so it comes as much later.
        first = wall.replace(tzinfo=self.zone).astimezone(UTC)
        yield first
        if self.expression.split()[2] == "*":
            second = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
            if second > first:
                yield second

    def _jump(self, moment: datetime) -> timedelta:
        """By how much the zone's clock changes within a day of then."""
        offsets = [(moment + days * _DAY).astimezone(self.zone).utcoffset() or timedelta() for days in (-1, 0, 1)]
        return max(offsets) - min(offsets)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    # Some systems keep files that are no zones in the same folder, all in lower case.
    return frozenset(name for name in available_timezones() if name[0].isupper() and name != "Factory")


def zone_of(name: str) -> ZoneInfo:
    """A zone by its IANA name. Raises ValueError."""
    if name not in _zones():
        raise ValueError("must be the IANA name of a time zone, such as Europe/Prague")
    return ZoneInfo(name)
