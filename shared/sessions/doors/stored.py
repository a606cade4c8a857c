"""A turn's events, made from what is stored, for a reader of an event log that has lost them. They have no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from shared.sessions.approvals.models import Approval
from shared.sessions.approvals.voting import public_approval
from shared.sessions.events import EventType, FrameType
from shared.sessions.models import ApprovalStatus, JsonObject, Message, ToolCall, ToolWait, Turn
from shared.sessions.records.approvals import ApprovalBelow
from shared.sessions.turns.frames import CALL_ENDS, end_event, parts_of, told_call


@dataclass(frozen=True, slots=True)
class CallBelow:
    """A call of a subagent that people were asked about, and the approval. above: the subagents from the turn down to
    the one that makes the call, as frames name them."""

    approval: Approval
    call: ToolCall
    above: tuple[JsonObject, ...]

    @property
    def through(self) -> str:
        """The call of the turn below which it stands."""
        found: str = self.above[0]["tool_call_id"]
        return found

    @property
    def is_open(self) -> bool:
        """Whether people are asked, or the call goes on because they allowed it."""
        is_over = self.call.status in CALL_ENDS
        return not is_over and self.approval.status in {ApprovalStatus.PENDING, ApprovalStatus.APPROVED}

    @classmethod
    def of(cls, record: ApprovalBelow) -> CallBelow:
        return cls(public_approval(record.approval), record.call, record.above)


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


def asked_below(one: CallBelow, turn: Turn) -> Iterator[JsonObject]:
    """Frames that tell a call of a subagent, from what is stored: that people are asked about it, after those that say
    through which calls it is reached."""
    for outer, inner in pairwise(one.above):
        call = {"type": FrameType.TOOL_CALL.value, "id": inner["tool_call_id"], "name": "", "arguments": {}}
        yield _frame_below(outer, {"type": EventType.STREAM_CHUNK.value, "data": {"frame": call}}, turn)
    yield _frame_below(one.above[-1], pending_event(one.approval), turn)


def decided_below(one: CallBelow, turn: Turn) -> Iterator[JsonObject]:
    """What became of its approval, as far as it is decided, and of the call."""
    kind = CALL_ENDS.get(one.call.status)
    if one.approval.status in {ApprovalStatus.APPROVED, ApprovalStatus.REJECTED}:
        yield _frame_below(one.above[-1], decision_event(one.approval), turn)
        if one.approval.status is ApprovalStatus.REJECTED:
            return  # which is the end of the call
    if kind is not None:
        told = {"type": kind.value, "message_id": one.call.message_id, "data": {"tool_call": told_call(one.call)}}
        yield _frame_below(one.above[-1], told, turn)


def _frame_below(named: JsonObject, told: JsonObject, turn: Turn) -> JsonObject:
    said = {name: told[name] for name in ("type", "message_id", "data") if name in told}
    frame = {"type": FrameType.SUBAGENT.value, "subagent": named, "told": said}
    return _event(EventType.STREAM_CHUNK, turn.session_id, turn.id, None, {"frame": frame})


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
