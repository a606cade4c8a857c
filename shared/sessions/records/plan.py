"""The plan of a turn: its settings, frozen when its message was posted."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from shared.sessions.mcp.pins import PinnedTool
from shared.sessions.models import (
    ApprovalMode,
    ClientTool,
    EarlierAgent,
    JsonObject,
    Value,
)
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy, Containment
from shared.sessions.structured_output.key_order import as_text, in_written_order, kept_in_order


class PlannedAgent(Value):
    """An agent that another one may call, in the version that the turn pins."""

    # During a rolling deployment, older code may read a newer plan; it ignores unknown fields.
    model_config = ConfigDict(extra="ignore")

    id: str
    version: int
    name: str
    description: str | None = None
    agents: dict[str, PlannedAgent] = Field({})
    """Those that it may call itself, by the name of their function."""
    background: bool = Field(False, exclude_if=lambda background: not background)
    """The call does not wait for it: its result comes as a message."""


class HandedOver(Value):
    """How a turn came to the agent that it has now."""

    # During a rolling deployment, older code may read a newer plan; it ignores unknown fields.
    model_config = ConfigDict(extra="ignore")

    tool_call_id: str
    from_agent_id: str | None
    from_version: int | None = None
    from_model: str | None = None
    """None, as its version: stored before these were."""
    earlier: list[EarlierAgent] = Field([])
    """The agents before that one."""
    count: int
    """Handovers of this turn so far."""
    for_session: bool
    """The session has the agent from then on, too."""
    forgets: bool
    """What the model's API wants back of earlier answers is of another model."""
    step: int = 0
    """The step that handed over; set when it is stored."""

    def agents_before(self) -> list[EarlierAgent]:
        """All that the turn had before, the first one first."""
        newest = EarlierAgent(
            agent_id=self.from_agent_id,
            agent_version=self.from_version,
            model=self.from_model,
            last_step=self.step,
        )
        return [*self.earlier, newest]


class TurnPlan(Value):
    """The settings of a turn, frozen when its message was posted; stored with the turn as JSON."""

    # During a rolling deployment, older code may read a newer plan; it ignores unknown fields.
    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    agent_id: str | None = None
    """None: stored before agents were data."""
    agent_version: int | None = None
    instructions: str
    model: str
    temperature: float | None
    max_output_tokens: int | None
    max_steps: int
    tools: list[str]
    approval_mode: ApprovalMode
    approval_timeout_seconds: int
    tool_timeout_seconds: int
    max_context_tokens: int
    max_turn_tokens: int | None = None
    max_session_tokens: int | None = None
    """Used if the session sets none. The session's own value is read when a step begins."""
    policies: dict[str, ApprovalPolicy] = Field({})
    """Approval policies by tool name, only for tools for which the agent sets one."""
    approval_floor: dict[str, ApprovalMode] = Field({})
    """The agent's floors by tool name; `approvals/needed.py` has those of the other tools."""
    traceparent: str | None = None
    """Of the request that posted the message, in W3C form; the turn's trace continues it."""
    correlation_id: str | None = None
    """Of the same request, for the log."""
    vision: bool = False
    """The model reads images."""
    containment: Containment = Containment.RULE_OF_TWO
    model_api: str | None = None
    """The agent's choice; None: from the settings when the model is called."""
    model_context_tokens: int | None = None
    """The model's context window; None: unknown when the message was posted."""
    reasoning_effort: str | None = None
    output_schema: Annotated[JsonObject, BeforeValidator(in_written_order)] | None = None
    schema_by_other: bool | None = None
    """True: `output_schema` may be the words of another user than the one the turn runs for."""
    compact_at: float | None = None
    """Share of the window above which a summary replaces older turns; None: never."""
    max_turn_cost_usd: float | None = None
    max_session_cost_usd: float | None = None
    """Like `max_session_tokens`."""
    roles: list[str] = Field([])
    """Of whoever posted the message, sorted; empty: stored before roles were."""
    mcp: dict[str, PinnedTool] = Field({})
    """Tools of MCP servers by name, as the agent's version pins them; `tools` names them, too."""
    client_tools: dict[str, ClientTool] = Field({})
    """Tools that the message declared, by name; `tools` names them, too."""
    agents: dict[str, PlannedAgent] = Field({})
    """Agents that the model may call, by the name of their function; `tools` names them, too."""
    asked_through: list[str] = Field([])
    """Of a subagent's turn: ids of the agents above it, the one that a person asked first."""
    results_before: int = Field(0)
    """Of a turn that the result of a subagent in the background began: how many such turns follow one another."""
    handovers: dict[str, PlannedAgent] = Field({})
    """Agents to which the turn may be handed over, by the name of their function; `tools` names them, too."""
    handed_over: HandedOver | None = None
    """The newest handover; None: its agent is the one that it began with."""

    def stored(self) -> JsonObject:
        """As JSON for the store, without unset fields of later versions, which would take room in every row."""
        unset = {name for name in _LATER if getattr(self, name) in (None, {}, [], 0)}
        values = kept_in_order(self.model_dump(mode="json", exclude=unset))
        if self.mcp:
            values["mcp"] = {name: tool.stored() for name, tool in self.mcp.items()}
        if self.client_tools:
            values["client_tools"] = {name: _stored_tool(tool) for name, tool in self.client_tools.items()}
        return values

    def definition_of(self, tool: str) -> str | None:
        """The digest of the pinned definition; None for tools that are not of MCP servers."""
        pinned = self.mcp.get(tool)
        return None if pinned is None else pinned.digest

    def policy_of(self, tool: str) -> ApprovalPolicy:
        return self.policies.get(tool, DEFAULT_POLICY)


def _stored_tool(tool: ClientTool) -> JsonObject:
    # A model reads the schema in the order in which it was written.
    return tool.model_dump(mode="json") | {"parameters": as_text(tool.parameters)}


_LATER = frozenset(
    {
        "approval_floor",
        "model_api",
        "model_context_tokens",
        "reasoning_effort",
        "output_schema",
        "schema_by_other",
        "compact_at",
        "max_turn_cost_usd",
        "max_session_cost_usd",
        "roles",
        "mcp",
        "client_tools",
        "agents",
        "asked_through",
        "results_before",
        "handovers",
        "handed_over",
    }
)
