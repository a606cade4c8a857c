"""What the service answers, as frozen values.

Invariant: a newer service stays readable. Fields that this version does not know are kept (`extra="allow"`), and a
status that it does not know is a plain string. Times are aware UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypedDict, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

Access = Union[Literal["owner", "write", "read"], str]
SessionStatus = Union[Literal["CREATED", "ACTIVE", "SUSPENDED", "ENDED"], str]
MessageRole = Union[Literal["user", "assistant", "system", "tool"], str]
MessageStatus = Union[Literal["streaming", "completed", "cancelled", "failed"], str]
ToolCallStatus = Union[Literal["pending", "approved", "rejected", "completed", "failed"], str]
TurnStatus = Union[
    Literal["queued", "running", "waiting_approval", "waiting_input", "completed", "failed", "cancelled"], str
]
ApprovalScope = Literal["to_decide", "own_turns"]
ApprovalStatus = Union[Literal["pending", "approved", "rejected", "timed_out", "cancelled"], str]
FinishReason = Union[Literal["stop", "tool_calls", "length", "content_filter", "refusal", "cancelled"], str]

ApprovalMode = Literal["auto", "manual", "policy"]
Concurrency = Union[Literal["reject", "enqueue", "interrupt", "steer"], str]
Decision = Literal["approve", "reject"]
ExportFormat = Literal["json", "md", "html", "csv", "pdf", "docx"]

ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
"""Statuses of a turn that is over."""


class Value(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Page(Value, Generic[T]):
    """Part of a list. next_cursor: for the `cursor` of the next call; None on the last page."""

    items: list[T]
    next_cursor: str | None = None


class ConfigFields(TypedDict, total=False):
    """Settings of a session to send: only the keys that are there change anything."""

    model: str | None
    temperature: float | None
    max_output_tokens: int | None
    max_steps: int
    approval_mode: ApprovalMode
    approval_timeout_seconds: int
    tool_timeout_seconds: int
    max_context_tokens: int
    concurrency: Concurrency
    expires_after_seconds: int | None
    max_turn_tokens: int | None
    max_session_tokens: int | None
    max_turn_cost_usd: float | None
    max_session_cost_usd: float | None
    reasoning_effort: str | None
    output_schema: dict[str, Any] | None


class SessionConfig(Value):
    """How a session's turns run."""

    model: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    max_steps: int
    approval_mode: Union[ApprovalMode, str]
    approval_timeout_seconds: int
    tool_timeout_seconds: int
    max_context_tokens: int
    concurrency: Concurrency
    expires_after_seconds: int | None = None
    max_turn_tokens: int | None = None
    max_session_tokens: int | None = None
    max_turn_cost_usd: float | None = None
    max_session_cost_usd: float | None = None
    reasoning_effort: str | None = None
    output_schema: dict[str, Any] | None = None


class Session(Value):
    id: str
    name: str | None
    title: str | None = None
    """To show while it has no name: the beginning of its first message."""
    status: SessionStatus
    agent_id: str | None
    agent_version: int | None = None
    """Of a trial: the version that answers; 0: a draft."""
    config: SessionConfig
    tags: list[str]
    metadata: dict[str, Any]
    active_branch: int = 0
    forked_from: str | None = None
    parent_session_id: str | None = None
    """Of a subagent: the session whose turn called it."""
    parent_turn_id: str | None = None
    parent_tool_call_id: str | None = None
    created_at: datetime
    updated_at: datetime
    etag: str | None = None
    """For `if_match`; None in lists, where the service sends none."""


class ListedSession(Session):
    access: Access | None = None
    preview: str | None = None
    """The beginning of the newest text on its active branch."""
    open_turn: TurnStatus | None = None
    """Of its oldest turn that has not ended: what it waits for."""
    pinned: bool = False
    """The caller keeps it at the top of their list."""


class ToolCall(Value):
    id: str
    message_id: str
    name: str
    arguments: dict[str, Any]
    """As the model wrote them."""
    decided_arguments: dict[str, Any] | None = None
    """What a person approved instead of `arguments`."""
    status: ToolCallStatus
    result: Any = None
    is_client: bool = False
    """A call of a tool that the message declared: its client answers it."""


class AttachmentRef(Value):
    """A file that came with a message."""

    id: str
    name: str
    kind: str
    media_type: str
    size_bytes: int


class Attachment(Value):
    """A file of a session. Its type was detected from its content."""

    id: str
    session_id: str
    name: str
    """For display only; never a path."""
    kind: str
    media_type: str
    size_bytes: int
    sha256: str
    text_chars: int
    facts: dict[str, Any]
    warnings: list[str]
    created_by: str
    created_at: datetime
    text: str | None = None
    """The beginning of its text; None in lists, and if its kind has none."""


class SubagentResult(Value):
    """What became of a subagent in the background. content: its answer, or why there is none."""

    tool_call_id: str
    agent_id: str
    session_id: str
    turn_id: str
    status: TurnStatus
    content: str
    output: Any = None


