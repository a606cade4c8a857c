"""ToolCallHandler and ToolApprovalManager over PostgreSQL and Redis: each call ends once, and runs at most once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from shared.errors import Conflict, ErrorCode, Gone, InvalidInput, NotFound, ToolFailed
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.approval import ToolApprovalManager
from shared.sessions.approvals.models import NewDecision
from shared.sessions.events import SessionEventPublisher, session_group
from shared.sessions.live.groups import role_group
from shared.sessions.models import (
    ApprovalMode,
    ApprovalStatus,
    Decision,
    MessageRole,
    SessionStatus,
    ToolCallStatus,
)
from shared.sessions.records.audit import SYSTEM
from shared.sessions.records.pages import ApprovalFilter, MessageFilter, Page, decode_cursor
from shared.sessions.records.steps import ProposedCall
from shared.sessions.records.tool_calls import CallStart
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools.registry import MAX_ERROR_CHARS, FetchRequest, FetchResponse, ToolServices
from shared.sessions.tools.services import HistoryAnswer, HistoryQuestion
from shared.sessions.turns.cancellation import CancelWatch
from shared.signing import ApprovalLinks
from tests.integration.domain import (
    OWNER,
    READER,
    STRANGER,
    WAIT_S,
    WRITER,
    RecordingAudit,
    Stores,
    call,
    envelopes,
    utc_now,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

UNATTENDED: dict[str, Any] = {
    "approval_mode": ApprovalMode.AUTO,
    "approval_floor": {"http_request": ApprovalMode.AUTO},
}
_ARGUMENTS = {"method": "POST", "url": "http://example.test/", "body": "{}"}
ANNA = Principal("anna", frozenset({Role.USER, Role.APPROVER}))
BEN = Principal("ben", frozenset({Role.USER, Role.APPROVER}))


@dataclass
class Fetcher:
    """An `HttpFetcher` that remembers, and does what the test says."""

    act: Callable[[], Any] | None = None
    requests: list[FetchRequest] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.requests.append(request)
        self.called.set()
        if self.act is not None:
            await self.act()
        return FetchResponse(200, request.url, {}, "done", 4, False, False)


@dataclass
class History:
    """A `HistorySearcher` that remembers who asked."""

    asked_as: list[str] = field(default_factory=list)

    async def find(self, question: HistoryQuestion) -> HistoryAnswer:
        self.asked_as.append(question.user_id)
        return HistoryAnswer([], only_there=True)


@dataclass
class Bench:
    stores: Stores
    fetcher: Fetcher
    history: History
    audit: RecordingAudit
    handler: ToolCallHandler
    approvals: ToolApprovalManager

    async def waiting(self, *, timeout_seconds: int = 3_600) -> tuple[ProposedCall, PostedMessage, str]:
        """A risky call whose approval is open: (call, turn, approval id)."""
        proposal = call("http_request", _ARGUMENTS, needs_approval=True)
        posted = await self.stores.proposed(proposal, approval_timeout_seconds=timeout_seconds)
        request = await self.approvals.request(proposal.id, instance_id="instance")
        assert request is not None
        return proposal, posted, request.approval_id

    async def decide(self, approval_id: str, decision: Decision, who: Principal = ANNA, **fields: Any) -> Any:
        return await self.approvals.decide(approval_id, NewDecision(decision=decision, **fields), who)

    async def handle(self, tool_call_id: str, **options: Any) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(tool_call_id, **options)

    async def told(self, posted: PostedMessage) -> list[dict[str, Any]]:
        """What the model is told: the contents of the turn's tool messages."""
        wanted = MessageFilter(role=MessageRole.TOOL)
        found = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        return [orjson.loads(message.content) for _, message in found]


@pytest.fixture
async def bench(stores: Stores, publisher: SessionEventPublisher) -> Bench:
    fetcher, history = Fetcher(), History()
    watch = CancelWatch(stores.turns.cancel_requested)
    links = ApprovalLinks("s" * 32, "http://localhost")
    return Bench(
        stores,
        fetcher,
        history,
        stores.audit,
        ToolCallHandler(stores.tool_calls, publisher, ToolServices(http=fetcher, history=history), watch, grace_s=0),
        ToolApprovalManager(
            stores.approvals, stores.tool_calls, publisher, stores.sessions, links, stores.trail, print_links=True
        ),
    )


