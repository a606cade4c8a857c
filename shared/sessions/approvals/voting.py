"""Validates a person's vote, and compares it with a decision already made. Pure functions.

Invariant: a vote names the digest of the exact arguments it is about, and those arguments fit the tool's schema.
"""

from __future__ import annotations

from datetime import datetime

from shared.errors import AppError, Conflict, ErrorCode, Gone, InvalidInput
from shared.sessions.approvals.deciders import refusal_to_approve
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import grant_of
from shared.sessions.approvals.models import Approval, NewDecision
from shared.sessions.models import ApprovalStatus, Decision
from shared.sessions.records.approvals import ApprovalRecord, VoteRecord
from shared.sessions.tools.registry import InvalidToolArguments, find_tool, validate_arguments


def checked_vote(record: ApprovalRecord, body: NewDecision, user_id: str) -> VoteRecord:
    """The vote of somebody who may decide, checked against the policy and the tool's schema.

    Raises Conflict (their own request), InvalidInput (VALIDATION_ERROR, INVALID_TOOL_ARGS, TOOL_NOT_FOUND).
    """
    asked = arguments_digest(record.tool, record.arguments)
    # Compared by digest, not by equality: in Python 1 equals True.
    digest = asked if body.arguments is None else arguments_digest(record.tool, body.arguments)
    if body.decision is Decision.REJECT:
        if digest != asked:
            raise _invalid("arguments", "A rejection takes no arguments.")
        if body.for_session:
            raise _invalid("for_session", "Only an approval can apply to the rest of the session.")
        return VoteRecord(body.decision, user_id, digest, comment=body.comment)
    refusal = refusal_to_approve(record, user_id)
    if refusal is not None:
        raise Conflict(ErrorCode.CONFLICT, refusal)
    if body.for_session and not record.policy.allow_for_session:
        raise _invalid("for_session", "The policy of this tool requires approval of each call.")
    grant = ""
    if body.for_session:
        grant = grant_of(record.tool, record.policy, record.agent_id, record.agent_version, record.requested_by)
    if digest == asked:
        return VoteRecord(body.decision, user_id, digest, None, body.comment, body.for_session, grant)
    if not record.policy.allow_changes:
        message = "The policy of this tool does not allow changed arguments."
        raise _invalid("arguments", message, ErrorCode.INVALID_TOOL_ARGS)
    tool = find_tool(record.tool)
    if tool is None:
        raise InvalidInput(ErrorCode.TOOL_NOT_FOUND, f"The tool {record.tool!r} no longer exists.")
    try:
        validate_arguments(tool, body.arguments or {})
    except InvalidToolArguments as exc:
        raise _invalid("arguments", str(exc), ErrorCode.INVALID_TOOL_ARGS) from None
    return VoteRecord(body.decision, user_id, digest, body.arguments, body.comment, body.for_session, grant)


def refuse_unless_same(record: ApprovalRecord, vote: VoteRecord, now: datetime) -> None:
    """For a vote that had no effect: accept it if it repeats the voter's vote or agrees with the decision.

    Raises Gone (APPROVAL_TIMEOUT), Conflict.
    """
    if record.status is ApprovalStatus.PENDING and now < record.expires_at:
        return
    if record.status in {ApprovalStatus.TIMED_OUT, ApprovalStatus.PENDING}:
        # Still pending: the deadline has passed, and the orchestration has not recorded the timeout yet.
        raise Gone(ErrorCode.APPROVAL_TIMEOUT, "The time to decide is over.")
    if record.status is ApprovalStatus.CANCELLED:
        raise Conflict(ErrorCode.CONFLICT, "The turn was cancelled.")
    by = record.decided_by or "its policy, because nobody decided in time"
    approves = vote.decision is Decision.APPROVE
    if (record.status is ApprovalStatus.APPROVED) is not approves:
        raise Conflict(ErrorCode.CONFLICT, f"It was already {record.status} by {by}.")
    if approves and record.arguments_digest != vote.digest:
        raise Conflict(ErrorCode.CONFLICT, f"It was already approved by {by}, with other arguments.")
    if vote.for_session and not record.for_session:
        raise Conflict(ErrorCode.CONFLICT, f"It was already approved by {by}, for this call only.")


def public_approval(record: ApprovalRecord) -> Approval:
    """The approval as the wire shows it."""
    return Approval(
        id=record.id,
        tool_call_id=record.tool_call_id,
        session_id=record.session_id,
        turn_id=record.turn_id,
        tool=record.tool,
        arguments=record.arguments,
        decided_arguments=record.decided_arguments,
        status=record.status,
        requested_by=record.requested_by,
        agent_id=record.agent_id,
        agent_version=record.agent_version,
        requested_at=record.requested_at,
        expires_at=record.expires_at,
        decided_by=record.decided_by,
        decided_at=record.decided_at,
        comment=record.comment,
        policy=record.policy,
        quorum=record.policy.quorum,
        votes=list(record.votes),
        for_session=record.for_session,
        reason=record.reason,
    )


def _invalid(field: str, message: str, code: ErrorCode = ErrorCode.VALIDATION_ERROR) -> AppError:
    return InvalidInput(code, message, errors=[{"field": field, "message": message}])
