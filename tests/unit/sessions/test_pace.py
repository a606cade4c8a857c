"""When batches of a stream leave: the same for every phase of the clock, by a clock that the test moves."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shared.sessions.live.pace import PERIOD_S, SOON_S, UNREAD_PERIODS, Pace

STARTS_S = [phase * PERIOD_S / 40 for phase in range(40)]


def _batches(start_s: float, seconds: float, *, is_read: bool, pace: Pace | None = None) -> list[float]:
    """When batches leave, from the first at 0, while text keeps coming. Sending takes no time."""
    now = start_s
    pace = pace or Pace(clock=lambda: now)
    left = []
    while now - start_s <= seconds:
        left.append(now - start_s)
        now += pace.next_s(is_read=is_read)
    return left


@pytest.mark.parametrize("start_s", STARTS_S)
def test_a_reader_gets_text_at_once_soon_and_then_never_later_than_a_period(start_s: float) -> None:
    left = _batches(start_s, 20, is_read=True)

    pauses = [later - earlier for earlier, later in pairwise(left)]
    assert left[0] == 0
    assert pauses[0] <= 2 * SOON_S
    assert max(pauses) <= PERIOD_S + 1e-6


@pytest.mark.parametrize("start_s", STARTS_S)
def test_no_second_has_more_than_eight_batches(start_s: float) -> None:
    left = _batches(start_s, 20, is_read=True)

    assert max(sum(begin <= at < begin + 1 for at in left) for begin in left) <= 8


def test_streams_that_began_apart_leave_together() -> None:
    ticks = [
        {round((start_s + at) / PERIOD_S, 6) for at in _batches(start_s, 5, is_read=True)[3:]} for start_s in STARTS_S
    ]

    assert all(tick == round(tick) for of_stream in ticks for tick in of_stream)


@pytest.mark.parametrize("start_s", STARTS_S)
def test_what_nobody_reads_leaves_ever_more_seldom(start_s: float) -> None:
    left = _batches(start_s, 20, is_read=False)

    pauses = [later - earlier for earlier, later in pairwise(left)]
    assert pauses[0] <= PERIOD_S + SOON_S
    assert [round(pause / PERIOD_S) for pause in pauses[1:4]] == [2, 4, 4]
    assert max(pauses[3:]) <= UNREAD_PERIODS[-1] * PERIOD_S + 1e-6


def test_a_reader_who_comes_is_served_from_the_next_batch_on() -> None:
    now = 0.0
    pace = Pace(clock=lambda: now)
    for _ in range(10):
        now += pace.next_s(is_read=False)

    assert pace.next_s(is_read=True) <= PERIOD_S + 1e-6


def test_a_batch_that_was_sent_late_is_not_followed_at_once() -> None:
    now = 10 * PERIOD_S - SOON_S / 2
    pace = Pace(clock=lambda: now)
    pace.next_s(is_read=True)

    assert pace.next_s(is_read=True) >= SOON_S