async def test_an_automatic_call_runs_once_and_a_repeat_tells_the_same(bench: Bench) -> None:
    proposal = call("calculate", {"expression": "17 * 23"})
    posted = await bench.stores.proposed(proposal)

    report = await bench.handle(proposal.id)
    again = await bench.handle(proposal.id)

    assert (report.status, report.pending) == (ToolCallStatus.COMPLETED, False)
    assert [event["type"] for event in envelopes(report.messages)] == ["tool_call.completed", "message.created"]
    assert again.status is ToolCallStatus.COMPLETED
    assert [(event["type"], event["message_id"], event["data"]) for event in envelopes(again.messages)] == [
        (event["type"], event["message_id"], event["data"]) for event in envelopes(report.messages)
    ]
    (told,) = await bench.told(posted)
    assert told["status"] == "completed"
    assert "391" in told["untrusted_output"]
    assert bench.audit.lines == []


async def test_a_tool_acts_for_whoever_asked_in_its_turn_and_not_for_the_sessions_owner(bench: Bench) -> None:
    session = await bench.stores.shared_session()
    proposal = call("search_history", {"query": "plans"})
    posted = await bench.stores.post(session.id, user=WRITER)
    await bench.stores.answer(posted.turn.id, calls=[proposal])

    report = await bench.handle(proposal.id)

    assert report.status is ToolCallStatus.COMPLETED
    assert bench.history.asked_as == [WRITER]


async def test_a_result_beyond_any_integer_type_is_stored(bench: Bench) -> None:
    proposal = call("calculate", {"expression": "2 ** 200"})
    posted = await bench.stores.proposed(proposal)

    report = await bench.handle(proposal.id)

    assert report.status is ToolCallStatus.COMPLETED
    assert str(2**200) in (await bench.told(posted))[0]["untrusted_output"]


async def test_a_call_that_waits_does_nothing_until_somebody_decides(bench: Bench) -> None:
    proposal, posted, _ = await bench.waiting()

    report = await bench.handle(proposal.id)

    assert (report.pending, report.messages) == (True, [])
    assert bench.fetcher.requests == []
    assert await bench.told(posted) == []


async def test_an_approved_call_runs_with_its_id_as_idempotency_key(bench: Bench) -> None:
    proposal, posted, approval_id = await bench.waiting()
    decided = await bench.decide(approval_id, Decision.APPROVE)

    report = await bench.handle(proposal.id)

    assert report.status is ToolCallStatus.COMPLETED
    assert [(request.method, request.idempotency_key) for request in bench.fetcher.requests] == [("POST", proposal.id)]
    assert (await bench.told(posted))[0]["status"] == "completed"
    assert {event["type"] for event in envelopes(decided.messages)} == {"tool_call.approved"}
    assert [action for _, action, _ in bench.audit.lines] == [
        "approval.requested",
        "approval.voted",
        "approval.decided",
        "tool_call.started",
        "tool_call.ended",
    ]
    assert bench.audit.who == [OWNER, ANNA.user_id, ANNA.user_id, SYSTEM, SYSTEM]
    assert bench.audit.lines[2][2]["decision"] == "approve"
    assert bench.audit.lines[4][2]["status"] == "completed"


async def test_changed_arguments_run_instead_of_the_proposed_ones(bench: Bench) -> None:
    proposal, _, approval_id = await bench.waiting()
    changed = {"method": "PUT", "url": "http://other.test/x", "headers": {"X-A": "1"}}
    await bench.decide(approval_id, Decision.APPROVE, arguments=changed)

    await bench.handle(proposal.id)

    (request,) = bench.fetcher.requests
    assert (request.method, request.url) == ("PUT", "http://other.test/x")
    approval = await bench.approvals.get(approval_id, ANNA)
    assert (approval.arguments, approval.decided_arguments) == (_ARGUMENTS, changed)


async def test_arguments_that_are_not_the_approved_ones_do_not_run(bench: Bench) -> None:
    proposal, _, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)
    await bench.stores.sql(
        b"""UPDATE tool_calls SET arguments = jsonb_set(arguments, '{url}', '"http://evil.test/"') WHERE id = %(id)s""",
        id=proposal.id,
    )

    report = await bench.handle(proposal.id)

    assert report.status is ToolCallStatus.FAILED
    assert bench.fetcher.requests == []


