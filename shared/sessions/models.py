"""The values of the sessions domain as JSON models.

Invariant: every model here is frozen and is exactly what the wire contract shows. Fields that only the stores need
(event sequence leases, the owner of a row) are in `records/`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

from shared.rights import Access
from shared.sessions.structured_output.checks import checked_schema
from shared.sessions.structured_output.key_order import in_written_order

type JsonObject = dict[str, Any]


def _encodable[T](value: T) -> T:
    try:
        orjson.dumps(value)
    except TypeError:
        raise ValueError("holds a whole number beyond 64 bits, or is nested too deeply") from None
    return value


SentJson = Annotated[JsonObject, AfterValidator(_encodable)]
"""A JSON object from a caller that every JSON reader can parse."""

MAX_CONTENT_CHARS = 400_000
"""Upper bound of one message, whatever the model's window. It bounds requests and rows."""


class SessionStatus(StrEnum):
    CREATED = "CREATED"  # no turn yet; the first message activates it
    ACTIVE = "ACTIVE"  # takes messages
    SUSPENDED = "SUSPENDED"  # a running turn is held; takes no messages
    ENDED = "ENDED"  # read-only, for good


class MessageRole(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class MessageStatus(StrEnum):
    STREAMING = "streaming"  # the model is writing it; content is still empty
    COMPLETED = "completed"
    CANCELLED = "cancelled"  # the turn was cancelled; content is the partial answer
    FAILED = "failed"  # the model call failed; content is the partial answer


class ToolCallStatus(StrEnum):
    PENDING = "pending"  # proposed by the model, not yet allowed or not yet run
    APPROVED = "approved"  # allowed by a person, not yet run
    REJECTED = "rejected"  # a person said no, or nobody answered in time
    COMPLETED = "completed"
    FAILED = "failed"  # ran and failed, outcome unknown, or cancelled before it ran


class TurnStatus(StrEnum):
    QUEUED = "queued"  # stored, waiting for its orchestration or for the turn before it
    RUNNING = "running"
    WAITING_APPROVAL = "waiting_approval"  # at least one tool call waits for a person's approval
    WAITING_INPUT = "waiting_input"  # at least one waits for an answer, and none for an approval
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL_TURNS

    @property
    def waits(self) -> bool:
        """For somebody outside, perhaps for days."""
        return self in {TurnStatus.WAITING_APPROVAL, TurnStatus.WAITING_INPUT}


_TERMINAL_TURNS = frozenset({TurnStatus.COMPLETED, TurnStatus.FAILED, TurnStatus.CANCELLED})


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"  # the turn was cancelled while it waited


class WaitKind(StrEnum):
    """What a tool call waits for once it has begun."""

    INPUT = "input"  # the user's answers to questions; then the call goes on with them
    RESULT = "result"  # its result, from whoever holds its completion token
    CLIENT = "client"  # its result, from the client of the user whose message declared the tool
    AGENT = "agent"  # the answer of the agent that it called


class WaitStatus(StrEnum):
    PENDING = "pending"
    ANSWERED = "answered"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"  # the turn was cancelled, or ended, while it waited


class InputAction(StrEnum):
    ACCEPT = "accept"  # with content
    DECLINE = "decline"  # the user says no
    CANCEL = "cancel"  # the user says nothing


class ApprovalMode(StrEnum):
    AUTO = "auto"  # no call waits, except where the agent's approval floor or the rule of two requires it
    MANUAL = "manual"  # every call waits
    POLICY = "policy"  # each tool's own policy decides

    def stricter(self, other: ApprovalMode) -> ApprovalMode:
        """The one of two under which more calls wait."""
        order = (ApprovalMode.AUTO, ApprovalMode.POLICY, ApprovalMode.MANUAL)
        return max(self, other, key=order.index)


type ToolApproval = Literal["auto", "manual"]
"""Whether calls of a tool wait in mode `policy`."""


class Concurrency(StrEnum):
    """What happens to a message that is posted while a turn of its session runs."""

    REJECT = "reject"
    ENQUEUE = "enqueue"
    INTERRUPT = "interrupt"
    STEER = "steer"  # joins the turn before its next model step; else as `enqueue`


class Decision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


_STORED: Final = {"is_stored": True}
"""Validation context for stored values: they were validated on input, by rules that may have changed since."""


class Value(BaseModel):
    """A frozen value; unknown fields are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of_store(cls, value: Any) -> Self:
        """A value from validated data; ignores fields that newer code may have added."""
        return cls.model_validate(value, extra="ignore", context=_STORED)


Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\s,][^,]*$")]


class FinishReason(StrEnum):
    """How an answer ended."""

    STOP = "stop"  # it is complete
    TOOL_CALLS = "tool_calls"  # the turn continues with the results of its calls
    LENGTH = "length"  # cut at the output limit
    CONTENT_FILTER = "content_filter"  # stopped by the provider's filter
    REFUSAL = "refusal"  # the model declined; the content is its refusal
    CANCELLED = "cancelled"  # its turn was cancelled


class FileKind(StrEnum):
    TEXT = "text"  # plain text and program code
    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"  # separated by comma, semicolon, tab or bar
    XLSX = "xlsx"
    DOCX = "docx"
    PPTX = "pptx"
    EML = "eml"  # an e-mail message
    PDF = "pdf"
    IMAGE = "image"
    BINARY = "binary"  # anything else: stored, but not readable


class ReasoningEffort(StrEnum):
    """How long a model reasons before it answers. models.json lists the values that each model supports."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


def _new_schema(schema: JsonObject, info: ValidationInfo) -> JsonObject:
    return schema if info.context == _STORED else checked_schema(schema)


OutputSchema = Annotated[JsonObject, BeforeValidator(in_written_order), AfterValidator(_new_schema)]
"""A JSON Schema of the final answer."""


class SessionConfig(Value):
    """How a session's turns run."""

    model: str | None = Field(None, max_length=128, description="Deployment or model; the app's own by default")
    temperature: float | None = Field(None, ge=0, le=2)
    max_output_tokens: int | None = Field(None, ge=1, le=128_000)
    max_steps: int = Field(8, ge=1, le=64, description="Model calls of one turn")
    approval_mode: ApprovalMode = Field(
        ApprovalMode.POLICY, description="Which tool calls wait; never fewer than the agent's `approval_floor` says"
    )
    approval_timeout_seconds: int = Field(86_400, ge=1, le=30 * 86_400)
    tool_timeout_seconds: int = Field(60, ge=1, le=600)
    max_context_tokens: int = Field(100_000, ge=256, le=2_000_000)
    concurrency: Concurrency = Concurrency.REJECT
    expires_after_seconds: int | None = Field(None, ge=1, le=10 * 365 * 86_400)
    max_turn_tokens: int | None = Field(None, ge=1, le=10**12, description="Input and output tokens of one turn")
    max_session_tokens: int | None = Field(None, ge=1, le=10**12, description="Input and output tokens of all turns")
    max_turn_cost_usd: float | None = Field(None, gt=0, le=10**9, description="Cost of one turn's model calls")
    max_session_cost_usd: float | None = Field(None, gt=0, le=10**9, description="Cost of all turns' model calls")
    reasoning_effort: ReasoningEffort | None = Field(None, description="null: the model's default")
    output_schema: OutputSchema | None = Field(
        None, description="JSON Schema of the final answer; it is stored as JSON in the message's `output`"
    )


class Session(Value):
    id: str
    name: str | None
    title: str | None = Field(
        None, description="To show while it has no name: the beginning of its first message, or what a model made of it"
    )
    status: SessionStatus
    agent_id: str | None
    agent_version: int | None = Field(
        None,
        description="Of a trial: the version of its agent that answers; 0: a draft. null: of each message the newest",
    )
    config: SessionConfig
    tags: list[str]
    metadata: JsonObject
    active_branch: int = Field(0, description="The branch that new messages go to and that is listed by default")
    forked_from: str | None = Field(None, description="The session it was copied from; it may be deleted")
    parent_session_id: str | None = Field(
        None, description="Of a subagent: the session whose turn called it. Such a session takes no messages"
    )
    parent_turn_id: str | None = Field(None, description="Of a subagent: the turn that called it")
    parent_tool_call_id: str | None = Field(None, description="Of a subagent: the tool call that it answers")
    created_at: datetime
    updated_at: datetime


class ListedSession(Session):
    """A session in the caller's list."""

    access: Access = Field(description="What the caller is in it")
    preview: str | None = Field(description="The beginning of the newest text on its active branch")
    open_turn: TurnStatus | None = Field(description="Of its oldest turn that has not ended: what it waits for")
    pinned: bool = Field(False, description="Whether the caller keeps it at the top of their list")


class ToolCall(Value):
    id: str
    message_id: str
    name: str
    arguments: JsonObject = Field(description="As the model wrote them")
    decided_arguments: JsonObject | None = Field(
        None, description="Approved with changes by a person: what it runs with instead of `arguments`"
    )
    status: ToolCallStatus
    result: Any | None = None
    is_client: bool = Field(False, description="A call of one of the message's `client_tools`: its client answers it")


class Question(Value):
    """What is asked of a user, in words and as a form."""

    id: str = Field(description="Of this question among those of its wait")
    message: str
    requested_schema: JsonObject = Field(description="JSON Schema of the wanted content: one level of plain fields")


class ToolWait(Value):
    """What a tool call waits for since it has begun."""

    id: str
    tool_call_id: str
    tool: str
    kind: WaitKind
    status: WaitStatus
    asked_by: str | None = Field(description="The MCP server that asks; with `agent`: the id of the agent it waits for")
    asked_of: str = Field(description="The user who may answer: whose message began the turn")
    questions: list[Question]
    actions: dict[str, InputAction] = Field({}, description="What was answered, by question; never with which content")
    opened_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None


class AttachmentRef(Value):
    """A file that came with a message."""

    id: str
    name: str
    kind: FileKind
    media_type: str
    size_bytes: int


class Attachment(Value):
    id: str
    session_id: str
    name: str = Field(description="For display only; never a path")
    kind: FileKind = Field(description="Detected from the content, like `media_type`")
    media_type: str
    size_bytes: int
    sha256: str
    text_chars: int = Field(description="Length of the extracted text in characters, at most 200,000")
    facts: JsonObject = Field(description="By kind: pages, sheets, rows, columns, width, height, encoding, ...")
    warnings: list[str] = Field(description="What was cut, guessed or left out")
    created_by: str
    created_at: datetime


class AttachmentDetail(Attachment):
    """An attachment with the beginning of its text."""

    text: str | None = Field(description="The first 20,000 characters; null if its kind has no text")


class SubagentResult(Value):
    """What became of a subagent in the background. content, output: its answer, as the result of a call has them."""

    tool_call_id: str = Field(description="The call that began it")
    agent_id: str
    session_id: str
    turn_id: str
    status: TurnStatus
    content: str = Field(description="Its answer, or why there is none; it may be cut")
    output: Any | None = Field(
        None, description="Its answer as JSON, when a schema was set", exclude_if=lambda output: output is None
    )


class Message(Value):
    id: str
    session_id: str
    turn_id: str | None
    branch: int = 0
    role: MessageRole
    content: str
    attachments: list[AttachmentRef] = []
    tool_calls: list[ToolCall] = []
    tool_call_id: str | None = Field(None, description="For role `tool`: the call it answers")
    author: str | None = Field(None, description="For role `user`: the user who wrote it")
    agent_id: str | None = Field(
        None,
        description="For role `assistant`: the agent that answered; absent: not stored, as by an earlier version",
        exclude_if=lambda agent_id: agent_id is None,
    )
    finish_reason: FinishReason | None = Field(None, description="For role `assistant`: how the answer ended")
    reasoning: str | None = Field(None, description="For role `assistant`: the reasoning that the model shows")
    output: Any | None = Field(None, description="For role `assistant`: the answer as JSON, when a schema was set")
    left_out: Literal["content_filter"] | None = Field(
        None, description="Why models no longer read it: the provider's content filter refused it"
    )
    joined: bool = Field(
        False,
        description="For role `user`: it joined its turn while that ran (`steer`)",
        exclude_if=lambda joined: not joined,
    )
    joined_after: str | None = Field(
        None,
        description="If it joined: the answer of its turn that it follows; absent: it joined before the first",
        exclude_if=lambda message_id: message_id is None,
    )
    from_subagent: SubagentResult | None = Field(
        None,
        description="For role `user`: nobody wrote it; it tells what became of a subagent in the background",
        exclude_if=lambda told: told is None,
    )
    status: MessageStatus
    created_at: datetime


class Usage(Value):
    """Tokens and cost of model calls."""

    input_tokens: int = Field(0, description="Including cached input tokens")
    output_tokens: int = Field(0, description="Including reasoning tokens")
    cached_input_tokens: int = Field(0, description="Input tokens that the provider read from its cache")
    reasoning_tokens: int = Field(0, description="Output tokens of the model's reasoning")
    cost_usd: float | None = Field(None, description="At the model registry's prices; null: a price is unknown")


class TurnError(Value):
    code: str
    detail: str


class SubagentTurn(Value):
    """The turn of an agent that a call of another turn asked."""

    tool_call_id: str
    agent_id: str
    session_id: str
    turn_id: str
    status: TurnStatus
    background: bool = Field(
        False,
        description="Its call does not wait for it: its result comes as a message",
        exclude_if=lambda background: not background,
    )


class EarlierAgent(Value):
    """An agent that a turn had before it was handed over."""

    agent_id: str | None
    agent_version: int | None = Field(None, description="0: a draft that was tried; null: not known any more")
    model: str | None = Field(None, description="null: not known any more")
    last_step: int = Field(description="The step that handed over, counted from 1")


class Turn(Value):
    id: str
    session_id: str
    message_id: str
    branch: int = 0
    agent_id: str | None = Field(None, description="The agent that it has now: another one may take over")
    agent_version: int | None = Field(None, description="The version of that agent; 0: a draft that is tried")
    model: str | None = Field(None, description="The model that this agent asks")
    agents_before: list[EarlierAgent] = Field([], description="Those that handed the turn over, the first one first")
    status: TurnStatus
    steps: int
    tool_calls: list[ToolCall] = []
    waits: list[ToolWait] = Field([], description="What its tool calls wait for now, beside approvals")
    subagents: list[SubagentTurn] = Field([], description="Turns of agents that its tool calls asked")
    usage: Usage = Field(description="With what its subagents have used")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: TurnError | None
    finish_reason: FinishReason | None = Field(None, description="How its last answer ended")


# Request bodies. ----------------------------------------------------------------------------


class NewSession(Value):
    """Body of `POST /sessions`."""

    id: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="The wanted id; the session gets another one when somebody else's session has it",
    )
    name: str | None = Field(None, max_length=200)
    agent_id: str | None = Field(None, max_length=64)
    template: str | None = Field(None, max_length=64, description="Id of a template that fills in missing fields")
    config: SessionConfig = SessionConfig()
    tags: list[Tag] = Field([], max_length=32)
    metadata: SentJson = {}


