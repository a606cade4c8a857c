"""Subagents: the sessions and turns that answer calls of agents: made, begun, read and stopped.

Invariant: a call has one child, stored in the transaction that lets the call wait for it. A child may no more than its
parent: it runs for the same user, under the stricter approval mode and the stricter rule of two, and what the model
above had read counts as read by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from shared.errors import AppError, ErrorCode, ToolFailed
from shared.ids import new_id
from shared.sessions.agents.agent import Agent, KnownModels, effective_config, plan_turn
from shared.sessions.context.window import estimate_tokens
from shared.sessions.events import Event, EventType, SessionEventPublisher, closed_turn_events
from shared.sessions.models import SessionConfig
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.children import Child, NewChild
from shared.sessions.records.plan import PlannedAgent, TurnPlan
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.records.turns import Interruption
from shared.sessions.repository import BackgroundRepository, ChildRepository
from shared.sessions.subagents import notes

_AT_ONCE = 50
MAX_OPEN = 16
"""Children of one question that work side by side, whoever called them. Calls that begin in the same moment may pass it
by their number."""
MAX_BEGUN = 100
"""Of one question, however long it takes."""
MAX_IN_BACKGROUND = 16
"""Of one session, whatever they were asked for."""
MAX_RESULTS = 8
"""Turns that results began, one after the other: what nobody has asked for must not go on for ever."""
BACKGROUND_TIME = timedelta(days=30)
"""As long as a call waits for a subagent."""


class PinnedAgents(Protocol):
    async def pinned(self, agent_id: str, version: int) -> Agent | None:
        """A version that a turn pins; None when it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Begun:
    """A child on record. turn_id: to be started; None: it has begun. messages: events to send."""

    turn_id: str | None
    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Stopped:
    """Children that were asked to stop, and whom the caller must tell."""

    interruption: Interruption = field(default_factory=Interruption)
    messages: list[bytes] = field(default_factory=list)


