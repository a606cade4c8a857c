"""When a delivery is tried again, and when a receiver is switched off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.sessions.channels.patience import DELAYS_S, OFF_AFTER, next_try, why_off

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_tries_get_rarer_and_end_after_a_day() -> None:
    waits = [next_try(tries, now=NOW) for tries in range(1, len(DELAYS_S) + 1)]

    assert waits == [NOW + timedelta(seconds=delay) for delay in DELAYS_S]
    assert [*DELAYS_S] == sorted(DELAYS_S)
    assert timedelta(hours=22) < timedelta(seconds=sum(DELAYS_S)) < timedelta(hours=26)
    assert next_try(len(DELAYS_S) + 1, now=NOW) is None


@pytest.mark.parametrize(("asked_s", "waited_s"), [(None, 5), (1, 5), (90, 90), (10**6, 86_400)])
def test_a_receiver_may_ask_for_more_time_and_for_a_day_at_most(asked_s: float | None, waited_s: int) -> None:
    assert next_try(1, now=NOW, asked_s=asked_s) == NOW + timedelta(seconds=waited_s)


@pytest.mark.parametrize(
    ("code", "for_how_long", "is_off"),
    [
        (500, timedelta(0), False),
        (None, OFF_AFTER - timedelta(seconds=1), False),
        (None, OFF_AFTER, True),
        (500, OFF_AFTER, True),
        (410, timedelta(0), True),
    ],
)
def test_a_receiver_that_is_down_for_days_or_says_it_is_gone_is_switched_off(
    code: int | None, for_how_long: timedelta, is_off: bool
) -> None:
    assert (why_off(code, failing_since=NOW - for_how_long, now=NOW) is not None) is is_off
