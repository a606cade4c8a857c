"""Quorum, changes of mind, grants and timeouts on a real PostgreSQL: one voter decides, about exactly one digest."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared import tracing
from shared.adapters.http.webhook import ApprovalNotifier
from shared.adapters.postgres.branches.forks import PostgresForks
from shared.errors import Conflict, ErrorCode, NotFound, Transient
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.approvals.grants import grant_of
from shared.sessions.approvals.models import NewDecision
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.forks import ForkService, NewFork
from shared.sessions.models import (
    ApprovalStatus,
    Decision,
    SessionStatus,
    ToolCallStatus,
    TurnStatus,
)
from shared.sessions.records.approval_policy import ApprovalPolicy, NoticeKind, TimeoutAction
from shared.sessions.records.approvals import ApprovalRecord, VoteEffect
from shared.sessions.records.pages import ApprovalFilter, Page
from shared.sessions.records.steps import ProposedCall, StepStart
from shared.sessions.tool_handler import ToolCallHandler
from shared.sessions.tools.registry import FetchRequest, FetchResponse, ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.signing import ApprovalLinks
from tests.integration.domain import (
    OWNER,
    WRITER,
    Stores,
    call,
    envelopes,
    plan,
    utc_now,
    vote_on,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ARGUMENTS = {"method": "POST", "url": "http://example.test/", "body": "{}"}
CHANGED = {**ARGUMENTS, "body": '{"amount": 1}'}
YES, NO = Decision.APPROVE, Decision.REJECT


def _who(name: str, *roles: Role) -> Principal:
    return Principal(name, frozenset({Role.USER, *(roles or (Role.APPROVER,))}))


async def _waiting(stores: Stores, **policy: Any) -> tuple[ProposedCall, ApprovalRecord]:
    proposal = call("http_request", ARGUMENTS, needs_approval=True)
    frozen = ApprovalPolicy(**policy)
    await stores.proposed(proposal, policies={"http_request": frozen})
    return proposal, await stores.request_approval(proposal, policy=frozen)


async def _read(stores: Stores, approval: ApprovalRecord) -> ApprovalRecord:
    found = await stores.approvals.get(approval.id, OWNER)
    assert found is not None
    return found


async def test_an_approval_keeps_the_policy_it_was_opened_with(stores: Stores) -> None:
    _, approval = await _waiting(stores, roles=["admin"], users=["zoë"], quorum=3, reminder_seconds=60)

    kept = (await _read(stores, approval)).policy

    assert kept == ApprovalPolicy(roles=[Role.ADMIN], users=["zoë"], quorum=3, reminder_seconds=60)


async def test_a_row_of_code_that_knows_no_policy_is_decided_by_any_approver(stores: Stores) -> None:
    _, approval = await _waiting(stores)
    await stores.sql(b"UPDATE approvals SET policy = DEFAULT WHERE id = %(id)s", id=approval.id)

    assert (await _read(stores, approval)).policy == ApprovalPolicy()
    assert await stores.decide(approval, vote_on(approval))


async def test_it_takes_the_quorum_of_different_people(stores: Stores) -> None:
    _, approval = await _waiting(stores, quorum=3)

    assert not await stores.decide(approval, vote_on(approval, "a", comment="fine"))
    assert not await stores.decide(approval, vote_on(approval, "b"))
    assert not await stores.decide(approval, vote_on(approval, "a")), "the same person does not count twice"
    waiting = await _read(stores, approval)
    assert (waiting.status, [(vote.by, vote.comment) for vote in waiting.votes]) == (
        ApprovalStatus.PENDING,
        [("a", "fine"), ("b", None)],
    )
    turn = await stores.turns.get_turn(approval.session_id, approval.turn_id)
    assert turn.status is TurnStatus.WAITING_APPROVAL
    assert await stores.decide(approval, vote_on(approval, "c"))
    decided = await _read(stores, approval)
    assert (decided.status, decided.decided_by, len(decided.votes)) == (ApprovalStatus.APPROVED, "c", 3)
    turn = await stores.turns.get_turn(approval.session_id, approval.turn_id)
    assert turn.status is TurnStatus.RUNNING


async def test_one_reject_is_enough(stores: Stores) -> None:
    _, approval = await _waiting(stores, quorum=3)
    await stores.decide(approval, vote_on(approval, "a"))

    assert await stores.decide(approval, vote_on(approval, "b", NO, comment="no"))

    decided = await _read(stores, approval)
    assert (decided.status, decided.decided_by, decided.comment) == (ApprovalStatus.REJECTED, "b", "no")
    assert not await stores.decide(approval, vote_on(approval, "c"))
    assert [vote.by for vote in (await _read(stores, approval)).votes] == ["a", "b"], "too late to be a vote"


async def test_votes_for_other_arguments_do_not_count_together(stores: Stores) -> None:
    proposal, approval = await _waiting(stores, quorum=2)

    assert not await stores.decide(approval, vote_on(approval, "a"))
    assert not await stores.decide(approval, vote_on(approval, "b", arguments=CHANGED))
    # Somebody comes round to what the other one wants.
    assert await stores.decide(approval, vote_on(approval, "a", arguments=CHANGED))

    decided = await _read(stores, approval)
    assert (decided.arguments, decided.decided_arguments) == (ARGUMENTS, CHANGED)
    execution = await stores.tool_calls.tool_execution(proposal.id)
    assert execution.decided_arguments == CHANGED
    assert execution.arguments_digest == vote_on(approval, arguments=CHANGED).digest


async def test_a_person_may_change_their_mind_until_it_is_decided(stores: Stores) -> None:
    _, approval = await _waiting(stores, quorum=2)

    assert await stores.cast(approval, vote_on(approval, "a")) is VoteEffect.COUNTED
    assert await stores.cast(approval, vote_on(approval, "a")) is VoteEffect.NOTHING
    assert await stores.cast(approval, vote_on(approval, "a", NO)) is VoteEffect.DECIDED

    assert [vote.decision for vote in (await _read(stores, approval)).votes] == [NO]


async def test_of_voters_at_once_exactly_one_decides(stores: Stores) -> None:
    for _ in range(5):
        _, approval = await _waiting(stores, quorum=3)
        votes = [vote_on(approval, f"user-{n}") for n in range(6)]

        effects = await asyncio.gather(*(stores.cast(approval, vote) for vote in votes))

        assert sorted(effects) == [VoteEffect.COUNTED] * 2 + [VoteEffect.DECIDED] + [VoteEffect.NOTHING] * 3
        decided = await _read(stores, approval)
        assert decided.decided_by == f"user-{effects.index(VoteEffect.DECIDED)}"
        assert len(decided.votes) == 3


async def test_yes_and_no_at_once_leave_one_outcome_that_its_votes_explain(stores: Stores) -> None:
    for _ in range(5):
        _, approval = await _waiting(stores, quorum=2)
        votes = [vote_on(approval, f"user-{n}", [YES, NO][n % 2]) for n in range(4)]

        won = await asyncio.gather(*(stores.decide(approval, vote) for vote in votes))

        assert sum(won) == 1
        decided = await _read(stores, approval)
        rejected = any(vote.decision is NO for vote in decided.votes)
        assert decided.status is (ApprovalStatus.REJECTED if rejected else ApprovalStatus.APPROVED)


async def test_last_vote_and_cancel_at_once_leave_one_outcome(stores: Stores) -> None:
    for _ in range(5):
        _, approval = await _waiting(stores, quorum=2, allow_for_session=True)
        await stores.decide(approval, vote_on(approval, "a", for_session=True))

        decided, _ = await asyncio.gather(
            stores.decide(approval, vote_on(approval, "b", for_session=True)),
            stores.turns.cancel(approval.session_id, approval.turn_id, OWNER, now=utc_now()),
        )

        status = (await _read(stores, approval)).status
        assert status is (ApprovalStatus.APPROVED if decided else ApprovalStatus.CANCELLED)


async def _inbox(stores: Stores, who: Principal, approval: ApprovalRecord, *, after_s: float = 0) -> bool:
    found = await stores.approvals.list_for(
        ApprovalFilter(session_id=approval.session_id),
        Page(),
        who,
        now=approval.requested_at + timedelta(seconds=after_s),
    )
    return approval.id in {record.id for record in found}


@pytest.mark.parametrize(
    ("policy", "who", "after_s", "listed"),
    [
        ({}, _who("bob"), 0, True),
        ({}, _who("bob", Role.ADMIN), 0, False),
        ({}, _who(OWNER, Role.USER), 0, False),
        ({"roles": [], "users": ["bob"]}, _who("bob", Role.USER), 0, True),
        ({"roles": [], "users": ["bob"]}, _who("petr"), 0, False),
        ({"roles": ["admin"]}, _who("bob", Role.ADMIN), 0, True),
        ({"escalate_after_seconds": 60, "escalation_role": "admin"}, _who("bob", Role.ADMIN), 59.9, False),
        ({"escalate_after_seconds": 60, "escalation_role": "admin"}, _who("bob", Role.ADMIN), 60, True),
    ],
)
async def test_the_inbox_holds_what_its_reader_may_decide(
    stores: Stores, policy: dict[str, Any], who: Principal, after_s: float, listed: bool
) -> None:
    _, approval = await _waiting(stores, **policy)

    assert await _inbox(stores, who, approval, after_s=after_s) is listed


# Grants. -----------------------------------------------------------------------------------------


async def _granted(stores: Stores, session_id: str) -> list[str]:
    found: list[str] = await stores.value(b"SELECT granted_tools FROM sessions WHERE id = %(id)s", id=session_id)
    return found


async def test_a_grant_needs_everyone_who_approved_to_say_so(stores: Stores) -> None:
    _, approval = await _waiting(stores, quorum=2, allow_for_session=True)
    await stores.decide(approval, vote_on(approval, "a"))

    assert await stores.decide(approval, vote_on(approval, "b", for_session=True))

    assert not (await _read(stores, approval)).for_session
    assert await _granted(stores, approval.session_id) == []


async def test_a_grant_is_read_with_the_next_step_and_ends_with_the_session(stores: Stores) -> None:
    _, approval = await _waiting(stores, quorum=2, allow_for_session=True)
    for user in ("a", "b"):
        await stores.decide(approval, vote_on(approval, user, for_session=True))

    assert (await _read(stores, approval)).for_session
    grant = grant_of("http_request", approval.policy, None, None, OWNER)
    assert await _granted(stores, approval.session_id) == [grant]
    start = await stores.begin(approval.turn_id, 2)
    assert isinstance(start, StepStart)
    assert start.granted_tools == {grant}
    await stores.move(approval.session_id, SessionStatus.ENDED)
    assert await _granted(stores, approval.session_id) == []


async def test_a_grant_is_of_its_session_alone_and_a_fork_is_another(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    _, approval = await _waiting(stores, allow_for_session=True)
    await stores.decide(approval, vote_on(approval, for_session=True))
    await stores.finish(approval.turn_id)

    forks = ForkService(PostgresForks(stores.pool), publisher)
    fork, _ = await forks.fork(approval.session_id, NewFork(), _who(OWNER), idempotency_key=None)

    for session_id in (fork.id, (await stores.session()).id):
        posted = await stores.post(session_id)
        assert (await stores.started(posted.turn.id)).granted_tools == frozenset()
    assert await _granted(stores, approval.session_id) == [grant_of("http_request", approval.policy, None, None, OWNER)]


# Through the manager and the handler. ------------------------------------------------------------


class _Fetcher:
    """An `HttpFetcher` that remembers what it was asked for."""

    def __init__(self) -> None:
        self.bodies: list[bytes | None] = []

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.bodies.append(request.body)
        return FetchResponse(200, request.url, {}, "done", 4, False, False)


class Bench:
    def __init__(self, stores: Stores, publisher: SessionEventPublisher) -> None:
        self.stores, self.fetcher, self.audit = stores, _Fetcher(), stores.audit
        watch = CancelWatch(stores.turns.cancel_requested)
        links = ApprovalLinks("s" * 32, "http://localhost")
        self.handler = ToolCallHandler(stores.tool_calls, publisher, ToolServices(http=self.fetcher), watch)
        self.manager = ToolApprovalManager(
            stores.approvals, stores.tool_calls, publisher, stores.sessions, links, stores.trail, print_links=False
        )

    async def asked(self, *, needs_approval: bool = True, **policy: Any) -> tuple[ProposedCall, str, list[bytes]]:
        """A call whose turn's plan holds the policy, and its open approval: (call, approval id, messages)."""
        proposal = call("http_request", ARGUMENTS, needs_approval=needs_approval)
        await self.stores.proposed(proposal, policies={"http_request": ApprovalPolicy(**policy)})
        request = await self.manager.request(proposal.id, instance_id="instance")
        assert request is not None
        return proposal, request.approval_id, request.messages

    async def decide(self, approval_id: str, who: Principal, decision: Decision = YES, **fields: Any) -> Any:
        return await self.manager.decide(approval_id, NewDecision(decision=decision, **fields), who)

    @property
    def actions(self) -> list[tuple[str, str]]:
        return [(action, who) for (_, action, _), who in zip(self.audit.lines, self.audit.who, strict=True)]


