"""Agents as data. A turn keeps a frozen plan of the agent version it began with.

Invariant: a version never changes. `plan_turn` is the one place that merges the settings of agent, session and message:
the message's win over the session's, and the session's over the agent's. What an agent requires (policies, approval
floors, the rule of two) nobody loosens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, computed_field, field_serializer

from shared import tracing
from shared.errors import ErrorCode, InvalidInput
from shared.sessions.llm.registry import Model, ModelApi, ModelRegistry
from shared.sessions.mcp.pins import McpPin, planned
from shared.sessions.mcp.servers import MAX_SERVERS, McpServer, distinct, tool_name
from shared.sessions.models import ApprovalMode, JsonObject, ReasoningEffort, SessionConfig, Value
from shared.sessions.records.approval_policy import ApprovalPolicy, Containment, TimeoutAction, fault_of
from shared.sessions.records.plan import PlannedAgent, TurnPlan
from shared.sessions.tools.kinds.handovers import handover_name
from shared.sessions.tools.kinds.subagents import function_name
from shared.sessions.tools.registry import all_tools, find_tool

MAX_INSTRUCTIONS_CHARS = 32_000
MAX_FUNCTION_CHARS = 64
MAX_TOOLS = 64
MAX_AGENTS = 8
"""That one agent may call, and as many to which it may hand over."""


def _distinct(names: list[str] | None) -> list[str] | None:
    # Model endpoints refuse a request with two functions of the same name.
    return None if names is None else list(dict.fromkeys(names))


def _said(text: str) -> str:
    if not text.strip() or "\x00" in text:
        raise ValueError("is blank or contains U+0000")
    return text


type ToolName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
type AgentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class NewAgent(Value):
    """Body of `PUT /agents/{agent_id}`."""

    name: str = Field(min_length=1, max_length=200)
    description: str | None = Field(None, max_length=1_000)
    instructions: Annotated[str, AfterValidator(_said)] = Field(
        min_length=1, max_length=MAX_INSTRUCTIONS_CHARS, description="The system message"
    )
    model: str | None = Field(None, min_length=1, max_length=128, description="Deployment; null: the app's default")
    model_api: ModelApi | None = Field(None, description="API to call its model over; null: as the settings say")
    model_context_tokens: int | None = Field(
        None, ge=256, le=100_000_000, description="Context window of its model; null: from settings or registry"
    )
    tools: Annotated[list[ToolName] | None, Field(max_length=MAX_TOOLS), AfterValidator(_distinct)] = Field(
        None, description="Tool names; null: all tools"
    )
    policies: dict[ToolName, ApprovalPolicy] = Field({}, max_length=MAX_TOOLS, description="By tool name")
    approval_floor: dict[ToolName, ApprovalMode] = Field(
        {},
        max_length=MAX_TOOLS,
        description="By tool name, the least strict approval mode of its calls, which neither session nor message can"
        " loosen. For tools that are not named: `policy` if they have outside effects or need approval by default",
    )
    mcp_servers: Annotated[list[McpServer], Field(max_length=MAX_SERVERS), AfterValidator(distinct)] = Field(
        [], description="MCP servers, and the tools of them that its model may call besides `tools`"
    )
    agents: Annotated[list[AgentId], Field(max_length=MAX_AGENTS), AfterValidator(_distinct)] = Field(
        [], description="Other agents that its model may call as tools: `support` by the name `ask_support`"
    )
    background_agents: Annotated[list[AgentId], Field(max_length=MAX_AGENTS), AfterValidator(_distinct)] = Field(
        [],
        description="Of `agents`, those that work in the background: a call of one returns at once, and its answer"
        " comes as a message. A subagent waits for them as for others",
    )
    hands_over_to: Annotated[list[AgentId], Field(max_length=MAX_AGENTS), AfterValidator(_distinct)] = Field(
        [],
        description="Other agents to which it may hand a conversation over, which then go on with it: `support` by"
        " the name `hand_over_to_support`",
    )
    defaults: SessionConfig = Field(SessionConfig(), description="Used where a session sets nothing")
    vision: bool = Field(False, description="Its model reads images")
    compact_at: float | None = Field(
        0.8,
        gt=0,
        le=1,
        description="Share of the window above which a summary replaces older turns; null: never",
    )
    containment: Containment = Field(
        Containment.RULE_OF_TWO,
        description="Rule for calls with external side effects, once untrusted input and private data come together",
    )

    @field_serializer("defaults")
    def _only_set(self, defaults: SessionConfig) -> JsonObject:
        # A round trip (GET, then PUT) must not change the agent: unset defaults stay unset.
        return defaults.model_dump(mode="json", exclude_unset=True)


class AgentSourceKind(StrEnum):
    BUILT_IN = "built_in"  # the agent that ships
    API = "api"  # `PUT /agents/{agent_id}`
    FILE = "file"  # a file of the app, `agents/NAME.md`


class AgentSource(Value):
    """Where a version of an agent came from."""

    kind: AgentSourceKind
    path: str | None = Field(None, description="With `file`: the file, such as `agents/support.md`")
    sha256: str | None = Field(None, description="With `file`: of the file's bytes, in hexadecimal")
    packaged_at: datetime | None = Field(
        None, description="With `file`: when its package was built; null: it ran from a checkout"
    )


BY_API = AgentSource(kind=AgentSourceKind.API)


class Agent(NewAgent):
    """One version of an agent."""

    id: str
    version: int
    created_at: datetime | None = Field(None, description="null: built in")
    created_by: str | None = Field(None, description="The admin who stored it; null: built in, or from a file")
    source: AgentSource = BY_API
    mcp_pins: list[McpPin] = Field([], description="The tools of its MCP servers as this version pins them")

    @computed_field(description="Tools that it names and this instance does not have: its turns go without them")  # type: ignore[prop-decorator]
    @property
    def missing_tools(self) -> list[str]:
        return [name for name in self.tools or () if find_tool(name) is None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an agent whose fields are valid, each by itself."""

    place: tuple[str | int, ...]
    """Such as `("tools", 2)`."""
    text: str
    is_missing_tool: bool = False


