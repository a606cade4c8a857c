"""What the trail tells of approvals and of the calls that they are about. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from shared.sessions.models import ApprovalStatus, Decision, JsonObject
from shared.sessions.records.approval_policy import Channel, Containment, NoticeKind
from shared.sessions.records.approvals import ApprovalRecord, VoteEffect, VoteRecord
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.tool_calls import ToolExecution


def requested(record: ApprovalRecord, why: Mapping[str, object]) -> AuditNote:
    """why: the reasons that the rule of two has, if it is one."""
    details: JsonObject = {
        "approval_id": record.id,
        "tool": record.tool,
        "arguments_digest": record.arguments_digest,
        **why,
    }
    rules = [requirement.rule for requirement in record.requirements if requirement.rule is not None]
    if rules:
        details["rules"] = rules
    return AuditNote("approval.requested", details, record.requested_by)


def voted(effect: VoteEffect, record: ApprovalRecord, vote: VoteRecord) -> list[AuditNote]:
    """The vote; and when it decided, the decision and what it granted."""
    details: JsonObject = {
        "approval_id": record.id,
        "decision": vote.decision.value,
        "arguments_digest": vote.digest,
    }
    if vote.arguments is not None:
        details["arguments"] = vote.arguments
    if vote.comment:
        details["comment"] = vote.comment
    if vote.for_session:
        details["for_session"] = True
    notes = [AuditNote("approval.voted", details, vote.user_id)]
    if effect is VoteEffect.DECIDED:
        notes.append(_decided(record))
        if record.for_session:
            notes.append(_granted(record))
    return notes


def _decided(record: ApprovalRecord) -> AuditNote:
    details: JsonObject = {
        "approval_id": record.id,
        "decision": (Decision.APPROVE if record.status is ApprovalStatus.APPROVED else Decision.REJECT).value,
        "arguments_digest": record.arguments_digest,
        "votes": len(record.votes),
        "quorum": record.policy.quorum,
    }
    return AuditNote("approval.decided", details, record.decided_by or "")


def _granted(record: ApprovalRecord) -> AuditNote:
    details: JsonObject = {
        "approval_id": record.id,
        "tool": record.tool,
        "agent_id": record.agent_id,
        "agent_version": record.agent_version,
        "requested_by": record.requested_by,
    }
    return AuditNote("session.tool_granted", details, record.decided_by or "")


def noticed(approval_id: str, kind: NoticeKind, number: int, role: str | None) -> AuditNote:
    """A reminder, or an escalation to a role."""
    told: JsonObject = {"number": number} if role is None else {"role": role}
    return AuditNote(f"approval.{kind}", {"approval_id": approval_id, **told})


def notified(approval_id: str, kind: NoticeKind, webhook_id: str) -> AuditNote:
    details: JsonObject = {"approval_id": approval_id, "channel": "webhook", "kind": kind, "webhook_id": webhook_id}
    return AuditNote("approval.notified", details)


def carded(approval_id: str, kind: NoticeKind, channel: Channel, message_id: str) -> AuditNote:
    details: JsonObject = {"approval_id": approval_id, "channel": channel, "kind": kind, "message_id": message_id}
    return AuditNote("approval.notified", details)


def viewed(approval_id: str, user_id: str) -> AuditNote:
    return AuditNote("approval.viewed", {"approval_id": approval_id}, user_id)


def of_call(
    call: ToolExecution, action: str, details: JsonObject, *, by_grant: bool, is_notable: bool = False
) -> AuditNote | None:
    """For calls that somebody had to allow, or would have without a setting of their agent; None for others.

    is_notable: told of any call.
    """
    how: JsonObject = {"tool_call_id": call.tool_call_id, "tool": call.name}
    if call.contained and call.plan.containment is Containment.OFF:
        how["containment"] = call.plan.containment
    if call.needs_approval:
        how["approval_id"] = call.approval_id
    elif by_grant:
        how["granted"] = "session"
    elif not (call.contained or is_notable):
        return None
    return AuditNote(action, how | details)
