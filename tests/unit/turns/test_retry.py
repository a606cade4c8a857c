"""How long what fails is tried again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, takewhile

import pytest

from shared.sessions.turns.retry import activity_delay_s, held_delay_s, notify_delay_s, outage_delay_s, queue_delay_s


@pytest.mark.parametrize(
    ("delay_s", "minutes"),
    [(activity_delay_s, (3, 5)), (outage_delay_s, (4 * 60, 4 * 60 + 10)), (notify_delay_s, (8 * 60, 8 * 60 + 20))],
)
def test_it_is_given_up_after(delay_s: Callable[[int], float | None], minutes: tuple[int, int]) -> None:
    delays = [float(delay) for delay in takewhile(lambda delay: delay is not None, map(delay_s, count(1))) if delay]
    assert minutes[0] <= sum(delays) / 60 <= minutes[1]


def test_what_could_not_begin_is_asked_for_often_at_first_and_without_end() -> None:
    assert [held_delay_s(looks) for looks in (1, 2, 3, 4, 5, 40, 41, 10_000)] == [1, 2, 4, 8, 15, 15, 60, 60]


def test_what_waits_for_a_place_looks_often_at_first_and_the_later_the_more_wait_before_it() -> None:
    assert [queue_delay_s(looks, 0) for looks in (1, 2, 3, 4, 20, 21, 10_000)] == [1, 2, 4, 5, 5, 15, 15]
    assert [queue_delay_s(4, before) for before in (8, 40, 80, 480, 10_000)] == [5, 5, 10, 60, 60]


@pytest.mark.parametrize(("waiting", "looks_a_second"), [(1, 0), (40, 8), (100, 15), (500, 28), (1_000, 37)])
def test_many_that_wait_do_not_look_more_often_in_proportion(waiting: int, looks_a_second: int) -> None:
    assert round(sum(1 / queue_delay_s(10, before) for before in range(waiting))) == looks_a_second
