"""What the trail tells of waits: who was asked what by whom, and what was said of it, never with which content."""

from __future__ import annotations

import hashlib

from shared.canonical import canonical_json
from shared.sessions.models import JsonObject, ToolWait
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.children import NewChild
from shared.sessions.records.waits import AnswerRecord


def opened(wait: ToolWait, child: NewChild | None = None) -> AuditNote:
    """child: the session and turn of the agent that it waits for."""
    asked = [question.model_dump(mode="json") for question in wait.questions]
    details: JsonObject = {
        **_of(wait),
        "kind": wait.kind,
        "asked_by": wait.asked_by,
        "asked_of": wait.asked_of,
        "questions_digest": hashlib.sha256(canonical_json(asked)).hexdigest(),
    }
    if child is not None:
        details |= {"session_id": child.session_id, "turn_id": child.turn_id}
    return AuditNote("tool_call.waiting", details, wait.asked_of)


def answered(wait: ToolWait, said: AnswerRecord) -> AuditNote:
    details: JsonObject = {**_of(wait), "actions": said.actions, "answer_digest": said.digest}
    return AuditNote("tool_call.answered", details, said.user_id)


def timed_out(wait: ToolWait) -> AuditNote:
    return AuditNote("tool_call.answer_timed_out", _of(wait))


def _of(wait: ToolWait) -> JsonObject:
    return {"wait_id": wait.id, "tool_call_id": wait.tool_call_id, "tool": wait.tool}
