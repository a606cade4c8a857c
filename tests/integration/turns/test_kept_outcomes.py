"""Short faults of the database around a tool call and an answer: what was done is stored, and told as done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.errors import ErrorCode, Transient
from shared.ids import new_id
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import SessionStatus, ToolCallStatus, TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools.registry import ToolServices
from shared.sessions.tools.services import FetchRequest, FetchResponse
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.keeping import Keeper
from tests.integration.bench import Bench
from tests.integration.domain import Stores, call, envelopes, script, utc_now, vote_on

pytestmark = pytest.mark.integration

AWAY = Transient(ErrorCode.DATABASE_ERROR, "away")


class Faulty:
    """A repository where one method fails `times` times. done: it does its work first, and its answer is lost."""

    def __init__(self, rows: Any, method: str, *, times: int, done: bool) -> None:
        self._rows = rows
        self._method = method
        self._left = times
        self._done = done

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Awaitable[Any]] = getattr(self._rows, name)
        return real if name != self._method else self._fail(real)

    def _fail(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def failing(*positional: Any, **named: Any) -> Any:
            if not self._left:
                return await real(*positional, **named)
            self._left -= 1
            if self._done:
                await real(*positional, **named)
            raise AWAY

        return failing


class Counter:
    """An `HttpFetcher` that counts what it is asked for."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.calls += 1
        self.called.set()
        return FetchResponse(200, request.url, {}, "done", 4, False, False)


class Process:
    """A process that runs tools, over rows that may fail."""

    def __init__(self, stores: Stores, publisher: SessionEventPublisher, rows: Any, outside: Counter) -> None:
        watch = CancelWatch(stores.turns.cancel_requested)
        self.handler = ToolCallHandler(
            rows,
            publisher,
            ToolServices(http=outside),
            watch,
            Keeper(stay_s=5, retry_s=0.01),
            grace_s=0.2,
            retry_s=0.01,
        )

    async def run(self, tool_call_id: str) -> ToolReport:
        return await self.handler.handle_tool_call(tool_call_id)


async def _approved(stores: Stores) -> str:
    """A POST that may run: its id."""
    proposal = call("http_request", {"method": "POST", "url": "http://example.test/", "body": ""}, needs_approval=True)
    await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)
    assert await stores.decide(approval, vote_on(approval))
    return proposal.id


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("done", [False, True], ids=["not done", "done and not answered"])
@pytest.mark.parametrize("method", ["begin_tool_call", "save_tool_result", "mark_approval_delivered"])
async def test_a_call_runs_once_and_is_told_as_done_whatever_statement_fails(
    stores: Stores, publisher: SessionEventPublisher, method: str, done: bool, times: int
) -> None:
    tool_call_id, outside = await _approved(stores), Counter()
    process = Process(stores, publisher, Faulty(stores.tool_calls, method, times=times, done=done), outside)

    if method == "mark_approval_delivered":
        # Asked for again each time; what ran is stored.
        for _ in range(times):
            with pytest.raises(Transient):
                await process.run(tool_call_id)

    report = await process.run(tool_call_id)

    assert (report.status, outside.calls) == (ToolCallStatus.COMPLETED, 1)
    assert [event["type"] for event in envelopes(report.messages)] == ["tool_call.completed", "message.created"]
    assert (await stores.tool_calls.tool_execution(tool_call_id)).status is ToolCallStatus.COMPLETED


async def test_a_database_that_is_away_for_longer_than_the_activity_stays_costs_nothing(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    tool_call_id, outside = await _approved(stores), Counter()
    rows = Faulty(stores.tool_calls, "save_tool_result", times=10, done=False)
    process = Process(stores, publisher, rows, outside)
    process.handler._keeper = Keeper(stay_s=0, retry_s=0.01)

    for _ in range(2):
        with pytest.raises(Transient, match="cannot be reached"):
            await process.run(tool_call_id)
    process.handler._keeper._stay_s = 5
    report = await process.run(tool_call_id)

    assert (report.status, report.is_repeated, outside.calls) == (ToolCallStatus.COMPLETED, True, 1)


async def test_another_process_waits_a_moment_for_the_one_that_has_the_result(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    tool_call_id, outside = await _approved(stores), Counter()
    owner = Process(stores, publisher, Faulty(stores.tool_calls, "save_tool_result", times=5, done=False), outside)
    other = Process(stores, publisher, stores.tool_calls, outside)

    first, second = await asyncio.gather(owner.run(tool_call_id), _soon(other, outside, tool_call_id))

    assert {first.status, second.status} == {ToolCallStatus.COMPLETED}
    assert outside.calls == 1


async def _soon(process: Process, outside: Counter, tool_call_id: str) -> ToolReport:
    """Asked for again as soon as the tool has run."""
    await outside.called.wait()
    return await process.run(tool_call_id)


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done and not answered"])
async def test_an_answer_is_stored_when_the_database_is_back_and_not_asked_for_again(
    bench: Bench, stores: Stores, done: bool
) -> None:
    key = new_id()
    posted = await stores.turn(script(key=key, content="all of it"))
    bench.bridge._steps = Faulty(stores.steps, "save_step", times=3, done=done)
    bench.bridge._keeper = Keeper(stay_s=5, retry_s=0.01)

    report = await bench.run(posted)

    assert report.outcome is StepOutcome.FINAL
    assert (await bench.answer(posted)).content == "all of it"
    assert (await bench.calls(key))["calls"] == 1
    used = await stores.rows(_USED, t=posted.turn.id)
    bench.bridge._steps = stores.steps
    other = await stores.turn(script(key=new_id(), content="all of it"))
    await bench.run(other)
    assert used == await stores.rows(_USED, t=other.turn.id), "counted once"


_USED = b"SELECT output_tokens, counted_tokens > 0 AS is_counted FROM turns WHERE id = %(t)s"


async def test_a_start_that_was_stored_and_then_held_is_still_ours(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    tool_call_id, outside = await _approved(stores), Counter()
    rows = Faulty(stores.tool_calls, "begin_tool_call", times=1, done=True)
    process = Process(stores, publisher, rows, outside)
    session_id = (await stores.tool_calls.tool_execution(tool_call_id)).session_id

    async def suspend(_: float) -> None:
        await stores.move(session_id, SessionStatus.SUSPENDED)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shared.sessions.tool_handler.asyncio.sleep", suspend)
        assert (await process.run(tool_call_id)).is_held
    await stores.move(session_id, SessionStatus.ACTIVE)

    assert (await process.run(tool_call_id)).status is ToolCallStatus.COMPLETED
    assert outside.calls == 1


async def test_a_call_that_had_begun_is_never_said_not_to_have_run(stores: Stores) -> None:
    begun, waiting = call("http_request", {"a": 1}), call("http_request", {"a": 2}, ordinal=1)
    posted = await stores.turn()
    await stores.answer(posted.turn.id, calls=[begun, waiting])
    await stores.tool_calls.begin_tool_call(begun.id, new_id(), now=utc_now())

    await stores.finish(posted.turn.id, TurnStatus.FAILED)

    results = [(await stores.tool_calls.tool_execution(one.id)).result for one in (begun, waiting)]
    assert results == [
        {"error": "The turn ended while this call ran; its outcome is unknown."},
        {"error": "The turn ended before this call ran."},
    ]
