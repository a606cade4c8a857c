"""What the trail tells of subagents in the background: who began which."""

from __future__ import annotations

from shared.sessions.records.audit import AuditNote
from shared.sessions.records.children import NewChild
from shared.sessions.records.tool_calls import ToolExecution


def begun(call: ToolExecution, child: NewChild) -> AuditNote:
    details = {
        "tool_call_id": call.tool_call_id,
        "tool": call.name,
        "agent_id": child.agent_id,
        "session_id": child.session_id,
        "turn_id": child.turn_id,
    }
    return AuditNote("tool_call.in_background", details, call.requested_by)
