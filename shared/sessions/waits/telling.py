"""The events of waits, for everyone who may read the session."""

from __future__ import annotations

from shared.sessions.events import Event, EventType
from shared.sessions.models import PostedProgress, ToolWait
from shared.sessions.records.waits import WaitRecord
from shared.storable import storable_text


def waiting_event(wait: ToolWait, turn_id: str, message_id: str) -> Event:
    return Event(EventType.TOOL_CALL_WAITING, {"wait": wait.model_dump(mode="json")}, turn_id, message_id)


def answered_event(wait: ToolWait, turn_id: str) -> Event:
    """Or over in another way; its status says."""
    return Event(EventType.TOOL_CALL_ANSWERED, {"wait": wait.model_dump(mode="json")}, turn_id)


def progress_event(record: WaitRecord, told: PostedProgress) -> Event:
    """As a call that runs tells it."""
    wait = record.wait
    call = {"id": wait.tool_call_id, "message_id": record.message_id, "name": wait.tool}
    data = {"tool_call": call, "text": storable_text(told.text), "fraction": told.fraction}
    return Event(EventType.TOOL_CALL_PROGRESS, data, record.turn_id, record.message_id)
