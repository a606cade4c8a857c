"""Lanes of answers and of tool calls, over the scripted model and PostgreSQL: who waits has begun nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.models.service import ModelService
from shared.errors import ErrorCode
from shared.ids import new_id
from shared.lanes import Lane, LaneLimits
from shared.sessions.bridge import SessionAgentBridge
from shared.sessions.events import SessionEventPublisher
from shared.sessions.executor import AgentExecutor
from shared.sessions.models import SessionStatus, ToolCallStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import PostedMessage
from shared.sessions.tool_handler import ToolCallHandler, ToolReport
from shared.sessions.tools.registry import FetchRequest, FetchResponse, ToolServices
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.patience import FIRST_TRY, Patience, Spent
from shared.sessions.turns.queueing import LONGEST_WAIT_S, Waited
from tests.integration.bench import Bench, settings_for
from tests.integration.domain import (
    OWNER,
    WAIT_S,
    RecordingSender,
    Stores,
    call,
    envelopes,
    script,
    until,
    utc_now,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

LIMITS = LaneLimits(at_once=4, per_user=2, per_model=3, told_after_s=10)
SILENT = {"hang": True}


class Process:
    """A process with a lane of its own."""

    def __init__(self, stores: Stores, publisher: SessionEventPublisher, model_url: str) -> None:
        self.lane = Lane("answers", LIMITS)
        self.model = ModelService(settings_for(model_url, LLM_FIRST_BYTE_SECONDS=60))
        self.stores = stores
        watch = CancelWatch(stores.turns.cancel_requested)
        self.bridge = SessionAgentBridge(
            stores.steps, AgentExecutor(self.model), publisher, RecordingSender(), watch, lane=self.lane
        )
        self.hanging: list[asyncio.Task[Any]] = []

    async def hang(self, count: int, user: str = OWNER, **plan: Any) -> None:
        """So many answers of which not a byte comes."""
        before = self.lane.running
        for _ in range(count):
            posted = await self.post(user, script(key=new_id(), fail=[SILENT] * 9), **plan)
            self.hanging.append(asyncio.create_task(self.bridge.run_step(posted.turn.id, 1)))

        async def running() -> bool:
            return self.lane.running == before + count

        await until(running)

    async def post(self, user: str, content: str, **plan_changes: Any) -> PostedMessage:
        from tests.integration.domain import plan

        session = await self.stores.session(owner=user)
        return await self.stores.post(session.id, content, user=user, turn_plan=plan(**plan_changes))

    async def aclose(self) -> None:
        for task in self.hanging:
            task.cancel()
        await asyncio.gather(*self.hanging, return_exceptions=True)
        await self.model.aclose()


@pytest.fixture
async def process(stores: Stores, publisher: SessionEventPublisher, model_url: str) -> Any:
    process = Process(stores, publisher, model_url)
    yield process
    await process.aclose()
    assert process.lane.running == 0


async def _row(stores: Stores, posted: PostedMessage) -> dict[str, Any]:
    query = (
        b"SELECT t.status, t.steps, t.quiet_until, (SELECT count(*) FROM messages m WHERE m.turn_id = t.id"
        b" AND m.role = 'assistant') AS answers FROM turns t WHERE t.id = %(turn)s"
    )
    return (await stores.rows(query, turn=posted.turn.id))[0]


async def test_silent_answers_of_one_user_leave_places_to_another(process: Process) -> None:
    await process.hang(LIMITS.per_user)
    waiting = await process.post(OWNER, script(content="mine"))
    other = await process.post("olga", script(content="hers"))

    held = await process.bridge.run_step(waiting.turn.id, 1)
    answered = await process.bridge.run_step(other.turn.id, 1)

    assert (held.outcome, held.is_held, held.is_queued) == (StepOutcome.RETRY, True, True)
    assert answered.outcome is StepOutcome.FINAL


async def test_silent_answers_of_one_model_leave_places_to_another(process: Process) -> None:
    for number in range(LIMITS.per_model):
        await process.hang(1, f"user-{number}", model="hangs")
    waiting = await process.post("olga", script(content="more"), model="hangs")
    other = await process.post("olga", script(content="hers"), model="lives")

    assert (await process.bridge.run_step(waiting.turn.id, 1)).is_queued
    assert (await process.bridge.run_step(other.turn.id, 1)).outcome is StepOutcome.FINAL


async def test_a_step_that_waits_has_begun_nothing_and_is_not_missed(process: Process, stores: Stores) -> None:
    await process.hang(LIMITS.per_user)
    posted = await process.post(OWNER, script(content="at last"))

    reports = [await process.bridge.run_step(posted.turn.id, 1, FIRST_TRY, Waited(looks)) for looks in range(25)]
    row = await _row(stores, posted)

    assert [report.delay_s for report in reports] == [1, 2, 4, *[5] * 17, *[15] * 5]
    assert (row["status"], row["steps"], row["answers"]) == ("queued", 0, 0)
    assert row["quiet_until"] > utc_now() + timedelta(seconds=15)

    process.hanging.pop(0).cancel()
    await asyncio.sleep(0.2)
    report = await process.bridge.run_step(posted.turn.id, 1, FIRST_TRY, Waited(25))

    assert report.outcome is StepOutcome.FINAL
    # What was not on its way when the step ended leaves through the binding.
    told = process_events(process) + [event["data"] for event in envelopes(report.messages)]
    [start] = [event for event in told if event.get("frame", {}).get("type") == "message_start"]
    assert start["frame"]["attempt"] == 1


def process_events(process: Process) -> list[dict[str, Any]]:
    sender = process.bridge._sender
    assert isinstance(sender, RecordingSender)
    return [event["data"] for event in sender.events]


async def test_who_watches_is_told_once_of_a_long_wait(process: Process) -> None:
    await process.hang(LIMITS.per_user)
    posted = await process.post(OWNER, script(content="mine"))

    short = await process.bridge.run_step(posted.turn.id, 1, FIRST_TRY, Waited(3, 9.9))
    long = await process.bridge.run_step(posted.turn.id, 1, FIRST_TRY, Waited(4, 12.3))
    again = await process.bridge.run_step(posted.turn.id, 1, FIRST_TRY, Waited(5, 17.0, is_told=long.is_told))

    assert [report.is_told for report in (short, long, again)] == [False, True, True]
    assert (short.messages, again.messages) == ([], [])
    [event] = envelopes(long.messages)
    assert (event["type"], event["turn_id"]) == ("stream.chunk", posted.turn.id)
    assert event["data"] == {"frame": {"type": "waiting", "lane": "model", "seconds": 12}}


async def test_a_turn_that_is_cancelled_waits_no_longer(process: Process, stores: Stores) -> None:
    await process.hang(LIMITS.per_user)
    posted = await process.post(OWNER, script(content="mine"))
    assert (await process.bridge.run_step(posted.turn.id, 1)).is_queued
    await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    report = await process.bridge.run_step(posted.turn.id, 1, FIRST_TRY, Waited(1, 1.0))

    assert report.outcome is StepOutcome.CANCELLED


async def test_a_step_that_is_stored_is_said_again_without_a_place(process: Process) -> None:
    posted = await process.post(OWNER, script(content="mine"))
    await process.bridge.run_step(posted.turn.id, 1)
    await process.hang(LIMITS.per_user)

    report = await process.bridge.run_step(posted.turn.id, 1)

    assert (report.outcome, report.is_repeated) == (StepOutcome.FINAL, True)


async def test_a_session_that_is_suspended_takes_nobodys_place(process: Process, stores: Stores) -> None:
    posted = await process.post(OWNER, script(content="mine"))
    await stores.move(posted.turn.session_id, SessionStatus.SUSPENDED)

    report = await process.bridge.run_step(posted.turn.id, 1)

    assert (report.is_held, report.is_queued) == (True, False)
    assert process.lane.running == 0


async def test_a_wait_of_an_hour_fails_the_turn(process: Process) -> None:
    await process.hang(LIMITS.per_user)
    posted = await process.post(OWNER, script(content="mine"))

    report = await process.bridge.run_step(posted.turn.id, 1, FIRST_TRY, Waited(254, LONGEST_WAIT_S))

    assert (report.outcome, report.code) == (StepOutcome.FAILED, ErrorCode.RATE_LIMITED)
    assert "later" in report.detail


async def test_what_failed_tries_used_counts_and_ends_them(bench: Bench, stores: Stores, model_url: str) -> None:
    """An answer that breaks off was read and partly written, whatever its server says of it."""
    model = ModelService(settings_for(model_url))
    watch = CancelWatch(stores.turns.cancel_requested)
    bridge = SessionAgentBridge(
        *(stores.steps, AgentExecutor(model), bench.publisher, bench.sender, watch), patience=Patience(tokens=150)
    )
    key = new_id()
    posted = await stores.turn(script(key=key, tokens=300, fail=[{"cut_after": 200}] * 9))

    spent: Spent | None = FIRST_TRY
    used: list[int] = []
    outcomes: list[StepOutcome] = []
    while spent is not None:
        report = await bridge.run_step(posted.turn.id, 1, spent)
        outcomes.append(report.outcome)
        usage = (await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage
        used.append(usage.input_tokens + usage.output_tokens)
        spent = None if report.spent is None else Spent(report.spent.tries + 1, 0.0, report.spent.tokens)
    await model.aclose()

    assert outcomes == [StepOutcome.RETRY, StepOutcome.FAILED]
    assert (await bench.calls(key))["calls"] == 2
    assert used == [used[0], 2 * used[0]]
    assert used[0] > 150


async def test_a_model_that_never_answers_is_asked_twice_and_then_given_up(
    bench: Bench, stores: Stores, model_url: str
) -> None:
    """At a six-hundredth of the settings that ship."""
    scale = 600
    shipped = Patience()
    first_byte_s = shipped.first_byte_s / scale
    model = ModelService(settings_for(model_url, LLM_FIRST_BYTE_SECONDS=first_byte_s, LLM_STEP_SECONDS=480 / scale))
    watch = CancelWatch(stores.turns.cancel_requested)
    bridge = SessionAgentBridge(
        *(stores.steps, AgentExecutor(model), bench.publisher, bench.sender, watch),
        patience=Patience(first_byte_s, shipped.total_s / scale),
    )
    key = new_id()
    posted = await stores.turn(script(key=key, fail=[SILENT] * 20))

    first = await bridge.run_step(posted.turn.id, 1)
    assert first.spent is not None
    second = await bridge.run_step(posted.turn.id, 1, Spent(2, first.spent.seconds))
    await model.aclose()

    assert [(report.outcome, report.code) for report in (first, second)] == [
        (StepOutcome.RETRY, None),
        (StepOutcome.FAILED, ErrorCode.LLM_TIMEOUT),
    ]
    assert (await bench.calls(key))["calls"] == 2


@pytest.mark.parametrize(
    ("fault", "calls"),
    [({"status": 503}, 5), ({"status": 500}, 5), ({"cut_after": 0}, 5), ({"error_after": 2}, 5), ({"status": 400}, 1)],
    ids=lambda value: str(value),
)
async def test_a_step_sends_so_many_requests_that_fail(bench: Bench, fault: dict[str, Any], calls: int) -> None:
    key = new_id()
    posted = await bench.stores.turn(script(key=key, tokens=5, fail=[fault] * 20))

    tries = 1
    while (await bench.run(posted, tries=tries)).outcome is StepOutcome.RETRY:
        tries += 1

    assert (await bench.calls(key))["calls"] == calls


# Tool calls. -------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Holding:
    """An `HttpFetcher` whose server does not answer."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.asked = 0

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.asked += 1
        await self.released.wait()
        return FetchResponse(200, request.url, {}, "done", 4, False, False)