def faults_of(agent: NewAgent) -> list[Fault]:
    """What is wrong with an agent beyond the form of its fields. Needs the tools (`registry.ready`)."""
    named: list[tuple[tuple[str | int, ...], str]] = [
        *((("tools", index), name) for index, name in enumerate(agent.tools or ())),
        *((("policies", name), name) for name in agent.policies),
        *((("approval_floor", name), name) for name in agent.approval_floor),
    ]
    pinned = {tool_name(server.name, tool) for server in agent.mcp_servers for tool in server.tools}
    listed = [("agents", index, function_name(agent_id), agent_id) for index, agent_id in enumerate(agent.agents)]
    listed += [
        ("hands_over_to", index, handover_name(agent_id), agent_id)
        for index, agent_id in enumerate(agent.hands_over_to)
    ]
    called = {name: agent_id for _, _, name, agent_id in listed}
    missing = [
        place
        for place, name in named
        if find_tool(name) is None and (name not in {*pinned, *called} or place[0] == "tools")
    ]
    faults = [Fault(place, "unknown tool", is_missing_tool=True) for place in missing]
    faults += [
        Fault(("policies", name), text)
        for name, policy in agent.policies.items()
        if (text := fault_of(policy)) is not None
    ]
    taken = [name for name in sorted(pinned) if find_tool(name) is not None]
    faults += [Fault(("mcp_servers",), f"the name {name} is taken by another tool") for name in taken]
    for field_name, index, name, agent_id in listed:
        if len(name) > MAX_FUNCTION_CHARS:
            faults.append(Fault((field_name, index), f"the name {name} has more than {MAX_FUNCTION_CHARS} characters"))
        elif find_tool(name) is not None or name in pinned:
            faults.append(Fault((field_name, index), f"the name {name} is taken by another tool"))
        elif called[name] != agent_id:
            faults.append(Fault((field_name, index), f"{called[name]} has the same name {name}"))
    faults += [
        Fault(("background_agents", index), f"{agent_id} is not one of `agents`")
        for index, agent_id in enumerate(agent.background_agents)
        if agent_id not in agent.agents
    ]
    if agent.defaults.expires_after_seconds is not None:
        # A session's lifetime counts from its creation; a later agent version must not change it.
        faults.append(Fault(("defaults", "expires_after_seconds"), "set it on a session or a template"))
    return faults


DEFAULT_AGENT = Agent(
    id="assistant",
    version=1,
    source=AgentSource(kind=AgentSourceKind.BUILT_IN),
    name="Assistant",
    instructions=(
        "You are a helpful assistant. Be brief and exact. Use the tools you are offered when they help. "
        "Some tool calls wait for a person's approval; when one is rejected or times out, say so and go on without it."
    ),
    approval_floor={"fetch_url": ApprovalMode.POLICY, "http_request": ApprovalMode.MANUAL},
)
"""Version 1 of `assistant`. Versions that an admin stores under this id start at 2."""


def effective_config(agent: Agent, config: SessionConfig) -> SessionConfig:
    """The session's settings over the agent's defaults; the app's defaults for the rest."""
    if not agent.defaults.model_fields_set:
        return config
    return SessionConfig.of_store(agent.defaults.model_dump(exclude_unset=True) | config.model_dump(exclude_unset=True))


@dataclass(frozen=True, slots=True)
class KnownModels:
    """Model facts that `plan_turn` needs. context_tokens, reasoning_effort: the app's default model's."""

    registry: ModelRegistry = field(default_factory=ModelRegistry)
    context_tokens: int | None = None
    reasoning_effort: ReasoningEffort | None = None


