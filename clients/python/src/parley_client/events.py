"""What streams tell: the numbered events of a session, and the frames of one turn.

Invariant: an event of a newer service is no error. A session's are all `Event`; a frame that this version does not know
is an `OtherFrame`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Union

from pydantic import model_validator

from .models import Approval, FinishReason, Message, TurnStatus, Usage, Value


class Event(Value):
    """One event of a session. seq: dense per session, so that a reader sees what is missing."""

    seq: int
    type: str
    """Such as `message.created`, `stream.chunk`, `tool_call.pending`, `stream.ended`."""
    session_id: str
    turn_id: str | None = None
    message_id: str | None = None
    at: datetime
    data: dict[str, Any]
    """By type; of a `stream.chunk`: `{"frame": {"type": "content_delta", ...}}`."""

    @property
    def approval(self) -> Approval | None:
        """What a `tool_call.pending`, `approved` or `rejected` tells of; None if it tells of no approval."""
        told = self.data.get("approval")
        return None if told is None else Approval.model_validate(told)


class Gap(Value):
    """Events between `after` and `next` are lost for good: read the messages, which are complete, and go on."""

    after: int
    next: int


class EventPage(Value):
    """A session's events after a number. gap: some of them are lost; read the messages instead."""

    items: list[Event]
    next_cursor: str | None
    last_seq: int
    gap: bool


class Frame(Value):
    """Part of a turn's stream. message_id: of the answer that it belongs to; None where it belongs to none."""

    seq: int | None = None
    """Of its event; None when the service read it from its store, since the event is no longer kept."""
    message_id: str | None = None


class MessageStart(Frame):
    """An answer begins. If its message has begun before, this attempt replaces all that came of the former one."""

    attempt: int


class ContentDelta(Frame):
    index: int
    text: str


class ReasoningDelta(Frame):
    index: int
    text: str


class ToolCallFrame(Frame):
    """The model calls a tool."""

    id: str
    name: str
    arguments: dict[str, Any]


class ToolCallEvent(Frame):
    """What becomes of a call.

    type: `tool_call.pending`, `.approved`, `.rejected`, `.progress`, `.completed`, `.failed`.
    """

    type: str
    data: dict[str, Any]

    @property
    def approval(self) -> Approval | None:
        """What it waits for, or how that was decided; None if it tells of no approval."""
        told = self.data.get("approval")
        return None if told is None else Approval.model_validate(told)


class MessageJoined(Frame):
    """A message of the user has joined the turn: its next model step reads it."""

    data: dict[str, Any]
    """The message."""

    @property
    def message(self) -> Message:
        return Message.model_validate(self.data)


class HandedOver(Frame):
    """Another agent goes on with the turn."""

    data: dict[str, Any]

    @property
    def agent_id(self) -> str:
        return str(self.data["agent_id"])


class MessageEnd(Frame):
    finish_reason: FinishReason | None
    usage: Usage | None = None


class Waiting(Frame):
    """Nothing has begun yet: the turn waits for a place, in the lane `model` or `tools`."""

    lane: str
    seconds: int


class SubagentNamed(Value):
    """An agent that a tool call asked, and where it answers. tool_call_id: of this turn, or of one below it."""

    tool_call_id: str
    agent_id: str
    session_id: str
    turn_id: str
    background: bool = False
    """No call waits for it, and it may outlive this turn."""


class SubagentTold(Value):
    """An event of a subagent's session."""

    type: str
    message_id: str | None = None
    data: dict[str, Any]


class SubagentEvent(Frame):
    """What became of an agent that a tool call asked."""

    subagent: SubagentNamed
    told: SubagentTold


class TurnFailed(Frame):
    """Why the turn fails; `TurnEnd` follows."""

    code: str
    detail: str


class TurnEnd(Frame):
    """The turn is over, and the stream with it."""

    status: TurnStatus
    usage: Usage
    steps: int
    finish_reason: FinishReason | None = None


class OtherFrame(Frame):
    """A frame that this version does not know."""

    type: str
    fields: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _kept_apart(cls, told: Any) -> Any:
        return told if "fields" in told else {**told, "fields": dict(told)}


TurnEvent = Union[
    MessageStart,
    ContentDelta,
    ReasoningDelta,
    ToolCallFrame,
    ToolCallEvent,
    MessageJoined,
    HandedOver,
    MessageEnd,
    Waiting,
    SubagentEvent,
    TurnFailed,
    TurnEnd,
    OtherFrame,
]
SessionEvent = Union[Event, Gap]

_FRAMES: Mapping[str, type[TurnEvent]] = {
    "message_start": MessageStart,
    "content_delta": ContentDelta,
    "reasoning_delta": ReasoningDelta,
    "tool_call": ToolCallFrame,
    "message_end": MessageEnd,
    "message.created": MessageJoined,
    "session.handed_over": HandedOver,
    "waiting": Waiting,
    "subagent": SubagentEvent,
    "error": TurnFailed,
    "error.occurred": TurnFailed,
    "end": TurnEnd,
}


def frame_of(name: str, fields: Mapping[str, Any]) -> TurnEvent:
    """A frame by the name of its server-sent event."""
    kind = ToolCallEvent if name.startswith("tool_call.") else _FRAMES.get(name, OtherFrame)
    return kind.model_validate({**fields, "type": name})


class TurnText:
    """The texts of a turn's answers so far, from the frames of its stream."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._passed_over: set[str] = set()

    def take(self, event: TurnEvent) -> None:
        """A later attempt replaces the text of the one before; an earlier one is passed over."""
        message_id = event.message_id or ""
        if isinstance(event, MessageStart):
            if event.attempt < self._attempts.get(message_id, 0):
                self._passed_over.add(message_id)
                return
            self._passed_over.discard(message_id)
            self._attempts[message_id] = event.attempt
            self._texts[message_id] = ""
        elif isinstance(event, ContentDelta) and message_id not in self._passed_over:
            self._texts[message_id] = self._texts.get(message_id, "") + event.text

    @property
    def by_message(self) -> dict[str, str]:
        """By message id, in the order in which they began."""
        return dict(self._texts)

    @property
    def last(self) -> str:
        """The text of the newest answer; after the turn's end, what the turn answered."""
        return next(reversed(self._texts.values()), "")
