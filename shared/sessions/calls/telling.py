"""The events that tell of a call's end."""

from __future__ import annotations

from shared.sessions.calls.outcomes import Outcome
from shared.sessions.events import Event, EventType
from shared.sessions.models import ApprovalStatus, JsonObject, ToolCallStatus
from shared.sessions.records.plan import HandedOver
from shared.sessions.records.tool_calls import ToolExecution


def end_events(call: ToolExecution, outcome: Outcome, message_id: str) -> list[Event]:
    """message_id: of the message with its result."""
    data: JsonObject = {
        "tool_call": {
            "id": call.tool_call_id,
            "message_id": call.message_id,
            "name": call.name,
            "status": outcome.status,
            "result": outcome.result,
        }
    }
    if outcome.code is not None:
        data["code"] = outcome.code
    events = []
    if outcome.status is ToolCallStatus.COMPLETED:
        events.append(Event(EventType.TOOL_CALL_COMPLETED, data, call.turn_id, call.message_id))
    elif outcome.status is ToolCallStatus.FAILED:
        events.append(Event(EventType.TOOL_CALL_FAILED, data, call.turn_id, call.message_id))
    elif call.approval_status is ApprovalStatus.TIMED_OUT:
        # A person's rejection was announced when it was made; a timeout is nobody's request.
        events.append(Event(EventType.TOOL_CALL_REJECTED, data, call.turn_id, call.message_id))
    handed = call.plan.handed_over
    if handed is not None and handed.tool_call_id == call.tool_call_id:
        events.append(_handover_event(call, handed))
    created = {"id": message_id, "role": "tool", "status": "completed", "tool_call_id": call.tool_call_id}
    return [*events, Event(EventType.MESSAGE_CREATED, created, call.turn_id, message_id)]


def _handover_event(call: ToolExecution, handed: HandedOver) -> Event:
    data = {
        "tool_call_id": call.tool_call_id,
        "from_agent_id": handed.from_agent_id,
        "agent_id": call.plan.agent_id,
        "agent_version": call.plan.agent_version,
        "for_session": handed.for_session,
    }
    return Event(EventType.SESSION_HANDED_OVER, data, call.turn_id, call.message_id)
