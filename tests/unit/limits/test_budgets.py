"""Budgets in tokens and in money: how much a step may still write, and when it, or a message, is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BudgetExceeded, ErrorCode
from shared.sessions.limits.budgets import (
    NOTHING_SPENT,
    NOTHING_USED,
    SHORT_ANSWER_TOKENS,
    MoneyBudgets,
    MoneySpent,
    Price,
    TokenBudgets,
    TokensUsed,
    affordable_tokens,
    answer_allowance,
    posting_refusal,
    seconds_to_next_day,
    usage_day,
)
from shared.sessions.models import Usage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_without_a_budget_nothing_is_capped() -> None:
    assert answer_allowance(TokenBudgets(), TokensUsed(10**9, 10**9, 10**9), reads=10**9) is None


@pytest.mark.parametrize(
    ("budgets", "used", "allowed"),
    [
        (TokenBudgets(turn=1_000), TokensUsed(turn=300), 500),  # 1000 - 300 - 200
        # 1000 - 400 - 200: the 100 of the turn are among the session's 400, and are not counted twice
        (TokenBudgets(session=1_000), TokensUsed(turn=100, session=400), 400),
        (TokenBudgets(user_day=1_000), TokensUsed(turn=100, user_day=101), 699),  # 1000 - 101 - 200
        (
            TokenBudgets(turn=9_000, session=2_000, user_day=900),
            TokensUsed(100, 100, 100),
            600,
        ),  # the tightest decides: 900 - 100 - 200
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
        (TokenBudgets(session=100), TokensUsed(turn=1, session=100), ErrorCode.TOKEN_LIMIT),
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


# Money. ------------------------------------------------------------------------------------------

PRICE = Price(input_usd=2, output_usd=10)
"""A thousand tokens read are 0.002 dollars, a thousand written 0.01."""


def _spent(turn: str = "0", session: str = "0", user_day: str = "0") -> MoneySpent:
    return MoneySpent(Decimal(turn), Decimal(session), Decimal(user_day))


def test_without_a_budget_in_money_nothing_is_capped() -> None:
    assert affordable_tokens(MoneyBudgets(), _spent("9", "9", "9"), PRICE, reads=10**9) is None
    assert not MoneyBudgets()
    assert all((MoneyBudgets(turn=1), MoneyBudgets(session=1), MoneyBudgets(user_day=1)))


@pytest.mark.parametrize(
    ("budgets", "spent", "allowed"),
    [
        # (0.05 - 0.01 - 1000 * 0.000002) / 0.00001
        (MoneyBudgets(turn=0.05), _spent(turn="0.01"), 3_800),
        # (0.05 - 0.02 - 0.002) / 0.00001: the turn's cent is among the session's two
        (MoneyBudgets(session=0.05), _spent(turn="0.01", session="0.02"), 2_800),
        (MoneyBudgets(user_day=0.05), _spent(user_day="0.03"), 1_800),
        # The tightest decides: 0.05 - 0.04 - 0.002.
        (MoneyBudgets(turn=1, session=0.5, user_day=0.05), _spent("0.04", "0.04", "0.04"), 800),
        # 0.003 is left, 0.001 after reading: a hundred tokens would be too short, and 300 are affordable without it.
        (MoneyBudgets(turn=0.003), NOTHING_SPENT, SHORT_ANSWER_TOKENS),
        # 0.001 is left, less than what is read costs: a hundred.
        (MoneyBudgets(turn=0.001), NOTHING_SPENT, 100),
        # A tenth of what one token costs is left: the call may begin, and says a word.
        (MoneyBudgets(turn=0.000001), NOTHING_SPENT, 1),
    ],
)
def test_a_step_may_write_what_the_money_left_pays_for(budgets: MoneyBudgets, spent: MoneySpent, allowed: int) -> None:
    assert affordable_tokens(budgets, spent, PRICE, reads=1_000) == allowed


@pytest.mark.parametrize(
    ("budgets", "spent", "code", "words"),
    [
        (MoneyBudgets(turn=0.1), _spent(turn="0.1"), ErrorCode.TOKEN_LIMIT, "turn's budget of 0.1 US dollars"),
        (MoneyBudgets(session=5), _spent(session="5.01"), ErrorCode.TOKEN_LIMIT, "session's budget of 5 US dollars"),
        (MoneyBudgets(user_day=2.5), _spent(user_day="2.5"), ErrorCode.RATE_LIMITED, "2.5 US dollars of today"),
        (MoneyBudgets(turn=1, user_day=1), _spent("1", "1", "1"), ErrorCode.TOKEN_LIMIT, "turn's"),
    ],
)
def test_a_step_must_not_begin_once_the_money_is_spent(
    budgets: MoneyBudgets, spent: MoneySpent, code: ErrorCode, words: str
) -> None:
    with pytest.raises(BudgetExceeded, match=words) as refused:
        affordable_tokens(budgets, spent, PRICE, reads=20)

    assert refused.value.code is code
    assert not refused.value.retryable


def test_money_is_added_up_without_rounding() -> None:
    # 0.1 ten times is 1 in decimals, and less in binary fractions.
    spent = NOTHING_SPENT
    for _ in range(10):
        spent = spent.plus(Usage(cost_usd=0.1))

    assert spent == _spent("1.0", "1.0", "1.0")
    with pytest.raises(BudgetExceeded):
        affordable_tokens(MoneyBudgets(turn=1.0), spent, PRICE, reads=0)
    assert spent.plus(Usage()) == spent


def test_what_a_turn_used_counts_in_all_three() -> None:
    assert TokensUsed(1, 20, 300).plus(Usage(input_tokens=5, output_tokens=2)) == TokensUsed(8, 27, 307)


def test_a_model_that_costs_nothing_is_never_capped_and_one_that_writes_for_nothing_neither() -> None:
    assert affordable_tokens(MoneyBudgets(turn=0.01), NOTHING_SPENT, Price(0, 0), reads=10**9) is None
    assert affordable_tokens(MoneyBudgets(turn=0.01), NOTHING_SPENT, Price(5, 0), reads=10) is None
    with pytest.raises(BudgetExceeded):
        affordable_tokens(MoneyBudgets(turn=0.01), _spent(turn="0.01"), Price(0, 0), reads=10)


@given(
    budget=st.integers(1, 10**9).map(lambda n: n / 10**6),
    used=st.integers(0, 10**9).map(lambda n: Decimal(n) / 10**6),
    prices=st.tuples(st.integers(0, 10**5), st.integers(1, 10**5)).map(lambda p: Price(p[0] / 1000, p[1] / 1000)),
    reads=st.integers(0, 10**6),
)
def test_an_answer_as_long_as_allowed_overdraws_a_budget_by_what_one_call_reads_at_most(
    budget: float, used: Decimal, prices: Price, reads: int
) -> None:
    spent = MoneySpent(turn=used)
    left = Decimal(str(budget)) - used
    if left <= 0:
        with pytest.raises(BudgetExceeded):
            affordable_tokens(MoneyBudgets(turn=budget), spent, prices, reads=reads)
        return

    allowed = affordable_tokens(MoneyBudgets(turn=budget), spent, prices, reads=reads)

    assert allowed is not None
    assert allowed >= 1
    written = Decimal(str(prices.output_usd)) * allowed / 1_000_000
    read = Decimal(str(prices.input_usd)) * reads / 1_000_000
    one_token = Decimal(str(prices.output_usd)) / 1_000_000
    assert written <= max(left, one_token)
    assert written + read - left <= read + one_token


@pytest.mark.parametrize(
    ("money", "spent", "code", "retry_after_s"),
    [
        (MoneyBudgets(session=5, user_day=5), _spent(session="4.99", user_day="4.99"), None, None),
        (MoneyBudgets(session=5, user_day=5), _spent(session="5", user_day="5"), ErrorCode.TOKEN_LIMIT, None),
        (MoneyBudgets(session=5, user_day=5), _spent(user_day="5"), ErrorCode.RATE_LIMITED, 12 * 3_600),
        (MoneyBudgets(turn=0.01), _spent("9", "9", "9"), None, None),  # a new turn has spent nothing
    ],
)
def test_a_message_is_refused_once_the_money_of_the_session_or_the_day_is_spent(
    money: MoneyBudgets, spent: MoneySpent, code: ErrorCode | None, retry_after_s: float | None
) -> None:
    refused = posting_refusal(TokenBudgets(), NOTHING_USED, now=NOON, money=money, spent=spent)

    assert (refused and refused.code) is code
    assert (refused and refused.retry_after_s) == retry_after_s


def test_of_tokens_and_money_either_refuses_a_message() -> None:
    tokens, used = TokenBudgets(session=100), TokensUsed(session=100)

    assert posting_refusal(tokens, used, now=NOON, money=MoneyBudgets(session=5), spent=NOTHING_SPENT) is not None
    assert posting_refusal(tokens, NOTHING_USED, now=NOON, money=MoneyBudgets(session=5), spent=_spent(session="5"))
