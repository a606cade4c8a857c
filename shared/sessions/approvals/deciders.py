"""The meaning of an approval policy: which calls wait, who may decide and when, and how votes count. Pure functions.

Invariant: everything here fails closed. Only people the policy names may decide, and what it does not allow is refused.
Escalation takes effect at its time, whether or not the notice was delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import orjson

from shared.principal import Principal, Role
from shared.sessions.approvals.notices import NoticeSchedule
from shared.sessions.models import ApprovalMode, Decision, JsonObject
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy
from shared.sessions.records.approvals import ApprovalRecord, Vote
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.registry import Tool, ToolApproval


def requires_approval(tool: Tool, plan: TurnPlan) -> bool:
    """Whether a call of this tool needs approval, before session grants are considered.

    A policy that requires approval overrides the mode, since anyone who posts a message may choose the mode.
    """
    required = plan.policy_of(tool.name).required
    if required or plan.approval_mode is ApprovalMode.MANUAL:
        return True
    if plan.approval_mode is ApprovalMode.AUTO or required is False:
        return False
    return tool.approval is ToolApproval.MANUAL


def default_policy(tool: Tool) -> ApprovalPolicy:
    """The policy of a tool in mode `policy` when the agent sets none."""
    return DEFAULT_POLICY.model_copy(update={"required": tool.approval is ToolApproval.MANUAL})


def is_granted(tool: str, plan: TurnPlan, granted_tools: frozenset[str]) -> bool:
    """Whether the tool was approved for the rest of the session, under the same policy as this turn's."""
    policy = plan.policy_of(tool)
    return policy.allow_for_session and grant_of(tool, policy) in granted_tools


def grant_of(tool: str, policy: ApprovalPolicy) -> str:
    """The grant stored when a tool is approved for the rest of a session: tool name and a hash of the policy.

    A grant under one policy is not valid under another, such as another agent's or a later version's.
    """
    rules = orjson.dumps(policy.model_dump(mode="json", exclude_defaults=True), option=orjson.OPT_SORT_KEYS)
    return f"{tool}:{hashlib.sha256(rules).hexdigest()[:32]}"


def timeout_seconds(policy: ApprovalPolicy, plan: TurnPlan) -> int:
    """Seconds that an approval waits."""
    return plan.approval_timeout_seconds if policy.timeout_seconds is None else policy.timeout_seconds


def escalates_at(policy: ApprovalPolicy, requested_at: datetime) -> datetime | None:
    """When the escalation role may decide too; None: never."""
    if policy.escalate_after_seconds is None:
        return None
    return requested_at + timedelta(seconds=policy.escalate_after_seconds)


def notice_schedule(record: ApprovalRecord) -> NoticeSchedule:
    """When reminders and the escalation notice are sent."""
    every = timedelta(seconds=record.policy.reminder_seconds or 0)
    return NoticeSchedule(
        record.expires_at,
        record.requested_at + every if every else None,
        every,
        escalates_at(record.policy, record.requested_at),
    )


def deciding_roles(record: ApprovalRecord, now: datetime) -> list[Role]:
    """Roles whose holders may decide at `now`."""
    roles = list(record.policy.roles)
    at = escalates_at(record.policy, record.requested_at)
    if at is not None and at <= now and record.policy.escalation_role is not None:
        roles.append(record.policy.escalation_role)
    return roles


def may_decide(record: ApprovalRecord, principal: Principal, now: datetime) -> bool:
    """Whether the caller may decide at all; `refusal_to_approve` may still forbid them to approve."""
    if principal.user_id in record.policy.users:
        return True
    return any(role in principal.roles for role in deciding_roles(record, now))


def may_see(record: ApprovalRecord, principal: Principal, now: datetime) -> bool:
    """Deciders, and the session's owner and participants."""
    return may_decide(record, principal, now) or record.owner_id == principal.user_id or record.participates


def refusal_to_approve(record: ApprovalRecord, user_id: str) -> str | None:
    """Why somebody who may decide may not approve, safe to show; None when they may."""
    if record.policy.forbid_self_approval and record.requested_by == user_id:
        return "You requested this call: somebody else has to approve it. You may reject it."
    return None


def approvals_so_far(tool: str, arguments: JsonObject, votes: Sequence[Vote]) -> int:
    """The largest number of people who approve the same arguments. arguments: the requested ones."""
    digests = [
        arguments_digest(tool, arguments if vote.arguments is None else vote.arguments)
        for vote in votes
        if vote.decision is Decision.APPROVE
    ]
    return max(map(digests.count, digests), default=0)


def arguments_digest(tool: str, arguments: JsonObject) -> str:
    """SHA-256 over tool name and canonical JSON (sorted keys, whole numbers as integers), hex."""
    canonical = orjson.dumps([tool, _canonical(arguments)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _canonical(value: object) -> object:
    """JSON as a jsonb column returns it: the column keeps a number's value, not its notation."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        # From the shortest decimal form, which is what the database receives, not from the binary value.
        whole = int(Decimal(repr(value)))
        return whole if -(2**63) <= whole < 2**64 else value
    return value
