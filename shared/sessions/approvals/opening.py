"""The approval that a tool call opens: under which policy, what it requires, and why. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from shared.sessions.approvals import containment
from shared.sessions.approvals.needed import floor_reason
from shared.sessions.approvals.rules.in_force import (
    in_force,
)
from shared.sessions.models import JsonObject
from shared.sessions.records.approval_policy import ApprovalPolicy, Containment, Requirement
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.of_plan import tool_of


@dataclass(frozen=True, slots=True)
class Opening:
    """What is frozen into an approval. requirements: of the rules that hold; none: what the policy says. reason: None
    where mode and policy say why the call waits."""

    policy: ApprovalPolicy
    requirements: tuple[Requirement, ...]
    reason: str | None
    told_of_containment: str | None = None
    """The part of it that the rule of two says."""


def opening(
    name: str,
    arguments: JsonObject,
    plan: TurnPlan,
    *,
    contained: bool,
    sources: frozenset[str],
    choice_bits: float,
) -> Opening:
    """contained, sources, choice_bits: as stored with the call (`ProposedCall`)."""
    tool = tool_of(name, plan)
    force = in_force(plan.policy_of(name), tool, arguments)
    policy, contained_by = force.policy, None
    if contained and plan.containment is not Containment.OFF:
        policy = containment.supervised(policy)
        contained_by = containment.reason(sources, plan, is_choice=choice_bits > 0)
    by_floor = None if tool is None or contained_by is not None else floor_reason(tool, plan, force)
    told = " ".join(filter(None, (contained_by, force.reason, by_floor)))
    return Opening(policy, force.requirements if force.held else (), told or None, contained_by)
