"""Grants: "approve this tool for the rest of the session", and what they hold for. Pure functions.

Invariant: a grant holds for one tool of one version of one agent, under one policy, in turns that run for one person.
Whatever else is stored holds for nothing.
"""

from __future__ import annotations

import hashlib

import orjson

from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.plan import TurnPlan


def is_granted(tool: str, plan: TurnPlan, requested_by: str, granted_tools: frozenset[str]) -> bool:
    """Whether a call is allowed by a grant of its session. requested_by: the user that its turn runs for."""
    policy = plan.policy_of(tool)
    if not policy.allow_for_session:
        return False
    return grant_of(tool, policy, plan.agent_id, plan.agent_version, requested_by) in granted_tools


def grant_of(
    tool: str, policy: ApprovalPolicy, agent_id: str | None, agent_version: int | None, requested_by: str
) -> str:
    """The grant as it is stored: the tool's name and a SHA-256 of all that it holds for.

    Plans from before agents were data name no agent; their grants hold for each other only.
    """
    rules = policy.model_dump(mode="json", exclude_defaults=True)
    bound = orjson.dumps([tool, agent_id, agent_version, requested_by, rules], option=orjson.OPT_SORT_KEYS)
    return f"{tool}:{hashlib.sha256(bound).hexdigest()}"
