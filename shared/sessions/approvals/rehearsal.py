"""What would happen to a tool call, and why, without a turn. Pure functions.

Invariant: there is no second opinion here. Whether the call would wait comes from the function that proposes a turn's
calls, and what its approval would be from the one that opens it; this module only puts both into words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import orjson
from pydantic import Field, StringConstraints

from shared.sessions.approvals import containment
from shared.sessions.approvals.needed import Need, NeedSource, needs
from shared.sessions.approvals.opening import Opening, opening
from shared.sessions.approvals.proposals import Standing, propose
from shared.sessions.approvals.rules.in_force import (
    in_force,
    own_requirement,
)
from shared.sessions.approvals.timing import timeout_seconds
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import ApprovalMode, SentJson, Value
from shared.sessions.records.approval_policy import ApprovalPolicy, Containment, Requirement, TimeoutAction
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.steps import ProposedCall
from shared.sessions.tools.of_plan import tool_of
from shared.sessions.tools.registry import Tool


class CallToTest(Value):
    """A tool call, and what a conversation would hold when the model made it."""

    tool: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    arguments: SentJson = Field({})
    approval_mode: ApprovalMode | None = Field(None, description="Of session and message; null: the agent's default")
    has_untrusted: bool = Field(False, description="The model has read untrusted input")
    has_private: bool = Field(False, description="The model has read private data")


class PolicyDecision(StrEnum):
    RUNS = "runs"  # at once, without a person
    WAITS = "waits"  # for an approval
    REFUSED = "refused"  # it cannot run: there is no such tool, or it does not take the arguments


class RequiredBy(Value):
    """One thing that requires the approval."""

    source: NeedSource
    reason: str


class RuleResult(Value):
    """A rule of the policy, and whether it holds for the call."""

    name: str
    matched: bool
    why: str = Field(description="Its condition, or why that cannot be told")


class PolicyTest(Value):
    """What would happen to a tool call. Grants of a session are not considered."""

    decision: PolicyDecision
    error: str | None = Field(None, description="Why the call is refused")
    required_by: list[RequiredBy] = Field(description="Everything that requires the approval; empty if it runs")
    requirements: list[Requirement] = Field(description="What approving it takes; all have to be met")
    quorum: int | None = Field(None, description="The largest of `requirements`; null unless it waits, like the rest")
    roles: list[str] = Field(description="All roles whose holders may decide")
    users: list[str] = Field(description="All users who may decide, beside these roles")
    timeout_seconds: int | None = None
    on_timeout: TimeoutAction | None = None
    reason: str | None = Field(None, description="What approvers read, where mode and policy do not say why it waits")
    policy: ApprovalPolicy | None = Field(None, description="As it would be frozen into the approval")
    rules: list[RuleResult]


def rehearsed(call: CallToTest, plan: TurnPlan) -> PolicyTest:
    """plan: of a turn as it would be posted now (`agents/agent.py`), in the mode that the call names."""
    sources = _sources(call)
    proposed = _proposed(call, plan, sources)
    tool = tool_of(call.tool, plan)
    if proposed.argument_error is not None or tool is None:
        return _answer(PolicyDecision.REFUSED, call, plan, error=proposed.argument_error)
    if not proposed.needs_approval:
        return _answer(PolicyDecision.RUNS, call, plan)
    opens = opening(
        proposed.name,
        proposed.arguments,
        plan,
        contained=proposed.contained,
        sources=sources,
        choice_bits=proposed.choice_bits,
    )
    return _answer(PolicyDecision.WAITS, call, plan, opens=opens, required_by=_required_by(tool, plan, proposed, opens))


def _proposed(call: CallToTest, plan: TurnPlan, sources: frozenset[str]) -> ProposedCall:
    written = ModelToolCall("call", call.tool, orjson.dumps(call.arguments).decode())
    return propose(written, 0, plan, Standing(sources=sources))


def _sources(call: CallToTest) -> frozenset[str]:
    told = {containment.PEOPLE: call.has_untrusted, containment.PRIVATE_DATA: call.has_private}
    return frozenset(source for source, is_read in told.items() if is_read)


def _required_by(tool: Tool, plan: TurnPlan, proposed: ProposedCall, opens: Opening) -> list[Need]:
    found = needs(tool, plan, in_force(plan.policy_of(tool.name), tool, proposed.arguments))
    if proposed.contained and plan.containment is not Containment.OFF:
        found.append(Need(NeedSource.RULE_OF_TWO, opens.told_of_containment or ""))
    return found


def _answer(
    decision: PolicyDecision,
    call: CallToTest,
    plan: TurnPlan,
    *,
    error: str | None = None,
    opens: Opening | None = None,
    required_by: list[Need] | None = None,
) -> PolicyTest:
    findings = in_force(plan.policy_of(call.tool), tool_of(call.tool, plan), call.arguments).findings
    waits: dict[str, Any] = {}
    if opens is not None:
        waits = {
            "requirements": list(opens.requirements) or [own_requirement(opens.policy)],
            "quorum": opens.policy.quorum,
            "roles": opens.policy.roles,
            "users": opens.policy.users,
            "timeout_seconds": timeout_seconds(opens.policy, plan),
            "on_timeout": opens.policy.on_timeout,
            "reason": opens.reason,
            "policy": opens.policy,
        }
    return PolicyTest(
        decision=decision,
        error=error,
        required_by=[RequiredBy(source=need.source, reason=need.reason) for need in required_by or ()],
        rules=[RuleResult(name=found.rule.name, matched=found.holds, why=found.why) for found in findings],
        **{"requirements": [], "roles": [], "users": []} | waits,
    )
