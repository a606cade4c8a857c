"""Agents: what a session talks to. One ships with Parley; a turn keeps a frozen plan of what it began with."""

from __future__ import annotations

from shared import tracing
from shared.errors import ErrorCode, InvalidInput
from shared.sessions.models import ApprovalMode, SessionConfig, Value
from shared.sessions.records import TurnPlan
from shared.sessions.tools.registry import all_tools


class Agent(Value):
    """Instructions and tools. tools: names, or None for all that are registered."""

    id: str
    version: int
    name: str
    instructions: str
    tools: list[str] | None = None


DEFAULT_AGENT = Agent(
    id="assistant",
    version=1,
    name="Assistant",
    instructions=(
        "You are a helpful assistant. Be brief and exact. Use the tools you are offered when they help. "
        "Some tool calls wait for a person's approval; when one is rejected or times out, say so and go on without it."
    ),
)


def agent_for(agent_id: str | None) -> Agent:
    """The agent of a session. Raises InvalidInput(VALIDATION_ERROR) for an unknown one."""
    if agent_id in {None, DEFAULT_AGENT.id}:
        return DEFAULT_AGENT
    raise InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        f"There is no agent {agent_id!r}.",
        errors=[{"field": "agent_id", "message": "unknown agent"}],
    )


def plan_turn(agent: Agent, config: SessionConfig, *, model: str, approval_mode: ApprovalMode | None) -> TurnPlan:
    """Freeze what a turn runs with. model: the app's default deployment; approval_mode: the message's own choice."""
    names = [tool.name for tool in all_tools()]
    return TurnPlan(
        instructions=agent.instructions,
        model=config.model or model,
        temperature=config.temperature,
        max_output_tokens=config.max_output_tokens,
        max_steps=config.max_steps,
        tools=names if agent.tools is None else [name for name in agent.tools if name in names],
        approval_mode=approval_mode or config.approval_mode,
        approval_timeout_seconds=config.approval_timeout_seconds,
        tool_timeout_seconds=config.tool_timeout_seconds,
        max_context_tokens=config.max_context_tokens,
        max_turn_tokens=config.max_turn_tokens,
        traceparent=tracing.traceparent(),
        correlation_id=tracing.correlation_id(),
    )
