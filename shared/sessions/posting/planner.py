"""TurnPlanner: makes the plan of a turn that is posted now, and finds the budget that refuses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from typing import Protocol

from shared.errors import InvalidState
from shared.principal import Principal, Role
from shared.rights import Action, may
from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, KnownModels, effective_config, plan_turn
from shared.sessions.agents.below import AgentPins
from shared.sessions.agents.catalog import unknown_agent
from shared.sessions.limits.budgets import (
    NO_DAILY_LIMITS,
    DailyLimits,
    MoneyBudgets,
    MoneySpent,
    TokenBudgets,
    TokensUsed,
    posting_refusal,
    usage_day,
)
from shared.sessions.models import ApprovalMode, ClientTool, JsonObject
from shared.sessions.posting.models import Posting
from shared.sessions.records.sessions import DayUsed, SessionRecord
from shared.sessions.tools.kinds.client import with_client_tools
from shared.sessions.tools.registry import ready as tools_ready


class PostedSessions(Protocol):
    """In one read all that posting to a session takes."""

    async def get_for_posting(
        self, session_id: str, user_id: str, *, day: date
    ) -> tuple[SessionRecord, Agent | None, DayUsed]:
        """Also the newest version of its agent that is stored, and what the user's turns have used on that day. Raises
        NotFound."""
        ...


class TurnPlanner:
    """Plans turns, of new messages and of messages that are answered again. Checks access."""

    def __init__(
        self,
        sessions: PostedSessions,
        *,
        default_model: str,
        limits: DailyLimits = NO_DAILY_LIMITS,
        known: KnownModels | None = None,
        ready: Callable[[], Awaitable[None]] = tools_ready,
        below: AgentPins | None = None,
    ) -> None:
        """known: facts about models, for the plan. ready: waits for tools and agents that come with the app. below:
        finds the agents that one may call; None: none."""
        self._sessions = sessions
        self._default_model = default_model
        self._limits = limits
        self._known = known or KnownModels()
        self._ready = ready
        self._below = below

    async def plan(
        self,
        session_id: str,
        principal: Principal,
        approval_mode: ApprovalMode | None,
        *,
        now: datetime,
        output_schema: JsonObject | None = None,
        client_tools: Sequence[ClientTool] = (),
    ) -> Posting:
        """The plan of a turn that is posted now, and why it must not begin. Raises NotFound, InvalidInput,
        InvalidState (a subagent's session; a trial, for others than admins)."""
        await self._ready()
        record, agent, today = await self._sessions.get_for_posting(session_id, principal.user_id, day=usage_day(now))
        if record.session.parent_session_id is not None:
            raise InvalidState("This session belongs to a subagent: it takes no messages of its own.")
        if record.session.agent_version is not None and Role.ADMIN not in principal.roles:
            raise InvalidState("This session tries a version of an agent: only an admin posts to it.")
        if agent is None:
            if record.session.agent_id not in {None, DEFAULT_AGENT.id}:
                raise unknown_agent(record.session.agent_id)
            agent = DEFAULT_AGENT
        config = effective_config(agent, record.session.config)
        if approval_mode is not None and not may(record.access, Action.CHANGE):
            # Who may not change the session's mode may not loosen it for a message either.
            approval_mode = approval_mode.stricter(config.approval_mode)
        plan = plan_turn(
            agent,
            config,
            model=self._default_model,
            approval_mode=approval_mode,
            output_schema=output_schema,
            known=self._known,
            agents=None if self._below is None else await self._below.below(agent),
            handovers=None if self._below is None else await self._below.after(agent),
        )
        plan = with_client_tools(plan.model_copy(update={"roles": sorted(principal.roles)}), client_tools)
        if output_schema is None and _has_schema_of_other(record, principal.user_id):
            plan = plan.model_copy(update={"schema_by_other": True})
        limits = self._limits
        refusal = posting_refusal(
            TokenBudgets(session=config.max_session_tokens, user_day=limits.daily_tokens),
            TokensUsed(session=record.used_tokens, user_day=today.tokens),
            now=now,
            money=MoneyBudgets(session=config.max_session_cost_usd, user_day=limits.daily_cost_usd),
            spent=MoneySpent(session=record.used_cost_usd, user_day=today.cost_usd),
        )
        return Posting(record, plan, config.concurrency, refusal)


def _has_schema_of_other(record: SessionRecord, user_id: str) -> bool:
    """Whether the session has a schema, which its model reads, and another user may have written it: the session's
    owner, or whoever wrote it for the session that this one was forked from."""
    session = record.session
    return session.config.output_schema is not None and (session.forked_from is not None or record.owner_id != user_id)
