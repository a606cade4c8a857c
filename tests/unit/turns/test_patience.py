"""How often, how long and for how many tokens a step's model is asked."""

from __future__ import annotations

import pytest

from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.turns.patience import MAX_MODEL_TRIES, MAX_RETRY_AFTER_S, Patience, Spent
from shared.settings import Settings

PATIENCE = Patience()


def test_its_defaults_are_those_of_the_settings() -> None:
    names = ("llm_first_byte_seconds", "llm_step_seconds", "llm_retry_tokens")
    assert Patience(*(Settings.model_fields[name].default for name in names)) == PATIENCE


def _failed(retry_after_s: float | None = None) -> AppError:
    return Transient(ErrorCode.LLM_ERROR, "It failed.", retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("tries", "asked_s", "delay_s"),
    [
        (1, None, 1.0),
        (3, None, 4.0),
        (1, 30.0, 30.0),
        (3, 0.5, 4.0),  # never sooner than our own back-off
        (1, 0.0, 1.0),
        (1, MAX_RETRY_AFTER_S, MAX_RETRY_AFTER_S),
        (1, MAX_RETRY_AFTER_S + 1, None),
        (1, float("inf"), None),
        (MAX_MODEL_TRIES - 1, None, 8.0),
        (MAX_MODEL_TRIES, None, None),
        (MAX_MODEL_TRIES, 1.0, None),
    ],
)
def test_the_servers_wish_is_honoured_within_limits(tries: int, asked_s: float | None, delay_s: float | None) -> None:
    assert PATIENCE.delay_s(Spent(tries), _failed(asked_s)) == delay_s


def test_what_failed_for_good_is_not_tried_again() -> None:
    assert PATIENCE.delay_s(Spent(), ModelFailed(ErrorCode.LLM_ERROR, "No.")) is None


def _run(patience: Patience, try_s: float, tokens: int = 0) -> tuple[int, float]:
    """Tries of a model that fails so each time, and how many seconds they and their pauses take."""
    spent, pauses_s = Spent(0), 0.0
    while True:
        took_s = min(try_s, patience.left_s(spent))
        spent = Spent(spent.tries + 1, spent.seconds + took_s, spent.tokens + tokens)
        delay_s = patience.delay_s(spent, _failed())
        if delay_s is None:
            return spent.tries, spent.seconds + pauses_s
        pauses_s += delay_s


def test_a_model_that_never_answers_costs_two_requests_and_six_minutes() -> None:
    assert _run(PATIENCE, PATIENCE.first_byte_s) == (2, 361)


def test_a_model_that_refuses_at_once_costs_five_requests_and_a_quarter_of_a_minute() -> None:
    assert _run(PATIENCE, 0.0) == (5, 15)


def test_a_proxy_that_gives_up_after_a_minute_is_asked_five_times() -> None:
    assert _run(PATIENCE, 60.0) == (5, 315)


def test_answers_that_break_off_late_are_not_begun_again_and_again() -> None:
    assert _run(PATIENCE, 320.0) == (1, 320)


@pytest.mark.parametrize(("tokens", "tries"), [(0, 5), (50_000, 5), (60_000, 4), (100_000, 3), (250_000, 2)])
def test_what_failed_tries_used_is_bounded(tokens: int, tries: int) -> None:
    assert _run(PATIENCE, 0.0, tokens)[0] == tries


def test_all_tries_together_take_no_longer_than_one_answer_may() -> None:
    for try_s in range(1, 600, 7):
        _, seconds = _run(PATIENCE, float(try_s))
        assert seconds <= PATIENCE.total_s + 15


def test_a_long_patience_for_the_first_byte_does_not_forbid_a_second_try() -> None:
    patience = Patience(first_byte_s=480)
    assert _run(patience, 1.0)[0] == 5
    assert _run(patience, 480.0)[0] == 1
