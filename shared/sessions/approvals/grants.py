"""Grants: "approve this tool for the rest of the session", and what they hold for. Pure functions.

Invariant: a grant holds for one tool of one version of one agent, under one policy with the same rules holding, for the
argument values that the policy binds, in turns that run for one person. Whatever else is stored holds for nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import orjson

from shared.sessions.approvals.rules.conditions import values_at
from shared.sessions.approvals.rules.in_force import (
    InForce,
    arguments_as_run,
)
from shared.sessions.records.approval_policy import ApprovalPolicy, same_of
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.registry import Tool


def is_granted(
    tool: Tool,
    arguments: Mapping[str, Any],
    plan: TurnPlan,
    force: InForce,
    requested_by: str,
    granted_tools: frozenset[str],
) -> bool:
    """Whether a call is allowed by a grant of its session. requested_by: the user that its turn runs for."""
    if tool.name in plan.client_tools:
        return False  # another message may mean something else by that name
    policy = force.policy
    if not policy.allow_for_session or not granted_tools:
        return False
    values = bound_values(policy, tool, arguments)
    if values is None:
        return False
    return grant_of(tool.name, policy, plan.agent_id, plan.agent_version, requested_by, values) in granted_tools


def bound_values(policy: ApprovalPolicy, tool: Tool | None, arguments: Mapping[str, Any]) -> list[Any] | None:
    """The values of the arguments that the policy binds a grant to; None: cannot be told, so there is no grant."""
    same = same_of(policy.allow_for_session)
    run = arguments_as_run(tool, arguments) if same else {}
    found = [values_at(argument, run) for argument in same]
    return None if any(values is None for values in found) else found


def grant_of(
    tool: str,
    policy: ApprovalPolicy,
    agent_id: str | None,
    agent_version: int | None,
    requested_by: str,
    values: list[Any] | None = None,
) -> str:
    """The grant as it is stored: the tool's name and a SHA-256 of all that it holds for.

    policy: in force for the call (`rules/in_force.py`). values: from `bound_values`. Plans from before agents were data
    name no agent; their grants hold for each other only.
    """
    rules = policy.model_dump(mode="json", exclude_defaults=True)
    bound: list[Any] = [tool, agent_id, agent_version, requested_by, rules]
    if values:
        # As text: a grant for 5 is none for 5.0, and whole numbers may be longer than JSON encoders take.
        bound.append(json.dumps(values, sort_keys=True))
    return f"{tool}:{hashlib.sha256(orjson.dumps(bound, option=orjson.OPT_SORT_KEYS)).hexdigest()}"