class Message(Value):
    id: str
    session_id: str
    turn_id: str | None
    branch: int = 0
    role: MessageRole
    content: str
    attachments: list[AttachmentRef] = []
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = None
    author: str | None = None
    agent_id: str | None = None
    """Of an answer: the agent that gave it."""
    finish_reason: FinishReason | None = None
    reasoning: str | None = None
    output: Any = None
    """The answer as JSON, when a schema was set."""
    left_out: str | None = None
    joined: bool = False
    """It joined its turn while that ran."""
    joined_after: str | None = None
    """The answer that it follows; None: it joined before the first, or did not."""
    from_subagent: SubagentResult | None = None
    """Of role `user`, and nobody wrote it: what became of a subagent in the background."""
    status: MessageStatus
    created_at: datetime


class Usage(Value):
    """Tokens and cost of model calls. cost_usd: None when a price is unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = None


class TurnError(Value):
    code: str
    detail: str


class Question(Value):
    """What is asked of a user. requested_schema: JSON Schema of the wanted content."""

    id: str
    message: str
    requested_schema: dict[str, Any]


class SubagentTurn(Value):
    """The turn of an agent that a tool call of another turn asked."""

    tool_call_id: str
    agent_id: str
    session_id: str
    turn_id: str
    status: TurnStatus
    background: bool = False
    """Its call does not wait for it: its result comes as a message."""


class ToolWait(Value):
    """What a tool call waits for: answers of the user (`input`), or a result that comes later (`result`)."""

    id: str
    tool_call_id: str
    tool: str
    kind: str
    status: str
    asked_by: str | None
    asked_of: str
    questions: list[Question]
    actions: dict[str, str] = {}
    opened_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None


class EarlierAgent(Value):
    """An agent that a turn had before it was handed over. last_step: the step that handed over, counted from 1."""

    agent_id: str | None
    agent_version: int | None = None
    model: str | None = None
    last_step: int


class Turn(Value):
    id: str
    session_id: str
    message_id: str
    branch: int = 0
    agent_id: str | None = None
    """The agent that it has now: another one may take over."""
    agent_version: int | None = None
    model: str | None = None
    agents_before: list[EarlierAgent] = []
    """Those that handed the turn over, the first one first."""
    status: TurnStatus
    steps: int
    tool_calls: list[ToolCall] = []
    usage: Usage
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: TurnError | None
    finish_reason: FinishReason | None = None
    subagents: list[SubagentTurn] = []
    waits: list[ToolWait] | None = None
    """What calls wait for since they have begun, with the status `waiting_input`."""

    @property
    def is_over(self) -> bool:
        return self.status in ENDED


class PostedTurn(Value):
    """A posted message and the turn that it began."""

    message: Message
    turn: Turn
    code: str | None = None
    """`APPROVAL_REQUIRED` where the turn waits for an approval."""


class Vote(Value):
    """One person's vote on an approval; the newest counts."""

    by: str
    decision: Union[Decision, str]
    at: datetime
    comment: str | None = None
    arguments: dict[str, Any] | None = None
    for_session: bool = False
    counts_for: list[str] | None = None


class Approval(Value):
    """A tool call that waits for a person, or has waited for one."""

    id: str
    tool_call_id: str
    session_id: str
    turn_id: str
    tool: str
    arguments: dict[str, Any]
    decided_arguments: dict[str, Any] | None = None
    status: ApprovalStatus
    requested_by: str
    agent_id: str | None = None
    agent_version: int | None = None
    asked_through: list[str] = []
    """For a subagent: the agents above it that called one another, the one that a person asked first."""
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    comment: str | None = None
    policy: dict[str, Any]
    quorum: int
    requirements: list[dict[str, Any]] = []
    votes: list[Vote]
    for_session: bool = False
    reason: str | None = None
    definition: dict[str, Any] | None = None


class Excerpt(Value):
    text: str
    missing: int
    """Characters that follow and are left out; 0: this is all of it."""


class SourceRead(Value):
    """A tool, or a kind such as `attached files`, whose words the model had read."""

    name: str
    is_untrusted: bool
    is_private: bool


class EarlierCall(Value):
    """A call of an earlier step of the turn."""

    tool: str
    status: ToolCallStatus
    arguments: Excerpt
    result: Excerpt | None = None
    said: Excerpt | None = None
    server: str | None = None
    is_untrusted: bool


class ApprovalContext(Value):
    """What led to a tool call that waits, as far as its policy shows it to the caller."""

    approval_id: str
    shows: Union[Literal["full", "question", "none"], str]
    may_open_session: bool
    session_name: str | None = None
    question: Excerpt | None = None
    """The message that the turn answers."""
    asked_by: str | None = None
    asked_at: datetime | None = None
    data: Excerpt | None = None
    files: list[str] = []
    more_files: int = 0
    said: Excerpt | None = None
    """What the agent wrote with the call."""
    reasoning: Excerpt | None = None
    earlier: list[EarlierCall] = []
    """Oldest first."""
    more_earlier: int = 0
    """How many calls before these are left out."""
    read: list[SourceRead] = []
    """What the model had read, untrusted sources first."""
    more_read: int = 0


class File(Value):
    """Content that the service sent. name: what the service calls it, for display; never a path to write to."""

    name: str | None
    media_type: str
    content: bytes = Field(repr=False)
