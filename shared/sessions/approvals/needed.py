"""Which tool calls need an approval: the mode, the agent's floor and policy, the tool's own default.

Invariant: what the agent requires stands above the mode, which anyone who posts a message may choose.
"""

from __future__ import annotations

from shared.sessions.models import ApprovalMode
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.registry import Tool, ToolApproval, ToolRisk


def requires_approval(tool: Tool, plan: TurnPlan) -> bool:
    """Whether a call of this tool needs approval, before session grants are considered."""
    return _requires(tool, plan, plan.approval_mode.stricter(floor_of(tool, plan)))


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


def floor_reason(tool: Tool, plan: TurnPlan) -> str | None:
    """For the approver, why a call waits although the turn's mode alone would let it run; None where that is not so."""
    if _requires(tool, plan, plan.approval_mode) or not requires_approval(tool, plan):
        return None
    return (
        f"Approval floor: the agent {plan.agent_id or 'of this turn'} requires an approval for {tool.name}. The mode "
        f"“{plan.approval_mode}” of the session or the message does not change that."
    )


def _requires(tool: Tool, plan: TurnPlan, mode: ApprovalMode) -> bool:
    required = plan.policy_of(tool.name).required
    if required or mode is ApprovalMode.MANUAL:
        return True
    if mode is ApprovalMode.AUTO or required is False:
        return False
    return tool.approval is ToolApproval.MANUAL


def default_policy(tool: Tool) -> ApprovalPolicy:
    """The policy of a tool in mode `policy` when the agent sets none."""
    return DEFAULT_POLICY.model_copy(update={"required": tool.approval is ToolApproval.MANUAL})
