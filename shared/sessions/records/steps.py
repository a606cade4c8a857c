"""A model step between service and store: what it reads, what it proposes, how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from shared.sessions.events import EventTarget
from shared.sessions.limits.budgets import NOTHING_SPENT, NOTHING_USED, MoneySpent, TokensUsed
from shared.sessions.models import (
    FinishReason,
    JsonObject,
    MessageStatus,
    TurnError,
    Usage,
)
from shared.sessions.records.plan import TurnPlan

SUMMARY_ROLE = "summary"
"""Of a context message that stands for all before it; no stored message has it."""


class ContextMessage(NamedTuple):
    """One stored message as the model will read it. A tuple: some hundred are made for every model call."""

    role: str
    content: str
    tokens: int
    turn_number: int
    step: int
    status: MessageStatus
    tool_call_id: str | None = None
    calls: list[JsonObject] | None = None
    note: str | None = None
    """What the model reads of the files that came with it (`context/note.py`); counted in `tokens`."""
    attachments: list[JsonObject] | None = None
    """Those files, each as an `AttachmentRef`."""
    sources: list[str] | None = None
    """Of an answer: what its model had read (`approvals/containment.py`). None: nothing that matters, or not kept."""
    by_other: bool = False
    """Of a user's message: somebody else's than the one the turn runs for, or nobody knows whose."""
    finish_reason: str | None = None
    left_out: str | None = None
    """Why no model is to read it (`Message.left_out`)."""
    kept: list[JsonObject] | None = None
    """Of an answer of the same turn: what the model's API wants back with it (`ModelEnd.kept`)."""
    branch: int = 0


@dataclass(frozen=True, slots=True)
class StepStart:
    """A model step that may run: everything it needs, read in one round trip."""

    turn_id: str
    step: int
    target: EventTarget
    requested_by: str
    plan: TurnPlan
    message_id: str
    message_created_at: datetime
    attempt: int
    context: list[ContextMessage]
    """Newest first."""
    granted_tools: frozenset[str] = frozenset()
    """Tools that were approved for the rest of the session."""
    used: TokensUsed = NOTHING_USED
    max_session_tokens: int | None = None
    """As the session has it now; the budget of the turn itself is in its plan."""
    spent: MoneySpent = NOTHING_SPENT
    max_session_cost_usd: float | None = None
    declined_digests: frozenset[str] = frozenset()
    """Of calls of this turn that a person rejected, or that nobody allowed in time."""


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """A tool call as the model asked for it and as our policy sees it."""

    id: str
    ordinal: int
    """From 0."""
    provider_call_id: str
    name: str
    arguments: JsonObject
    argument_error: str | None
    needs_approval: bool
    contained: bool = False
    """The rule of two applies to it; unless its agent is free of it, it takes a person."""
    declined: bool = False
    """Exactly this was declined before in its turn: nobody is asked again."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A tool call on record, as it is announced."""

    id: str
    name: str
    arguments: JsonObject
    needs_approval: bool


@dataclass(frozen=True, slots=True)
class StoredStep:
    """A model step that is already on record, found by a repeat."""

    target: EventTarget
    message_id: str
    status: MessageStatus
    content: str
    attempt: int
    """Higher than any before: what is sent under it replaces what may have been sent in part."""
    calls: list[StoredCall]
    error: TurnError | None = None
    """Why it failed."""
    finish_reason: FinishReason | None = None
    """None: stored by a version that did not keep it."""
    reasoning: str | None = None
    output: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class StepClosed:
    """The turn takes no more steps: it was cancelled or has ended."""

    cancelled: bool


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a model step made, to be stored."""

    message_id: str
    attempt: int
    content: str
    status: MessageStatus
    calls: list[ProposedCall]
    usage: Usage
    tokens: int
    ended_at: datetime
    """What it used counts for that day."""
    error: TurnError | None = None
    """Why the model gave up on it; kept with the turn, which ends with it."""
    sources: frozenset[str] = frozenset()
    """What the model had read."""
    finish_reason: FinishReason | None = None
    reasoning: str | None = None
    kept: list[JsonObject] = field(default_factory=list)
    """See `ModelEnd.kept`."""
    output: Any | None = None
    """The answer as JSON, where a schema was set."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model is to read in the place of everything up to the end of a turn."""

    branch: int
    """Where that turn is."""
    turn_number: int
    content: str
    tokens: int
    sources: frozenset[str]
    """Of all that it was written from."""
    model: str


class StepOutcome(StrEnum):
    """How a model step ended, for the orchestrator."""

    FINAL = "final"  # an answer, no tool calls
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"
    FAILED = "failed"  # for good; the turn ends with the code
    RETRY = "retry"  # the same step may work later
