"""A model step between service and store: its context, its proposed calls, its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from shared.lanes import Place
from shared.sessions.events import EventTarget
from shared.sessions.limits.budgets import NOTHING_SPENT, NOTHING_USED, MoneySpent, Reservation, TokensUsed
from shared.sessions.models import (
    FinishReason,
    JsonObject,
    MessageStatus,
    TurnError,
    Usage,
)
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.turns import FinishedTurn

SUMMARY_ROLE = "summary"
"""Role of a context message that replaces all messages before it; stored messages never have it."""


class ContextMessage(NamedTuple):
    """One stored message as the model will read it. A tuple, since every model call makes hundreds of them."""

    role: str
    content: str
    tokens: int
    turn_number: int
    step: int
    status: str
    """A `MessageStatus`."""
    tool_call_id: str | None = None
    calls: list[JsonObject] | None = None
    note: str | None = None
    """The note on its attached files (`context/note.py`); counted in `tokens`."""
    attachments: list[JsonObject] | None = None
    """Its attached files, each as an `AttachmentRef`."""
    sources: list[str] | None = None
    """For a user's message: what came with it, where that is not files. For an answer: the sources its model had read
    (`approvals/containment.py`). None: no relevant ones, or not stored."""
    authors: list[str | None] | None = None
    """Whose words it holds: of a user's message, or of what an answer or a summary was written from. None among them:
    an unknown author. None instead: only the user that the turn runs for. Empty: an answer of older code, unknown."""
    finish_reason: str | None = None
    left_out: str | None = None
    """Why models no longer read it (`Message.left_out`)."""
    kept: list[JsonObject] | None = None
    """For an answer of the same turn: items that the model's API wants back (`ModelEnd.kept`)."""
    branch: int = 0
    is_joined: bool = False
    """A user's message that joined its turn while that ran; not the question of the turn that reads it."""
    ordinal: int = 0

    @property
    def by_other(self) -> bool:
        """Whether it holds words of another user than the one the turn runs for, or of one who is not known."""
        return bool(self.authors)


@dataclass(frozen=True, slots=True)
class StepStart:
    """A model step to run, with everything it needs, read in one round trip."""

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
    """Grants of tools approved for the rest of the session (`approvals/grants.py`)."""
    used: TokensUsed = NOTHING_USED
    max_session_tokens: int | None = None
    """The session's current value; the turn's own budget is in its plan."""
    spent: MoneySpent = NOTHING_SPENT
    max_session_cost_usd: float | None = None
    declined_digests: frozenset[str] = frozenset()
    """Digests of calls of this turn that were rejected or timed out."""
    spent_bits: float = 0.0
    """What its fetches without a person were charged so far (`approvals/choices.py`)."""
    quiet_until: datetime | None = None
    """When the step has ended at the latest."""
    reservation: Reservation | None = None
    """None: nothing has to be reserved."""


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """A tool call as the model wrote it, with the result of the policy check."""

    id: str
    ordinal: int
    """From 0."""
    provider_call_id: str
    name: str
    arguments: JsonObject
    argument_error: str | None
    needs_approval: bool
    contained: bool = False
    """The rule of two applies: it needs approval, unless the agent's containment is off."""
    declined: bool = False
    """The same call was declined earlier in the turn; nobody is asked again."""
    choice_bits: float = 0.0
    """What its choice of an address tells (`approvals/choices.py`). If it is contained too, that is why."""
    is_client: bool = False
    """Of a tool that the message declared."""


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A stored tool call, as clients are told of it."""

    id: str
    name: str
    arguments: JsonObject
    needs_approval: bool
    is_client: bool = False


@dataclass(frozen=True, slots=True)
class StoredStep:
    """A model step that is already stored, found by a repeat."""

    target: EventTarget
    message_id: str
    status: MessageStatus
    content: str
    attempt: int
    """Higher than all before: events with this attempt replace those of partial earlier attempts."""
    calls: list[StoredCall]
    error: TurnError | None = None
    """Why it failed."""
    finish_reason: FinishReason | None = None
    """None: stored by a version without this field."""
    reasoning: str | None = None
    output: JsonObject | None = None
    is_joined: bool = False
    """A message joined the turn after it began."""


@dataclass(frozen=True, slots=True)
class StepClosed:
    """The turn takes no more steps: it was cancelled or has ended."""

    cancelled: bool


@dataclass(frozen=True, slots=True)
class QueuedStep:
    """A step that waits for a place to ask its model. target: of who is told."""

    place: Place
    target: EventTarget


@dataclass(frozen=True, slots=True)
class StepHeld:
    """The turn takes no step now: its session is suspended."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a model step, to be stored."""

    message_id: str
    attempt: int
    content: str
    status: MessageStatus
    calls: list[ProposedCall]
    usage: Usage
    tokens: int
    ended_at: datetime
    """Its usage counts for that day."""
    error: TurnError | None = None
    """Why the step failed; stored with the turn, which fails too."""
    sources: frozenset[str] = frozenset()
    """The sources of what the model had read."""
    authors: frozenset[str | None] = frozenset()
    """Whose words the model had read; None for one who is not known."""
    finish_reason: FinishReason | None = None
    reasoning: str | None = None
    kept: list[JsonObject] = field(default_factory=list)
    """See `ModelEnd.kept`."""
    output: Any | None = None
    """The answer as JSON, when a schema was set."""


@dataclass(frozen=True, slots=True)
class SavedStep:
    """What became of the last step of a turn when it was to be stored.

    finished: the turn as it ended with it; None: it was not stored, or the turn goes on or has still to be closed.
    is_joined: a message joined the turn since the step began, so that another step follows.
    """

    is_stored: bool
    is_joined: bool = False
    finished: FinishedTurn | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A text that the model reads in place of all messages up to the end of a turn."""

    branch: int
    """The branch of that turn."""
    turn_number: int
    content: str
    tokens: int
    sources: frozenset[str]
    """The sources of the messages it was written from."""
    model: str


class StepOutcome(StrEnum):
    """How a model step ended, for the orchestrator."""

    FINAL = "final"  # an answer, no tool calls
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"
    FAILED = "failed"  # for good; the turn ends with the code
    RETRY = "retry"  # the same step may work later
    JOINED = "joined"  # an answer, no tool calls, and a message that joined meanwhile: the next step reads it