def plan_turn(
    agent: Agent,
    config: SessionConfig,
    *,
    model: str,
    approval_mode: ApprovalMode | None,
    output_schema: JsonObject | None = None,
    known: KnownModels = KnownModels(),
    agents: Mapping[str, PlannedAgent] | None = None,
    handovers: Mapping[str, PlannedAgent] | None = None,
) -> TurnPlan:
    """Freeze the settings that a turn runs with.

    config: from `effective_config`. model: the app's default deployment. approval_mode, output_schema: the message's.
    agents, handovers: those it may call and hand over to, by the names of their functions (`agents/below.py`).
    Raises InvalidInput (VALIDATION_ERROR) for settings that the model is known not to support.
    """
    names = [tool.name for tool in all_tools()]
    pinned = planned(agent.mcp_servers, agent.mcp_pins)
    chosen = config.model or agent.model or model
    is_agents = chosen == (agent.model or model)  # the agent's model settings do not apply to other models
    is_default = chosen == model
    facts = known.registry.find(chosen)
    context_tokens = (
        (agent.model_context_tokens if is_agents else None)
        or (known.context_tokens if is_default else None)
        or facts.context_tokens
    )
    effort = config.reasoning_effort or (known.reasoning_effort if is_default else None)
    _check_takes(chosen, facts, config)
    return TurnPlan(
        agent_id=agent.id,
        agent_version=agent.version,
        instructions=agent.instructions,
        model=chosen,
        temperature=None if facts.temperature is False else config.temperature,
        max_output_tokens=config.max_output_tokens,
        max_steps=config.max_steps,
        tools=[
            *(names if agent.tools is None else [name for name in agent.tools if name in names]),
            *pinned,
            *(agents or ()),
            *(handovers or ()),
        ],
        approval_mode=approval_mode or config.approval_mode,
        approval_timeout_seconds=config.approval_timeout_seconds,
        tool_timeout_seconds=config.tool_timeout_seconds,
        max_context_tokens=_readable(config.max_context_tokens, context_tokens, facts.max_output_tokens),
        max_turn_tokens=config.max_turn_tokens,
        traceparent=tracing.traceparent(),
        correlation_id=tracing.correlation_id(),
        max_session_tokens=config.max_session_tokens,
        policies={name: _unhurried(policy, agent, config) for name, policy in agent.policies.items()},
        approval_floor=agent.approval_floor,
        vision=agent.vision,
        containment=agent.containment,
        model_api=agent.model_api if is_agents else None,
        model_context_tokens=context_tokens,
        reasoning_effort=effort,
        output_schema=output_schema or config.output_schema,
        compact_at=agent.compact_at,
        max_turn_cost_usd=config.max_turn_cost_usd,
        max_session_cost_usd=config.max_session_cost_usd,
        mcp=pinned,
        agents=dict(agents or {}),
        handovers=dict(handovers or {}),
    )


def plan_as_posted(agent: Agent, approval_mode: ApprovalMode | None) -> TurnPlan:
    """The plan of a turn of this agent, as far as approvals go: its model is not asked for anything."""
    config = effective_config(agent, SessionConfig())
    unpriced = {"reasoning_effort": None, "max_turn_cost_usd": None, "max_session_cost_usd": None}
    return plan_turn(agent, config.model_copy(update=unpriced), model="any", approval_mode=approval_mode)


def _unhurried(policy: ApprovalPolicy, agent: Agent, config: SessionConfig) -> ApprovalPolicy:
    """A policy whose timeout approves, with a wait that the session can lengthen and not shorten."""
    if policy.on_timeout is not TimeoutAction.APPROVE or policy.timeout_seconds is not None:
        return policy
    wait = max(config.approval_timeout_seconds, agent.defaults.approval_timeout_seconds)
    return policy.model_copy(update={"timeout_seconds": wait})


def _readable(wanted: int, context_tokens: int | None, max_output_tokens: int | None) -> int:
    """Most input tokens of a call: `wanted`, or what the window leaves after an answer."""
    if context_tokens is None:
        return wanted
    answer = min(max_output_tokens or context_tokens // 4, context_tokens // 2)
    return min(wanted, context_tokens - answer)


def _check_takes(name: str, facts: Model, config: SessionConfig) -> None:
    """Raises InvalidInput."""
    effort = config.reasoning_effort
    if effort is not None and facts.efforts is not None and effort not in facts.efforts:
        takes = ", ".join(facts.efforts) or "none of them"
        raise _not_taken("reasoning_effort", f"the model {name} supports {takes}")
    if (config.max_turn_cost_usd or config.max_session_cost_usd) and not facts.is_priced:
        field_name = "max_turn_cost_usd" if config.max_turn_cost_usd else "max_session_cost_usd"
        raise _not_taken(field_name, f"the price of the model {name} is unknown; the operator can set it in MODELS")


def _not_taken(name: str, message: str) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        f"config.{name}: {message}.",
        errors=[{"field": f"config.{name}", "message": message}],
    )
