from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devhost.timers.ncrontab import CronSchedule, IntervalSchedule, parse_schedule

START = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)  # a Saturday
PRAGUE = ZoneInfo("Europe/Prague")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("* * * * * *", "2026-01-31T23:59:31"),
        ("*/15 * * * * *", "2026-01-31T23:59:45"),
        ("5/20 * * * * *", "2026-01-31T23:59:45"),
        ("0 * * * * *", "2026-02-01T00:00:00"),
        ("* * * * *", "2026-02-01T00:00:00"),  # five fields: second 0
        ("0 30 9 * * MON-FRI", "2026-02-02T09:30:00"),
        ("0 30 9 * * 1-5", "2026-02-02T09:30:00"),
        ("0 0 0 * * Sunday", "2026-02-01T00:00:00"),
        ("0 0 0 * * 7", "2026-02-01T00:00:00"),
        ("0 0 12 1,15 * *", "2026-02-01T12:00:00"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00"),
        ("0 0 0 13 * FRI", "2026-02-13T00:00:00"),  # day AND weekday
        ("0 0 0 1 jan-mar *", "2026-02-01T00:00:00"),
        ("0 0 22-23/2 ? * *", "2026-02-01T22:00:00"),
        ("01:30:00", "2026-02-01T01:29:30"),
        ("1.00:00:00", "2026-02-01T23:59:30"),
    ],
)
def test_next_due_instant(expression: str, due: str) -> None:
    assert parse_schedule(expression).next_after(START) == at(due)


def test_schedule_that_never_matches_has_no_next() -> None:
    assert parse_schedule("0 0 0 31 2 *").next_after(START) is None


@pytest.mark.parametrize(
    ("expression", "part"),
    [
        ("* * * *", "4 fields"),
        ("60 * * * * *", "second field"),
        ("* * 24 * * *", "hour field"),
        ("* * * 0 * *", "day field"),
        ("* * * * 13 *", "month field"),
        ("* * * * * 8", "day-of-week field"),
        ("* 5-1 * * * *", "backwards"),
        ("*/0 * * * * *", "not a step"),
        ("* * * * FOO *", "month field"),
        ("", "0 fields"),
        ("00:00:00", "zero"),
    ],
)
def test_wrong_expression_names_the_field(expression: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_schedule(expression)


def _part(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        value.map(str),
        st.integers(1, max(1, high // 2)).map(lambda step: f"*/{step}"),
        st.tuples(value, value).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.lists(value, min_size=1, max_size=3).map(lambda values: ",".join(map(str, values))),
    )


EXPRESSIONS = st.tuples(_part(0, 59), _part(0, 59), _part(0, 23), _part(1, 28), _part(1, 12), _part(0, 6)).map(" ".join)
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, INSTANTS)
def test_next_is_later_and_matches_every_field(expression: str, moment: datetime) -> None:
    schedule = parse_schedule(expression)
    assert isinstance(schedule, CronSchedule)

    due = schedule.next_after(moment)

    assert due is not None
    assert due > moment
    assert due.second in schedule.seconds
    assert due.minute in schedule.minutes
    assert due.hour in schedule.hours
    assert due.day in schedule.days
    assert due.month in schedule.months
    assert due.isoweekday() % 7 in schedule.weekdays


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, INSTANTS, st.floats(0, 1))
def test_no_instant_between_is_skipped(expression: str, moment: datetime, share: float) -> None:
    schedule = parse_schedule(expression)
    due = schedule.next_after(moment)
    assert due is not None

    between = moment + (due - moment) * share

    assert schedule.next_after(between) == due or between >= due


@settings(max_examples=100, deadline=None)
@given(EXPRESSIONS, INSTANTS)
def test_time_zone_with_summer_time_still_moves_forward(expression: str, moment: datetime) -> None:
    schedule = parse_schedule(expression, PRAGUE)
    due = schedule.next_after(moment)

    assert due is not None
    assert due > moment


class TestSummerTime:
    def test_daily_run_keeps_its_wall_clock_time(self) -> None:
        schedule = parse_schedule("0 0 9 * * *", PRAGUE)

        assert schedule.next_after(at("2026-03-28T12:00:00")) == at("2026-03-29T07:00:00")
        assert schedule.next_after(at("2026-01-28T12:00:00")) == at("2026-01-29T08:00:00")

    def test_skipped_hour_runs_once_later(self) -> None:
        schedule = parse_schedule("0 30 2 * * *", PRAGUE)

        assert schedule.next_after(at("2026-03-29T00:00:00")) == at("2026-03-29T01:30:00")
        assert schedule.next_after(at("2026-03-29T01:30:00")) == at("2026-03-30T00:30:00")

    def test_repeated_hour_runs_once_when_the_hour_is_named(self) -> None:
        schedule = parse_schedule("0 30 2 * * *", PRAGUE)

        assert schedule.next_after(at("2026-10-25T00:30:00")) == at("2026-10-26T01:30:00")

    def test_every_few_minutes_goes_on_through_the_repeated_hour(self) -> None:
        schedule = parse_schedule("0 */20 * * * *", PRAGUE)
        moment, runs = at("2026-10-24T23:30:00"), []
        while moment < at("2026-10-25T02:30:00"):
            due = schedule.next_after(moment)
            assert due is not None
            runs.append(due)
            moment = due

        assert {later - earlier for earlier, later in pairwise(runs)} == {timedelta(minutes=20)}


def test_interval_counts_from_the_last_run() -> None:
    assert IntervalSchedule(timedelta(minutes=5)).next_after(START) == START + timedelta(minutes=5)
