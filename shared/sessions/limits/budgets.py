"""Token and cost budgets of a turn, of a session, and of a user's day: pure rules, without a store or a clock.

Invariant: a model call begins only while no budget is used up, and its answer is limited to what the tightest budget
leaves. So a budget can be overdrawn at most by the input of one call. Turns of a session run one at a time, those of a
user side by side: each step reserves its part of the day first, and waits where others have reserved the rest.
Only a step that is alone may read more than it has reserved. Usage is what the model reports, or an estimate if it
reports none. An estimate only shortens the answer; it never refuses a call that the budget would cover.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from shared.errors import AppError, BudgetExceeded, ErrorCode, Transient
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
class Reservation:
    """A turn's part of its user's day, while its step runs.

    tokens, cost_usd: None without that limit; 0 when nothing was free. others_...: what other turns have reserved.
    """

    tokens: int | None = None
    cost_usd: Decimal | None = None
    others_tokens: int = 0
    others_cost_usd: Decimal = Decimal(0)

    @property
    def is_alone(self) -> bool:
        return not self.others_tokens and not self.others_cost_usd

    def less(self, usage: Usage) -> Reservation:
        """What is left of it."""
        tokens = None if self.tokens is None else max(0, self.tokens - usage.input_tokens - usage.output_tokens)
        spent = Decimal(str(usage.cost_usd or 0))
        cost = None if self.cost_usd is None else max(Decimal(0), self.cost_usd - spent)
        return replace(self, tokens=tokens, cost_usd=cost)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call needs of the day: at least, else it waits for others; and at most."""

    least_tokens: int
    most_tokens: int
    least_cost_usd: Decimal | None
    most_cost_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_usd: float
    output_usd: float

    def of(self, reads: int, writes: int) -> Decimal:
        """US dollars of a call."""
        return (Decimal(str(self.input_usd)) * reads + Decimal(str(self.output_usd)) * writes) / _MILLION


def usage_day(now: datetime) -> date:
    """The day that usage at `now` counts in. Days are UTC for all users."""
    return now.astimezone(UTC).date()


def answer_allowance(budgets: TokenBudgets, used: TokensUsed, *, reads: int, reserved: int | None = None) -> int | None:
    """Most output tokens of a model call with about `reads` input tokens; None: no budget is set.

    reserved: of the user's day; None: nothing has to be reserved. Raises BudgetExceeded when the call must not begin:
    TOKEN_LIMIT, or RATE_LIMITED for the user's day; Transient (RATE_LIMITED) when others have reserved what is left.
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
        if refusal is _day_spent and reserved is not None:
            left = min(left, reserved)
            if left < 1:
                raise day_reserved()
        answer = max(left - reads, min(left, SHORT_ANSWER_TOKENS))
        allowance = answer if allowance is None else min(allowance, answer)
    return allowance


def affordable_tokens(
    budgets: MoneyBudgets, spent: MoneySpent, price: Price, *, reads: int, reserved: Decimal | None = None
) -> int | None:
    """Like `answer_allowance`, for cost budgets. Raises BudgetExceeded, Transient."""
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
        if refusal is _day_paid and reserved is not None:
            left = min(left, reserved)
            if left <= 0:
                raise day_reserved()
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


_RESERVED_RETRY_S = 15.0
"""With `MAX_MODEL_TRIES` a turn waits a minute for others; few answers take longer."""


def day_reserved() -> AppError:
    """Other turns of the user have reserved what is left of the day. They may use less."""
    return Transient(
        ErrorCode.RATE_LIMITED,
        "What is left of your budget of today is reserved by your other turns that are being answered.",
        retry_after_s=_RESERVED_RETRY_S,
    )


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
