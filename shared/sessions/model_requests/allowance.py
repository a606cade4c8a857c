"""How many tokens one model call may read and write, within the context window, the model's limits and the budgets."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from shared.errors import ErrorCode, ModelFailed
from shared.sessions.limits.budgets import (
    SHORT_ANSWER_TOKENS,
    DailyLimits,
    MoneyBudgets,
    Reservation,
    TokenBudgets,
    Wanted,
    affordable_tokens,
    answer_allowance,
)
from shared.sessions.llm.registry import ModelRegistry
from shared.sessions.llm.windows import Windows
from shared.sessions.records.steps import StepStart

_MOST_RESERVED = 8_192
"""Tokens left for an answer whose length nobody set, in a window that was learned."""

USUAL_ANSWER_TOKENS = 16_384
"""An answer that is longer takes its tokens from what is reserved, and is cut there: reserving as much as a model may
write would let few steps of a user run side by side."""

SHARE = 8
"""A step reserves an eighth of what is free (`reserve` in the database)."""

_LEAST_ANSWER = 16
"""The floor of OpenAI's `max_output_tokens`."""


class Allowance:
    """Computed for each call: windows are learned, and budgets used up, while turns run."""

    def __init__(self, registry: ModelRegistry, windows: Windows, limits: DailyLimits) -> None:
        self._registry = registry
        self._windows = windows
        self._limits = limits

    def reads(self, start: StepStart) -> int:
        """Most tokens that a call may read, by our estimate."""
        plan = start.plan
        learned = self._windows.of(plan.model, start.target.session_id)
        if learned is None:
            return plan.max_context_tokens
        reserve = min(plan.max_output_tokens or learned.limit_tokens // 4, learned.limit_tokens // 2, _MOST_RESERVED)
        return min(plan.max_context_tokens, learned.room(reserve=reserve))

    def writes(self, start: StepStart, *, reads: int = 0) -> int | None:
        """Most tokens of the answer of a call that reads about `reads`; None: no limit is known.

        Raises BudgetExceeded, Transient when others have reserved the rest of the day, and ModelFailed where there is a
        budget in money and no price.
        """
        plan, limits = start.plan, self._limits
        tokens = TokenBudgets(
            plan.max_turn_tokens, start.max_session_tokens or plan.max_session_tokens, limits.daily_tokens
        )
        reserved = start.reservation or Reservation()
        most = [
            plan.max_output_tokens,
            answer_allowance(tokens, start.used, reads=reads, reserved=reserved.tokens),
        ]
        facts = self._registry.find(plan.model)
        money = MoneyBudgets(
            plan.max_turn_cost_usd, start.max_session_cost_usd or plan.max_session_cost_usd, limits.daily_cost_usd
        )
        if money:
            if not facts.is_priced:
                raise ModelFailed(
                    ErrorCode.TOKEN_LIMIT,
                    f"There is a budget in money, and the price of {plan.model} is not known. An operator sets it in"
                    " MODELS.",
                )
            price = facts.price(reads=reads)
            most.append(affordable_tokens(money, start.spent, price, reads=reads, reserved=reserved.cost_usd))
        if any(limit is not None for limit in most):
            # A server refuses a request that asks for more than there is.
            most += [facts.max_output_tokens, self._left(start, reads)]
        return min((limit for limit in most if limit is not None), default=None)

    def wanted(self, start: StepStart, *, reads: int) -> Wanted | None:
        """What a call that reads about `reads` wants of the day beyond the step's reservation; None: that is enough, or
        there is no more. Raises as `writes`."""
        reserved, limits = start.reservation, self._limits
        if reserved is None:
            return None
        whole = self.writes(replace(start, reservation=None), reads=reads)
        assert whole is not None  # a reservation is of a limited day
        usual, short = min(whole, USUAL_ANSWER_TOKENS), min(whole, SHORT_ANSWER_TOKENS)
        is_short = False
        most_tokens, least_cost, most_cost = reads + usual, None, None
        if limits.daily_tokens is not None and reserved.tokens is not None:
            free = limits.daily_tokens - start.used.user_day - reserved.others_tokens
            most_tokens = max(most_tokens, min(reads + whole, free // SHARE))
            is_short = reserved.tokens < reads + usual and (reserved.tokens < free or not reserved.is_alone)
        if limits.daily_cost_usd is not None and reserved.cost_usd is not None:
            price = self._registry.find(start.plan.model).price(reads=reads)
            free_usd = Decimal(str(limits.daily_cost_usd)) - start.spent.user_day - reserved.others_cost_usd
            least_cost, usual_cost = price.of(reads, short), price.of(reads, usual)
            most_cost = max(usual_cost, min(price.of(reads, whole), free_usd / SHARE))
            is_short |= reserved.cost_usd < usual_cost and (reserved.cost_usd < free_usd or not reserved.is_alone)
        return Wanted(reads + short, most_tokens, least_cost, most_cost) if is_short else None

    def _left(self, start: StepStart, reads: int) -> int | None:
        """Tokens that the window holds beside what is read; None: it is not known."""
        plan = start.plan
        learned = self._windows.of(plan.model, start.target.session_id)
        if learned is not None:
            return max(_LEAST_ANSWER, learned.left(reads=reads))
        return None if plan.model_context_tokens is None else max(_LEAST_ANSWER, plan.model_context_tokens - reads)