class SessionPatch(Value):
    """Body of `PATCH /sessions/{id}`: absent fields stay unchanged."""

    name: str | None = Field(None, max_length=200, description="null removes the name")
    agent_id: str | None = Field(None, max_length=64, description="From the next message on; null: `assistant`")
    config: SessionConfig = Field(SessionConfig(), description="Only the fields given change")
    tags: list[Tag] = Field([], max_length=32, description="Replaces all tags")
    metadata: SentJson = Field({}, description="Replaces all metadata")


type GrantedAccess = Literal["read", "write"]


class NewParticipant(Value):
    """Body of `PUT /sessions/{id}/participants/{user_id}`."""

    access: GrantedAccess = Field(
        description="read: all of the session. write: also post, upload, regenerate, and cancel one's own turns"
    )


class Participant(Value):
    session_id: str
    user_id: str
    access: Access


class SessionPresence(Value):
    """Who has a session before them."""

    session_id: str
    is_shared: bool = Field(description="Whether anybody but its owner may read it. False: there is nobody to ask for")
    here: list[str] = Field(description="Ids of the other users whose page said so lately, sorted; at most 32")
    again_s: int = Field(description="Say it again after so many seconds; who does not is soon no longer named")


MAX_CLIENT_TOOLS = 32
"""Of one message."""
CLIENT_TOOL_NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"


