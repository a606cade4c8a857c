"""Which calls wait: by mode, policy and the agent's floor; and which of them a grant lets run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, effective_config, plan_turn
from shared.sessions.approvals import needed
from shared.sessions.approvals.grants import grant_of, is_granted
from shared.sessions.approvals.needed import floor_of
from shared.sessions.approvals.rules.in_force import (
    in_force,
)
from shared.sessions.approvals.timing import timeout_seconds
from shared.sessions.models import ApprovalMode, SessionConfig
from shared.sessions.records.approval_policy import ApprovalPolicy, TimeoutAction
from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.registry import Tool, ToolApproval, ToolRisk, all_tools, get_tool

AUTO, POLICY, MANUAL = ApprovalMode.AUTO, ApprovalMode.POLICY, ApprovalMode.MANUAL
REQUEST = get_tool("http_request")
FREE = {"http_request": AUTO}


def _plan(mode: ApprovalMode = POLICY, *, floor: dict[str, ApprovalMode] | None = None, **policy: Any) -> TurnPlan:
    plan = plan_turn(DEFAULT_AGENT, SessionConfig(), model="m", approval_mode=mode)
    changes: dict[str, Any] = {"approval_floor": floor or {}}
    return plan.model_copy(update=changes | {"policies": {"http_request": ApprovalPolicy(**policy)}})


def requires_approval(tool: Tool, plan: TurnPlan) -> bool:
    return needed.requires_approval(tool, plan, in_force(plan.policy_of(tool.name), tool, {}))


def floor_reason(tool: Tool, plan: TurnPlan) -> str | None:
    return needed.floor_reason(tool, plan, in_force(plan.policy_of(tool.name), tool, {}))


class TestModeAndPolicy:
    @pytest.mark.parametrize(
        ("mode", "required", "waits"),
        [
            (POLICY, None, True),  # the tool's own rule
            (POLICY, False, False),
            (POLICY, True, True),
            (MANUAL, None, True),
            (MANUAL, False, True),
            (AUTO, None, False),
            (AUTO, False, False),
            (AUTO, True, True),  # or whoever posts a message could switch the agent's policy off
        ],
    )
    def test_a_required_approval_stands_above_the_mode(
        self, mode: ApprovalMode, required: bool | None, waits: bool
    ) -> None:
        assert requires_approval(REQUEST, _plan(mode, floor=FREE, required=required)) is waits

    def test_a_tool_the_agent_says_nothing_about_follows_its_own_rule(self) -> None:
        assert not requires_approval(get_tool("calculate"), _plan(required=True))

    @pytest.mark.parametrize(
        ("one", "other", "stricter"), [(AUTO, POLICY, POLICY), (MANUAL, AUTO, MANUAL), (POLICY, POLICY, POLICY)]
    )
    def test_of_two_modes_the_one_counts_under_which_more_waits(
        self, one: ApprovalMode, other: ApprovalMode, stricter: ApprovalMode
    ) -> None:
        assert one.stricter(other) is other.stricter(one) is stricter


class TestFloor:
    @pytest.mark.parametrize(
        ("floor", "required", "waits"),
        [
            (AUTO, None, False),
            (POLICY, None, True),  # the tool's own rule binds
            (POLICY, False, False),  # an admin's rule, as the floor is
            (MANUAL, None, True),
            (MANUAL, False, True),
        ],
    )
    def test_mode_auto_loosens_what_the_floor_leaves_open(
        self, floor: ApprovalMode, required: bool | None, waits: bool
    ) -> None:
        plan = _plan(AUTO, floor={"http_request": floor}, required=required)

        assert requires_approval(REQUEST, plan) is waits
        assert requires_approval(REQUEST, plan.model_copy(update={"approval_mode": MANUAL}))
        assert (floor_reason(REQUEST, plan) is not None) is waits

    def test_a_required_approval_cannot_be_waved_away_by_whoever_posts(self) -> None:
        plan = plan_turn(DEFAULT_AGENT, SessionConfig(approval_mode=AUTO), model="m", approval_mode=AUTO)

        assert requires_approval(REQUEST, plan)
        assert not requires_approval(get_tool("fetch_url"), plan), "runs by its own rule"
        told = floor_reason(REQUEST, plan) or ""
        assert "assistant" in told
        assert "http_request" in told
        assert "auto" in told

    def test_nothing_is_said_of_a_floor_that_changes_nothing(self) -> None:
        assert floor_reason(REQUEST, _plan(POLICY)) is None
        assert floor_reason(REQUEST, _plan(AUTO, required=True)) is None
        assert floor_reason(get_tool("calculate"), _plan(AUTO)) is None

    def test_the_agent_that_ships_sets_one_for_every_tool_with_outside_effects(self) -> None:
        outward = {tool.name for tool in all_tools() if ToolRisk.ACTS_OUTWARD in tool.risks}

        assert set(DEFAULT_AGENT.approval_floor) == outward
        assert AUTO not in DEFAULT_AGENT.approval_floor.values()

    def test_an_agent_or_a_plan_from_before_fails_closed(self) -> None:
        agent = Agent.of_store({"id": "old", "version": 1, "name": "Old", "instructions": "Act."})
        stored = plan_turn(agent, SessionConfig(), model="m", approval_mode=AUTO).stored()
        plan = TurnPlan.model_validate(stored)

        assert "approval_floor" not in stored
        assert requires_approval(REQUEST, plan)
        assert floor_of(get_tool("fetch_url"), plan) is POLICY
        assert floor_of(get_tool("calculate"), plan) is AUTO

    def test_a_tool_that_needs_approval_by_default_is_guarded_whatever_it_says_of_its_risks(self) -> None:
        erasing = replace(get_tool("calculate"), name="erase", approval=ToolApproval.MANUAL)

        assert requires_approval(erasing, _plan(AUTO))
        assert not requires_approval(erasing, _plan(AUTO, floor={"erase": AUTO}))


class TestSilence:
    @pytest.mark.parametrize(
        ("of_policy", "of_agent", "of_session", "waits"),
        [
            (None, None, 1, 86_400),
            (None, 600, 1, 600),
            (None, 600, 3_600, 3_600),
            (30, 600, 1, 30),  # the policy's own
        ],
    )
    def test_a_yes_by_timeout_comes_no_sooner_for_a_shorter_wait_of_the_session(
        self, of_policy: int | None, of_agent: int | None, of_session: int, waits: int
    ) -> None:
        policy = ApprovalPolicy(on_timeout=TimeoutAction.APPROVE, timeout_seconds=of_policy)
        defaults = {} if of_agent is None else {"approval_timeout_seconds": of_agent}
        agent = DEFAULT_AGENT.model_copy(
            update={"policies": {"http_request": policy}, "defaults": SessionConfig(**defaults)}
        )
        config = effective_config(agent, SessionConfig(approval_timeout_seconds=of_session))

        plan = plan_turn(agent, config, model="m", approval_mode=None)

        assert timeout_seconds(plan.policy_of("http_request"), plan) == waits
        assert timeout_seconds(ApprovalPolicy(), plan) == of_session, "a no may come as soon as the session says"


class TestGrant:
    GRANTING = ApprovalPolicy(allow_for_session=True)

    def _granted(self, **bound: Any) -> bool:
        """Whether a grant for ann's turns with version 3 of `clerk` lets this run."""
        grant = grant_of("http_request", self.GRANTING, "clerk", 3, "ann")
        policy = bound.pop("policy", {"allow_for_session": True})
        wanted = {"agent_id": "clerk", "agent_version": 3, "tool": "http_request", "user": "ann"} | bound
        agent = {"agent_id": wanted["agent_id"], "agent_version": wanted["agent_version"]}
        plan = _plan().model_copy(update={"policies": {wanted["tool"]: ApprovalPolicy(**policy)}, **agent})
        tool = get_tool(wanted["tool"])
        force = in_force(plan.policy_of(tool.name), tool, {})
        return is_granted(tool, {}, plan, force, wanted["user"], frozenset({grant}))

    def test_it_holds_for_what_it_was_given_for(self) -> None:
        assert self._granted()

    @pytest.mark.parametrize(
        "other",
        [
            {"agent_id": "assistant"},
            {"agent_version": 4},
            {"agent_version": 2},
            {"user": "bob"},
            {"user": ""},
            {"tool": "fetch_url"},
            {"agent_id": None, "agent_version": None},
        ],
        ids=str,
    )
    def test_for_the_rest_of_this_session_reaches_no_other_agent_version_tool_or_person(
        self, other: dict[str, Any]
    ) -> None:
        assert not self._granted(**other)

    @pytest.mark.parametrize(
        "policy",
        [
            {"quorum": 2},
            {"roles": ["admin"]},
            {"forbid_self_approval": True},
            {"allow_changes": False},
            {"allow_for_session": False},
        ],
        ids=str,
    )
    def test_a_grant_under_one_policy_is_none_under_another(self, policy: dict[str, Any]) -> None:
        assert not self._granted(policy={"allow_for_session": True} | policy)

    def test_a_grant_from_before_it_was_bound_counts_for_nothing(self) -> None:
        rules = orjson.dumps(self.GRANTING.model_dump(mode="json", exclude_defaults=True))
        old = f"http_request:{hashlib.sha256(rules).hexdigest()[:32]}"
        plan = _plan(allow_for_session=True)

        force = in_force(plan.policy_of("http_request"), REQUEST, {})
        assert not is_granted(REQUEST, {}, plan, force, "ann", frozenset({old, "http_request"}))