@pytest.fixture
def bench(stores: Stores, publisher: SessionEventPublisher) -> Bench:
    return Bench(stores, publisher)


@pytest.mark.parametrize(
    ("other", "runs"),
    [
        ({}, True),
        ({"agent_version": 4}, False),
        ({"agent_id": "other"}, False),
        ({"user": WRITER}, False),
        ({"tool": "fetch_url"}, False),
    ],
    ids=str,
)
async def test_for_the_rest_of_this_session_reaches_no_other_agent_version_tool_or_person(
    bench: Bench, other: dict[str, Any], runs: bool
) -> None:
    stores, policy = bench.stores, ApprovalPolicy(allow_for_session=True, required=True)
    bound: dict[str, Any] = {"agent_id": "clerk", "agent_version": 3, "tools": ["http_request", "fetch_url"]}
    bound["policies"] = {"http_request": policy, "fetch_url": policy}
    first = call("http_request", ARGUMENTS, needs_approval=True)
    posted = await stores.proposed(first, **bound)
    request = await bench.manager.request(first.id, instance_id="instance")
    assert request is not None
    decided = await bench.decide(request.approval_id, _who("a"), for_session=True)
    assert (decided.approval.agent_id, decided.approval.agent_version) == ("clerk", 3)
    _, action, details = bench.audit.lines[-1]
    assert action == "session.tool_granted"
    assert (details["agent_id"], details["agent_version"], details["requested_by"]) == ("clerk", 3, OWNER)
    await bench.handler.handle_tool_call(first.id)
    await stores.finish(posted.turn.id)
    await stores.share(posted.turn.session_id, WRITER, "write")

    user, tool = other.get("user", OWNER), other.get("tool", "http_request")
    agent = {key: value for key, value in other.items() if key.startswith("agent")}
    stray = call(tool, ARGUMENTS if tool == "http_request" else {"url": ARGUMENTS["url"]}, needs_approval=False)
    later = await stores.post(posted.turn.session_id, user=user, turn_plan=plan(**bound | agent))
    await stores.answer(later.turn.id, calls=[stray])

    report = await bench.handler.handle_tool_call(stray.id)

    assert (report.status is ToolCallStatus.COMPLETED) is runs
    assert len(bench.fetcher.bodies) == 1 + runs