async def test_a_call_whose_approval_was_never_asked_for_does_not_run(bench: Bench) -> None:
    proposal = call("http_request", _ARGUMENTS, needs_approval=True)
    await bench.stores.proposed(proposal)

    assert (await bench.handle(proposal.id)).status is ToolCallStatus.FAILED
    assert bench.fetcher.requests == []


@pytest.mark.parametrize(("floor", "runs"), [({}, False), ({"http_request": ApprovalMode.AUTO}, True)])
async def test_a_call_that_older_code_let_run_by_mode_auto_is_held_to_the_floor(
    bench: Bench, floor: dict[str, ApprovalMode], runs: bool
) -> None:
    proposal = call("http_request", _ARGUMENTS, needs_approval=False)
    await bench.stores.proposed(proposal, approval_mode=ApprovalMode.AUTO, approval_floor=floor)

    assert (await bench.handle(proposal.id)).status is (ToolCallStatus.COMPLETED if runs else ToolCallStatus.FAILED)
    assert len(bench.fetcher.requests) == runs


async def test_a_rejected_call_tells_the_model_who_and_why(bench: Bench) -> None:
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.REJECT, comment="Too \u201crisky\u201d")

    report = await bench.handle(proposal.id)

    assert report.status is ToolCallStatus.REJECTED
    assert bench.fetcher.requests == []
    (told,) = await bench.told(posted)
    assert (told["status"], told["by"], told["comment"]) == ("rejected", "anna", "Too \u201crisky\u201d")
    # The rejection itself was announced when it was made.
    assert [event["type"] for event in envelopes(report.messages)] == ["message.created"]


async def test_a_wait_that_is_over_ends_as_timed_out(bench: Bench) -> None:
    proposal, posted, approval_id = await bench.waiting(timeout_seconds=1)

    report = await bench.handle(proposal.id, deadline_passed=True)

    assert report.status is ToolCallStatus.REJECTED
    assert [event["type"] for event in envelopes(report.messages)] == ["tool_call.rejected", "message.created"]
    assert (await bench.told(posted))[0]["status"] == "timed_out"
    with pytest.raises(Gone) as caught:
        await bench.decide(approval_id, Decision.APPROVE)
    assert caught.value.code is ErrorCode.APPROVAL_TIMEOUT


async def test_a_decision_that_was_just_in_time_counts_although_the_wait_is_over(bench: Bench) -> None:
    proposal, _, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)

    assert (await bench.handle(proposal.id, deadline_passed=True)).status is ToolCallStatus.COMPLETED
    assert len(bench.fetcher.requests) == 1


async def test_a_decision_and_the_end_of_the_wait_at_once_leave_one_outcome(bench: Bench) -> None:
    for _ in range(5):
        proposal, _, approval_id = await bench.waiting()
        before = len(bench.fetcher.requests)

        outcomes: Any = await asyncio.gather(
            bench.decide(approval_id, Decision.APPROVE),
            bench.handle(proposal.id, deadline_passed=True),
            return_exceptions=True,
        )

        decided, report = outcomes
        assert isinstance(report, ToolReport)
        ran = len(bench.fetcher.requests) - before
        expected = ToolCallStatus.REJECTED if isinstance(decided, Gone) else ToolCallStatus.COMPLETED
        assert (report.status, ran) == (expected, 0 if isinstance(decided, Gone) else 1)


async def test_a_cancelled_turn_runs_nothing_that_had_not_begun(bench: Bench) -> None:
    proposal, posted, approval_id = await bench.waiting()
    await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    report = await bench.handle(proposal.id)

    assert (report.status, bench.fetcher.requests) == (ToolCallStatus.FAILED, [])
    assert "cancelled" in (await bench.told(posted))[0]["error"]
    with pytest.raises(Conflict):
        await bench.decide(approval_id, Decision.APPROVE)


async def test_a_cancel_stops_a_tool_that_runs(bench: Bench) -> None:
    bench.fetcher.act = asyncio.Event().wait
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)
    running = asyncio.create_task(bench.handle(proposal.id))
    await bench.fetcher.called.wait()

    await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    assert (await running).status is ToolCallStatus.FAILED
    assert "cancelled while" in (await bench.told(posted))[0]["error"]


