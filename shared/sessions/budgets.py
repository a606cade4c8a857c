"""Token budgets of a turn, of a session, and of a user's day: the rules, without a store or a clock.

Invariant: a model call begins only while no budget is used up, and may answer with no more than the tightest one
leaves. So a budget is overdrawn by what one call reads at most; a user's day also by the turns that run side by side,
since it is written when a turn closes. What counts is what the model said it used, never an estimate: an estimate only
keeps an answer short, so that a budget never refuses what it would have covered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from shared.errors import BudgetExceeded, ErrorCode

SHORT_ANSWER_TOKENS = 256
"""What a call may answer when its reading alone may use a budget up: a cut sentence would be paid for in vain."""


@dataclass(frozen=True, slots=True)
class TokenBudgets:
    """Tokens, read and written together; None: no limit."""

    turn: int | None = None
    session: int | None = None
    user_day: int | None = None


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """turn: by this turn so far; session, user_day: by turns that have closed, this one not among them."""

    turn: int = 0
    session: int = 0
    user_day: int = 0


NOTHING_USED = TokensUsed()


def usage_day(now: datetime) -> date:
    """The day that tokens used now count in. Days are UTC, for users everywhere."""
    return now.astimezone(UTC).date()


def answer_allowance(budgets: TokenBudgets, used: TokensUsed, *, reads: int) -> int | None:
    """Most tokens a model call may answer with, when it reads about `reads`; None: no budget says.

    Raises BudgetExceeded when the call must not begin: TOKEN_LIMIT, or RATE_LIMITED for the user's day.
    """
    allowance: int | None = None
    for budget, spent, refusal in (
        (budgets.turn, used.turn, _turn_spent),
        (budgets.session, used.session + used.turn, _session_spent),
        (budgets.user_day, used.user_day + used.turn, _day_spent),
    ):
        if budget is None:
            continue
        left = budget - spent
        if left < 1:
            raise refusal(budget)
        answer = max(left - reads, min(left, SHORT_ANSWER_TOKENS))
        allowance = answer if allowance is None else min(allowance, answer)
    return allowance


def posting_refusal(budgets: TokenBudgets, used: TokensUsed, *, now: datetime) -> BudgetExceeded | None:
    """Why a message is not taken, or None: its turn could not even begin."""
    if budgets.session is not None and used.session >= budgets.session:
        return _session_spent(budgets.session)
    if budgets.user_day is not None and used.user_day >= budgets.user_day:
        return _day_spent(budgets.user_day, retry_after_s=seconds_to_next_day(now))
    return None


def seconds_to_next_day(now: datetime) -> float:
    """Seconds until a user's day starts anew."""
    midnight = datetime.combine(usage_day(now) + timedelta(days=1), time(), UTC)
    return (midnight - now).total_seconds()


def _turn_spent(budget: int) -> BudgetExceeded:
    return BudgetExceeded(ErrorCode.TOKEN_LIMIT, f"The turn's budget of {budget} tokens is used up.")


def _session_spent(budget: int) -> BudgetExceeded:
    return BudgetExceeded(ErrorCode.TOKEN_LIMIT, f"The session's budget of {budget} tokens is used up.")


def _day_spent(budget: int, *, retry_after_s: float | None = None) -> BudgetExceeded:
    return BudgetExceeded(
        ErrorCode.RATE_LIMITED,
        f"Your {budget} tokens of today are used up; the next day begins at midnight UTC.",
        retry_after_s=retry_after_s,
    )
