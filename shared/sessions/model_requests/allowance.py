"""How many tokens one model call may read and write, within the context window, the model's limits and the budgets."""

from __future__ import annotations

from shared.errors import ErrorCode, ModelFailed
from shared.sessions.limits.budgets import (
    DailyLimits,
    MoneyBudgets,
    TokenBudgets,
    affordable_tokens,
    answer_allowance,
)
from shared.sessions.llm.registry import ModelRegistry
from shared.sessions.llm.windows import Windows
from shared.sessions.records.steps import StepStart

_MOST_RESERVED = 8_192
"""Tokens left for an answer whose length nobody set, in a window that was learned."""

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

        Raises BudgetExceeded, and ModelFailed where there is a budget in money and no price.
        """
        plan, limits = start.plan, self._limits
        tokens = TokenBudgets(
            plan.max_turn_tokens, start.max_session_tokens or plan.max_session_tokens, limits.daily_tokens
        )
        most = [plan.max_output_tokens, answer_allowance(tokens, start.used, reads=reads)]
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
            most.append(affordable_tokens(money, start.spent, price, reads=reads))
        if any(limit is not None for limit in most):
            # A server refuses a request that asks for more than there is.
            most += [facts.max_output_tokens, self._left(start, reads)]
        return min((limit for limit in most if limit is not None), default=None)

    def _left(self, start: StepStart, reads: int) -> int | None:
        """Tokens that the window holds beside what is read; None: it is not known."""
        plan = start.plan
        learned = self._windows.of(plan.model, start.target.session_id)
        if learned is not None:
            return max(_LEAST_ANSWER, learned.left(reads=reads))
        return None if plan.model_context_tokens is None else max(_LEAST_ANSWER, plan.model_context_tokens - reads)
