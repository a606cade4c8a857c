"""Testing a policy: it says what a turn does, since both ask the same functions."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, plan_as_posted, plan_turn
from shared.sessions.approvals import containment
from shared.sessions.approvals.opening import opening
from shared.sessions.approvals.proposals import Standing, propose_all
from shared.sessions.approvals.rehearsal import CallToTest, PolicyDecision, PolicyTest, rehearsed
from shared.sessions.approvals.timing import timeout_seconds
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import ApprovalMode, SessionConfig
from shared.sessions.records.approval_policy import ApprovalPolicy, Containment
from shared.sessions.records.plan import TurnPlan

_CONDITIONS = st.recursive(
    st.sampled_from(
        [
            {"argument": "body", "matches": "^[0-9]{4,}$"},
            {"argument": "body", "exists": False},
            {"argument": "url", "part": "host", "one_of": ["a.test", "b.test"]},
            {"argument": "method", "eq": "POST"},
            {"argument": "amount", "gt": 5},
        ]
    ),
    lambda inner: st.sampled_from(["all_of", "any_of", "none_of"]).flatmap(
        lambda word: st.fixed_dictionaries({word: st.lists(inner, min_size=1, max_size=2)})
    ),
    max_leaves=3,
)
_THEN = st.fixed_dictionaries(
    {},
    optional={
        "roles": st.just(["finance"]) | st.just(["legal", "admin"]),
        "quorum": st.integers(1, 3),
        "timeout_seconds": st.integers(1, 60),
        "allow_for_session": st.just(False),
    },
)
_POLICIES = st.fixed_dictionaries(
    {"rules": st.lists(st.fixed_dictionaries({"when": _CONDITIONS, "then": _THEN}), max_size=3)},
    optional={
        "required": st.none() | st.booleans(),
        "quorum": st.integers(1, 3),
        "on_timeout": st.sampled_from(["approve", "reject"]),
        "timeout_seconds": st.integers(1, 60),
        "users": st.just(["zoe"]),
    },
)
_ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["GET", "POST", "post", 1]),
        "url": st.sampled_from(["https://a.test/", "http://c.test:8080/x", "nowhere"]),
        "body": st.sampled_from(["900", "5000", "\uff15\uff10\uff10\uff10"]) | st.none(),
        "amount": st.integers(0, 9),
    },
)


def _agent(policy: dict[str, Any], **fields: Any) -> Agent:
    rules = [rule | {"name": f"rule {n}"} for n, rule in enumerate(policy["rules"])]
    parsed = ApprovalPolicy.model_validate(policy | {"rules": rules})
    return DEFAULT_AGENT.model_copy(update={"policies": {"http_request": parsed, "calculate": parsed}} | fields)


@given(
    policy=_POLICIES,
    tool=st.sampled_from(["http_request", "calculate", "fetch_url", "no_such_tool"]),
    arguments=_ARGUMENTS | st.just({"expression": "1 + 1"}) | st.just({"url": "https://a.test/"}),
    mode=st.none() | st.sampled_from(ApprovalMode),
    floor=st.sampled_from(ApprovalMode),
    rule_of_two=st.sampled_from(Containment),
    read=st.tuples(st.booleans(), st.booleans()),
)
def test_a_rehearsal_says_what_the_turn_does(
    policy: dict[str, Any],
    tool: str,
    arguments: dict[str, Any],
    mode: ApprovalMode | None,
    floor: ApprovalMode,
    rule_of_two: Containment,
    read: tuple[bool, bool],
) -> None:
    agent = _agent(policy, approval_floor={"http_request": floor}, containment=rule_of_two)
    call = CallToTest(tool=tool, arguments=arguments, has_untrusted=read[0], has_private=read[1])

    told = rehearsed(call, plan_as_posted(agent, mode))

    # As a turn does it: the plan comes from the store, the model writes text, the approval opens with what was stored.
    stored = plan_turn(agent, SessionConfig(), model="any", approval_mode=mode).stored()
    plan = TurnPlan.model_validate_json(orjson.dumps(stored))
    sources = frozenset(
        [containment.PEOPLE] * read[0] + [containment.PRIVATE_DATA] * read[1],
    )
    [made] = propose_all([ModelToolCall("c", tool, orjson.dumps(arguments).decode())], plan, Standing(sources=sources))
    decision = PolicyDecision.RUNS
    if made.argument_error is not None:
        decision = PolicyDecision.REFUSED
    elif made.needs_approval:
        decision = PolicyDecision.WAITS
    assert (told.decision, told.error) == (decision, made.argument_error)
    assert bool(told.required_by) is (decision is PolicyDecision.WAITS)
    if decision is PolicyDecision.WAITS:
        opens = opening(
            made.name,
            made.arguments,
            plan,
            contained=made.contained,
            sources=sources,
            choice_bits=made.choice_bits,
        )
        assert told.policy == opens.policy
        assert tuple(told.requirements) == opens.requirements or [one.rule for one in told.requirements] == [None]
        assert (told.reason, told.timeout_seconds) == (opens.reason, timeout_seconds(opens.policy, plan))
        assert (told.roles, told.users, told.quorum) == (opens.policy.roles, opens.policy.users, opens.policy.quorum)


LARGE = {
    "name": "Large refund",
    "when": {"argument": "body", "matches": "^[0-9]{4,}$"},
    "then": {"roles": ["finance"], "quorum": 2},
}
SEND = {"method": "POST", "url": "https://a.test/", "body": "5000"}


def _told(policy: dict[str, Any], mode: ApprovalMode, floor: ApprovalMode | None = None, **fields: Any) -> PolicyTest:
    agent = DEFAULT_AGENT.model_copy(
        update={
            "policies": {"http_request": ApprovalPolicy.model_validate(policy)},
            "approval_floor": {} if floor is None else {"http_request": floor},
        }
    )
    call = CallToTest.model_validate({"tool": "http_request", "arguments": SEND} | fields)
    return rehearsed(call, plan_as_posted(agent, mode))


@pytest.mark.parametrize(
    ("policy", "mode", "floor", "fields", "sources"),
    [
        ({"required": False}, ApprovalMode.POLICY, ApprovalMode.AUTO, {}, []),
        ({}, ApprovalMode.POLICY, None, {}, ["tool"]),
        ({}, ApprovalMode.AUTO, None, {}, ["floor"]),
        ({"required": False}, ApprovalMode.AUTO, ApprovalMode.MANUAL, {}, ["floor"]),
        ({"required": False}, ApprovalMode.MANUAL, None, {}, ["mode"]),
        ({"required": True}, ApprovalMode.AUTO, None, {}, ["policy"]),
        ({"required": False, "rules": [LARGE]}, ApprovalMode.AUTO, ApprovalMode.AUTO, {}, ["rule"]),
        ({"required": False}, ApprovalMode.POLICY, ApprovalMode.AUTO, {"has_untrusted": True}, ["rule_of_two"]),
        ({"required": False}, ApprovalMode.POLICY, ApprovalMode.AUTO, {"has_private": True}, []),
    ],
    ids=str,
)
def test_it_names_what_requires_the_approval(
    policy: dict[str, Any], mode: ApprovalMode, floor: ApprovalMode | None, fields: dict[str, Any], sources: list[str]
) -> None:
    told = _told(policy, mode, floor, **fields)

    assert [need.source.value for need in told.required_by] == sources
    assert told.decision is (PolicyDecision.WAITS if sources else PolicyDecision.RUNS)


def test_it_says_of_each_rule_whether_it_holds_and_why() -> None:
    other = {"name": "Abroad", "when": {"argument": "url", "part": "host", "ne": "a.test"}}
    told = _told({"rules": [LARGE, other]}, ApprovalMode.POLICY)

    assert [(rule.name, rule.matched, rule.why) for rule in told.rules] == [
        ("Large refund", True, "body matches ^[0-9]{4,}$"),
        ("Abroad", False, "host of url is not “a.test”"),
    ]
    assert [(one.rule, one.roles, one.quorum) for one in told.requirements] == [("Large refund", ["finance"], 2)]