async def test_quorum_runs_exactly_the_arguments_that_were_agreed_on(bench: Bench) -> None:
    proposal, approval_id, _ = await bench.asked(quorum=2)

    first = await bench.decide(approval_id, _who("a"), arguments=CHANGED)
    assert (first.must_be_delivered, first.approval.status) == (False, ApprovalStatus.PENDING)
    assert first.approval.votes[0].arguments == CHANGED
    assert envelopes(first.messages)[0]["type"] == "tool_call.pending"
    assert (await bench.handler.handle_tool_call(proposal.id)).pending
    again = await bench.decide(approval_id, _who("a"), arguments=CHANGED)
    assert (again.messages, again.must_be_delivered) == ([], False)
    last = await bench.decide(approval_id, _who("b"), arguments=CHANGED)
    assert (last.new, last.must_be_delivered, last.approval.decided_arguments) == (True, True, CHANGED)

    report = await bench.handler.handle_tool_call(proposal.id)

    assert report.status is ToolCallStatus.COMPLETED
    assert bench.fetcher.bodies == [b'{"amount": 1}']
    assert bench.actions == [
        ("approval.requested", OWNER),
        ("approval.voted", "a"),
        ("approval.voted", "b"),
        ("approval.decided", "b"),
        ("tool_call.started", "system"),
        ("tool_call.ended", "system"),
    ]


