"""The plan of a turn: what it runs with, frozen when its message was posted."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from shared.sessions.models import (
    ApprovalMode,
    JsonObject,
    Value,
)
from shared.sessions.records.policy import DEFAULT_POLICY, ApprovalPolicy, Containment
from shared.sessions.structured_output.key_order import in_written_order, kept_in_order


class TurnPlan(Value):
    """What a turn runs with, frozen when its message was posted; stored with the turn as JSON."""

    # While a deployment is replaced, older code may read a newer plan: what it does not know, it leaves.
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
    """The agent's, for a session that sets none: the session's own counts as it is when a step begins."""
    policies: dict[str, ApprovalPolicy] = Field({})
    """How calls are allowed, by tool name; only for tools the agent says something about."""
    traceparent: str | None = None
    """The request that posted the message, in W3C form: where the turn's trace goes on."""
    correlation_id: str | None = None
    """The same request's, for the log."""
    vision: bool = False
    """The model reads images."""
    containment: Containment = Containment.RULE_OF_TWO
    model_api: str | None = None
    """The agent's choice; None: the settings' at the time of the call."""
    model_context_tokens: int | None = None
    """What the model reads and writes in one call; None: not known when the message was posted."""
    reasoning_effort: str | None = None
    output_schema: Annotated[JsonObject, BeforeValidator(in_written_order)] | None = None
    compact_at: float | None = None
    """Share of the window from which on older turns are replaced by a summary; None: never."""
    max_turn_cost_usd: float | None = None
    max_session_cost_usd: float | None = None
    """As `max_session_tokens`."""

    def stored(self) -> JsonObject:
        """As JSON for the store. What later versions added and is not set takes no room in each turn's row."""
        unset = {name for name in _LATER if getattr(self, name) is None}
        return kept_in_order(self.model_dump(mode="json", exclude=unset))

    def policy_of(self, tool: str) -> ApprovalPolicy:
        return self.policies.get(tool, DEFAULT_POLICY)


_LATER = frozenset(
    {
        "model_api",
        "model_context_tokens",
        "reasoning_effort",
        "output_schema",
        "compact_at",
        "max_turn_cost_usd",
        "max_session_cost_usd",
    }
)
