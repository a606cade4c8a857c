"""Token and cost budgets of a turn, of a session, and of a user's day: pure rules, without a store or a clock.

Invariant: a model call begins only while no budget is used up, and its answer is limited to what the tightest budget
leaves. So a budget can be overdrawn at most by the input of one call. A user's daily budget can also be overdrawn by
concurrent calls, since usage is written when a step is stored. Usage is what the model reports, or an estimate if it
reports none. Before a call, an estimate only shortens the answer; it never refuses a call that the budget would cover.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from shared.errors import BudgetExceeded, ErrorCode
from shared.sessions.models import Usage

_MILLION = 1_000_000
SHORT_ANSWER_TOKENS = 256
"""Least answer of a call whose input may already use up a budget: a shorter one would be paid for but useless."""


@dataclass(frozen=True, slots=True)
class TokenBudgets:
    """Input and output tokens together; None: no limit."""

    turn: int | None = None
    session: int | None = None
    user_day: int | None = None


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """Tokens used so far by this turn, and by all turns of its session and of the user's day, this one included."""

    turn: int = 0
    session: int = 0
    user_day: int = 0

    def plus(self, usage: Usage) -> TokensUsed:
        """Adds further usage of the turn."""
        tokens = usage.input_tokens + usage.output_tokens
        return TokensUsed(self.turn + tokens, self.session + tokens, self.user_day + tokens)


NOTHING_USED = TokensUsed()


@dataclass(frozen=True, slots=True)
class MoneyBudgets:
    """US dollars; None: no limit."""

    turn: float | None = None
    session: float | None = None
    user_day: float | None = None

    def __bool__(self) -> bool:
        return any(budget is not None for budget in (self.turn, self.session, self.user_day))


@dataclass(frozen=True, slots=True)
class MoneySpent:
    """US dollars spent, with the fields of `TokensUsed`."""

    turn: Decimal = Decimal(0)
    session: Decimal = Decimal(0)
    user_day: Decimal = Decimal(0)

    def plus(self, usage: Usage) -> MoneySpent:
        """Adds further cost of the turn; unknown cost counts as 0."""
        cost = Decimal(str(usage.cost_usd or 0))
        return MoneySpent(self.turn + cost, self.session + cost, self.user_day + cost)


NOTHING_SPENT = MoneySpent()


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """Limits of a user's day in this deployment; None: no limit."""

    daily_tokens: int | None = None
    daily_cost_usd: float | None = None


NO_DAILY_LIMITS = DailyLimits()


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_usd: float
    output_usd: float


def usage_day(now: datetime) -> date:
    """The day that usage at `now` counts in. Days are UTC for all users."""
    return now.astimezone(UTC).date()


def answer_allowance(budgets: TokenBudgets, used: TokensUsed, *, reads: int) -> int | None:
    """Most output tokens of a model call with about `reads` input tokens; None: no budget is set.

    Raises BudgetExceeded when the call must not begin: TOKEN_LIMIT, or RATE_LIMITED for the user's day.
    """
    allowance: int | None = None
    for budget, spent, refusal in (
        (budgets.turn, used.turn, _turn_spent),
        (budgets.session, used.session, _session_spent),
        (budgets.user_day, used.user_day, _day_spent),
    ):
        if budget is None:
            continue
        left = budget - spent
        if left < 1:
            raise refusal(budget)
        answer = max(left - reads, min(left, SHORT_ANSWER_TOKENS))
        allowance = answer if allowance is None else min(allowance, answer)
    return allowance


def affordable_tokens(budgets: MoneyBudgets, spent: MoneySpent, price: Price, *, reads: int) -> int | None:
    """Like `answer_allowance`, for cost budgets. Raises BudgetExceeded."""
    allowance: int | None = None
    for budget, used, refusal in (
        (budgets.turn, spent.turn, _turn_paid),
        (budgets.session, spent.session, _session_paid),
        (budgets.user_day, spent.user_day, _day_paid),
    ):
        if budget is None:
            continue
        left = Decimal(str(budget)) - used
        if left <= 0:
            raise refusal(budget)
        if not price.output_usd:
            continue
        per_token = Decimal(str(price.output_usd)) / _MILLION
        after_reading = left - Decimal(str(price.input_usd)) / _MILLION * reads
        answer = max(int(after_reading / per_token), min(int(left / per_token), SHORT_ANSWER_TOKENS), 1)
        allowance = answer if allowance is None else min(allowance, answer)
    return allowance


def posting_refusal(
    budgets: TokenBudgets,
    used: TokensUsed,
    *,
    now: datetime,
    money: MoneyBudgets = MoneyBudgets(),
    spent: MoneySpent = NOTHING_SPENT,
) -> BudgetExceeded | None:
    """Why a message is refused because its turn could not begin; None when it is accepted."""
    if money.session is not None and spent.session >= Decimal(str(money.session)):
        return _session_paid(money.session)
    if money.user_day is not None and spent.user_day >= Decimal(str(money.user_day)):
        return _day_paid(money.user_day, retry_after_s=seconds_to_next_day(now))
    if budgets.session is not None and used.session >= budgets.session:
        return _session_spent(budgets.session)
    if budgets.user_day is not None and used.user_day >= budgets.user_day:
        return _day_spent(budgets.user_day, retry_after_s=seconds_to_next_day(now))
    return None


def seconds_to_next_day(now: datetime) -> float:
    """Seconds until the next UTC day."""
    midnight = datetime.combine(usage_day(now) + timedelta(days=1), time(), UTC)
    return (midnight - now).total_seconds()


def _turn_paid(budget: float) -> BudgetExceeded:
    return BudgetExceeded(ErrorCode.TOKEN_LIMIT, f"The turn's budget of {budget:g} US dollars is used up.")


def _session_paid(budget: float) -> BudgetExceeded:
    return BudgetExceeded(ErrorCode.TOKEN_LIMIT, f"The session's budget of {budget:g} US dollars is used up.")


def _day_paid(budget: float, *, retry_after_s: float | None = None) -> BudgetExceeded:
    return BudgetExceeded(
        ErrorCode.RATE_LIMITED,
        f"Your budget of {budget:g} US dollars of today is used up; the next day begins at midnight UTC.",
        retry_after_s=retry_after_s,
    )


def _turn_spent(budget: int) -> BudgetExceeded:
    return BudgetExceeded(ErrorCode.TOKEN_LIMIT, f"The turn's budget of {budget} tokens is used up.")


def _session_spent(budget: int) -> BudgetExceeded:
    return BudgetExceeded(ErrorCode.TOKEN_LIMIT, f"The session's budget of {budget} tokens is used up.")


def _day_spent(budget: int, *, retry_after_s: float | None = None) -> BudgetExceeded:
    return BudgetExceeded(
        ErrorCode.RATE_LIMITED,
        f"Your budget of {budget} tokens of today is used up; the next day begins at midnight UTC.",
        retry_after_s=retry_after_s,
    )