@pytest.mark.parametrize("column", [b"decided_arguments", b"arguments_digest"])
async def test_what_was_tampered_with_after_the_decision_does_not_run(bench: Bench, column: bytes) -> None:
    proposal, approval_id, _ = await bench.asked(quorum=2)
    for user in ("a", "b"):
        await bench.decide(approval_id, _who(user), arguments=CHANGED)
    value = b"""'{"method": "POST", "url": "http://evil.test/"}'""" if column == b"decided_arguments" else b"'0'"
    await bench.stores.sql(b"UPDATE approvals SET " + column + b" = " + value + b" WHERE id = %(id)s", id=approval_id)

    report = await bench.handler.handle_tool_call(proposal.id)

    assert report.status is ToolCallStatus.FAILED
    assert bench.fetcher.bodies == []


async def test_what_is_told_of_an_approval_belongs_to_the_request_that_began_its_turn(bench: Bench) -> None:
    proposal = call("http_request", ARGUMENTS, needs_approval=True)
    await bench.stores.proposed(proposal, correlation_id="corr-1")
    record = await bench.stores.request_approval(proposal)
    links = ApprovalLinks("s" * 32, "http://localhost")
    secret = "whsec_" + "A" * 32
    notifier = ApprovalNotifier(bench.stores.approvals, links, url="http://127.0.0.1:1/", secret=secret)

    @tracing.activity("give_notice")
    async def remind() -> str | None:
        assert await bench.manager.give_notice(record.id, NoticeKind.REMINDER, 1) is not None
        return tracing.correlation_id()

    @tracing.activity("notify_approvers")
    async def notify() -> str | None:
        with pytest.raises(Transient):
            await notifier.notify(record.id, NoticeKind.REQUESTED, 0)
        return tracing.correlation_id()

    assert [await remind(), await notify()] == ["corr-1", "corr-1"]


