"""What a policy means, as pure functions: how long a call waits, who may decide, what a vote may say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import AppError, Conflict, ErrorCode, Gone
from shared.principal import Principal, Role
from shared.sessions.agents.agent import DEFAULT_AGENT, plan_turn
from shared.sessions.approvals.deciders import (
    approvals_so_far,
    deciding_roles,
    may_decide,
    may_see,
    refusal_to_approve,
)
from shared.sessions.approvals.digest import arguments_digest
from shared.sessions.approvals.models import NewDecision
from shared.sessions.approvals.timing import notice_schedule, timeout_seconds
from shared.sessions.approvals.voting import checked_vote, refuse_unless_same
from shared.sessions.events import EventTarget
from shared.sessions.models import (
    ApprovalStatus,
    Decision,
    SessionConfig,
)
from shared.sessions.records.approval_policy import ApprovalPolicy
from shared.sessions.records.approvals import ApprovalRecord, Vote

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ARGUMENTS = {"method": "POST", "url": "http://example.test/"}
CHANGED = {**ARGUMENTS, "body": "{}"}


def _record(policy: ApprovalPolicy | None = None, **changes: Any) -> ApprovalRecord:
    record = ApprovalRecord(
        id="a1",
        tool_call_id="c1",
        session_id="s1",
        turn_id="t1",
        tool="http_request",
        arguments=ARGUMENTS,
        arguments_digest=arguments_digest("http_request", ARGUMENTS),
        decided_arguments=None,
        status=ApprovalStatus.PENDING,
        requested_by="ann",
        requested_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        decided_by=None,
        decided_at=None,
        comment=None,
        instance_id="t1:c1",
        target=EventTarget("s1", 0, 10),
        policy=policy or ApprovalPolicy(),
        owner_id="ann",
    )
    return replace(record, **changes)


def _who(name: str, *roles: Role) -> Principal:
    return Principal(name, frozenset({Role.USER, *roles}))


class TestHowLongItWaits:
    def test_the_policys_timeout_goes_before_the_sessions(self) -> None:
        plan = plan_turn(DEFAULT_AGENT, SessionConfig(), model="m", approval_mode=None)
        assert timeout_seconds(ApprovalPolicy(), plan) == plan.approval_timeout_seconds
        assert timeout_seconds(ApprovalPolicy(timeout_seconds=5), plan) == 5


class TestWhoMayDecide:
    @pytest.mark.parametrize(
        ("policy", "principal", "decides"),
        [
            ({}, _who("bob", Role.APPROVER), True),
            ({}, _who("bob", Role.ADMIN), False),
            ({}, _who("bob"), False),
            ({"roles": ["admin"]}, _who("bob", Role.APPROVER), False),
            ({"roles": ["admin"]}, _who("bob", Role.ADMIN), True),
            ({"roles": [], "users": ["bob"]}, _who("bob"), True),
            ({"roles": [], "users": ["bob"]}, _who("bobby", Role.APPROVER, Role.ADMIN), False),
            ({"roles": ["user"]}, _who("bob"), True),
            ({"users": ["bob"]}, _who("bob"), True),
        ],
    )
    def test_by_role_or_by_name(self, policy: dict[str, Any], principal: Principal, decides: bool) -> None:
        record = _record(ApprovalPolicy(**policy))
        assert may_decide(record, principal, NOW) is decides
        assert may_see(record, principal, NOW) is decides

    @pytest.mark.parametrize(("after_s", "decides"), [(0, False), (59.999, False), (60, True), (10_000, True)])
    def test_the_escalation_role_decides_once_its_time_has_come(self, after_s: float, decides: bool) -> None:
        record = _record(ApprovalPolicy(escalate_after_seconds=60, escalation_role=Role.ADMIN))
        now = NOW + timedelta(seconds=after_s)
        assert may_decide(record, _who("root", Role.ADMIN), now) is decides
        assert may_decide(record, _who("bob", Role.APPROVER), now)
        assert (Role.ADMIN in deciding_roles(record, now)) is decides

    def test_people_of_the_session_see_and_do_not_decide(self) -> None:
        for record, name in ((_record(), "ann"), (_record(participates=True), "pat")):
            assert may_see(record, _who(name), NOW)
            assert not may_decide(record, _who(name), NOW)
        assert not may_see(_record(), _who("eve"), NOW)

    def test_who_asked_may_say_no_and_not_yes(self) -> None:
        forbids = _record(ApprovalPolicy(forbid_self_approval=True))
        assert refusal_to_approve(forbids, "ann") is not None
        assert refusal_to_approve(forbids, "bob") is None
        assert refusal_to_approve(_record(), "ann") is None
        with pytest.raises(Conflict, match="somebody else"):
            checked_vote(forbids, NewDecision(decision=Decision.APPROVE), _who("ann"), NOW)
        assert (
            checked_vote(forbids, NewDecision(decision=Decision.REJECT), _who("ann"), NOW).decision is Decision.REJECT
        )


class TestWhatAVoteMaySay:
    @pytest.mark.parametrize(
        ("policy", "body", "code", "field"),
        [
            ({"allow_changes": False}, {"arguments": CHANGED}, ErrorCode.INVALID_TOOL_ARGS, "arguments"),
            ({}, {"arguments": {"url": "http://x"}}, ErrorCode.INVALID_TOOL_ARGS, "arguments"),
            ({}, {"arguments": {**ARGUMENTS, "more": 1}}, ErrorCode.INVALID_TOOL_ARGS, "arguments"),
            ({}, {"decision": "reject", "arguments": CHANGED}, ErrorCode.VALIDATION_ERROR, "arguments"),
            ({}, {"for_session": True}, ErrorCode.VALIDATION_ERROR, "for_session"),
            (
                {"allow_for_session": True},
                {"decision": "reject", "for_session": True},
                ErrorCode.VALIDATION_ERROR,
                "for_session",
            ),
        ],
    )
    def test_what_the_policy_does_not_allow_is_refused_by_field(
        self, policy: dict[str, Any], body: dict[str, Any], code: ErrorCode, field: str
    ) -> None:
        with pytest.raises(AppError) as caught:
            checked_vote(
                _record(ApprovalPolicy(**policy)), NewDecision(**{"decision": "approve"} | body), _who("bob"), NOW
            )
        assert (caught.value.code, caught.value.errors[0]["field"]) == (code, field)

    def test_the_same_arguments_written_again_are_no_change(self) -> None:
        record = _record(ApprovalPolicy(allow_changes=False))
        vote = checked_vote(record, NewDecision(decision=Decision.APPROVE, arguments=dict(ARGUMENTS)), _who("bob"), NOW)
        assert (vote.arguments, vote.digest) == (None, record.arguments_digest)

    def test_changed_arguments_bind_the_vote_to_their_own_digest(self) -> None:
        vote = checked_vote(_record(), NewDecision(decision=Decision.APPROVE, arguments=CHANGED), _who("bob"), NOW)
        assert (vote.arguments, vote.digest) == (CHANGED, arguments_digest("http_request", CHANGED))

    def test_only_approvals_of_the_same_arguments_count_together(self) -> None:
        def vote(by: str, decision: Decision = Decision.APPROVE, arguments: Any = None) -> Vote:
            return Vote(by=by, decision=decision, at=NOW, arguments=arguments)

        votes = [vote("a"), vote("b", arguments=CHANGED), vote("c", arguments=CHANGED), vote("d", Decision.REJECT)]
        assert approvals_so_far("http_request", ARGUMENTS, votes) == 2
        assert approvals_so_far("http_request", ARGUMENTS, [votes[0], vote("e", arguments=dict(ARGUMENTS))]) == 2
        assert approvals_so_far("http_request", ARGUMENTS, []) == 0


class TestAVoteThatChangedNothing:
    def _vote(self, decision: Decision = Decision.APPROVE, **changes: Any) -> Any:
        record = _record(ApprovalPolicy(allow_for_session=True))
        return checked_vote(record, NewDecision(decision=decision, **changes), _who("bob"), NOW)

    def test_said_again_in_time_is_fine(self) -> None:
        refuse_unless_same(_record(), self._vote(), NOW)

    @pytest.mark.parametrize("status", [ApprovalStatus.PENDING, ApprovalStatus.TIMED_OUT])
    def test_too_late_is_gone(self, status: ApprovalStatus) -> None:
        with pytest.raises(Gone):
            refuse_unless_same(_record(status=status), self._vote(), NOW + timedelta(hours=1))

    @pytest.mark.parametrize(
        ("record", "vote"),
        [
            ({"status": ApprovalStatus.CANCELLED}, {}),
            ({"status": ApprovalStatus.REJECTED, "decided_by": "zoe"}, {}),
            ({"status": ApprovalStatus.APPROVED, "decided_by": "zoe"}, {"decision": Decision.REJECT}),
            ({"status": ApprovalStatus.APPROVED, "decided_by": "zoe"}, {"arguments": CHANGED}),
            ({"status": ApprovalStatus.APPROVED, "decided_by": "zoe"}, {"for_session": True}),
            ({"status": ApprovalStatus.APPROVED}, {"decision": Decision.REJECT}),
        ],
    )
    def test_against_what_stands_is_a_conflict_that_says_who_decided(
        self, record: dict[str, Any], vote: dict[str, Any]
    ) -> None:
        with pytest.raises(Conflict) as caught:
            refuse_unless_same(_record(**record), self._vote(**vote), NOW)
        assert record.get("decided_by", "") in caught.value.safe_message
        assert "None" not in caught.value.safe_message

    def test_what_stands_may_be_said_again(self) -> None:
        approved = _record(status=ApprovalStatus.APPROVED, decided_by="zoe", for_session=True)
        refuse_unless_same(approved, self._vote(), NOW)
        refuse_unless_same(approved, self._vote(for_session=True), NOW)
        rejected = _record(status=ApprovalStatus.REJECTED, decided_by="zoe")
        refuse_unless_same(rejected, self._vote(Decision.REJECT), NOW)


@pytest.mark.parametrize(
    "fields",
    [
        {"roles": [], "users": []},
        {"escalate_after_seconds": 5},
        {"escalation_role": "admin"},
        {"quorum": 0},
        {"quorum": 11},
        {"roles": ["no role"]},
        {"roles": ["Approver"]},
        {"timeout_seconds": 0},
        {"reminder_seconds": 30 * 86_400 + 1},
        {"surprise": True},
        {"on_timeout": "maybe"},
    ],
)
def test_a_policy_that_could_not_work_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ApprovalPolicy(**fields)


class TestWhatIsStillToBeTold:
    POLICY = ApprovalPolicy(reminder_seconds=600, escalate_after_seconds=1_500, escalation_role=Role.ADMIN)

    def test_everything_when_it_is_asked_for(self) -> None:
        schedule = notice_schedule(_record(self.POLICY), NOW)
        assert (schedule.remind_at, schedule.reminded) == (NOW + timedelta(seconds=600), 0)
        assert schedule.escalate_at == NOW + timedelta(seconds=1_500)

    @pytest.mark.parametrize(("after_s", "number", "escalates"), [(599, 1, True), (600, 2, True), (1_800, 4, False)])
    def test_nothing_again_that_was_due_under_an_orchestration_that_was_lost(
        self, after_s: int, number: int, escalates: bool
    ) -> None:
        schedule = notice_schedule(_record(self.POLICY), NOW + timedelta(seconds=after_s))
        assert schedule.remind_at == NOW + timedelta(seconds=600 * number)
        assert schedule.reminded == number - 1
        assert (schedule.escalate_at is not None) is escalates
