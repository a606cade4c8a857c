"""What the stores know and the wire does not show: leases, owners, plans, and the inputs and outcomes of a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field

from shared.sessions.events import EventTarget
from shared.sessions.limits.budgets import NOTHING_SPENT, NOTHING_USED, MoneySpent, TokensUsed
from shared.sessions.models import (
    ApprovalMode,
    ApprovalStatus,
    Attachment,
    Decision,
    FinishReason,
    JsonObject,
    Message,
    MessageStatus,
    Session,
    ToolCallStatus,
    Turn,
    TurnError,
    TurnStatus,
    Usage,
    Value,
    Vote,
)
from shared.sessions.records.policy import DEFAULT_POLICY, ApprovalPolicy, Containment
from shared.sessions.structured_output.key_order import in_written_order, kept_in_order

type Access = Literal["owner", "write", "read"]

SUMMARY_ROLE = "summary"
"""Of a context message that stands for all before it; no stored message has it."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as one caller may see it."""

    session: Session
    owner_id: str
    access: Access
    target: EventTarget
    last_branch: int = 0
    """It has the branches 0 to this one."""
    used_tokens: int = 0
    """By its turns, open ones among them."""
    used_cost_usd: Decimal = Decimal(0)

    @property
    def may_write(self) -> bool:
        return self.access != "read"

    @property
    def active_branch(self) -> int:
        return self.session.active_branch


@dataclass(frozen=True, slots=True)
class DayUsed:
    """What a user's turns have used on one day (UTC)."""

    tokens: int = 0
    cost_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class ReadableTurn:
    """A turn as somebody who may read its session sees it. feed: where its events are."""

    turn: Turn
    feed: str


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


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's `Idempotency-Key` and what it stands for."""

    user_id: str
    scope: str
    key: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class PostedMessage:
    """What posting a message did."""

    message: Message
    turn: Turn
    target: EventTarget
    activated: bool = False
    dispatched: bool = False
    """The turn is next: start its orchestration now."""
    interrupted: Interruption | None = None
    replayed: bool = False
    """Answered from an earlier request with the same idempotency key; nothing was done."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """Orchestrations that must be told that their turn was cancelled."""

    turn_ids: list[str] = field(default_factory=list)
    """Dispatched turns that will end themselves."""
    closed_turn_ids: list[str] = field(default_factory=list)
    """Turns that had not started and are cancelled now."""
    approvals: list[tuple[str, str]] = field(default_factory=list)
    """(approval id, waiting instance id)."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Whether a session holds its orchestrations, and whether they were told so."""

    is_held: bool
    version: int
    """Rises with each change."""
    is_settled: bool
    """They were told of this version."""
    instances: list[str]
    """All that may have to be told; some have ended."""


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


@dataclass(frozen=True, slots=True)
class ToolExecution:
    """A tool call, its approval if it has one, and the turn it belongs to."""

    tool_call_id: str
    session_id: str
    turn_id: str
    message_id: str
    provider_call_id: str
    name: str
    arguments: JsonObject
    argument_error: str | None
    needs_approval: bool
    status: ToolCallStatus
    result: Any
    begun_at: datetime | None
    ended_at: datetime | None
    plan: TurnPlan
    requested_by: str
    cancelled: bool
    target: EventTarget
    approval_id: str | None
    approval_status: ApprovalStatus | None
    decided_by: str | None
    comment: str | None
    decided_arguments: JsonObject | None
    arguments_digest: str | None
    error_code: str | None
    result_message_id: str | None
    """The tool message that holds its result, once it has one."""
    granted_tools: frozenset[str] = frozenset()
    """Tools that were approved for the rest of the session."""
    contained: bool = False
    declined: bool = False
    sources: frozenset[str] = frozenset()
    """What the model had read when it made the call."""


@dataclass(frozen=True, slots=True)
class FinishedTurn:
    """A turn that is closed, and who runs next."""

    target: EventTarget
    closed_now: bool
    """False for a repeat; status and error are then those it was closed with."""
    status: TurnStatus
    error: TurnError | None
    usage: Usage
    steps: int
    next_turn_id: str | None
    agent_id: str | None
    agent_version: str | None
    model: str
    traceparent: str | None
    correlation_id: str | None
    began_at: datetime
    """Its first step; when it had none, its posting."""
    ended_at: datetime
    finish_reason: FinishReason | None = None
    """Of its last answer."""


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """An approval as a store row."""

    id: str
    tool_call_id: str
    session_id: str
    turn_id: str
    tool: str
    arguments: JsonObject
    arguments_digest: str
    decided_arguments: JsonObject | None
    status: ApprovalStatus
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    comment: str | None
    instance_id: str
    target: EventTarget
    policy: ApprovalPolicy = DEFAULT_POLICY
    votes: tuple[Vote, ...] = ()
    """In the order they were cast."""
    for_session: bool = False
    reason: str | None = None
    """Why it waits whatever mode, policy and grants say."""
    owner_id: str | None = None
    participates: bool = False
    traceparent: str | None = None
    """Of the request that began its turn, as is `correlation_id`."""
    correlation_id: str | None = None


class CallStart(StrEnum):
    """What marking the start of a tool's run found."""

    NOW = "now"
    BEFORE = "before"  # somebody began it, and it has no result
    CANCELLED = "cancelled"  # its turn is cancelled or over


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """What a person says of an approval, as the store takes it."""

    decision: Decision
    user_id: str
    digest: str
    """Of the arguments it is about."""
    arguments: JsonObject | None = None
    """Only when they are not those that were asked for."""
    comment: str | None = None
    for_session: bool = False
    grant: str = ""
    """What that leaves in the session, as `approvals.rules.grant_of` says it."""


class VoteEffect(StrEnum):
    """What a vote did."""

    DECIDED = "decided"  # it was the one that was missing
    COUNTED = "counted"  # more are needed
    NOTHING = "nothing"  # the same was said before, or the approval takes no votes any more


@dataclass(frozen=True, slots=True)
class StuckTurn:
    turn_id: str
    session_id: str
    status: TurnStatus
    dispatched_at: datetime


class StepOutcome(StrEnum):
    """How a model step ended, for the orchestrator."""

    FINAL = "final"  # an answer, no tool calls
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"
    FAILED = "failed"  # for good; the turn ends with the code
    RETRY = "retry"  # the same step may work later


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """An attachment as a store row. text: as much of it as was asked for; None if its kind holds none."""

    attachment: Attachment
    blob_name: str
    text: str | None