async def test_who_may_see_and_not_decide_is_told_so_and_a_stranger_is_not(bench: Bench) -> None:
    _, approval_id, _ = await bench.asked(roles=[], users=["zoe"])

    for who, text in ((_who(OWNER, Role.USER), "not yours to decide"), (_who("petr"), "No such approval")):
        with pytest.raises(NotFound, match=text):
            await bench.decide(approval_id, who)
    with pytest.raises(NotFound):
        await bench.manager.get(approval_id, _who("petr"))
    assert (await bench.manager.get(approval_id, _who("zoe", Role.USER))).policy.users == ["zoe"]
    assert (await bench.decide(approval_id, _who("zoe", Role.USER))).new


async def test_who_asked_cannot_approve_and_can_reject(bench: Bench) -> None:
    _, approval_id, _ = await bench.asked(forbid_self_approval=True)

    view = await bench.manager.view(approval_id, _who(OWNER))
    assert view.may_decide
    assert view.refusal is not None
    with pytest.raises(Conflict) as caught:
        await bench.decide(approval_id, _who(OWNER))
    assert caught.value.code is ErrorCode.CONFLICT
    assert (await bench.decide(approval_id, _who(OWNER), NO)).approval.status is ApprovalStatus.REJECTED


async def test_those_who_may_decide_hear_of_it(bench: Bench) -> None:
    _, approval_id, messages = await bench.asked(roles=["admin"], users=["zoe"])

    wanted = [b'"groupName":"session-', b'"groupName":"admins-', b'"userId":"zoe"']
    assert len(messages) == 3
    for message, receiver in zip(messages, wanted, strict=True):
        assert receiver in message
        assert approval_id.encode() in message


