"""Who may see and decide an approval, from when on, and how votes count. Pure functions, without a store or a clock.

Invariant: everything here fails closed. Only people the policy names may decide, and what it does not allow is refused.
Escalation takes effect at its time, whether or not the notice was delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.principal import Principal
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.models import RequirementProgress
from shared.sessions.approvals.rules.demands import (
    key_of,
    requirements_of,
)
from shared.sessions.approvals.timing import escalates_at
from shared.sessions.models import Decision, JsonObject
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.approvals import ApprovalRecord, Vote


def deciding_roles(record: ApprovalRecord, now: datetime) -> list[str]:
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
    return may_decide(record, principal, now) or is_in_session(record, principal)


def is_in_session(record: ApprovalRecord, principal: Principal) -> bool:
    """Whether the caller may read the session. record: as it was read for the caller."""
    return record.owner_id == principal.user_id or record.participates


def refusal_to_approve(record: ApprovalRecord, user_id: str, policy: ApprovalPolicy | None = None) -> str | None:
    """Why somebody who may decide may not approve, safe to show; None when they may.

    policy: for the arguments that they would approve, if these are not the requested ones.
    """
    if (policy or record.policy).forbid_self_approval and record.requested_by == user_id:
        return "You requested this call: somebody else has to approve it. You may reject it."
    return None


def approvals_so_far(tool: str, arguments: JsonObject, votes: Sequence[Vote]) -> int:
    """The largest number of people who approve the same arguments. arguments: the requested ones."""
    return max(map(len, _yes_by_digest(tool, arguments, votes).values()), default=0)


def progress(record: ApprovalRecord) -> list[RequirementProgress]:
    """What an approval requires, and how many have approved for each: the arguments that most approve."""
    votes = max(_yes_by_digest(record.tool, record.arguments, record.votes).values(), key=len, default=[])
    return [
        RequirementProgress(
            rule=one.rule,
            roles=one.roles,
            users=one.users,
            quorum=one.quorum,
            approvals=sum(key_of(one) in (vote.counts_for or [""]) for vote in votes),
        )
        for one in requirements_of(record)
    ]


def _yes_by_digest(tool: str, arguments: JsonObject, votes: Sequence[Vote]) -> dict[str, list[Vote]]:
    found: dict[str, list[Vote]] = {}
    for vote in votes:
        if vote.decision is Decision.APPROVE:
            digest = arguments_digest(tool, arguments if vote.arguments is None else vote.arguments)
            found.setdefault(digest, []).append(vote)
    return found