class ClientTool(Value):
    """A tool that the caller's own client runs: a call of it waits until the caller posts its result."""

    name: str = Field(pattern=CLIENT_TOOL_NAME, description="None of the agent's own")
    description: str = Field("", max_length=4_096, description="What it does, for the model")
    parameters: Annotated[JsonObject, BeforeValidator(in_written_order)] = Field(
        {}, description="JSON Schema of the arguments, which are one object"
    )
    acts_outward: bool = Field(
        False,
        description="Its calls reach others than the caller: they wait for approval as those of such tools do",
    )


ClientTools = Annotated[list[ClientTool], Field(max_length=MAX_CLIENT_TOOLS)]
_CLIENT_TOOLS: Any = Field(
    [],
    description="Tools of this turn beside the agent's, which the caller answers",
    # A request of before there were any has the same digest under its Idempotency-Key.
    exclude_if=lambda tools: not tools,
)


class NewMessage(Value):
    """Body of `POST /sessions/{id}/messages` and `.../messages/{message_id}/edit`."""

    content: str
    attachment_ids: list[str] = Field([], max_length=16)
    approval_mode: ApprovalMode | None = Field(
        None, description="null: the session's. From a participant, the stricter of this and the session's counts"
    )
    concurrency: Concurrency | None = Field(
        None,
        description="null: the session's. a participant's `interrupt` is a CONFLICT while another's turn runs. `steer`"
        " joins the caller's own turn that runs, before its next model step, and is as `enqueue` where it cannot",
    )
    output_schema: OutputSchema | None = Field(None, description="Only for the answer to this message")
    client_tools: ClientTools = _CLIENT_TOOLS


