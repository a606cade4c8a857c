"""What approving a call takes, for the requested arguments and for changed ones, and for what a person's vote counts.

Invariant: what an approval requires is frozen when it is opened. Changed arguments can only add to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from shared.principal import Principal
from shared.sessions.approvals.rules.in_force import found_in, own_requirement, requirement_of, tightened
from shared.sessions.approvals.timing import escalates_at
from shared.sessions.models import JsonObject
from shared.sessions.records.approval_policy import ApprovalPolicy, ApprovalRule, Requirement
from shared.sessions.records.approvals import ApprovalRecord
from shared.sessions.tools.registry import Tool


def requirements_of(record: ApprovalRecord) -> tuple[Requirement, ...]:
    """What an approval requires, as frozen when it was opened."""
    return record.requirements or (own_requirement(record.policy),)


@dataclass(frozen=True, slots=True)
class Demands:
    """What approving certain arguments takes. added: rules that hold for them and not for the requested ones."""

    policy: ApprovalPolicy
    requirements: tuple[Requirement, ...]
    added: tuple[ApprovalRule, ...] = ()


def demands_of(record: ApprovalRecord, tool: Tool | None, changed: JsonObject | None) -> Demands:
    """changed: the arguments that an approver wants instead of the requested ones; None: those."""
    frozen = requirements_of(record)
    if changed is None or not record.policy.rules:
        return Demands(record.policy, frozen)
    names = {requirement.rule for requirement in frozen}
    found = found_in(record.policy.rules, tool, changed)
    added = tuple(one.rule for one in found if one.holds and one.rule.name not in names)
    requirements = (*frozen, *(requirement_of(rule) for rule in added))
    return Demands(tightened(record.policy, added), requirements, added)


def counts_for(
    requirements: Iterable[Requirement], record: ApprovalRecord, voter: Principal, now: datetime
) -> list[str]:
    """The requirements (`key_of`) that a person's approval counts for. The escalation role counts for each, once it is
    its time."""
    at = escalates_at(record.policy, record.requested_at)
    stands_in = at is not None and at <= now and record.policy.escalation_role in voter.roles
    return [
        key_of(one)
        for one in requirements
        if stands_in or voter.user_id in one.users or any(role in voter.roles for role in one.roles)
    ]


def key_of(requirement: Requirement) -> str:
    """Its name in stored votes: the rule's, empty for the policy's own. No rule has an empty name."""
    return requirement.rule or ""
