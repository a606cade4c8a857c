"""Validates a person's vote, and compares it with a decision already made. Pure functions.

Invariant: a vote names the digest of the exact arguments it is about, and those arguments fit the tool's schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.errors import AppError, Conflict, ErrorCode, Gone, InvalidInput
from shared.principal import Principal
from shared.sessions.approvals.deciders import progress, refusal_to_approve
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import bound_values, grant_of
from shared.sessions.approvals.models import Approval, NewDecision, ServersTool
from shared.sessions.approvals.rules.conditions import described
from shared.sessions.approvals.rules.demands import (
    Demands,
    counts_for,
    demands_of,
    key_of,
    requirements_of,
)
from shared.sessions.approvals.rules.in_force import (
    found_in,
    in_words,
    requirement_of,
)
from shared.sessions.mcp.pins import PinnedTool
from shared.sessions.models import ApprovalStatus, Decision, JsonObject
from shared.sessions.records.approvals import ApprovalRecord, VoteRecord
from shared.sessions.tools.kinds.client import client_tool
from shared.sessions.tools.kinds.pinned import pinned_tool
from shared.sessions.tools.registry import InvalidToolArguments, Tool, find_tool, validate_arguments
from shared.visible import revealed


def checked_vote(record: ApprovalRecord, body: NewDecision, voter: Principal, now: datetime) -> VoteRecord:
    """The vote of somebody who may decide, checked against the policy and the tool's schema.

    Changed arguments are judged by the policy's rules again: whoever approves them has to be one of those who may
    decide under each rule that holds for them only, and it takes as many as these require.
    Raises Conflict (their own request), InvalidInput (VALIDATION_ERROR, INVALID_TOOL_ARGS, TOOL_NOT_FOUND).
    """
    definition = None if record.pinned is None else record.pinned.digest
    asked = arguments_digest(record.tool, record.arguments, definition)
    # Compared by digest, not by equality: in Python 1 equals True.
    digest = asked if body.arguments is None else arguments_digest(record.tool, body.arguments, definition)
    if body.decision is Decision.REJECT:
        if digest != asked:
            raise _invalid("arguments", "A rejection takes no arguments.")
        if body.for_session:
            raise _invalid("for_session", "Only an approval can apply to the rest of the session.")
        return VoteRecord(body.decision, voter.user_id, digest, comment=body.comment)
    changed = None if digest == asked else body.arguments
    tool = _tool_of(record)
    refusal = refusal_to_approve(record, voter.user_id)
    if refusal is not None:
        raise Conflict(ErrorCode.CONFLICT, refusal)
    if body.for_session and not record.policy.allow_for_session:
        raise _invalid("for_session", "The policy of this tool requires approval of each call.")
    if changed is not None:
        if not record.policy.allow_changes:
            message = "The policy of this tool does not allow changed arguments."
            raise _invalid("arguments", message, ErrorCode.INVALID_TOOL_ARGS)
        if tool is None:
            raise InvalidInput(ErrorCode.TOOL_NOT_FOUND, f"The tool {record.tool!r} no longer exists.")
        try:
            validate_arguments(tool, changed)
        except InvalidToolArguments as exc:
            raise _invalid("arguments", str(exc), ErrorCode.INVALID_TOOL_ARGS) from None
    demands = demands_of(record, tool, changed)
    counts = counts_for(demands.requirements, record, voter, now)
    _check_added(record, demands, counts, voter)
    return VoteRecord(
        body.decision,
        voter.user_id,
        digest,
        changed,
        body.comment,
        body.for_session,
        _grant(record, demands, tool, changed) if body.for_session else "",
        counts,
        {key_of(one): one.quorum for one in demands.requirements},
    )


def _check_added(record: ApprovalRecord, demands: Demands, counts: Sequence[str], voter: Principal) -> None:
    """Raises InvalidInput, Conflict where rules that hold for changed arguments only do not let this person approve."""
    for rule in demands.added:
        if rule.name not in counts:
            raise _invalid(
                "arguments",
                f"For these arguments the rule “{rule.name}” holds: {described(rule.when)}. It takes"
                f" {in_words(requirement_of(rule))}, and you are not one of them.",
                ErrorCode.INVALID_TOOL_ARGS,
            )
        if rule.then.allow_changes is False:
            message = f"The rule “{rule.name}” holds for these arguments, and it does not allow changed ones."
            raise _invalid("arguments", message, ErrorCode.INVALID_TOOL_ARGS)
    refusal = refusal_to_approve(record, voter.user_id, demands.policy)
    if refusal is not None:
        raise Conflict(ErrorCode.CONFLICT, refusal)


def _grant(record: ApprovalRecord, demands: Demands, tool: Tool | None, changed: JsonObject | None) -> str:
    """Raises InvalidInput where these arguments give no grant."""
    values = bound_values(record.policy, tool, record.arguments if changed is None else changed)
    if changed is not None and record.policy.rules:
        holds = {found.rule.name for found in found_in(record.policy.rules, tool, changed) if found.holds}
        if holds != {one.rule for one in requirements_of(record)} - {None}:
            values = None  # the grant would be under another policy than the one that they saw
    if values is None:
        raise _invalid("for_session", "These arguments can be approved for this call only.")
    agent = record.agent_id, record.agent_version
    return grant_of(record.tool, record.policy, *agent, record.requested_by, values)


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
        asked_through=list(record.asked_through),
        requested_at=record.requested_at,
        expires_at=record.expires_at,
        decided_by=record.decided_by,
        decided_at=record.decided_at,
        comment=record.comment,
        policy=record.policy,
        quorum=record.policy.quorum,
        requirements=progress(record),
        votes=list(record.votes),
        for_session=record.for_session,
        reason=record.reason,
        definition=None if record.pinned is None else _shown(record.pinned),
    )


def _tool_of(record: ApprovalRecord) -> Tool | None:
    """As its turn means it; None: it is there no more."""
    if record.client_tool is not None:
        return client_tool(record.client_tool)
    return find_tool(record.tool) if record.pinned is None else pinned_tool(record.pinned)


def _shown(pinned: PinnedTool) -> ServersTool:
    definition = pinned.definition
    return ServersTool(
        server=pinned.server,
        url=pinned.url,
        tool=definition.name,
        digest=pinned.digest,
        title=None if definition.title is None else revealed(definition.title),
        description=revealed(definition.description),
        annotations=definition.annotations,
    )


def _invalid(field: str, message: str, code: ErrorCode = ErrorCode.VALIDATION_ERROR) -> AppError:
    return InvalidInput(code, message, errors=[{"field": field, "message": message}])
