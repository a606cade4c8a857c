"""Agents: what a session talks to, as data. A turn keeps a frozen plan of the version it began with.

Invariant: a version never changes; `plan_turn` is the one place where agent, session and message are weighed against
each other: what is nearest to the message wins.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, field_serializer

from shared import tracing
from shared.sessions.models import ApprovalMode, JsonObject, SessionConfig, Value
from shared.sessions.policy import ApprovalPolicy, Containment
from shared.sessions.records import TurnPlan
from shared.sessions.tools.registry import all_tools

MAX_INSTRUCTIONS_CHARS = 32_000
MAX_TOOLS = 64


def _distinct(names: list[str] | None) -> list[str] | None:
    # Two functions of one name are a request that a model endpoint refuses.
    return None if names is None else list(dict.fromkeys(names))


def _said(text: str) -> str:
    if not text.strip() or "\x00" in text:
        raise ValueError("says nothing, or holds U+0000")
    return text


type ToolName = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class NewAgent(Value):
    """Body of `PUT /agents/{agent_id}`."""

    name: str = Field(min_length=1, max_length=200)
    description: str | None = Field(None, max_length=1_000)
    instructions: Annotated[str, AfterValidator(_said)] = Field(
        min_length=1, max_length=MAX_INSTRUCTIONS_CHARS, description="The system message"
    )
    model: str | None = Field(None, min_length=1, max_length=128, description="Deployment; null: the app's own")
    tools: Annotated[list[ToolName] | None, Field(max_length=MAX_TOOLS), AfterValidator(_distinct)] = Field(
        None, description="Names; null: every tool there is"
    )
    policies: dict[ToolName, ApprovalPolicy] = Field({}, max_length=MAX_TOOLS, description="By tool name")
    defaults: SessionConfig = Field(SessionConfig(), description="For what a session does not set; unset fields stay")
    vision: bool = Field(False, description="Its model reads images")
    containment: Containment = Field(
        Containment.RULE_OF_TWO,
        description="What holds for calls that act outward from a conversation with what others wrote and private data",
    )

    @field_serializer("defaults")
    def _only_set(self, defaults: SessionConfig) -> JsonObject:
        # Sent back as it is shown, an agent must say the same: what its author left open stays open.
        return defaults.model_dump(mode="json", exclude_unset=True)


class Agent(NewAgent):
    """One version of an agent."""

    id: str
    version: int
    created_at: datetime | None = Field(None, description="null: comes with Parley")
    created_by: str | None = None


DEFAULT_AGENT = Agent(
    id="assistant",
    version=1,
    name="Assistant",
    instructions=(
        "You are a helpful assistant. Be brief and exact. Use the tools you are offered when they help. "
        "Some tool calls wait for a person's approval; when one is rejected or times out, say so and go on without it."
    ),
)
"""Version 1 of `assistant`; what an admin stores under its id are the versions from 2 on."""


def effective_config(agent: Agent, config: SessionConfig) -> SessionConfig:
    """What the session set over what the agent sets; what neither set is the app's default."""
    if not agent.defaults.model_fields_set:
        return config
    return SessionConfig.model_validate(
        agent.defaults.model_dump(exclude_unset=True) | config.model_dump(exclude_unset=True)
    )


def plan_turn(agent: Agent, config: SessionConfig, *, model: str, approval_mode: ApprovalMode | None) -> TurnPlan:
    """Freeze what a turn runs with.

    config: the effective one; model: the app's default deployment; approval_mode: the message's own choice.
    """
    names = [tool.name for tool in all_tools()]
    return TurnPlan(
        agent_id=agent.id,
        agent_version=agent.version,
        instructions=agent.instructions,
        model=config.model or agent.model or model,
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
        max_session_tokens=config.max_session_tokens,
        policies=agent.policies,
        vision=agent.vision,
        containment=agent.containment,
    )
