"""What is due of a schedule when somebody looks, late or in time. Time is a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.sessions.unattended.due import MOST_CAUGHT_UP, MOST_PENDING, Timing, advance
from shared.sessions.unattended.models import Missed, RunStatus

NINE = datetime(2026, 6, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hourly(missed: Missed) -> Timing:
    return Timing(None, "0 0 * * * *", "UTC", missed)


@pytest.mark.parametrize("missed", list(Missed))
def test_a_run_that_is_looked_for_in_time_runs_whatever_the_policy(missed: Missed) -> None:
    found = advance(hourly(missed), NINE, NINE + timedelta(seconds=119))
    assert [(run.due_at, run.status, run.reason) for run in found.runs] == [(NINE, RunStatus.PENDING, None)]
    assert found.next_run_at == NINE + HOUR


def test_missed_runs_are_skipped_and_said_to_be() -> None:
    found = advance(hourly(Missed.SKIP), NINE, NINE + 3 * HOUR + timedelta(minutes=30))
    assert [(run.due_at, run.status) for run in found.runs] == [(NINE + 3 * HOUR, RunStatus.MISSED)]
    assert found.runs[0].reason == "Nothing looked for it in time, nor for 3 before it."
    assert found.next_run_at == NINE + 4 * HOUR


def test_missed_runs_do_not_take_the_one_in_time_with_them() -> None:
    found = advance(hourly(Missed.SKIP), NINE, NINE + HOUR + timedelta(seconds=10))
    assert [run.status for run in found.runs] == [RunStatus.MISSED, RunStatus.PENDING]
    assert found.runs[0].reason == "Nothing looked for it in time."


def test_one_run_stands_for_all_that_were_missed() -> None:
    found = advance(hourly(Missed.RUN_ONCE), NINE, NINE + 3 * HOUR + timedelta(minutes=30))
    assert [(run.due_at.hour, run.status) for run in found.runs] == [(11, RunStatus.MISSED), (12, RunStatus.PENDING)]
    alone = advance(hourly(Missed.RUN_ONCE), NINE, NINE + timedelta(minutes=30))
    assert [run.status for run in alone.runs] == [RunStatus.PENDING]


def test_all_missed_runs_run_up_to_a_bound() -> None:
    few = advance(hourly(Missed.RUN_ALL), NINE, NINE + 3 * HOUR)
    assert [run.due_at.hour for run in few.runs] == [9, 10, 11, 12]
    many = advance(hourly(Missed.RUN_ALL), NINE, NINE + 100 * HOUR)
    assert [run.status for run in many.runs] == [RunStatus.MISSED] + [RunStatus.PENDING] * MOST_CAUGHT_UP
    assert many.runs[-1].due_at == NINE + 100 * HOUR
    assert "nor for others before it" in (many.runs[0].reason or "")
    assert many.next_run_at == NINE + 101 * HOUR


def test_a_queue_that_is_full_turns_runs_away_and_says_so() -> None:
    found = advance(hourly(Missed.RUN_ALL), NINE, NINE + 2 * HOUR, pending=MOST_PENDING - 1)
    assert [run.status for run in found.runs] == [RunStatus.PENDING, RunStatus.SKIPPED, RunStatus.SKIPPED]
    assert found.runs[1].reason == f"{MOST_PENDING} runs before it wait already."


def test_a_stored_expression_means_what_it_meant_when_it_was_checked() -> None:
    timing = Timing(None, "0 0 9 * jan-dec fri/1", "Europe/Prague", Missed.SKIP)
    friday = datetime(2026, 6, 5, 7, tzinfo=UTC)
    assert [timing.first_after(friday - HOUR), timing.first_after(friday)] == [friday, friday + 24 * HOUR]
    assert timing.first_after(friday + 24 * HOUR) == friday + 7 * 24 * HOUR, "Saturday is the last day of the week"


@pytest.mark.parametrize(
    ("missed", "status"),
    [(Missed.SKIP, RunStatus.MISSED), (Missed.RUN_ONCE, RunStatus.PENDING), (Missed.RUN_ALL, RunStatus.PENDING)],
)
def test_once_is_once(missed: Missed, status: RunStatus) -> None:
    timing = Timing(NINE, None, "UTC", missed)
    assert timing.first_after(NINE - HOUR) == NINE
    assert timing.first_after(NINE) is None
    late = advance(timing, NINE, NINE + HOUR)
    assert ([run.status for run in late.runs], late.next_run_at) == ([status], None)
    assert [run.status for run in advance(timing, NINE, NINE).runs] == [RunStatus.PENDING]
