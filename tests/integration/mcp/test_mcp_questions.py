"""A server asks the user in the middle of a call: a wait that is stored, answered once, and gone on from once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import orjson
import pytest

from shared.errors import Conflict, ErrorCode, Gone, InvalidInput, NotFound, Transient
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import (
    InputAction,
    InputAnswer,
    MessageRole,
    NewInput,
    SessionStatus,
    ToolCallStatus,
    ToolWait,
    TurnStatus,
    WaitStatus,
)
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import ProposedCall
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools.registry import ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.keeping import Keeper
from shared.sessions.waits.opening import MAX_ROUNDS
from shared.sessions.waits.service import ToolWaits
from shared.signing import CompletionTokens
from tests.integration.domain import OWNER, READER, WAIT_S, WRITER, Stores, call, plan, utc_now
from tests.integration.mcp.served import ECHO, Served, client_of, serving
from tests.integration.turns.test_kept_outcomes import Faulty

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

NAME = "own__echo"
ME = Principal(OWNER, frozenset({Role.USER}))
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 2, "title": "Your name"}, "age": {"type": "integer"}},
    "required": ["name"],
}


def asks(*, state: str | None = "state-1", **questions: str) -> dict[str, Any]:
    """A result that asks; questions: messages by their id."""
    requests = {
        key: {
            "method": "elicitation/create",
            "params": {"mode": "form", "message": message, "requestedSchema": FORM},
        }
        for key, message in (questions or {"who": "Who are you?"}).items()
    }
    asked: dict[str, Any] = {"resultType": "input_required", "inputRequests": requests}
    return asked if state is None else {**asked, "requestState": state}


DONE = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}


class Bench:
    def __init__(self, stores: Stores, publisher: SessionEventPublisher, served: Served) -> None:
        self.stores, self.served = stores, served
        watch = CancelWatch(stores.turns.cancel_requested)
        services = ToolServices(mcp=client_of(f"127.0.0.1:{served.port}"))
        self.handler = ToolCallHandler(stores.tool_calls, publisher, services, watch, grace_s=0, waits=stores.waits)
        self.waits = ToolWaits(stores.waits, publisher, CompletionTokens("s" * 32, "http://localhost"))
        self.served.result = asks()

    async def proposed(self, **rules: Any) -> tuple[ProposedCall, PostedMessage]:
        proposal = call(NAME, {"text": "a"})
        auto = {"approval": "auto", "acts_outward": False, **rules}
        pinned = self.served.pinned(rules={"echo": auto})
        return proposal, await self.stores.proposed(proposal, tools=[NAME], mcp={NAME: pinned}, approval_mode="auto")

    async def run(self, proposal: ProposedCall, **options: Any) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await self.handler.handle_tool_call(proposal.id, **options)

    async def asked(self, **rules: Any) -> tuple[ProposedCall, PostedMessage, ToolWait]:
        proposal, posted = await self.proposed(**rules)
        report = await self.run(proposal)
        assert report.wait is not None
        return proposal, posted, report.wait

    async def answer(self, wait: ToolWait, by: Principal = ME, **answers: InputAnswer) -> Any:
        body = NewInput(wait_id=wait.id, answers=answers or {"who": yes()})
        return await self.waits.answer(wait.tool_call_id, body, by)

    async def told(self, posted: PostedMessage) -> dict[str, Any]:
        wanted = MessageFilter(role=MessageRole.TOOL)
        ((_, message),) = await self.stores.turns.list_messages(posted.turn.session_id, wanted, Page())
        told: dict[str, Any] = orjson.loads(message.content)
        return told

    async def turn(self, posted: PostedMessage) -> Any:
        return await self.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

    def sent(self) -> list[dict[str, Any]]:
        """Parameters of each call that the server got."""
        return [params for method, params, _ in self.served.seen if method == "tools/call"]

    def trail(self, action: str) -> list[dict[str, Any]]:
        return [details for _, told, details in self.stores.audit.lines if told == action]


def yes(**content: Any) -> InputAnswer:
    return InputAnswer(action=InputAction.ACCEPT, content=content or {"name": "Ada"})


@pytest.fixture
async def bench(stores: Stores, publisher: SessionEventPublisher) -> AsyncIterator[Bench]:
    async with serving() as served:
        yield Bench(stores, publisher, served)


class TestAsking:
    async def test_the_turn_waits_and_tells_what_is_asked_by_whom_of_whom(self, bench: Bench) -> None:
        _proposal, posted, wait = await bench.asked()

        turn = await bench.turn(posted)
        assert (turn.status, turn.waits) == (TurnStatus.WAITING_INPUT, [wait])
        assert (wait.asked_by, wait.asked_of, wait.status) == ("own", OWNER, WaitStatus.PENDING)
        (question,) = wait.questions
        assert (question.id, question.message) == ("who", "Who are you?")
        assert list(question.requested_schema["properties"]) == ["name", "age"]

    async def test_a_repeat_finds_the_question_asked_and_does_not_call_again(self, bench: Bench) -> None:
        proposal, _posted, wait = await bench.asked()

        assert (await bench.run(proposal)).wait == wait
        assert len(bench.sent()) == 1

    async def test_the_deadline_is_that_of_approvals(self, bench: Bench) -> None:
        _proposal, posted, wait = await bench.asked()

        timeout_s = (await bench.stores.tool_calls.tool_execution(wait.tool_call_id)).plan.approval_timeout_seconds
        assert wait.expires_at - wait.opened_at == timedelta(seconds=timeout_s)
        assert (await bench.turn(posted)).ended_at is None

    async def test_a_waiting_turn_is_not_missed_by_the_sweep_before_its_deadline(self, bench: Bench) -> None:
        _proposal, posted, wait = await bench.asked()

        look = await bench.stores.turns.look_again(posted.turn.id)
        assert look is not None
        assert look.quiet_until >= wait.expires_at

    async def test_two_who_run_the_call_at_once_ask_one_question(self, bench: Bench) -> None:
        proposal, posted = await bench.proposed(idempotent=True)

        reports = await asyncio.gather(*(bench.run(proposal) for _ in range(4)))

        assert len({report.wait.id for report in reports if report.wait is not None}) == 1
        assert len((await bench.turn(posted)).waits) == 1


class TestAnswering:
    async def test_the_call_is_repeated_with_the_answer_and_the_state_and_its_result_is_told(
        self, bench: Bench
    ) -> None:
        proposal, posted, wait = await bench.asked()

        answered = await bench.answer(wait)
        bench.served.result = DONE
        report = await bench.run(proposal)

        assert (answered.wait.status, answered.wait.actions) == (WaitStatus.ANSWERED, {"who": InputAction.ACCEPT})
        assert report.status is ToolCallStatus.COMPLETED
        first, second = bench.sent()
        assert "inputResponses" not in first
        assert second["arguments"] == first["arguments"]
        assert second["inputResponses"] == {"who": {"action": "accept", "content": {"name": "Ada"}}}
        assert second["requestState"] == "state-1"
        assert await bench.told(posted) == {"status": "completed", "untrusted_output": "done"}
        assert (await bench.turn(posted)).waits == []

    async def test_a_retry_is_another_request_than_the_call_that_asked(self, bench: Bench) -> None:
        proposal, _posted, wait = await bench.asked()
        await bench.answer(wait)
        await bench.run(proposal)

        keys = [headers["idempotency-key"] for method, _, headers in bench.served.seen if method == "tools/call"]
        assert keys == [proposal.id, f"{proposal.id}.1"]

    @pytest.mark.parametrize("action", [InputAction.DECLINE, InputAction.CANCEL])
    async def test_a_no_is_told_to_the_server_which_says_what_follows(self, bench: Bench, action: InputAction) -> None:
        bench.served.result = asks(state=None)
        proposal, posted, wait = await bench.asked()
        bench.served.result = DONE

        await bench.answer(wait, who=InputAnswer(action=action))
        await bench.run(proposal)

        assert bench.sent()[1]["inputResponses"] == {"who": {"action": action.value}}
        assert "requestState" not in bench.sent()[1]
        assert (await bench.told(posted))["status"] == "completed"

    async def test_a_server_may_ask_again_and_an_answer_to_the_question_before_is_refused(self, bench: Bench) -> None:
        proposal, posted, first = await bench.asked()
        await bench.answer(first)
        bench.served.result = asks(state="state-2", where="Where?")

        second = (await bench.run(proposal)).wait
        assert second is not None
        assert [wait.id for wait in (await bench.turn(posted)).waits] == [second.id]
        with pytest.raises(Conflict):
            await bench.answer(first, who=yes(name="Eve"))
        bench.served.result = DONE
        await bench.answer(second, where=yes())
        assert (await bench.run(proposal)).status is ToolCallStatus.COMPLETED

        assert bench.sent()[2]["requestState"] == "state-2"
        assert list(bench.sent()[2]["inputResponses"]) == ["where"]

    async def test_a_server_that_asks_for_ever_is_not_answered_for_ever(self, bench: Bench) -> None:
        proposal, posted = await bench.proposed()
        for _ in range(MAX_ROUNDS):
            wait = (await bench.run(proposal)).wait
            assert wait is not None
            await bench.answer(wait)

        assert (await bench.run(proposal)).status is ToolCallStatus.FAILED
        assert f"more than {MAX_ROUNDS} times" in (await bench.told(posted))["error"]

    async def test_a_definition_that_changed_while_the_user_thought_is_not_called(self, bench: Bench) -> None:
        proposal, posted, wait = await bench.asked()
        await bench.answer(wait)
        bench.served.tools = [{**ECHO, "description": "Send the name to everybody"}]

        assert (await bench.run(proposal)).status is ToolCallStatus.FAILED

        assert len(bench.sent()) == 1
        assert "Definition changed" in (await bench.told(posted))["error"]

    async def test_two_answers_at_once_one_stands(self, bench: Bench) -> None:
        _proposal, _posted, wait = await bench.asked()

        said = await asyncio.gather(
            *(bench.answer(wait, who=yes(name=name)) for name in ("Ada", "Bob", "Cid", "Dan")), return_exceptions=True
        )

        assert sum(isinstance(one, Conflict) for one in said) == 3

    async def test_the_same_answer_again_is_fine_also_after_the_call_has_ended(self, bench: Bench) -> None:
        proposal, _posted, wait = await bench.asked()
        bench.served.result = DONE
        first = await bench.answer(wait)
        assert (await bench.answer(wait)).wait == first.wait
        await bench.run(proposal)

        assert (await bench.answer(wait)).wait == first.wait
        with pytest.raises(Conflict):
            await bench.answer(wait, who=yes(name="Bob"))

    async def test_answers_and_state_are_forgotten_with_the_end_of_the_call_and_never_in_the_trail(
        self, bench: Bench
    ) -> None:
        proposal, _posted, wait = await bench.asked()
        bench.served.result = DONE
        await bench.answer(wait)
        await bench.run(proposal)

        (row,) = await bench.stores.rows(b"SELECT answer, state FROM tool_waits WHERE id = %(id)s", id=wait.id)
        assert (row["answer"], row["state"]) == (None, None)
        (line,) = bench.trail("tool_call.answered")
        assert line["actions"] == {"who": "accept"}
        assert "Ada" not in str(bench.stores.audit.lines)
        assert [one["asked_by"] for one in bench.trail("tool_call.waiting")] == ["own"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("answers", "field"),
        [
            ({"who": InputAnswer(action=InputAction.ACCEPT)}, "answers.who"),
            ({"who": InputAnswer(action=InputAction.ACCEPT, content={"name": "A"})}, "answers.who"),
            ({"who": InputAnswer(action=InputAction.ACCEPT, content={"name": "Ada", "card": "4"})}, "answers.who"),
            ({"who": InputAnswer(action=InputAction.ACCEPT, content={"name": "a" * 20_000})}, "answers.who"),
            ({"who": InputAnswer(action=InputAction.DECLINE, content={"name": "Ada"})}, "answers.who"),
            ({"who": InputAnswer(action=InputAction.DECLINE), "else": yes()}, "answers.else"),
            ({"else": yes()}, "answers.who"),
        ],
    )
    async def test_what_does_not_fit_the_question_changes_nothing(
        self, bench: Bench, answers: dict[str, InputAnswer], field: str
    ) -> None:
        _proposal, posted, wait = await bench.asked()

        with pytest.raises(InvalidInput) as caught:
            await bench.answer(wait, **answers)

        assert field in [error["field"] for error in caught.value.errors]
        assert (await bench.turn(posted)).waits == [wait]

    async def test_nobody_else_answers_whatever_they_may_in_the_session(self, bench: Bench) -> None:
        _proposal, posted, wait = await bench.asked()
        for user, access in ((WRITER, "write"), (READER, "read")):
            await bench.stores.share(posted.turn.session_id, user, access)

        for user in (WRITER, READER, "stranger"):
            with pytest.raises(NotFound):
                await bench.answer(wait, Principal(user, frozenset({Role.USER, Role.ADMIN, Role.APPROVER})))

        assert (await bench.turn(posted)).waits == [wait]

    async def test_who_may_only_read_by_now_does_not_answer_what_they_were_asked(self, bench: Bench) -> None:
        session = await bench.stores.shared_session()
        proposal = call(NAME, {"text": "a"})
        pinned = bench.served.pinned(rules={"echo": {"approval": "auto", "acts_outward": False}})
        with_tool = plan(tools=[NAME], mcp={NAME: pinned}, approval_mode="auto")
        posted = await bench.stores.post(session.id, user=WRITER, turn_plan=with_tool)
        await bench.stores.answer(posted.turn.id, calls=[proposal])
        wait = (await bench.run(proposal)).wait
        assert wait is not None
        assert wait.asked_of == WRITER
        sql = b"UPDATE session_participants SET access = 'read' WHERE session_id = %(s)s AND user_id = %(u)s"
        await bench.stores.sql(sql, s=session.id, u=WRITER)

        with pytest.raises(NotFound):
            await bench.answer(wait, Principal(WRITER, frozenset({Role.USER})))

    async def test_an_answer_for_another_call_is_not_found(self, bench: Bench) -> None:
        _proposal, _posted, wait = await bench.asked()
        other, _, _ = await bench.asked()

        with pytest.raises(NotFound):
            await bench.waits.answer(other.id, NewInput(wait_id=wait.id, answers={"who": yes()}), ME)

    async def test_after_the_deadline_it_is_too_late_and_the_model_is_told(self, bench: Bench) -> None:
        proposal, posted, wait = await bench.asked()
        sql = b"UPDATE tool_waits SET expires_at = now() - interval '1 second' WHERE id = %(id)s"
        await bench.stores.sql(sql, id=wait.id)

        with pytest.raises(Gone) as caught:
            await bench.answer(wait)
        report = await bench.run(proposal, late_wait=wait.id)

        assert caught.value.code is ErrorCode.APPROVAL_TIMEOUT
        assert report.status is ToolCallStatus.FAILED
        assert "did not answer in time" in (await bench.told(posted))["error"]
        with pytest.raises(Gone):
            await bench.answer(wait)

    async def test_an_answer_just_in_time_counts_although_the_deadline_was_seen(self, bench: Bench) -> None:
        proposal, _posted, wait = await bench.asked()
        await bench.answer(wait)
        bench.served.result = DONE

        assert (await bench.run(proposal, late_wait=wait.id)).status is ToolCallStatus.COMPLETED

    async def test_the_deadline_of_an_earlier_question_does_not_end_a_later_one(self, bench: Bench) -> None:
        proposal, _posted, first = await bench.asked()
        await bench.answer(first)
        bench.served.result = asks(state="2")
        assert (await bench.run(proposal)).wait is not None

        assert (await bench.run(proposal, late_wait=first.id)).wait is not None


class TestEndings:
    async def test_a_cancelled_turn_is_not_answered(self, bench: Bench) -> None:
        proposal, posted, wait = await bench.asked()

        interruption, _ = await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

        assert [wait_id for wait_id, _ in interruption.waits] == [wait.id]
        with pytest.raises(Conflict):
            await bench.answer(wait)
        assert (await bench.run(proposal)).status is ToolCallStatus.FAILED
        assert len(bench.sent()) == 1
        assert "cancelled" in (await bench.told(posted))["error"]

    async def test_an_answer_before_the_cancel_does_not_send_it(self, bench: Bench) -> None:
        proposal, posted, wait = await bench.asked()
        await bench.answer(wait)
        await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

        assert (await bench.run(proposal)).status is ToolCallStatus.FAILED
        assert len(bench.sent()) == 1

    async def test_the_end_of_the_session_ends_the_wait(self, bench: Bench) -> None:
        _proposal, posted, wait = await bench.asked()

        _, interruption = await bench.stores.move(posted.turn.session_id, SessionStatus.ENDED)

        assert [wait_id for wait_id, _ in interruption.waits] == [wait.id]
        with pytest.raises(Conflict):
            await bench.answer(wait)

    async def test_a_suspended_session_takes_the_answer_and_sends_it_when_it_is_resumed(self, bench: Bench) -> None:
        proposal, posted, wait = await bench.asked()
        bench.served.result = DONE
        await bench.stores.move(posted.turn.session_id, SessionStatus.SUSPENDED)
        await bench.answer(wait)

        assert (await bench.run(proposal)).is_held
        assert len(bench.sent()) == 1
        await bench.stores.move(posted.turn.session_id, SessionStatus.ACTIVE)
        assert (await bench.run(proposal)).status is ToolCallStatus.COMPLETED

    async def test_a_suspension_reaches_the_orchestration_that_waits(self, bench: Bench) -> None:
        proposal, posted, _wait = await bench.asked()

        hold = await bench.stores.sessions.hold(posted.turn.session_id)

        assert hold is not None
        assert f"{posted.turn.id}:{proposal.id}" in hold.instances
        assert await bench.stores.turns.calls_that_wait(posted.turn.id) == [proposal.id]

    async def test_a_call_that_was_cut_while_it_went_on_is_not_repeated(self, bench: Bench) -> None:
        proposal, posted, wait = await bench.asked()
        await bench.answer(wait)
        await bench.stores.waits.resume(proposal.id, wait.id, "a process that died", None, now=utc_now())

        assert (await bench.run(proposal)).status is ToolCallStatus.FAILED
        assert len(bench.sent()) == 1
        assert "outcome is unknown" in (await bench.told(posted))["error"]

    async def test_what_is_answered_and_not_delivered_is_found_until_it_is(self, bench: Bench) -> None:
        proposal, posted, wait = await bench.asked()
        await bench.answer(wait)
        later = utc_now() + timedelta(seconds=1)

        async def found() -> list[tuple[str, str]]:
            every = await bench.stores.waits.undelivered(before=later, limit=1_000)
            return [one for one in every if one[0] == wait.id]

        assert await found() == [(wait.id, f"{posted.turn.id}:{proposal.id}")]
        bench.served.result = DONE
        await bench.run(proposal)
        assert await found() == []


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("done", [False, True], ids=["not done", "done and not answered"])
@pytest.mark.parametrize("method", ["open", "answer", "resume", "time_out", "forget"])
async def test_it_is_asked_and_answered_once_whatever_statement_the_database_does_not_take(
    bench: Bench, publisher: SessionEventPublisher, method: str, done: bool, times: int
) -> None:
    rows: Any = Faulty(bench.stores.waits, method, times=times, done=done)
    watch = CancelWatch(bench.stores.turns.cancel_requested)
    services = ToolServices(mcp=client_of(f"127.0.0.1:{bench.served.port}"))
    keeper = Keeper(stay_s=5, retry_s=0.01)
    bench.handler = ToolCallHandler(
        bench.stores.tool_calls, publisher, services, watch, keeper, grace_s=0, retry_s=0.01, waits=rows
    )
    bench.waits = ToolWaits(rows, publisher, CompletionTokens("s" * 32, "http://localhost"))

    async def again[T](act: Callable[[], Awaitable[T]]) -> T:
        """As an orchestration, or a person, asks again."""
        for _ in range(times):
            with contextlib.suppress(Transient):
                return await act()
        return await act()

    proposal, posted = await bench.proposed()
    wait = (await again(lambda: bench.run(proposal))).wait
    assert wait is not None
    if method == "time_out":
        assert (await again(lambda: bench.run(proposal, late_wait=wait.id))).status is ToolCallStatus.FAILED
        assert len(bench.sent()) == 1
        return
    await again(lambda: bench.answer(wait))
    bench.served.result = DONE
    report = await again(lambda: bench.run(proposal))

    assert report.status is ToolCallStatus.COMPLETED
    assert len(bench.sent()) == 2
    assert (await bench.told(posted))["untrusted_output"] == "done"
    assert [len(bench.trail(action)) for action in ("tool_call.waiting", "tool_call.answered")] == [1, 1]


async def test_where_nobody_can_be_asked_the_call_fails_and_says_so(bench: Bench) -> None:
    proposal, posted = await bench.proposed()
    bench.handler._waits = None

    assert (await bench.run(proposal)).status is ToolCallStatus.FAILED
    assert "nobody can be asked here" in (await bench.told(posted))["error"]
