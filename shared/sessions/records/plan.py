"""The plan of a turn: its settings, frozen when its message was posted."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from shared.sessions.models import (
    ApprovalMode,
    JsonObject,
    Value,
)
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy, Containment
from shared.sessions.structured_output.key_order import in_written_order, kept_in_order


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

    def stored(self) -> JsonObject:
        """As JSON for the store, without unset fields of later versions, which would take room in every row."""
        unset = {name for name in _LATER if getattr(self, name) in (None, {})}
        return kept_in_order(self.model_dump(mode="json", exclude=unset))

    def policy_of(self, tool: str) -> ApprovalPolicy:
        return self.policies.get(tool, DEFAULT_POLICY)


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
    }
)