async def test_a_cancel_just_before_the_start_keeps_the_tool_from_running_and_tells_no_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)
    begin = bench.stores.tool_calls.begin_tool_call

    async def late(*positional: Any, **named: Any) -> CallStart:
        await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
        return await begin(*positional, **named)

    monkeypatch.setattr(bench.stores.tool_calls, "begin_tool_call", late)

    report = await bench.handle(proposal.id)

    assert (report.status, bench.fetcher.requests) == (ToolCallStatus.FAILED, [])
    assert "cancelled before" in (await bench.told(posted))[0]["error"]
    assert [action for _, action, _ in bench.audit.lines[3:]] == ["tool_call.ended"]


async def test_a_call_of_a_suspended_session_does_not_begin_and_runs_once_it_is_resumed(bench: Bench) -> None:
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)
    await bench.stores.move(posted.turn.session_id, SessionStatus.SUSPENDED)

    report = await bench.handle(proposal.id)

    assert (report.is_held, report.messages, bench.fetcher.requests) == (True, [], [])
    assert "tool_call.started" not in {action for _, action, _ in bench.audit.lines}
    await bench.stores.move(posted.turn.session_id, SessionStatus.ACTIVE)
    assert (await bench.handle(proposal.id)).status is ToolCallStatus.COMPLETED
    again = await bench.handle(proposal.id)
    assert (again.is_repeated, len(bench.fetcher.requests)) == (True, 1)


async def test_a_suspension_just_before_the_start_keeps_the_tool_from_running_and_tells_no_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)
    begin = bench.stores.tool_calls.begin_tool_call

    async def late(*positional: Any, **named: Any) -> CallStart:
        await bench.stores.move(posted.turn.session_id, SessionStatus.SUSPENDED)
        return await begin(*positional, **named)

    monkeypatch.setattr(bench.stores.tool_calls, "begin_tool_call", late)

    assert (await bench.handle(proposal.id)).is_held
    assert bench.fetcher.requests == []
    assert len(bench.audit.lines) == 3


async def test_a_call_found_half_done_is_not_repeated_when_that_could_do_harm(bench: Bench) -> None:
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)
    await bench.stores.tool_calls.begin_tool_call(proposal.id, new_id(), now=utc_now())

    report = await bench.handle(proposal.id)

    assert (report.status, bench.fetcher.requests) == (ToolCallStatus.FAILED, [])
    assert "outcome is unknown" in (await bench.told(posted))[0]["error"]


async def test_a_call_found_half_done_is_repeated_when_that_does_no_harm(bench: Bench) -> None:
    proposal = call("calculate", {"expression": "1 + 1"})
    await bench.stores.proposed(proposal)
    await bench.stores.tool_calls.begin_tool_call(proposal.id, new_id(), now=utc_now())

    assert (await bench.handle(proposal.id)).status is ToolCallStatus.COMPLETED


async def test_a_process_that_dies_in_mid_call_leaves_the_outcome_unknown(bench: Bench) -> None:
    bench.fetcher.act = asyncio.Event().wait
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)
    running = asyncio.create_task(bench.handle(proposal.id))
    await bench.fetcher.called.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await bench.told(posted) == []

    assert (await bench.handle(proposal.id)).status is ToolCallStatus.FAILED
    assert len(bench.fetcher.requests) == 1


async def test_handlers_at_once_run_a_risky_call_once(bench: Bench) -> None:
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)

    reports = await asyncio.gather(*(bench.handle(proposal.id) for _ in range(5)))

    assert len(bench.fetcher.requests) == 1
    assert len(await bench.told(posted)) == 1
    assert len({report.status for report in reports}) == 1
    assert sum(bool(report.messages) and not report.is_repeated for report in reports) == 1


async def _bug() -> None:
    raise RuntimeError("password=hunter2")


async def _no_answer() -> None:
    raise ToolFailed("No answer came.")


async def _talks() -> None:
    raise ToolFailed("x" * 100_000)


@pytest.mark.parametrize(
    ("act", "told"),
    [(_bug, "The tool failed unexpectedly."), (_no_answer, "No answer came."), (_talks, "x" * MAX_ERROR_CHARS)],
    ids=["a bug", "a failure", "a long story"],
)
async def test_a_tool_that_fails_costs_the_turn_nothing(bench: Bench, act: Any, told: str) -> None:
    bench.fetcher.act = act
    proposal, posted, approval_id = await bench.waiting()
    await bench.decide(approval_id, Decision.APPROVE)

    report = await bench.handle(proposal.id)

    assert report.status is ToolCallStatus.FAILED
    assert (await bench.told(posted))[0] == {"status": "failed", "error": told}
    assert b"hunter2" not in b"".join(report.messages)


