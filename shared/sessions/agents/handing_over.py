"""Handovers: the plan with which another agent goes on with a turn.

Invariant: a handover loosens nothing: the turn keeps its user, roles, steps and budgets, and the stricter approval mode
and rule of two of both agents; only whose the session is changes the session's agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shared.errors import AppError, NotFound, ToolFailed
from shared.rights import Action, may
from shared.sessions.agents.agent import Agent, KnownModels, effective_config, plan_turn
from shared.sessions.agents.below import AgentPins
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.plan import HandedOver, PlannedAgent, TurnPlan
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.tools.kinds.client import with_client_tools

MAX_HANDOVERS = 4
"""Of one turn; after them its agent has to answer."""


class VersionsOfAgents(Protocol):
    async def pinned(self, agent_id: str, version: int) -> Agent | None:
        """A version that a turn pins; None when it is gone."""
        ...


class SessionsOfTurns(Protocol):
    async def get(self, session_id: str, user_id: str) -> SessionRecord:
        """Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class Handovers:
    """Plans turns that are handed over."""

    sessions: SessionsOfTurns
    agents: VersionsOfAgents
    pins: AgentPins
    default_model: str
    known: KnownModels

    async def plan(self, call: ToolExecution, successor: PlannedAgent) -> TurnPlan:
        """Raises ToolFailed."""
        agent = await self.agents.pinned(successor.id, successor.version)
        if agent is None:
            raise ToolFailed(f"There is no agent {successor.id!r} in version {successor.version} any more.")
        try:
            record = await self.sessions.get(call.session_id, call.requested_by)
        except NotFound as exc:
            raise ToolFailed("Who began this turn may not read its session any more.") from exc
        before = call.plan
        count = 1 if before.handed_over is None else before.handed_over.count + 1
        config = effective_config(agent, record.session.config)
        try:
            plan = plan_turn(
                agent,
                config,
                model=self.default_model,
                approval_mode=config.approval_mode.stricter(before.approval_mode),
                output_schema=before.output_schema,
                known=self.known,
                agents=await self.pins.below(agent),
                handovers=await self.pins.after(agent) if count < MAX_HANDOVERS else None,
            )
            plan = with_client_tools(plan, list(before.client_tools.values()))
        except AppError as exc:
            raise ToolFailed(f"The agent {agent.id} cannot go on: {exc.safe_message}") from exc
        is_contained = Containment.RULE_OF_TWO in {before.containment, plan.containment}
        forgets = (plan.model, plan.model_api) != (before.model, before.model_api)
        return plan.model_copy(
            update={
                "max_steps": before.max_steps,
                "max_turn_tokens": _least(before.max_turn_tokens, plan.max_turn_tokens),
                "max_turn_cost_usd": _least(before.max_turn_cost_usd, plan.max_turn_cost_usd),
                "max_session_tokens": _least(before.max_session_tokens, plan.max_session_tokens),
                "max_session_cost_usd": _least(before.max_session_cost_usd, plan.max_session_cost_usd),
                "containment": Containment.RULE_OF_TWO if is_contained else Containment.OFF,
                "roles": before.roles,
                "schema_by_other": before.schema_by_other,
                "traceparent": before.traceparent,
                "correlation_id": before.correlation_id,
                "handed_over": HandedOver(
                    tool_call_id=call.tool_call_id,
                    from_agent_id=before.agent_id,
                    from_version=before.agent_version,
                    from_model=before.model,
                    earlier=[] if before.handed_over is None else before.handed_over.agents_before(),
                    count=count,
                    for_session=may(record.access, Action.CHANGE),
                    forgets=forgets or (before.handed_over is not None and before.handed_over.forgets),
                ),
            }
        )


def _least[Number: (int, float)](one: Number | None, other: Number | None) -> Number | None:
    """Of two bounds, where None is none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
