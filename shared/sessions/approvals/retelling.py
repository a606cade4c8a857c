"""What the audit trail may have told of a session: every line that its calls and approvals can have left.

For the repair of lines that were claimed and never written (`audit/repair.py`), which tells the right one by its seal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shared.errors import ErrorCode
from shared.sessions.approvals.containment import why_contained
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.notices import reminders_until, webhook_id
from shared.sessions.audit import notes
from shared.sessions.models import ApprovalStatus, JsonObject, ToolCallStatus
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.records.approvals import ApprovalRecord, VoteEffect, VoteRecord
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.tool_calls import ToolExecution
from shared.sessions.repository import ApprovalRepository, ToolCallRepository

MAX_CALLS = 20
"""Newest calls of a session that are told of: a line that may be repaired is one of the last."""


class Retelling:
    """Reads what a session's trail may have told."""

    def __init__(self, tool_calls: ToolCallRepository, approvals: ApprovalRepository) -> None:
        self._tool_calls = tool_calls
        self._approvals = approvals

    async def of_session(self, session_id: str) -> list[AuditNote]:
        """Raises Transient."""
        told: list[AuditNote] = []
        for tool_call_id in await self._tool_calls.newest_of_session(session_id, limit=MAX_CALLS):
            call = await self._tool_calls.tool_execution(tool_call_id)
            told += _of_call(call)
            if call.approval_id is not None:
                record = await self._approvals.get(call.approval_id, "")
                told += [] if record is None else _of_approval(call, record)
        return told


def _of_call(call: ToolExecution) -> Iterator[AuditNote]:
    definition = call.plan.definition_of(call.name)
    ran = [call.arguments, *([] if call.decided_arguments is None else [call.decided_arguments])]
    ends = [
        (ToolCallStatus.COMPLETED, None),
        (ToolCallStatus.REJECTED, ErrorCode.APPROVAL_REJECTED),
        (ToolCallStatus.REJECTED, ErrorCode.APPROVAL_TIMEOUT),
        *((ToolCallStatus.FAILED, code) for code in ErrorCode),
    ]
    told: list[tuple[str, JsonObject]] = [
        *(
            ("tool_call.started", {"arguments_digest": arguments_digest(call.name, arguments, definition)})
            for arguments in ran
        ),
        *(("tool_call.ended", {"status": status, "code": code}) for status, code in ends),
        *(("approval.timed_out", {"outcome": on}) for on in (ApprovalStatus.APPROVED, ApprovalStatus.TIMED_OUT)),
    ]
    for action, details in told:
        note = notes.of_call(call, action, details, by_grant=not call.needs_approval)
        if note is not None:
            yield note


def _of_approval(call: ToolExecution, record: ApprovalRecord) -> Iterator[AuditNote]:
    definition = call.plan.definition_of(call.name)
    asked = arguments_digest(call.name, call.arguments, definition)
    # A decision with changed arguments has put its own digest there.
    yield notes.requested(replace(record, arguments_digest=asked), why_contained(call))
    yield notes.requested(replace(record, arguments_digest=asked), {})
    for vote in record.votes:
        digest = asked if vote.arguments is None else arguments_digest(record.tool, vote.arguments, definition)
        cast = VoteRecord(vote.decision, vote.by, digest, vote.arguments, vote.comment, vote.for_session)
        yield from notes.voted(VoteEffect.DECIDED, record, cast)
    reminders = reminders_until(record.policy, record.requested_at, record.decided_at or record.expires_at)
    for number in range(1, reminders + 1):
        yield notes.noticed(record.id, NoticeKind.REMINDER, number, None)
        yield _notified(record, NoticeKind.REMINDER, number)
    if record.policy.escalation_role is not None:
        yield notes.noticed(record.id, NoticeKind.ESCALATED, 0, record.policy.escalation_role)
    for kind in (NoticeKind.REQUESTED, NoticeKind.ESCALATED, NoticeKind.DECIDED):
        yield _notified(record, kind, 0)
    seen = (record.requested_by, record.owner_id, record.decided_by, *record.policy.users)
    for user_id in dict.fromkeys([*seen, *(vote.by for vote in record.votes)]):
        if user_id is not None:
            yield notes.viewed(record.id, user_id)


def _notified(record: ApprovalRecord, kind: NoticeKind, number: int) -> AuditNote:
    return notes.notified(record.id, kind, webhook_id(record.id, kind, number))