async def test_a_tool_that_takes_too_long_is_stopped(bench: Bench) -> None:
    bench.fetcher.act = asyncio.Event().wait
    proposal = call("http_request", _ARGUMENTS)
    posted = await bench.stores.proposed(proposal, tool_timeout_seconds=1, **UNATTENDED)

    report = await bench.handle(proposal.id)

    (event, _) = envelopes(report.messages)
    assert (event["type"], event["data"]["code"]) == ("tool_call.failed", "TOOL_TIMEOUT")
    assert "1 second" in (await bench.told(posted))[0]["error"]


@pytest.mark.parametrize(
    ("proposal", "code"),
    [
        (call("no_such_tool", {}, argument_error="There is no tool named 'no_such_tool'."), "TOOL_NOT_FOUND"),
        (call("calculate", {}, argument_error="expression: Field required"), "INVALID_TOOL_ARGS"),
    ],
    ids=["unknown tool", "bad arguments"],
)
async def test_a_call_that_cannot_run_says_why(bench: Bench, proposal: ProposedCall, code: str) -> None:
    posted = await bench.stores.proposed(proposal)

    report = await bench.handle(proposal.id)

    (event, _) = envelopes(report.messages)
    assert event["data"]["code"] == code
    assert (await bench.told(posted))[0]["error"] == proposal.argument_error


async def test_a_call_that_does_not_exist_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.handle("no-such-call")


