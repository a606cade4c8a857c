"""The events of a session, and those of a turn's stream, as the OpenAPI document describes them: one model for each.

They are encoded once, where they happen (`Event.body`), and not read again; so nothing here runs with a request. That
what is sent fits these models is the contract tests' to judge.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from shared.sessions.approvals.models import Approval
from shared.sessions.events import EventType, FrameType
from shared.sessions.models import (
    AttachmentRef,
    FinishReason,
    JsonObject,
    MessageRole,
    MessageStatus,
    Session,
    SubagentResult,
    ToolCall,
    ToolCallStatus,
    ToolWait,
    TurnStatus,
    Usage,
)

T = TypeVar("T")
# No `type` statement: the document would have a schema of its own for each use.
Absent = Union[T, SkipJsonSchema[None]]  # noqa: UP007
"""Of a field that is left out rather than null."""


def _left_out(description: str | None = None) -> Any:
    return Field(None, exclude_if=lambda value: value is None, description=description)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


# Frames. ---------------------------------------------------------------------------------------


class _MessageStart(_Part):
    message_id: str
    attempt: int = Field(ge=1, description="A later attempt of the same message replaces what came of the former ones")


class _Delta(_Part):
    index: int = Field(ge=0, description="The number of the piece in its attempt")
    text: str = Field(min_length=1)


class _Called(_Part):
    id: str
    name: str
    arguments: JsonObject = Field(description="As the model wrote them")
    is_client: Absent[bool] = _left_out("true: a call of one of the message's `client_tools`")


class _MessageEnd(_Part):
    message_id: str
    finish_reason: str = Field(description="A `FinishReason`, or `failed` for an answer that failed on its way")
    usage: Usage | None


type WaitingLane = Literal["model", "tools"]


class _Waiting(_Part):
    lane: WaitingLane = Field(description="For a place of which kind")
    seconds: int = Field(ge=0, description="How long so far")


class _Subagent(_Part):
    tool_call_id: str = Field(description="The call that it answers: of this turn, or of a subagent's turn below it")
    agent_id: str
    session_id: str
    turn_id: str
    background: Absent[bool] = _left_out("true: no call waits for it, and it may outlive this turn")


class _Told(_Part):
    """An event of a subagent's session: its type and data, without the number that it has there."""

    type: EventType
    message_id: Absent[str] = _left_out()
    data: JsonObject


class _OfSubagent(_Part):
    subagent: _Subagent
    told: _Told


class _Failure(_Part):
    code: str
    detail: str


class MessageStartFrame(_MessageStart):
    """A message of the model begins, or begins again."""

    type: Literal[FrameType.MESSAGE_START]


class ContentDeltaFrame(_Delta):
    """A piece of the answer."""

    type: Literal[FrameType.CONTENT_DELTA]


class ReasoningDeltaFrame(_Delta):
    """A piece of the reasoning that the model shows."""

    type: Literal[FrameType.REASONING_DELTA]


class ToolCallFrame(_Called):
    """The model proposes a tool call."""

    type: Literal[FrameType.TOOL_CALL]


class MessageEndFrame(_MessageEnd):
    """A message of the model is complete."""

    type: Literal[FrameType.MESSAGE_END]


class WaitingFrame(_Waiting):
    """The turn waits for a place: nothing has begun yet."""

    type: Literal[FrameType.WAITING]


class SubagentFrame(_OfSubagent):
    """What became of an agent that a tool call asked."""

    type: Literal[FrameType.SUBAGENT]


class ErrorFrame(_Failure):
    """The turn has failed."""

    type: Literal[FrameType.ERROR]


type Frame = Annotated[
    MessageStartFrame
    | ContentDeltaFrame
    | ReasoningDeltaFrame
    | ToolCallFrame
    | MessageEndFrame
    | WaitingFrame
    | SubagentFrame
    | ErrorFrame,
    Field(discriminator="type"),
]


