"""The rules of a policy that hold for one call, and what they require together. Pure functions.

A rule holds unless its condition is false (`conditions.py`). Rules that hold are met together: each has its own people
and quorum, and an approval by those of one rule does nothing for another. Where rules hold, silence is a no.

Invariant: the order of rules means nothing, and a call for which more of them hold never needs less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.sessions.approvals.rules.conditions import described, judged
from shared.sessions.records.approval_policy import (
    ApprovalPolicy,
    ApprovalRule,
    Requirement,
    SessionGrant,
    TimeoutAction,
    same_of,
)
from shared.sessions.tools.registry import InvalidToolArguments, Tool, validate_arguments


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """Whether a rule holds for a call. why: in words."""

    rule: ApprovalRule
    holds: bool
    why: str

    @property
    def reason(self) -> str:
        """For the approver of a call for which it holds."""
        return f"Rule “{self.rule.name}”: {self.why}. It takes {in_words(requirement_of(self.rule))}."


@dataclass(frozen=True, slots=True)
class InForce:
    """A policy for one call.

    policy: with what the rules that hold make of it. Its roles and users are all who may decide; its quorum is the
    largest. Its rules name their people and quorum in full, so that they can be judged again without the policy that
    they came from. requirements: all have to be met.
    """

    policy: ApprovalPolicy
    requirements: tuple[Requirement, ...]
    findings: tuple[RuleFinding, ...] = ()

    @property
    def held(self) -> tuple[RuleFinding, ...]:
        return tuple(found for found in self.findings if found.holds)

    @property
    def reason(self) -> str | None:
        """For the approver; None where no rule holds."""
        return " ".join(found.reason for found in self.held) or None


def in_force(policy: ApprovalPolicy, tool: Tool | None, arguments: Mapping[str, Any]) -> InForce:
    """An agent's policy for a call of its tool; without rules, the policy as it is."""
    if not policy.rules:
        return InForce(policy, (own_requirement(policy),))
    whole = policy.model_copy(update={"rules": [_whole(rule, policy) for rule in policy.rules]})
    findings = found_in(whole.rules, tool, arguments)
    held = [found.rule for found in findings if found.holds]
    if not held:
        return InForce(whole, (own_requirement(whole),), findings)
    requirements = tuple(requirement_of(rule) for rule in held)
    everyone = {
        "roles": list(dict.fromkeys(role for one in requirements for role in one.roles)),
        "users": list(dict.fromkeys(user for one in requirements for user in one.users)),
        "quorum": max(one.quorum for one in requirements),
    }
    return InForce(tightened(whole, held).model_copy(update=everyone), requirements, findings)


def found_in(rules: Sequence[ApprovalRule], tool: Tool | None, arguments: Mapping[str, Any]) -> tuple[RuleFinding, ...]:
    """What each rule comes to for a call."""
    run = arguments_as_run(tool, arguments)
    judgements = [(rule, judged(rule.when, run)) for rule in rules]
    return tuple(
        RuleFinding(rule, found.truth is not False, described(rule.when) if found.truth else found.why)
        for rule, found in judgements
    )


def arguments_as_run(tool: Tool | None, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the tool gets: converted, with its defaults. As they were written where the tool would not take them."""
    if tool is None:
        return arguments
    try:
        return validate_arguments(tool, arguments).model_dump(by_alias=True)
    except InvalidToolArguments:
        return arguments


def tightened(policy: ApprovalPolicy, rules: Iterable[ApprovalRule]) -> ApprovalPolicy:
    """The policy with all that rules require, but for who decides and how many. Unchanged without rules."""
    effects = [rule.then for rule in rules]
    if not effects:
        return policy
    waits = [effect.timeout_seconds for effect in effects if effect.timeout_seconds is not None]
    grants = policy.allow_for_session
    for effect in effects:
        grants = _both(grants, True if effect.allow_for_session is None else effect.allow_for_session)
    return policy.model_copy(
        update={
            "required": True,
            "forbid_self_approval": policy.forbid_self_approval
            or any(effect.forbid_self_approval for effect in effects),
            "allow_changes": policy.allow_changes and all(effect.allow_changes is None for effect in effects),
            "allow_for_session": grants,
            "timeout_seconds": min(waits, default=policy.timeout_seconds),
            "on_timeout": TimeoutAction.REJECT,
        }
    )


def own_requirement(policy: ApprovalPolicy) -> Requirement:
    """What the policy requires where no rule holds."""
    return Requirement(rule=None, roles=policy.roles, users=policy.users, quorum=policy.quorum)


def requirement_of(rule: ApprovalRule) -> Requirement:
    """rule: one that names its people and quorum in full."""
    return Requirement(rule=rule.name, roles=rule.then.roles, users=rule.then.users, quorum=rule.then.quorum or 1)


def in_words(requirement: Requirement) -> str:
    people = [*requirement.users, *(f"the role {role}" for role in requirement.roles)]
    count = "one person" if requirement.quorum == 1 else f"{requirement.quorum} people"
    return f"{count} of {' or '.join(people)}"


def _whole(rule: ApprovalRule, policy: ApprovalPolicy) -> ApprovalRule:
    """The rule with people and quorum of its own: the policy's where it names none, and never a smaller quorum."""
    then = rule.then
    names_people = bool(then.roles or then.users)
    effect = then.model_copy(
        update={
            "roles": then.roles if names_people else policy.roles,
            "users": then.users if names_people else policy.users,
            "quorum": max(policy.quorum, then.quorum or 1),
        }
    )
    return rule.model_copy(update={"then": effect})


def _both(one: bool | SessionGrant, other: bool | SessionGrant) -> bool | SessionGrant:
    """A grant that holds for no more than either."""
    if one is False or other is False:
        return False
    same = list(dict.fromkeys([*same_of(one), *same_of(other)]))
    return SessionGrant(same=same) if same else True