class Regeneration(Value):
    """Body of `POST /sessions/{id}/messages/{message_id}/regenerate`."""

    approval_mode: ApprovalMode | None = Field(
        None, description="null: the session's. From a participant, the stricter of this and the session's counts"
    )
    concurrency: Concurrency | None = Field(
        None,
        description="null: the session's. a participant's `interrupt` is a CONFLICT while another's turn runs. `steer`"
        " is as `enqueue`",
    )
    output_schema: OutputSchema | None = Field(None, description="Only for this answer")
    client_tools: ClientTools = _CLIENT_TOOLS


class InputAnswer(Value):
    action: InputAction
    content: SentJson | None = Field(None, description="With `accept`: as the question's `requested_schema` says")


class NewInput(Value):
    """Body of `POST /tool-calls/{tool_call_id}/input`."""

    wait_id: str = Field(max_length=64, description="The wait that is answered; a call may ask again")
    answers: dict[str, InputAnswer] = Field(max_length=5, description="One for each question, by its id")


class PostedProgress(Value):
    text: str = Field(max_length=200)
    fraction: float | None = Field(None, ge=0, le=1)


class NewToolResult(Value):
    """Body of `POST /tool-calls/{tool_call_id}/result`: a result (`content`, `data` or both), an error, or progress."""

    token: str | None = Field(
        None, max_length=4_096, description="The completion token that the tool was given; not for a client tool"
    )
    content: str | None = Field(None, description="What the model reads; by default `data` as JSON")
    data: Annotated[Any, AfterValidator(_encodable)] = Field(None, description="The same for programs: any JSON")
    error: str | None = Field(None, min_length=1, max_length=2_000, description="Why there is no result")
    progress: PostedProgress | None = Field(None, description="The call goes on waiting")

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        told = [self.content is not None or self.data is not None, self.error is not None, self.progress is not None]
        if sum(told) != 1:
            raise ValueError("give a result, an error or progress")
        return self


class Subscription(Value):
    """Body of `POST /sessions/{id}/subscribe` and `/unsubscribe`."""

    connection_id: str | None = Field(None, max_length=256, pattern=r"^[!-~]*$")