# Data of events. -------------------------------------------------------------------------------


class SessionData(_Part):
    session: Session


class SessionActivatedData(SessionData):
    active_branch: Absent[int] = _left_out("The branch that became active")


class MessageData(_Part):
    """A message, or what changed of it: other fields are absent."""

    id: str
    role: MessageRole
    status: Absent[MessageStatus] = _left_out()
    session_id: Absent[str] = _left_out()
    turn_id: Absent[str] = _left_out()
    branch: Absent[int] = _left_out()
    content: Absent[str] = _left_out()
    attachments: Absent[list[AttachmentRef]] = _left_out()
    tool_calls: Absent[list[ToolCall]] = _left_out()
    tool_call_id: Absent[str] = _left_out("For role `tool`: the call it answers")
    author: Absent[str] = _left_out("For role `user`: the user who wrote it")
    finish_reason: FinishReason | None = _left_out("For role `assistant`: how the answer ended")
    output: Any = _left_out("For role `assistant`: the answer as JSON, when a schema was set")
    left_out: Literal["content_filter"] | None = _left_out("Why models no longer read it; null: they do again")
    joined: Absent[bool] = _left_out("For role `user`: true if it joined its turn while that ran")
    joined_after: Absent[str] = _left_out("If it joined: the answer that it follows; absent: none before it")
    from_subagent: Absent[SubagentResult] = _left_out(
        "For role `user`: nobody wrote it; it tells what became of a subagent in the background"
    )
    created_at: Absent[datetime] = _left_out()


class HandoverData(_Part):
    tool_call_id: str = Field(description="The call that handed over")
    from_agent_id: str | None = Field(description="The agent that the turn had before")
    agent_id: str
    agent_version: int
    for_session: bool = Field(description="The session's later messages are answered by it, too")


class ApprovalData(_Part):
    approval: Approval
    tool_call_id: str


class ToolCallName(_Part):
    id: str
    message_id: str
    name: str


class ToolCallEnd(ToolCallName):
    status: ToolCallStatus
    result: Any


class ToolCallEndData(_Part):
    tool_call: ToolCallEnd
    code: Absent[str] = _left_out("Why it failed, or was rejected")


class ToolCallRejectedData(_Part):
    """By a person, with the approval; or because nobody answered in time, with the call."""

    approval: Absent[Approval] = _left_out()
    tool_call_id: Absent[str] = _left_out()
    tool_call: Absent[ToolCallEnd] = _left_out()
    code: Absent[str] = _left_out()


class ToolCallProgressData(_Part):
    tool_call: ToolCallName
    text: str = Field(max_length=200)
    fraction: float | None = Field(ge=0, le=1)


class ToolCallWaitData(_Part):
    wait: ToolWait


class StreamChunkData(_Part):
    frame: Frame


class StreamEndData(_Part):
    status: TurnStatus
    usage: Usage
    steps: int
    finish_reason: FinishReason | None = Field(description="How the last answer ended")


class NoData(_Part):
    """Nothing."""


class FailureData(_Failure):
    """What went wrong, for people."""


# Events. ---------------------------------------------------------------------------------------


class _Event(_Part):
    seq: int = Field(ge=1, description="Dense per session")
    session_id: str
    turn_id: Absent[str] = _left_out()
    message_id: Absent[str] = _left_out()
    at: datetime


class SessionCreatedEvent(_Event):
    type: Literal[EventType.SESSION_CREATED]
    data: SessionData


class SessionActivatedEvent(_Event):
    type: Literal[EventType.SESSION_ACTIVATED]
    data: SessionActivatedData


class SessionSuspendedEvent(_Event):
    type: Literal[EventType.SESSION_SUSPENDED]
    data: SessionData


class SessionEndedEvent(_Event):
    type: Literal[EventType.SESSION_ENDED]
    data: SessionData


class SessionHandedOverEvent(_Event):
    """Another agent goes on with the turn."""

    type: Literal[EventType.SESSION_HANDED_OVER]
    data: HandoverData


