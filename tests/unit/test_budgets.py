"""Token budgets: how much a step may still write, when it may not begin, and when a message is not taken."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from shared.errors import BudgetExceeded, ErrorCode
from shared.sessions.budgets import (
    NOTHING_USED,
    SHORT_ANSWER_TOKENS,
    TokenBudgets,
    TokensUsed,
    answer_allowance,
    posting_refusal,
    seconds_to_next_day,
    usage_day,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_without_a_budget_nothing_is_capped() -> None:
    assert answer_allowance(TokenBudgets(), TokensUsed(10**9, 10**9, 10**9), reads=10**9) is None


@pytest.mark.parametrize(
    ("budgets", "used", "allowed"),
    [
        (TokenBudgets(turn=1_000), TokensUsed(turn=300), 500),  # 1000 - 300 - 200
        (TokenBudgets(session=1_000), TokensUsed(turn=100, session=300), 400),  # the turn counts in its session too
        (TokenBudgets(user_day=1_000), TokensUsed(turn=100, user_day=1), 699),
        (TokenBudgets(turn=9_000, session=2_000, user_day=900), TokensUsed(turn=100), 600),  # the tightest decides
        (TokenBudgets(turn=300), TokensUsed(turn=40), SHORT_ANSWER_TOKENS),  # 60 after reading: too short to be of use
        (TokenBudgets(turn=50), NOTHING_USED, 50),
        (TokenBudgets(turn=1), NOTHING_USED, 1),
    ],
)
def test_a_step_may_write_what_its_tightest_budget_leaves(
    budgets: TokenBudgets, used: TokensUsed, allowed: int
) -> None:
    assert answer_allowance(budgets, used, reads=200) == allowed


@pytest.mark.parametrize(
    ("budgets", "used", "code"),
    [
        (TokenBudgets(turn=100), TokensUsed(turn=100), ErrorCode.TOKEN_LIMIT),
        (TokenBudgets(session=100), TokensUsed(turn=1, session=99), ErrorCode.TOKEN_LIMIT),
        (TokenBudgets(user_day=100), TokensUsed(user_day=500), ErrorCode.RATE_LIMITED),
        (TokenBudgets(turn=1, user_day=1), TokensUsed(1, 0, 1), ErrorCode.TOKEN_LIMIT),
    ],
)
def test_a_step_must_not_begin_once_a_budget_is_used_up(
    budgets: TokenBudgets, used: TokensUsed, code: ErrorCode
) -> None:
    with pytest.raises(BudgetExceeded) as refused:
        answer_allowance(budgets, used, reads=20)

    assert refused.value.code is code
    assert not refused.value.retryable, "the same step would be refused again"


def test_a_message_is_refused_once_the_session_or_the_day_is_used_up() -> None:
    budgets = TokenBudgets(turn=1, session=100, user_day=50)

    assert posting_refusal(budgets, TokensUsed(session=99, user_day=49), now=NOON) is None
    session = posting_refusal(budgets, TokensUsed(session=100, user_day=50), now=NOON)
    assert session is not None
    assert (session.code, session.retry_after_s) == (ErrorCode.TOKEN_LIMIT, None)
    day = posting_refusal(budgets, TokensUsed(session=99, user_day=50), now=NOON)
    assert day is not None
    assert (day.code, day.retry_after_s) == (ErrorCode.RATE_LIMITED, 12 * 3_600)


def test_days_are_utc_wherever_the_clock_stands() -> None:
    tokyo = timezone(timedelta(hours=9))
    late = datetime(2026, 3, 2, 8, 59, 30, tzinfo=tokyo)

    assert usage_day(late) == date(2026, 3, 1)
    assert seconds_to_next_day(late) == 30
    assert seconds_to_next_day(datetime(2026, 3, 1, tzinfo=UTC)) == 86_400
