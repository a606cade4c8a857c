"""When an NCRONTAB expression is due: fields, clock changes, what has passed. Time is a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devhost.timers.ncrontab import parse_schedule
from shared.sessions.unattended.ncrontab import Ncrontab, zone_of

PRAGUE = ZoneInfo("Europe/Prague")  # 2026: forward 29 March 02:00 -> 03:00, back 25 October 03:00 -> 02:00
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # half an hour: 2026 back 5 April 02:00 -> 01:30, forward 4 October
APIA = ZoneInfo("Pacific/Apia")  # left out the whole of 30 December 2011


def _due(expression: str, zone: ZoneInfo, after: datetime, count: int) -> list[str]:
    """The next local times, as a clock on the wall shows them."""
    schedule, found, at = Ncrontab.parse(expression, zone), list[str](), after
    for _ in range(count):
        following = schedule.next_after(at)
        assert following is not None
        assert following > at
        at = following
        found.append(at.astimezone(zone).isoformat())
    return found


def _local(text: str, zone: ZoneInfo) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("0 30 9 * * *", "2026-06-01T09:30:00+02:00"),
        ("15 */20 * * * *", "2026-06-01T08:20:15+02:00"),
        ("0 0 9 * * MON-FRI", "2026-06-01T09:00:00+02:00"),
        ("0 0 9 * * 0", "2026-06-07T09:00:00+02:00"),
        ("0 0 9 * * 1/2", "2026-06-01T09:00:00+02:00"),
        ("0 0 9 13 * FRI", "2026-11-13T09:00:00+01:00"),  # day and day of week both
        ("0 0 0 29 2 *", "2028-02-29T00:00:00+01:00"),
        ("0 0 0 1 jan,jul *", "2026-07-01T00:00:00+02:00"),
    ],
)
def test_next_due_time(expression: str, first: str) -> None:
    assert _due(expression, PRAGUE, _local("2026-06-01T08:00:15", PRAGUE), 1) == [first]


def test_an_open_step_over_days_of_the_week_ends_on_saturday() -> None:
    after = _local("2026-06-06T10:00:00", PRAGUE)  # a Saturday
    assert _due("0 0 9 * * 1/2", PRAGUE, after, 3) == [
        "2026-06-08T09:00:00+02:00",
        "2026-06-10T09:00:00+02:00",
        "2026-06-12T09:00:00+02:00",
    ]


@pytest.mark.parametrize(
    ("expression", "word"),
    [
        ("", "6 fields"),
        ("30 9 * * *", "6 fields"),
        ("* 30 9 * * *", "second must be one number"),
        ("*/5 30 9 * * *", "second must be one number"),
        ("60 30 9 * * *", "out of range"),
        ("0 60 9 * * *", "out of range"),
        ("0 0 9 * 13 *", "out of range"),
        ("0 0 9 * * 7", "0 (Sunday) to 6"),
        ("0 0 9 L * *", "day is not understood"),
        ("0 0 9 * * MON#2", "day of week is not understood"),
        ("0 0 9 JAN * *", "out of range"),
        ("0 9-5 * * * *", "out of range"),
        ("0 */0 * * * *", "out of range"),
        ("0 0 0 31 4 *", "out of range"),
        ("0 0 0 30 2 MON", "no date|out of range"),
    ],
)
def test_what_is_not_an_expression_is_refused_with_the_field(expression: str, word: str) -> None:
    with pytest.raises(ValueError) as refused:
        Ncrontab.parse(expression, PRAGUE)
    assert any(part in str(refused.value) for part in word.split("|")), refused.value


@pytest.mark.parametrize("name", ["", "Prague", "europe/prague", "../etc/passwd", "Factory", "posixrules"])
def test_what_is_not_a_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone_of(name)
    assert zone_of("Europe/Prague").key == "Europe/Prague"


def test_a_time_that_spring_leaves_out_is_due_as_much_later() -> None:
    assert _due("0 30 2 * * *", PRAGUE, _local("2026-03-28T00:00:00", PRAGUE), 3) == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_time_that_spring_leaves_out_and_one_that_it_moves_onto_are_one() -> None:
    assert _due("0 30 2,3 * * *", PRAGUE, _local("2026-03-29T00:00:00", PRAGUE), 2) == [
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_what_spring_moves_does_not_hide_what_is_due_before_it() -> None:
    assert _due("0 0,30 2,3 * * *", PRAGUE, _local("2026-03-29T00:00:00", PRAGUE), 3) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:00:00+02:00",
    ]


def test_a_time_that_autumn_repeats_is_due_the_first_time_only() -> None:
    assert _due("0 30 2 * * *", PRAGUE, _local("2026-10-25T00:00:00", PRAGUE), 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]
    between = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)  # 02:00 for the second time
    assert _due("0 30 2 * * *", PRAGUE, between, 1) == ["2026-10-26T02:30:00+01:00"]


def test_what_is_due_every_hour_is_due_in_both_of_the_repeated_ones() -> None:
    assert _due("0 30 * * * *", PRAGUE, _local("2026-10-25T01:00:00", PRAGUE), 4) == [
        "2026-10-25T01:30:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:30:00+01:00",
    ]


def test_half_an_hour_is_a_clock_change_too() -> None:
    assert _due("0 45 1 * * *", LORD_HOWE, _local("2026-04-05T00:00:00", LORD_HOWE), 2) == [
        "2026-04-05T01:45:00+11:00",
        "2026-04-06T01:45:00+10:30",
    ]
    assert _due("0 15 2 * * *", LORD_HOWE, _local("2026-10-04T00:00:00", LORD_HOWE), 2) == [
        "2026-10-04T02:45:00+11:00",
        "2026-10-05T02:15:00+11:00",
    ]


def test_a_day_that_a_country_left_out() -> None:
    assert _due("0 0 12 30 12 *", APIA, _local("2011-12-01T00:00:00", APIA), 2) == [
        "2011-12-31T12:00:00+14:00",
        "2012-12-30T12:00:00+14:00",
    ]


@settings(max_examples=60, deadline=None)
@given(
    minute=st.sampled_from(["0", "15", "*/7", "30,45", "*"]),
    hour=st.sampled_from(["*", "1", "2", "2,3", "1-3", "0-22", "23"]),
    day=st.sampled_from(["*", "25", "29-31", "*/2"]),
    weekday=st.sampled_from(["*", "SUN", "1-5", "2/3"]),
    hours=st.floats(0, 6 * 24) | st.floats(210 * 24, 214 * 24),
    zone=st.sampled_from([PRAGUE, LORD_HOWE, ZoneInfo("America/New_York"), ZoneInfo("UTC")]),
)
def test_due_times_are_those_of_the_hosts_own_timers_in_order(
    minute: str, hour: str, day: str, weekday: str, hours: float, zone: ZoneInfo
) -> None:
    """Away from clock changes the two agree; near them ours loses nothing: it has all of theirs."""
    expression = f"0 {minute} {hour} {day} * {weekday}"
    ours, theirs, at = (
        Ncrontab.parse(expression, zone),
        parse_schedule(expression, zone),
        datetime(2026, 3, 27, tzinfo=UTC) + timedelta(hours=hours),
    )
    due = [at]
    for _ in range(12):
        following = ours.next_after(due[-1])
        assert following is not None
        due.append(following)
    assert all(one < other for one, other in pairwise(due))
    for one, other in pairwise(due):
        expected = theirs.next_after(one)
        day = timedelta(days=1)
        offsets = {moment.astimezone(zone).utcoffset() for moment in (one - day, one + day, other - day, other + day)}
        near = len(offsets) > 1  # also where two changes between them end in the offset of the beginning
        assert expected is not None
        assert other == expected or (near and other < expected), (one, other, expected)


def test_what_has_passed_is_the_newest_of_it() -> None:
    schedule = Ncrontab.parse("0 0 * * * *", ZoneInfo("UTC"))
    since = datetime(2026, 1, 1, tzinfo=UTC)
    now = datetime(2026, 1, 1, 5, 30, tzinfo=UTC)
    found = schedule.passed(since, now, most=3)
    assert [due.hour for due in found.due] == [3, 4, 5]
    assert found.is_cut
    assert schedule.passed(since, since, most=3).due == [since]
    assert not schedule.passed(since, now, most=24).is_cut


def test_a_year_of_minutes_is_not_counted_through() -> None:
    schedule = Ncrontab.parse("0 * * * * *", ZoneInfo("UTC"))
    now = datetime(2027, 1, 1, 0, 0, 30, tzinfo=UTC)
    found = schedule.passed(now - timedelta(days=365), now, most=24)
    assert (found.due[-1], len(found.due), found.is_cut) == (datetime(2027, 1, 1, tzinfo=UTC), 24, True)