class Subagents:
    """The children of calls."""

    def __init__(
        self,
        rows: ChildRepository,
        agents: PinnedAgents,
        publisher: SessionEventPublisher,
        *,
        default_model: str,
        known: KnownModels | None = None,
        background: BackgroundRepository | None = None,
    ) -> None:
        """background: None: none works in the background; its call fails."""
        self._rows = rows
        self._agents = agents
        self._publisher = publisher
        self._default_model = default_model
        self._known = known or KnownModels()
        self._background = background

    async def child_of(self, call: ToolExecution, pinned: PlannedAgent, text: str, *, now: datetime) -> NewChild:
        """The child that is to answer a call. Raises ToolFailed."""
        are_open, begun = await self._rows.beside(call.tool_call_id)
        if are_open >= MAX_OPEN:
            raise ToolFailed(f"{MAX_OPEN} agents work on this already; call another one when one of them has answered.")
        if begun >= MAX_BEGUN:
            raise ToolFailed(f"{MAX_BEGUN} calls of agents were made for this already; go on without another one.")
        agent = await self._agents.pinned(pinned.id, pinned.version)
        if agent is None:
            raise ToolFailed(f"There is no agent {pinned.id!r} in version {pinned.version} any more.")
        plan = self._plan(agent, pinned, call.plan)
        tokens = estimate_tokens(text)
        if tokens > plan.max_context_tokens:
            raise ToolFailed(f"The input is about {tokens} tokens; the agent reads {plan.max_context_tokens}.")
        return NewChild(
            tool_call_id=call.tool_call_id,
            session_id=new_id(),
            turn_id=new_id(),
            message_id=new_id(),
            agent_id=agent.id,
            name=agent.name,
            plan=plan,
            content=text,
            tokens=tokens,
            sources=call.sources,
            now=now,
        )

    async def begin(self, call: ToolExecution, pinned: PlannedAgent, text: str, *, now: datetime) -> Child | None:
        """Begin one in the background, once for each call. None: the turn of the call is over. Raises ToolFailed."""
        begun = await self._rows.of_call(call.tool_call_id)
        if begun is not None:
            return begun
        if self._background is None:
            raise ToolFailed("Agents cannot work in the background here.")
        if await self._background.open_of(call.session_id) >= MAX_IN_BACKGROUND:
            raise ToolFailed(f"{MAX_IN_BACKGROUND} agents work in the background already; wait until one has ended.")
        if call.plan.results_before >= MAX_RESULTS:
            raise ToolFailed(
                f"{MAX_RESULTS} turns have begun with results of agents, one after the other, and nobody has said"
                " anything since; go on when somebody has."
            )
        child = await self.child_of(call, pinned, text, now=now)
        child = replace(child, background_until=now + BACKGROUND_TIME)
        if not await self._background.begin(child, [notes.begun(call, child)]):
            return None
        return await self._rows.of_call(call.tool_call_id)

    async def stop_overdue(self, *, now: datetime) -> Stopped:
        """Stop those in the background whose time is over, and all below them. Safe to repeat."""
        stopped = Stopped()
        if self._background is None:
            return stopped
        while turns := await self._background.overdue(now=now, limit=_AT_ONCE):
            stopped = _together(stopped, await self._cancel(turns, now))
            for turn_id in turns:
                stopped = _together(stopped, await self.stop_below(turn_id, now=now))
        return stopped

    def _plan(self, agent: Agent, pinned: PlannedAgent, above: TurnPlan) -> TurnPlan:
        config = effective_config(agent, SessionConfig())
        try:
            plan = plan_turn(
                agent,
                config,
                model=self._default_model,
                approval_mode=config.approval_mode.stricter(above.approval_mode),
                known=self._known,
                agents=pinned.agents,
            )
        except AppError as exc:
            raise ToolFailed(
                f"The agent {agent.id} cannot run: {exc.safe_message}", code=ErrorCode.TOOL_EXECUTION_FAILED
            ) from exc
        is_contained = Containment.RULE_OF_TWO in {above.containment, agent.containment}
        return plan.model_copy(
            update={
                "roles": above.roles,
                "containment": Containment.RULE_OF_TWO if is_contained else Containment.OFF,
                "asked_through": [*above.asked_through, above.agent_id or ""],
                "traceparent": plan.traceparent or above.traceparent,
                "correlation_id": above.correlation_id,
            }
        )

    async def of_call(self, tool_call_id: str) -> Child | None:
        """None: it has none, or its session is gone."""
        return await self._rows.of_call(tool_call_id)

    async def begun(self, call: ToolExecution) -> Begun:
        """Say what the child of a waiting call was asked, and whether it has to be started."""
        child = await self._rows.of_call(call.tool_call_id)
        if child is None or child.is_started:
            return Begun(None, [])
        asked = child.message.model_dump(mode="json", exclude_none=True)
        event = Event(EventType.MESSAGE_CREATED, asked, child.turn_id, child.message.id)
        return Begun(child.turn_id, await self._publisher.publish(child.target, [event]))

    async def stop(self, tool_call_id: str, *, now: datetime) -> Stopped:
        """Stop the child of a call, and all below it."""
        child = await self._rows.of_call(tool_call_id)
        if child is None:
            return Stopped()
        own = await self._cancel([child.turn_id], now)
        return _together(own, await self.stop_below(child.turn_id, now=now))

    async def stop_below(self, turn_id: str | None, *, now: datetime) -> Stopped:
        """Stop what is below a turn (None: below any) that was cancelled or is over. Safe to repeat."""
        stopped = Stopped()
        while turns := await self._rows.stopped(turn_id, limit=_AT_ONCE):
            stopped = _together(stopped, await self._cancel(turns, now))
        return stopped

    async def _cancel(self, turn_ids: list[str], now: datetime) -> Stopped:
        stopped = Stopped()
        for turn_id in turn_ids:
            cancelled = await self._rows.cancel(turn_id, now=now)
            if cancelled is not None:
                interruption, target = cancelled
                events = closed_turn_events(interruption.closed_turn_ids)
                told = await self._publisher.publish(target, events) if events else []
                stopped = _together(stopped, Stopped(interruption, told))
        return stopped


def _together(one: Stopped, other: Stopped) -> Stopped:
    return Stopped(one.interruption.with_those_of(other.interruption), [*one.messages, *other.messages])