async def test_a_granted_tool_runs_without_asking_and_leaves_a_trace(bench: Bench) -> None:
    proposal, approval_id, _ = await bench.asked(allow_for_session=True)
    decided = await bench.decide(approval_id, _who("a"), for_session=True)
    assert decided.approval.for_session
    await bench.handler.handle_tool_call(proposal.id)
    later = call("http_request", ARGUMENTS, needs_approval=False)
    await bench.stores.answer(decided.approval.turn_id, 2, calls=[later])

    report = await bench.handler.handle_tool_call(later.id)

    assert report.status is ToolCallStatus.COMPLETED
    assert [action for action, _ in bench.actions[3:]] == [
        "session.tool_granted",
        "tool_call.started",
        "tool_call.ended",
        "tool_call.started",
        "tool_call.ended",
    ]
    assert bench.audit.lines[-1][2]["granted"] == "session"


async def test_a_call_that_should_have_waited_does_not_run_without_its_grant(bench: Bench) -> None:
    """Whatever marked it as needing nobody: the session's row is asked again before it runs."""
    stray = call("http_request", ARGUMENTS, needs_approval=False)
    await bench.stores.proposed(stray, policies={"http_request": ApprovalPolicy(allow_for_session=True)})

    report = await bench.handler.handle_tool_call(stray.id)

    assert report.status is ToolCallStatus.FAILED
    assert bench.fetcher.bodies == []


@pytest.mark.parametrize(
    ("action", "status", "ran"),
    [
        (TimeoutAction.REJECT, ApprovalStatus.TIMED_OUT, []),
        (TimeoutAction.APPROVE, ApprovalStatus.APPROVED, [b"{}"]),
    ],
)
async def test_the_policy_says_what_it_means_that_nobody_answers(
    bench: Bench, action: TimeoutAction, status: ApprovalStatus, ran: list[bytes]
) -> None:
    proposal, approval_id, _ = await bench.asked(timeout_seconds=1, on_timeout=action, quorum=2)
    await bench.decide(approval_id, _who("a"), arguments=CHANGED)

    report = await bench.handler.handle_tool_call(proposal.id, deadline_passed=True)

    approval = await bench.manager.get(approval_id, _who("a"))
    assert (approval.expires_at - approval.requested_at).total_seconds() == 1
    assert (approval.status, approval.decided_by) == (status, None)
    assert report.status is (ToolCallStatus.COMPLETED if ran else ToolCallStatus.REJECTED)
    assert bench.fetcher.bodies == ran, "what one of two wanted to change was never agreed on"
    timed_out = next(details for _, action, details in bench.audit.lines if action == "approval.timed_out")
    assert timed_out["outcome"] == status


async def test_an_instance_id_of_an_unknown_approval_decides_nothing(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.decide(new_id(), _who("a"))
