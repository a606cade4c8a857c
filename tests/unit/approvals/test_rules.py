"""Rules of a policy: what they require of which arguments, and that no order, change or grant gets around them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import StringConstraints, ValidationError

from shared.errors import AppError, ErrorCode
from shared.principal import Principal, Role
from shared.sessions.agents.agent import DEFAULT_AGENT, plan_turn
from shared.sessions.approvals.deciders import may_decide
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.grants import bound_values, grant_of, is_granted
from shared.sessions.approvals.models import NewDecision
from shared.sessions.approvals.needed import NeedSource, needs
from shared.sessions.approvals.opening import opening
from shared.sessions.approvals.proposals import Standing, propose
from shared.sessions.approvals.rules.in_force import (
    in_force,
)
from shared.sessions.approvals.voting import checked_vote, public_approval
from shared.sessions.events import EventTarget
from shared.sessions.llm.conversation import ModelToolCall
from shared.sessions.models import ApprovalMode, ApprovalStatus, Decision, JsonObject, SessionConfig
from shared.sessions.records.approval_policy import ApprovalPolicy, TimeoutAction, fault_of
from shared.sessions.records.approvals import ApprovalRecord
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.registry import ToolArguments, ToolContext, ToolOutput, get_tool, tool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = get_tool("http_request")
SMALL: JsonObject = {"method": "POST", "url": "https://api.test/refunds", "body": "900"}
LARGE = SMALL | {"body": "5000"}

# `http_request` has no amount; its body stands for one: four digits and more are a large sum.
LARGE_SUM: JsonObject = {
    "name": "Large refund",
    "when": {"argument": "body", "matches": "^[0-9]{4,}$"},
    "then": {"roles": ["finance"], "quorum": 2},
}
ABROAD: JsonObject = {
    "name": "Abroad",
    "when": {"argument": "url", "part": "host", "ne": "api.test"},
    "then": {"roles": ["legal"], "forbid_self_approval": True},
}


class RefundArguments(ToolArguments):
    amount: int = 2000
    currency: Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True)] = "EUR"


@tool(idempotent=False)
async def refund(arguments: RefundArguments, call: ToolContext) -> ToolOutput:
    """Pay somebody back."""
    raise NotImplementedError


def _policy(*rules: JsonObject, **fields: Any) -> ApprovalPolicy:
    return ApprovalPolicy.model_validate(fields | {"rules": list(rules)})


def _plan(policy: ApprovalPolicy, mode: ApprovalMode = ApprovalMode.AUTO, floor: str = "auto") -> TurnPlan:
    plan = plan_turn(DEFAULT_AGENT, SessionConfig(), model="m", approval_mode=mode)
    floors = {"http_request": ApprovalMode(floor)}
    return plan.model_copy(update={"policies": {"http_request": policy}, "approval_floor": floors})


def _who(name: str, *roles: str) -> Principal:
    return Principal(name, frozenset({Role.USER.value, *roles}))


def _opened(policy: ApprovalPolicy, arguments: JsonObject = SMALL, requested_by: str = "ann") -> ApprovalRecord:
    """The approval that a call opens, as it comes back from the store."""
    opened = opening("http_request", arguments, _plan(policy), contained=False, sources=frozenset(), choice_bits=0.0)
    return ApprovalRecord(
        id="a1",
        tool_call_id="c1",
        session_id="s1",
        turn_id="t1",
        tool="http_request",
        arguments=arguments,
        arguments_digest=arguments_digest("http_request", arguments),
        decided_arguments=None,
        status=ApprovalStatus.PENDING,
        requested_by=requested_by,
        requested_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        decided_by=None,
        decided_at=None,
        comment=None,
        instance_id="t1:c1",
        target=EventTarget("s1", 0, 10),
        policy=ApprovalPolicy.model_validate_json(opened.policy.model_dump_json()),
        requirements=opened.requirements,
        reason=opened.reason,
        agent_id="assistant",
        agent_version=1,
    )


def _vote(record: ApprovalRecord, who: Principal, changed: JsonObject | None = None, **fields: Any) -> Any:
    return checked_vote(record, NewDecision(decision=Decision.APPROVE, arguments=changed, **fields), who, NOW)


class TestWhatRulesRequire:
    def test_a_call_for_which_no_rule_holds_follows_the_policy(self) -> None:
        policy = _policy(LARGE_SUM, required=False)
        force = in_force(policy, REQUEST, SMALL)

        assert needs(REQUEST, _plan(policy), force) == []
        assert (force.requirements[0].rule, force.policy.roles) == (None, ["approver"])

    @pytest.mark.parametrize("mode", list(ApprovalMode))
    def test_a_rule_that_holds_requires_an_approval_whatever_mode_and_policy_say(self, mode: ApprovalMode) -> None:
        policy = _policy(LARGE_SUM, required=False, on_timeout="approve", roles=["approver"], users=["zoe"])
        found = needs(REQUEST, _plan(policy, mode), force := in_force(policy, REQUEST, LARGE))

        assert NeedSource.RULE in [need.source for need in found]
        assert (force.policy.roles, force.policy.users, force.policy.quorum) == (["finance"], [], 2)
        assert force.policy.on_timeout is TimeoutAction.REJECT, "silence is a no"
        assert force.reason == "Rule “Large refund”: body matches ^[0-9]{4,}$. It takes 2 people of the role finance."

    def test_a_rule_without_people_of_its_own_takes_the_policys_and_never_fewer(self) -> None:
        rule = {"name": "r", "when": {"argument": "body", "exists": True}, "then": {"quorum": 1}}
        requirement = in_force(_policy(rule, quorum=3, users=["zoe"]), REQUEST, SMALL).requirements[0]

        assert (requirement.roles, requirement.users, requirement.quorum) == (["approver"], ["zoe"], 3)

    @pytest.mark.parametrize("arguments", [{}, {"body": None}, {"body": "\uff15\uff10\uff10\uff10"}, {"body": 5000}])
    def test_arguments_that_cannot_be_told_take_the_stricter_branch(self, arguments: JsonObject) -> None:
        force = in_force(_policy(LARGE_SUM, required=False), REQUEST, arguments)

        assert [rule.rule.name for rule in force.held] == ["Large refund"]
        assert "cannot be told" in (force.reason or "")

    @pytest.mark.parametrize(
        ("arguments", "holds"),
        [
            ({"amount": "5000"}, True),  # the tool takes the text as a number
            ({"amount": "500"}, False),
            ({"amount": 5000.0}, True),
            ({"amount": "5000,00"}, True),  # the tool does not take it at all
            ({}, True),  # the tool's default is 2000
            ({"amount": 1, "currency": " usd "}, True),  # the tool reads it as USD
            ({"amount": 1, "currency": "eur"}, False),
        ],
        ids=str,
    )
    def test_what_is_judged_is_what_the_tool_gets_and_not_how_it_was_written(
        self, arguments: JsonObject, holds: bool
    ) -> None:
        policy = _policy(
            {"name": "Large", "when": {"argument": "amount", "gt": 1000}},
            {"name": "Foreign", "when": {"argument": "currency", "ne": "EUR"}},
        )
        assert bool(in_force(policy, refund, arguments).held) is holds

    def test_rules_that_hold_together_are_met_together_in_any_order(self) -> None:
        arguments = LARGE | {"url": "https://other.test/"}
        for rules in permutations([LARGE_SUM, ABROAD]):
            force = in_force(_policy(*rules), REQUEST, arguments)
            needed = {(one.rule, tuple(one.roles), one.quorum) for one in force.requirements}
            assert needed == {("Large refund", ("finance",), 2), ("Abroad", ("legal",), 1)}
            assert set(force.policy.roles) == {"finance", "legal"}
            assert (force.policy.quorum, force.policy.forbid_self_approval) == (2, True)

    @given(st.data())
    def test_whatever_the_rules_more_of_them_never_require_less(self, data: st.DataObject) -> None:
        effects = st.fixed_dictionaries(
            {},
            optional={
                "roles": st.lists(st.sampled_from(["finance", "legal", "admin"]), min_size=1, max_size=2, unique=True),
                "quorum": st.integers(1, 5),
                "forbid_self_approval": st.just(True),
                "allow_changes": st.just(False),
                "allow_for_session": st.just(False) | st.just({"same": [{"argument": "url"}]}),
                "timeout_seconds": st.integers(1, 100),
            },
        )
        drawn = data.draw(st.lists(effects, min_size=1, max_size=4))
        rules = [
            {"name": f"r{n}", "when": {"argument": "body", "exists": True}, "then": then}
            for n, then in enumerate(drawn)
        ]
        base = {"quorum": data.draw(st.integers(1, 5)), "allow_for_session": data.draw(st.booleans())}
        before = in_force(_policy(*rules[:-1], **base), REQUEST, SMALL)
        after = in_force(_policy(*rules, **base), REQUEST, SMALL)

        if len(rules) > 1:  # with none that holds, what the policy itself requires stands instead
            assert all(one in after.requirements for one in before.requirements)
        assert after.policy.required
        assert after.policy.quorum >= before.policy.quorum
        assert after.policy.forbid_self_approval >= before.policy.forbid_self_approval
        assert after.policy.allow_changes <= before.policy.allow_changes
        assert bool(after.policy.allow_for_session) <= bool(before.policy.allow_for_session)
        shuffled = in_force(_policy(*reversed(rules), **base), REQUEST, SMALL)
        assert {one.model_dump_json() for one in shuffled.requirements} == {
            one.model_dump_json() for one in after.requirements
        }
        # What is frozen comes back from the store as it went in.
        assert ApprovalPolicy.model_validate_json(after.policy.model_dump_json()) == after.policy

    @pytest.mark.parametrize(
        "then",
        [
            {"required": False},
            {"quorum": 0},
            {"allow_changes": True},
            {"forbid_self_approval": False},
            {"allow_for_session": True},
            {"on_timeout": "approve"},
            {"roles": ["no role"]},
        ],
        ids=str,
    )
    def test_a_rule_cannot_loosen_anything(self, then: JsonObject) -> None:
        with pytest.raises(ValidationError):
            _policy({"name": "r", "when": {"argument": "a", "eq": 1}, "then": then})

    def test_a_rule_does_not_hand_to_everyone_what_the_policy_keeps_to_some(self) -> None:
        rule = {"name": "r", "when": {"argument": "a", "eq": 1}, "then": {"roles": ["user"]}}
        assert fault_of(_policy(rule)) is not None
        assert fault_of(_policy(rule, roles=["user"])) is None

    @pytest.mark.parametrize("names", [["a", "a"], [""], [" a"], ["a\nb"], ["x" * 81], [f"r{n}" for n in range(17)]])
    def test_names_are_unique_and_bounded(self, names: list[str]) -> None:
        with pytest.raises(ValidationError):
            _policy(*(LARGE_SUM | {"name": name} for name in names))

    def test_all_people_of_a_policy_fit_into_the_one_that_is_frozen(self) -> None:
        def rules(count: int) -> list[JsonObject]:
            return [ABROAD | {"name": f"r{n}", "then": {"roles": [f"role-{n}"]}} for n in range(count)]

        assert len(in_force(_policy(*rules(15)), REQUEST, {}).policy.roles) == 15
        with pytest.raises(ValidationError, match="16 roles"):
            _policy(*rules(16))


class TestPolicyOfOlderCode:
    def test_a_policy_without_rules_is_stored_as_before_and_stays_itself(self) -> None:
        policy = ApprovalPolicy(quorum=2)
        assert "rules" not in policy.model_dump(mode="json")
        assert in_force(policy, REQUEST, SMALL).policy is policy
        stored = _plan(policy).stored()
        assert TurnPlan.model_validate(stored).policy_of("http_request") == policy

    def test_rules_survive_the_plan(self) -> None:
        policy = _policy(LARGE_SUM, ABROAD, allow_for_session={"same": [{"argument": "url", "part": "host"}]})
        assert TurnPlan.model_validate(_plan(policy).stored()).policy_of("http_request") == policy


class TestChangedArguments:
    def test_to_raise_the_amount_takes_those_who_may_decide_the_larger_one(self) -> None:
        record = _opened(_policy(LARGE_SUM))

        with pytest.raises(AppError) as caught:
            _vote(record, _who("bob", "approver"), LARGE)
        assert (caught.value.code, caught.value.errors[0]["field"]) == (ErrorCode.INVALID_TOOL_ARGS, "arguments")
        assert "Large refund" in caught.value.safe_message

        vote = _vote(record, _who("fay", "approver", "finance"), LARGE)
        assert vote.needed == {"": 1, "Large refund": 2}, "one of them is not enough"
        assert set(vote.counts_for) == {"", "Large refund"}
        assert _vote(record, _who("bob", "approver")).needed == {"": 1}

    def test_to_lower_the_amount_does_not_lower_what_it_takes(self) -> None:
        record = _opened(_policy(LARGE_SUM), LARGE)

        assert not may_decide(record, _who("bob", "approver"), NOW)
        vote = _vote(record, _who("fay", "finance"), SMALL)
        assert vote.needed == {"Large refund": 2}

    def test_changed_arguments_that_cannot_be_told_take_the_stricter_branch(self) -> None:
        record = _opened(_policy(LARGE_SUM))
        with pytest.raises(AppError):
            _vote(record, _who("bob", "approver"), SMALL | {"body": "\u0665\u0660\u0660\u0660"})

    def test_what_a_rule_forbids_it_forbids_of_changed_arguments(self) -> None:
        rule = LARGE_SUM | {"then": {"forbid_self_approval": True}}
        with pytest.raises(AppError, match="somebody else"):
            _vote(_opened(_policy(rule)), _who("ann", "approver"), LARGE)
        frozen = LARGE_SUM | {"then": {"allow_changes": False}}
        with pytest.raises(AppError, match="does not allow changed"):
            _vote(_opened(_policy(frozen)), _who("bob", "approver"), LARGE)

    def test_an_approval_shows_what_it_takes_and_why(self) -> None:
        told = public_approval(_opened(_policy(LARGE_SUM), LARGE))
        assert [(one.rule, one.roles, one.quorum, one.approvals) for one in told.requirements] == [
            ("Large refund", ["finance"], 2, 0)
        ]
        assert "Large refund" in (told.reason or "")


class TestGrants:
    HOST: ClassVar[JsonObject] = {"same": [{"argument": "url", "part": "host"}, {"argument": "method"}]}

    def _grants(self, policy: ApprovalPolicy, granted: JsonObject, wanted: JsonObject) -> bool:
        """Whether a grant that was given with the approval of one call lets another run."""
        plan = _plan(policy)
        record = _opened(policy, granted)
        vote = _vote(record, _who("bob", "approver", "finance", "legal"), for_session=True)
        force = in_force(policy, REQUEST, wanted)
        assert vote.grant
        return is_granted(REQUEST, wanted, plan, force, "ann", frozenset({vote.grant}))

    @pytest.mark.parametrize(
        ("wanted", "holds"),
        [
            ({}, True),
            ({"url": "https://API.test/other?x=1", "body": "7"}, True),
            ({"url": "https://other.test/"}, False),
            ({"url": "https://api.test:8443/"}, False),
            ({"method": "DELETE"}, False),
        ],
        ids=str,
    )
    def test_a_grant_holds_only_for_the_argument_values_that_the_policy_binds(
        self, wanted: JsonObject, holds: bool
    ) -> None:
        assert self._grants(_policy(required=True, allow_for_session=self.HOST), SMALL, SMALL | wanted) is holds

    def test_a_grant_without_shape_holds_for_all_as_before(self) -> None:
        assert self._grants(_policy(required=True, allow_for_session=True), SMALL, SMALL | {"url": "https://b.test/"})

    def test_a_granted_tool_asks_again_where_a_stricter_rule_holds(self) -> None:
        policy = _policy(LARGE_SUM, required=True, allow_for_session=True)
        assert self._grants(policy, SMALL, SMALL | {"body": "7"})
        assert not self._grants(policy, SMALL, LARGE)
        assert not self._grants(policy, LARGE, SMALL), "nor the other way round: it is for the calls that they saw"

    def test_a_rule_can_take_the_grant_away(self) -> None:
        rule = LARGE_SUM | {"then": {"allow_for_session": False}}
        with pytest.raises(AppError, match="each call"):
            _vote(_opened(_policy(rule, allow_for_session=True), LARGE), _who("bob", "approver"), for_session=True)

    def test_changed_arguments_under_another_rule_give_no_grant(self) -> None:
        record = _opened(_policy(LARGE_SUM, allow_for_session=True))
        with pytest.raises(AppError, match="this call only"):
            _vote(record, _who("fay", "approver", "finance"), LARGE, for_session=True)

    def test_an_argument_that_cannot_be_read_binds_nothing_and_grants_nothing(self) -> None:
        policy = _policy(allow_for_session={"same": [{"argument": "body", "part": "host"}]})
        assert bound_values(policy, REQUEST, SMALL) is None
        with pytest.raises(AppError, match="this call only"):
            _vote(_opened(policy), _who("bob", "approver"), for_session=True)

    def test_the_grant_of_a_policy_without_shape_is_the_one_stored_before(self) -> None:
        policy = ApprovalPolicy(allow_for_session=True)
        assert grant_of("t", policy, "a", 1, "ann", []) == grant_of("t", policy, "a", 1, "ann")


class TestProposals:
    def test_a_turns_calls_wait_by_their_arguments(self) -> None:
        plan = _plan(_policy(LARGE_SUM, required=False))

        def waits(body: str) -> bool:
            text = f'{{"method": "POST", "url": "https://api.test/", "body": "{body}"}}'
            return propose(ModelToolCall("c", "http_request", text), 0, plan, Standing("ann")).needs_approval

        assert (waits("900"), waits("5000")) == (False, True)
