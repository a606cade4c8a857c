"""Which tool calls need an approval: the policy, the mode, the tool's own default, grants of the session.

Invariant: a policy that requires an approval stands above the mode, which any poster of a message may choose.
"""

from __future__ import annotations

import hashlib

import orjson

from shared.sessions.models import ApprovalMode
from shared.sessions.records.approval_policy import DEFAULT_POLICY, ApprovalPolicy
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
