"""A turn's events, made from what is stored, for a reader of an event log that has lost them. They have no numbers."""

from __future__ import annotations

from collections.abc import Iterator

from shared.sessions.approvals.models import Approval
from shared.sessions.events import EventType
from shared.sessions.models import ApprovalStatus, JsonObject, Message, ToolCall, ToolWait, Turn
from shared.sessions.turns.frames import CALL_ENDS, end_event, parts_of, told_call


def answer_events(message: Message) -> Iterator[JsonObject]:
    """An answer as its frames."""
    for kind, fields in parts_of(message):
        data = {"frame": {"type": kind.value, **fields}}
        yield _event(EventType.STREAM_CHUNK, message.session_id, message.turn_id, message.id, data)


def outcome_event(message: Message, call: ToolCall) -> JsonObject | None:
    """The end of a call; None of one that is open."""
    kind = CALL_ENDS.get(call.status)
    if kind is None:
        return None
    return _event(kind, message.session_id, message.turn_id, message.id, {"tool_call": told_call(call)})


def pending_event(approval: Approval) -> JsonObject:
    """`tool_call.pending` of an approval that is open."""
    data = {"approval": approval.model_dump(mode="json"), "tool_call_id": approval.tool_call_id}
    return _event(EventType.TOOL_CALL_PENDING, approval.session_id, approval.turn_id, None, data)


def wait_event(wait: ToolWait, turn: Turn) -> JsonObject:
    """`tool_call.waiting` of a wait that is open."""
    data = {"wait": wait.model_dump(mode="json")}
    return _event(EventType.TOOL_CALL_WAITING, turn.session_id, turn.id, None, data)


def decision_event(approval: Approval) -> JsonObject:
    """What became of an approval that is decided."""
    kind = EventType.TOOL_CALL_APPROVED if approval.status is ApprovalStatus.APPROVED else EventType.TOOL_CALL_REJECTED
    data = {"approval": approval.model_dump(mode="json"), "tool_call_id": approval.tool_call_id}
    return _event(kind, approval.session_id, approval.turn_id, None, data)


def end_events(turn: Turn) -> Iterator[JsonObject]:
    """The end of a turn that has ended, after its error, if it failed."""
    if turn.error is not None:
        data = turn.error.model_dump()
        yield _event(EventType.STREAM_CHUNK, turn.session_id, turn.id, None, {"frame": {"type": "error", **data}})
        yield _event(EventType.ERROR_OCCURRED, turn.session_id, turn.id, None, data)
    yield end_event(turn)


def _event(
    kind: EventType, session_id: str, turn_id: str | None, message_id: str | None, data: JsonObject
) -> JsonObject:
    found = {"type": kind.value, "session_id": session_id, "turn_id": turn_id, "data": data}
    return found if message_id is None else {**found, "message_id": message_id}