async def test_tool_calls_that_hang_leave_places_to_others_and_what_waits_has_not_begun(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    fetcher, watch = Holding(), CancelWatch(stores.turns.cancel_requested)
    clock = Clock()
    lane = Lane("tool calls", LaneLimits(at_once=3, per_user=2, per_model=3, told_after_s=10), clock=clock)
    handler = ToolCallHandler(stores.tool_calls, publisher, ToolServices(http=fetcher), watch, grace_s=0, lane=lane)

    async def proposed(user: str, name: str = "fetch_url") -> str:
        arguments = {"url": "http://example.test/"} if name == "fetch_url" else {"expression": "6 * 7"}
        proposal = call(name, arguments)
        session = await stores.session(owner=user)
        posted = await stores.post(session.id, user=user)
        await stores.answer(posted.turn.id, calls=[proposal])
        return proposal.id

    async def handle(tool_call_id: str) -> ToolReport:
        async with asyncio.timeout(WAIT_S):
            return await handler.handle_tool_call(tool_call_id)

    async def both_run() -> bool:
        return fetcher.asked == 2

    hanging = [asyncio.create_task(handle(await proposed(OWNER))) for _ in range(2)]
    await until(both_run)
    waiting = await proposed(OWNER)
    held, other = await handle(waiting), await handle(await proposed("olga", "calculate"))
    clock.now += 12
    late, later = await handle(waiting), await handle(waiting)
    begun = await stores.tool_calls.tool_execution(waiting)
    fetcher.released.set()
    ended = [*await asyncio.gather(*hanging), await handle(waiting)]

    assert (held.is_held, held.status, begun.begun_at) == (True, ToolCallStatus.PENDING, None)
    assert [envelopes(report.messages) == [] for report in (held, late, later)] == [True, False, True]
    [told] = envelopes(late.messages)
    assert told["data"] == {"frame": {"type": "waiting", "lane": "tools", "seconds": 12}}
    assert other.status is ToolCallStatus.COMPLETED
    assert {report.status for report in ended} == {ToolCallStatus.COMPLETED}
    assert fetcher.asked == 3
