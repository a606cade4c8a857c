"""Why a tool call needs an approval: the mode, the agent's floor and policy with its rules, the tool's own default.

Invariant: what the agent requires stands above the mode, which anyone who posts a message may choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.sessions.approvals.rules.in_force import (
    InForce,
)
from shared.sessions.models import ApprovalMode
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.registry import Tool, ToolApproval, ToolRisk


class NeedSource(StrEnum):
    """What requires an approval."""

    POLICY = "policy"  # the agent's, for each call of the tool
    RULE = "rule"  # one of the policy's, by the arguments
    MODE = "mode"  # of the session or the message
    TOOL = "tool"  # its own default
    FLOOR = "floor"  # the agent's least strict mode for the tool
    RULE_OF_TWO = "rule_of_two"  # what the model has read (`containment.py`)


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that requires an approval. reason: in words."""

    source: NeedSource
    reason: str


def needs(tool: Tool, plan: TurnPlan, force: InForce) -> list[Need]:
    """Everything that requires an approval of a call, before grants and the rule of two are considered.

    force: the policy for the call's arguments (`rules/in_force.py`).
    """
    found: list[Need] = []
    policy, mode, floor = plan.policy_of(tool.name), plan.approval_mode, floor_of(tool, plan)
    by_tool = policy.required is None and tool.approval is ToolApproval.MANUAL
    if policy.required:
        found.append(Need(NeedSource.POLICY, f"The agent’s policy requires an approval of each call of {tool.name}."))
    found += [Need(NeedSource.RULE, rule.reason) for rule in force.held]
    if mode is ApprovalMode.MANUAL:
        found.append(Need(NeedSource.MODE, "In the mode “manual” every call waits."))
    if mode is ApprovalMode.POLICY and by_tool:
        found.append(Need(NeedSource.TOOL, f"{tool.name} needs an approval by default."))
    if mode.stricter(floor) is not mode and (floor is ApprovalMode.MANUAL or by_tool):
        told = (
            f"Approval floor: the agent {plan.agent_id or 'of this turn'} requires an approval for {tool.name}. The"
            f" mode “{mode}” of the session or the message does not change that."
        )
        found.append(Need(NeedSource.FLOOR, told))
    return found


def requires_approval(tool: Tool, plan: TurnPlan, force: InForce) -> bool:
    """Whether a call needs approval, before grants and the rule of two are considered."""
    return bool(needs(tool, plan, force))


def floor_reason(tool: Tool, plan: TurnPlan, force: InForce) -> str | None:
    """For the approver, why a call waits although the turn's mode alone would let it run; None where that is not so."""
    found = needs(tool, plan, force)
    return found[0].reason if [need.source for need in found] == [NeedSource.FLOOR] else None


def floor_of(tool: Tool, plan: TurnPlan) -> ApprovalMode:
    """The least strict mode for this tool's calls, whatever session and message say.

    An agent that sets none for a tool (each version from before there were floors) has the floor `policy` for tools
    with outside effects, and for those that need approval by default.
    """
    given = plan.approval_floor.get(tool.name)
    if given is not None:
        return given
    is_guarded = ToolRisk.ACTS_OUTWARD in tool.risks or tool.approval is ToolApproval.MANUAL
    return ApprovalMode.POLICY if is_guarded else ApprovalMode.AUTO


def default_policy(tool: Tool) -> ApprovalPolicy:
    """The policy of a tool in mode `policy` when the agent sets none."""
    return DEFAULT_POLICY.model_copy(update={"required": tool.approval is ToolApproval.MANUAL})