class TestApprovals:
    async def test_a_request_goes_to_the_session_and_to_the_approvers(self, bench: Bench) -> None:
        proposal = call("http_request", _ARGUMENTS, needs_approval=True)
        posted = await bench.stores.proposed(proposal)

        first = await bench.approvals.request(proposal.id, instance_id="i")
        again = await bench.approvals.request(proposal.id, instance_id="i")

        assert first is not None
        assert again is not None
        groups = [orjson.loads(message)["groupName"] for message in first.messages]
        assert groups == [session_group(posted.target.feed), role_group(Role.APPROVER, utc_now())]
        event = envelopes(first.messages)[0]
        assert (event["type"], event["data"]["approval"]["arguments"]) == ("tool_call.pending", _ARGUMENTS)
        # A repeat opens nothing, and tells again: the first may have been killed before it could.
        assert (again.approval_id, again.expires_at) == (first.approval_id, first.expires_at)
        assert [event["type"] for event in envelopes(again.messages)] == ["tool_call.pending"] * 2

    @pytest.mark.parametrize("decision", list(Decision))
    async def test_the_same_decision_again_is_answered_and_another_is_refused(
        self, bench: Bench, decision: Decision
    ) -> None:
        _, _, approval_id = await bench.waiting()
        other = Decision.REJECT if decision is Decision.APPROVE else Decision.APPROVE
        first = await bench.decide(approval_id, decision)

        again = await bench.decide(approval_id, decision, BEN)

        assert (first.new, again.new, again.messages) == (True, False, [])
        assert again.approval == first.approval
        with pytest.raises(Conflict, match="anna"):
            await bench.decide(approval_id, other, BEN)
        if decision is Decision.APPROVE:
            with pytest.raises(Conflict):
                await bench.decide(approval_id, decision, arguments={**_ARGUMENTS, "method": "PUT"})

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [({"method": "POST"}, "url"), ({**_ARGUMENTS, "verify": False}, "verify"), ({**_ARGUMENTS, "url": "x"}, "url")],
    )
    async def test_changed_arguments_must_fit_the_tool(
        self, bench: Bench, arguments: dict[str, Any], field: str
    ) -> None:
        _, _, approval_id = await bench.waiting()

        with pytest.raises(InvalidInput) as caught:
            await bench.decide(approval_id, Decision.APPROVE, arguments=arguments)

        assert caught.value.code is ErrorCode.INVALID_TOOL_ARGS
        assert field in caught.value.safe_message
        assert (await bench.approvals.get(approval_id, ANNA)).status is ApprovalStatus.PENDING

    async def test_a_rejection_with_other_arguments_is_refused(self, bench: Bench) -> None:
        _, _, approval_id = await bench.waiting()

        with pytest.raises(InvalidInput):
            await bench.decide(approval_id, Decision.REJECT, arguments={**_ARGUMENTS, "method": "PUT"})

    @pytest.mark.parametrize(
        "who",
        [
            Principal(STRANGER, frozenset({Role.USER})),
            Principal(READER, frozenset({Role.USER, Role.ADMIN})),
        ],
        ids=["stranger", "admin"],
    )
    async def test_only_approvers_decide_and_others_cannot_tell_that_it_exists(
        self, bench: Bench, who: Principal
    ) -> None:
        _, _, approval_id = await bench.waiting()

        with pytest.raises(NotFound) as existing:
            await bench.decide(approval_id, Decision.APPROVE, who)
        with pytest.raises(NotFound) as missing:
            await bench.decide("no-such-approval", Decision.APPROVE, who)

        assert existing.value.safe_message == missing.value.safe_message
        assert await bench.approvals.inbox(who, ApprovalFilter(), Page()) == ([], None)

    async def test_those_in_the_session_may_look_and_strangers_may_not(self, bench: Bench) -> None:
        _, posted, approval_id = await bench.waiting()
        await bench.stores.share(posted.turn.session_id, READER, "read")

        for user in (OWNER, READER):
            assert (await bench.approvals.get(approval_id, Principal(user, frozenset({Role.USER})))).id == approval_id
        with pytest.raises(NotFound):
            await bench.approvals.get(approval_id, Principal(STRANGER, frozenset({Role.USER})))

    async def test_what_a_session_asked_for_is_listed_to_its_people_page_by_page(self, bench: Bench) -> None:
        proposals = [call("http_request", _ARGUMENTS, needs_approval=True, ordinal=n) for n in range(3)]
        posted = await bench.stores.turn()
        await bench.stores.answer(posted.turn.id, calls=proposals)
        asked = [await bench.approvals.request(proposal.id, instance_id="i") for proposal in proposals]
        newest_first = [request.approval_id for request in reversed(asked) if request]
        await bench.waiting()  # in another session
        await bench.decide(newest_first[0], Decision.REJECT)
        session_id, turn_id = posted.turn.session_id, posted.turn.id
        await bench.stores.share(session_id, READER, "read")

        async def listed(user: str, **wanted: Any) -> list[str]:
            who = Principal(user, frozenset({Role.USER}))
            found, cursor = await bench.approvals.of_session(session_id, who, ApprovalFilter(**wanted), Page(limit=2))
            while cursor is not None:
                page = Page(limit=2, after=decode_cursor(cursor, datetime))
                more, cursor = await bench.approvals.of_session(session_id, who, ApprovalFilter(**wanted), page)
                found.extend(more)
            return [item.id for item in found]

        for user in (OWNER, READER):
            assert await listed(user) == newest_first
        assert await listed(OWNER, status=ApprovalStatus.PENDING) == newest_first[1:]
        assert await listed(OWNER, turn_id=turn_id, tool="http_request") == newest_first
        assert await listed(OWNER, turn_id="another") == []
        assert await listed(OWNER, tool="calculate") == []
        for user in (STRANGER, ANNA.user_id):
            with pytest.raises(NotFound):
                await listed(user)

    async def test_the_inbox_pages_to_its_end(self, bench: Bench) -> None:
        proposals = [call("http_request", _ARGUMENTS, needs_approval=True, ordinal=n) for n in range(3)]
        posted = await bench.stores.turn()
        await bench.stores.answer(posted.turn.id, calls=proposals)
        for proposal in proposals:
            await bench.approvals.request(proposal.id, instance_id=proposal.id)

        items, cursor = await bench.approvals.inbox(
            ANNA, ApprovalFilter(session_id=posted.turn.session_id), Page(limit=2)
        )

        assert [item.tool_call_id for item in items] == [proposals[2].id, proposals[1].id]
        assert cursor is not None

    async def test_a_turn_cancelled_before_the_request_asks_nobody(self, bench: Bench) -> None:
        proposal = call("http_request", _ARGUMENTS, needs_approval=True)
        posted = await bench.stores.proposed(proposal)
        await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

        assert await bench.approvals.request(proposal.id, instance_id="i") is None

    async def test_the_wait_ends_when_the_plan_says(self, bench: Bench) -> None:
        _, _, approval_id = await bench.waiting(timeout_seconds=90)

        approval = await bench.approvals.get(approval_id, ANNA)

        assert approval.expires_at - approval.requested_at == timedelta(seconds=90)
