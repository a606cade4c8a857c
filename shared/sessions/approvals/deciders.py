"""Who may see and decide an approval, from when on, and how votes count. Pure functions, without a store or a clock.

Invariant: everything here fails closed. Only people the policy names may decide, and what it does not allow is refused.
Escalation takes effect at its time, whether or not the notice was delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.principal import Principal, Role
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.timing import escalates_at
from shared.sessions.models import Decision, JsonObject
from shared.sessions.records.approvals import ApprovalRecord, Vote


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