class MessageCreatedEvent(_Event):
    type: Literal[EventType.MESSAGE_CREATED]
    data: MessageData


class MessageUpdatedEvent(_Event):
    type: Literal[EventType.MESSAGE_UPDATED]
    data: MessageData


class ToolCallPendingEvent(_Event):
    """A tool call waits for an approval."""

    type: Literal[EventType.TOOL_CALL_PENDING]
    data: ApprovalData


class ToolCallApprovedEvent(_Event):
    type: Literal[EventType.TOOL_CALL_APPROVED]
    data: ApprovalData


class ToolCallRejectedEvent(_Event):
    type: Literal[EventType.TOOL_CALL_REJECTED]
    data: ToolCallRejectedData


class ToolCallProgressEvent(_Event):
    type: Literal[EventType.TOOL_CALL_PROGRESS]
    data: ToolCallProgressData


class ToolCallWaitingEvent(_Event):
    type: Literal[EventType.TOOL_CALL_WAITING]
    data: ToolCallWaitData


class ToolCallAnsweredEvent(_Event):
    type: Literal[EventType.TOOL_CALL_ANSWERED]
    data: ToolCallWaitData


class ToolCallCompletedEvent(_Event):
    type: Literal[EventType.TOOL_CALL_COMPLETED]
    data: ToolCallEndData


class ToolCallFailedEvent(_Event):
    type: Literal[EventType.TOOL_CALL_FAILED]
    data: ToolCallEndData


class StreamStartedEvent(_Event):
    type: Literal[EventType.STREAM_STARTED]
    data: NoData


class StreamChunkEvent(_Event):
    type: Literal[EventType.STREAM_CHUNK]
    data: StreamChunkData


class StreamEndedEvent(_Event):
    """The turn is over."""

    type: Literal[EventType.STREAM_ENDED]
    data: StreamEndData


class ErrorOccurredEvent(_Event):
    type: Literal[EventType.ERROR_OCCURRED]
    data: FailureData


type Envelope = Annotated[
    SessionCreatedEvent
    | SessionActivatedEvent
    | SessionSuspendedEvent
    | SessionEndedEvent
    | SessionHandedOverEvent
    | MessageCreatedEvent
    | MessageUpdatedEvent
    | ToolCallPendingEvent
    | ToolCallApprovedEvent
    | ToolCallRejectedEvent
    | ToolCallProgressEvent
    | ToolCallWaitingEvent
    | ToolCallAnsweredEvent
    | ToolCallCompletedEvent
    | ToolCallFailedEvent
    | StreamStartedEvent
    | StreamChunkEvent
    | StreamEndedEvent
    | ErrorOccurredEvent,
    Field(discriminator="type"),
]
"""One event: over SignalR, in the replay, and as the `data` of Server-Sent Events."""


# Streams. --------------------------------------------------------------------------------------


class GapEvent(_Part):
    """The log has lost events: read the stored messages instead. It has no number."""

    type: Literal["gap"]
    after: int = Field(ge=0, description="The last number before the hole")
    next: int = Field(ge=1, description="The first number after it")


# Each by itself: generators know no union of unions.
type SessionStreamEvent = Annotated[
    SessionCreatedEvent
    | SessionActivatedEvent
    | SessionSuspendedEvent
    | SessionEndedEvent
    | SessionHandedOverEvent
    | MessageCreatedEvent
    | MessageUpdatedEvent
    | ToolCallPendingEvent
    | ToolCallApprovedEvent
    | ToolCallRejectedEvent
    | ToolCallProgressEvent
    | ToolCallWaitingEvent
    | ToolCallAnsweredEvent
    | ToolCallCompletedEvent
    | ToolCallFailedEvent
    | StreamStartedEvent
    | StreamChunkEvent
    | StreamEndedEvent
    | ErrorOccurredEvent
    | GapEvent,
    Field(discriminator="type"),
]
"""The `data` of one event of a session's stream; the event is named after its `type`."""


