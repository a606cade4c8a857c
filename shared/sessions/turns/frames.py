"""The events of a turn's stream, made from those of its session or from its stored messages.

Invariant: none of them is named `error`, since that is the name under which an EventSource tells of its own failures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from shared.sessions.events import EventType, FrameType, turn_end
from shared.sessions.live.sse import sse
from shared.sessions.models import JsonObject, Message, ToolCall, ToolCallStatus, Turn, TurnError
from shared.sessions.turns.answer import end_of

STORED_ATTEMPT = 1_000
"""The `attempt` of a message sent from the store: above any live one, so that it replaces what a client has."""


_TOLD = frozenset(
    {
        EventType.TOOL_CALL_PENDING,
        EventType.TOOL_CALL_APPROVED,
        EventType.TOOL_CALL_REJECTED,
        EventType.TOOL_CALL_PROGRESS,
        EventType.TOOL_CALL_WAITING,
        EventType.TOOL_CALL_ANSWERED,
        EventType.TOOL_CALL_COMPLETED,
        EventType.TOOL_CALL_FAILED,
        EventType.SESSION_HANDED_OVER,
    }
)
"""Events that a turn's stream tells as the session's does."""
CALL_ENDS = {
    ToolCallStatus.COMPLETED: EventType.TOOL_CALL_COMPLETED,
    ToolCallStatus.FAILED: EventType.TOOL_CALL_FAILED,
    ToolCallStatus.REJECTED: EventType.TOOL_CALL_REJECTED,
}


def live_event(seq: int | None, event: dict[str, Any]) -> bytes | None:
    """An event of the session as one of its turn's stream; None if that says nothing of it.

    The envelope and the name of the event; of a stream.chunk with the frame's own fields lifted beside it.
    """
    kind, data = event["type"], event["data"]
    if kind == EventType.STREAM_CHUNK:
        fields = dict(data["frame"])
        name = fields.pop("type")
        if name == FrameType.ERROR:
            return None  # the event that comes with it says the same
        return _named(name, {"seq": seq, **event, **fields}, seq)
    if kind == EventType.ERROR_OCCURRED:
        return _named(kind, {"seq": seq, **event, **data}, seq)
    if kind == EventType.STREAM_ENDED:
        return _named("end", data, seq)
    is_told = kind in _TOLD or (kind == EventType.MESSAGE_CREATED and data.get("joined") is True)
    return _named(kind, {"seq": seq, **event}, seq) if is_told else None


def _named(name: str, fields: dict[str, Any], seq: int | None = None) -> bytes:
    return sse(name, orjson.dumps({"event": name, **fields}), seq)


def stored_frames(message: Message) -> list[bytes]:
    """message_start, reasoning_delta, content_delta, tool_call..., message_end of a stored message, and how its calls
    ended. Without ids: they are not events."""
    frames = [_named(kind, fields) for kind, fields in parts_of(message)]
    ended = [call for call in message.tool_calls if call.status in CALL_ENDS]
    return [*frames, *(_named(CALL_ENDS[call.status], {"data": {"tool_call": told_call(call)}}) for call in ended)]


def parts_of(message: Message) -> Iterator[tuple[FrameType, JsonObject]]:
    """The frames of a stored answer, from its start to its end: their types and fields."""
    yield FrameType.MESSAGE_START, {"message_id": message.id, "attempt": STORED_ATTEMPT}
    if message.reasoning:
        yield FrameType.REASONING_DELTA, {"index": 0, "text": message.reasoning}
    if message.content:
        yield FrameType.CONTENT_DELTA, {"index": 0, "text": message.content}
    for call in message.tool_calls:
        more = {"is_client": True} if call.is_client else {}
        yield FrameType.TOOL_CALL, {"id": call.id, "name": call.name, "arguments": call.arguments, **more}
    reason = end_of(message.status, message.finish_reason, has_calls=bool(message.tool_calls))
    end = {"message_id": message.id, "finish_reason": reason or message.status.value, "usage": None}
    yield FrameType.MESSAGE_END, end


def told_call(call: ToolCall) -> JsonObject:
    """A call that has ended, as the event of its end tells it."""
    return call.model_dump(mode="json", include={"id", "message_id", "name", "status", "result"})


def failure_frame(error: TurnError) -> bytes:
    """What a failed turn failed of, from what is stored."""
    return _named(EventType.ERROR_OCCURRED, error.model_dump())


def end_frame(turn: Turn) -> bytes:
    """The last frame of a turn, from what is stored."""
    return _named("end", turn_end(turn.status, turn.usage, turn.steps, turn.finish_reason))


def end_event(turn: Turn) -> JsonObject:
    """`stream.ended` of a turn that has ended, from what is stored. It has no number."""
    data = turn_end(turn.status, turn.usage, turn.steps, turn.finish_reason)
    return {"type": EventType.STREAM_ENDED.value, "session_id": turn.session_id, "turn_id": turn.id, "data": data}