class _Streamed(_Part):
    """Of a turn's stream. What an event of the log has beside is absent in one that was made from stored messages."""

    seq: Absent[int] = _left_out("Its number in the session; also the event's `id`")
    type: Absent[EventType] = _left_out("The type of the envelope")
    session_id: Absent[str] = _left_out()
    turn_id: Absent[str] = _left_out()
    at: Absent[datetime] = _left_out()


class _StreamedFrame(_Streamed):
    message_id: Absent[str] = _left_out()
    data: Absent[StreamChunkData] = _left_out("The frame once more, as in the session's events")


class TurnMessageStart(_MessageStart, _StreamedFrame):
    event: Literal["message_start"]
    message_id: str


class TurnContentDelta(_Delta, _StreamedFrame):
    event: Literal["content_delta"]


class TurnReasoningDelta(_Delta, _StreamedFrame):
    event: Literal["reasoning_delta"]


class TurnToolCall(_Called, _StreamedFrame):
    event: Literal["tool_call"]


class TurnMessageEnd(_MessageEnd, _StreamedFrame):
    event: Literal["message_end"]
    message_id: str


class TurnWaiting(_Waiting, _StreamedFrame):
    event: Literal["waiting"]


class TurnSubagent(_OfSubagent, _StreamedFrame):
    event: Literal["subagent"]


class _StreamedEvent(_Streamed):
    message_id: Absent[str] = _left_out()


class TurnMessageCreated(_StreamedEvent):
    """A message has joined the turn: its next model step reads it."""

    event: Literal["message.created"]
    data: MessageData


class TurnHandedOver(_StreamedEvent):
    """Another agent goes on with the turn."""

    event: Literal["session.handed_over"]
    data: HandoverData


class TurnToolCallPending(_StreamedEvent):
    """A tool call waits for an approval."""

    event: Literal["tool_call.pending"]
    data: ApprovalData


class TurnToolCallApproved(_StreamedEvent):
    event: Literal["tool_call.approved"]
    data: ApprovalData


class TurnToolCallRejected(_StreamedEvent):
    event: Literal["tool_call.rejected"]
    data: ToolCallRejectedData


class TurnToolCallProgress(_StreamedEvent):
    event: Literal["tool_call.progress"]
    data: ToolCallProgressData


class TurnToolCallWaiting(_StreamedEvent):
    event: Literal["tool_call.waiting"]
    data: ToolCallWaitData


class TurnToolCallAnswered(_StreamedEvent):
    event: Literal["tool_call.answered"]
    data: ToolCallWaitData


class TurnToolCallCompleted(_StreamedEvent):
    event: Literal["tool_call.completed"]
    data: ToolCallEndData


class TurnToolCallFailed(_StreamedEvent):
    event: Literal["tool_call.failed"]
    data: ToolCallEndData


class TurnFailure(_Failure, _StreamedEvent):
    """The turn has failed."""

    event: Literal["error.occurred"]
    data: Absent[FailureData] = _left_out()


class TurnEnd(StreamEndData):
    """The turn is over, and its stream ends."""

    event: Literal["end"]


type TurnStreamEvent = Annotated[
    TurnMessageStart
    | TurnContentDelta
    | TurnReasoningDelta
    | TurnToolCall
    | TurnMessageEnd
    | TurnWaiting
    | TurnSubagent
    | TurnMessageCreated
    | TurnHandedOver
    | TurnToolCallPending
    | TurnToolCallApproved
    | TurnToolCallRejected
    | TurnToolCallProgress
    | TurnToolCallWaiting
    | TurnToolCallAnswered
    | TurnToolCallCompleted
    | TurnToolCallFailed
    | TurnFailure
    | TurnEnd,
    Field(discriminator="event"),
]
"""The `data` of one event of a turn's stream; the event is named after its `event`."""
