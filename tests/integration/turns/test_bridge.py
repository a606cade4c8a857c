"""SessionAgentBridge against the scripted model, PostgreSQL and Redis: one model step, whatever befalls it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from shared.adapters.azure.signalr import RelaySender
from shared.adapters.models.service import ModelService
from shared.errors import ErrorCode
from shared.ids import new_id
from shared.sessions.bridge import MAX_ATTEMPTS, SessionAgentBridge
from shared.sessions.context.window import estimate_tokens
from shared.sessions.executor import AgentExecutor
from shared.sessions.models import MessageStatus, TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import PostedMessage
from shared.sessions.turns import asking
from shared.sessions.turns.cancellation import CancelWatch
from shared.sessions.turns.patience import Spent
from shared.signing import RelayTokens
from tests.integration.bench import Bench, settings_for
from tests.integration.domain import OWNER, WAIT_S, Stores, envelopes, script, text_of, until, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


@pytest.mark.parametrize(
    "directives",
    [
        {"tokens": 200},
        {"tokens": 60, "token_ms": 5},
        {"content": "e\u0301 🙂\u2028\ttab\r\n\\u0000 end"},
        {"tokens": 40, "split_bytes": 3},
        {"content": "a\u0000b"},
    ],
    ids=["at once", "paced", "odd characters", "split anywhere", "nul"],
)
async def test_the_stored_text_equals_the_deltas_byte_for_byte(bench: Bench, directives: dict[str, Any]) -> None:
    posted = await bench.stores.turn(script(**directives))

    report = await bench.run(posted)

    assert report.outcome is StepOutcome.FINAL
    answer = await bench.answer(posted)
    assert answer.status is MessageStatus.COMPLETED
    assert text_of(bench.sender.events).encode() == answer.content.encode()
    if "content" in directives:
        assert answer.content == directives["content"].replace("\0", "\ufffd")
    numbers = [event["seq"] for event in bench.sender.events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    names = [name for name in bench.names if name != "content_delta"]
    end = ["message_end", "message.updated", "stream.ended"]
    assert names == ["stream.started", "message.created", "message_start", *end]
    indices = [event["data"]["frame"]["index"] for event in bench.sender.events if _is_delta(event)]
    assert indices == list(range(len(indices)))
    turn = await bench.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert turn.usage.input_tokens > 0


async def test_the_first_delta_leaves_alone_and_the_later_ones_together(bench: Bench) -> None:
    posted = await bench.stores.turn(script(tokens=100, token_ms=4))

    await bench.run(posted)

    first, *later = bench.sender.batches
    assert [event["type"] for event in first] == ["stream.started", "message.created", "stream.chunk", "stream.chunk"]
    deltas = sum(_is_delta(event) for batch in later for event in batch)
    assert 1 <= deltas < 50  # of about a hundred that came


async def test_tool_calls_are_stored_with_what_policy_says_of_them(bench: Bench) -> None:
    calls: list[dict[str, Any]] = [
        {"name": "calculate", "arguments": {"expression": "17 * 23"}, "id": "call_a"},
        {"name": "http_request", "arguments": {"method": "GET", "url": "http://example.test/"}, "id": "call_b"},
        {"name": "http_request", "arguments": {"method": "GET"}, "id": "call_c"},
        {"name": "no_such_tool", "arguments": {}, "id": "call_d"},
        {"name": "calculate", "arguments": "{not json", "id": "call_e"},
    ]
    posted = await bench.stores.turn(script(tool_calls=[calls], preamble="Let me see. "))

    report = await bench.run(posted)

    assert report.outcome is StepOutcome.TOOL_CALLS
    assert [needs_approval for _, needs_approval in report.calls] == [False, True, False, False, False]
    executions = [await bench.stores.tool_calls.tool_execution(call_id) for call_id, _ in report.calls]
    assert [call.provider_call_id for call in executions] == [call["id"] for call in calls]
    assert [call.argument_error is None for call in executions] == [True, True, False, False, False]
    answer = await bench.answer(posted)
    assert answer.content == "Let me see. "
    frames = [event["data"]["frame"] for event in bench.sender.events if event["type"] == "stream.chunk"]
    assert [frame["id"] for frame in frames if frame["type"] == "tool_call"] == [call_id for call_id, _ in report.calls]
    assert next(frame["finish_reason"] for frame in frames if frame["type"] == "message_end") == "tool_calls"


async def test_two_calls_with_one_id_stay_two(bench: Bench) -> None:
    """Some servers name every call alike; the next request must still answer each of them once."""
    calls = [{"name": "calculate", "arguments": {"expression": str(n)}, "id": "same"} for n in range(2)]
    posted = await bench.stores.turn(script(tool_calls=[calls], content="done"))

    report = await bench.run(posted)

    executions = [await bench.stores.tool_calls.tool_execution(call_id) for call_id, _ in report.calls]
    assert len({call.provider_call_id for call in executions}) == 2


async def test_hostile_arguments_do_not_stop_the_step(bench: Bench) -> None:
    deep = '{"a":' * 400 + "1" + "}" * 400
    arguments = [
        deep,
        '{"expression": "\\u0000"}',
        "[]",
        '"x"',
        "null",
        '{"expression":1e999}',
        "",
        '{"n":' + "9" * 40 + "}",
    ]
    calls = [{"name": "calculate", "arguments": text} for text in arguments]
    posted = await bench.stores.turn(script(tool_calls=[calls]))

    report = await bench.run(posted)

    assert report.outcome is StepOutcome.TOOL_CALLS
    executions = [await bench.stores.tool_calls.tool_execution(call_id) for call_id, _ in report.calls]
    assert all(call.argument_error for call in executions)


async def test_the_last_allowed_step_offers_no_tools_and_fails_when_the_model_calls_one(bench: Bench) -> None:
    calls = [{"name": "calculate", "arguments": {"expression": "1"}}]
    posted = await bench.stores.turn(script(tool_calls=[calls], preamble="hm"), max_steps=1)

    report = await bench.run(posted)

    assert (report.outcome, report.code) == (StepOutcome.FAILED, ErrorCode.TOKEN_LIMIT)
    answer = await bench.answer(posted)
    assert (answer.status, answer.content, answer.tool_calls) == (MessageStatus.FAILED, "hm", [])


async def test_a_stored_step_run_again_calls_nobody(bench: Bench) -> None:
    key = new_id()
    posted = await bench.stores.turn(script(key=key, tool_calls=[[{"name": "calculate", "arguments": {}}]]))
    first = await bench.run(posted)

    again = await bench.run(posted, tries=2)

    assert (again.outcome, again.calls) == (first.outcome, first.calls)
    assert (await bench.calls(key))["calls"] == 1


async def test_a_stored_step_run_again_is_told_whole_as_a_higher_attempt(bench: Bench) -> None:
    posted = await bench.stores.turn(script(content="all of it", tool_calls=[]))
    await bench.run(posted)  # as if it had been killed before it sent anything

    again = await bench.run(posted, tries=2)

    frames = [event["data"]["frame"] for event in envelopes(again.messages) if event["type"] == "stream.chunk"]
    assert [item["type"] for item in frames] == ["message_start", "content_delta", "message_end"]
    assert frames[0]["attempt"] == 2
    assert frames[1]["text"] == (await bench.answer(posted)).content == "all of it"


async def test_a_rate_limit_asks_to_be_tried_again_when_the_model_said(bench: Bench) -> None:
    key = new_id()
    faults = [{"status": 429, "retry_after": 37}, {}]
    posted = await bench.stores.turn(script(key=key, fail=faults, content="at last"))

    limited = await bench.run(posted)
    answered = await bench.run(posted, tries=2)

    assert (limited.outcome, limited.delay_s) == (StepOutcome.RETRY, 37)
    assert answered.outcome is StepOutcome.FINAL
    assert (await bench.answer(posted)).content == text_of(bench.sender.events) == "at last"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 429, "retry_after_ms": 1}, ErrorCode.RATE_LIMITED),
        ({"status": 503, "retry_after_ms": 1}, ErrorCode.LLM_ERROR),
        ({"cut_after": 3}, ErrorCode.LLM_ERROR),
        ({"error_after": 3}, ErrorCode.LLM_ERROR),
    ],
    ids=["429", "503", "cut", "error event"],
)
async def test_a_model_that_keeps_failing_fails_the_step_on_the_last_try(
    bench: Bench, fault: dict[str, Any], code: ErrorCode
) -> None:
    posted = await bench.stores.turn(script(key=new_id(), fail=[fault] * 4, tokens=10))

    retried = await bench.run(posted, tries=4)
    failed = await bench.run(posted, tries=5)

    assert (retried.outcome, failed.outcome, failed.code) == (StepOutcome.RETRY, StepOutcome.FAILED, code)
    assert (await bench.answer(posted)).status is MessageStatus.FAILED
    assert text_of(bench.sender.events) == (await bench.answer(posted)).content


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 400}, ErrorCode.LLM_ERROR),
        ({"status": 401}, ErrorCode.LLM_ERROR),
        ({"status": 400, "code": "context_length_exceeded"}, ErrorCode.TOKEN_LIMIT),
        ({"status": 429, "retry_after": 6_000}, ErrorCode.RATE_LIMITED),
    ],
    ids=["bad request", "no key", "too long", "gone for hours"],
)
async def test_what_waiting_does_not_cure_fails_at_once(bench: Bench, fault: dict[str, Any], code: ErrorCode) -> None:
    posted = await bench.stores.turn(script(key=new_id(), fail=[fault] * 2))

    report = await bench.run(posted)

    assert (report.outcome, report.code) == (StepOutcome.FAILED, code)

    again = await bench.run(posted)

    assert (again.outcome, again.code, again.detail) == (StepOutcome.FAILED, code, report.detail)
    assert "script" not in report.detail


async def test_a_cut_stream_is_followed_by_a_higher_attempt_that_replaces_it(bench: Bench) -> None:
    posted = await bench.stores.turn(script(key=new_id(), fail=[{"cut_after": 20}], tokens=30))

    cut = await bench.run(posted)
    partial = text_of(bench.sender.events)
    answered = await bench.run(posted, tries=2)

    assert (cut.outcome, answered.outcome) == (StepOutcome.RETRY, StepOutcome.FINAL)
    assert partial
    answer = await bench.answer(posted)
    assert answer.content.startswith(partial)
    assert text_of(bench.sender.events) == answer.content
    attempts = [
        event["data"]["frame"]["attempt"]
        for event in bench.sender.events
        if event["data"].get("frame", {}).get("type") == "message_start"
    ]
    assert attempts == [1, 2]
    assert bench.names.count("message.created") == bench.names.count("stream.started") == 1


async def test_a_model_that_falls_silent_is_a_timeout(bench: Bench, stores: Stores, model_url: str) -> None:
    model = ModelService(settings_for(model_url, LLM_TIMEOUT_SECONDS=0.3, LLM_FIRST_BYTE_SECONDS=0.3))
    watch = CancelWatch(stores.turns.cancel_requested)
    bridge = SessionAgentBridge(stores.steps, AgentExecutor(model), bench.publisher, bench.sender, watch)
    for fault in ({"hang_after": 2}, {"hang": True}):
        posted = await stores.turn(script(key=new_id(), fail=[fault] * 9))
        report = await bridge.run_step(posted.turn.id, 1, Spent(5))
        assert (report.outcome, report.code) == (StepOutcome.FAILED, ErrorCode.LLM_TIMEOUT)
    await model.aclose()


async def test_an_answer_that_never_ends_is_kept_counted_and_not_asked_for_again(
    bench: Bench, stores: Stores, model_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time ends when something of it has come, however long that took."""
    deadlines: list[asyncio.Timeout] = []

    def timeout_at(when: float) -> asyncio.Timeout:
        deadlines.append(asyncio.Timeout(when))
        return deadlines[-1]

    async def is_told() -> bool:
        return any(map(_is_delta, bench.sender.events))

    monkeypatch.setattr(asking, "asyncio", SimpleNamespace(**vars(asyncio) | {"timeout_at": timeout_at}))
    model = ModelService(settings_for(model_url))
    watch = CancelWatch(stores.turns.cancel_requested)
    bridge = SessionAgentBridge(stores.steps, AgentExecutor(model), bench.publisher, bench.sender, watch)
    key = new_id()
    posted = await stores.turn(script(key=key, tokens=5_000, token_ms=20))

    running = asyncio.create_task(bridge.run_step(posted.turn.id, 1))
    await until(is_told)
    [deadline] = deadlines
    deadline.reschedule(asyncio.get_running_loop().time())
    report = await running
    again = await bridge.run_step(posted.turn.id, 1, Spent(2))

    for one in (report, again):
        assert (one.outcome, one.code) == (StepOutcome.FAILED, ErrorCode.LLM_TIMEOUT)
    answer = await bench.answer(posted)
    assert answer.status is MessageStatus.FAILED
    assert answer.content
    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert turn.usage.input_tokens > 0
    assert turn.usage.output_tokens == estimate_tokens(answer.content)
    assert (await bench.calls(key))["calls"] == 1
    await model.aclose()


async def test_a_step_that_is_cut_each_time_ends(bench: Bench, stores: Stores) -> None:
    key = new_id()
    posted = await stores.turn(script(key=key, tokens=3))
    for _ in range(MAX_ATTEMPTS):
        await stores.begin(posted.turn.id, 1)

    report = await bench.run(posted)

    assert (report.outcome, report.code) == (StepOutcome.FAILED, ErrorCode.LLM_ERROR)
    assert (await bench.calls(key))["calls"] == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
async def test_a_model_that_cannot_be_reached_may_be_back_later(bench: Bench, stores: Stores, url: str) -> None:
    model = ModelService(settings_for(url))
    watch = CancelWatch(stores.turns.cancel_requested)
    bridge = SessionAgentBridge(stores.steps, AgentExecutor(model), bench.publisher, bench.sender, watch)
    posted = await stores.turn()

    report = await bridge.run_step(posted.turn.id, 1)

    assert report.outcome is StepOutcome.RETRY
    assert report.delay_s > 0
    await model.aclose()


async def test_a_cancel_while_streaming_keeps_what_had_arrived(bench: Bench) -> None:
    key = new_id()
    posted = await bench.stores.turn(script(key=key, tokens=10_000, token_ms=10))
    running = asyncio.create_task(bench.run(posted))
    async with asyncio.timeout(WAIT_S):
        while len(bench.sender.batches) < 3:
            bench.sender.sent.clear()
            await bench.sender.sent.wait()

    await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
    report = await running

    assert (report.outcome, report.code) == (StepOutcome.CANCELLED, None)
    answer = await bench.answer(posted)
    assert answer.status is MessageStatus.CANCELLED
    assert answer.content
    assert text_of(bench.sender.events) == answer.content
    # Half a second at ten milliseconds a token is about fifty; the whole answer would have been ten thousand.
    assert len(answer.content.split()) < 5_000

    async def model_noticed() -> bool:
        return bool((await bench.calls(key))["abandoned"] == 1)

    await until(model_noticed)
    assert (await bench.run(posted, tries=2)).outcome is StepOutcome.CANCELLED


async def test_a_turn_cancelled_before_its_step_calls_nobody(bench: Bench) -> None:
    key = new_id()
    posted = await bench.stores.turn(script(key=key))
    await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())

    report = await bench.run(posted)

    assert (report.outcome, report.messages) == (StepOutcome.CANCELLED, [])
    assert (await bench.calls(key))["calls"] == 0


async def test_a_stop_of_the_process_is_not_taken_for_a_cancel(bench: Bench) -> None:
    posted = await bench.stores.turn(script(key=new_id(), fail=[{"token_ms": 20}], tokens=500))
    running = asyncio.create_task(bench.run(posted))
    async with asyncio.timeout(WAIT_S):
        await bench.sender.sent.wait()

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await bench.answer(posted)).status is MessageStatus.STREAMING
    report = await bench.run(posted, tries=2)
    assert report.outcome is StepOutcome.FINAL
    assert (await bench.answer(posted)).status is MessageStatus.COMPLETED


async def test_an_attempt_that_was_overtaken_stores_nothing(bench: Bench) -> None:
    posted = await bench.stores.turn(script(key=new_id(), fail=[{"first_ms": 300}], content="text"))

    slow = asyncio.create_task(bench.run(posted))
    await until(lambda: _has_begun(bench.stores, posted))
    fast = await bench.run(posted)
    overtaken = await slow

    assert fast.outcome is StepOutcome.FINAL
    assert overtaken.outcome is StepOutcome.RETRY
    assert (await bench.run(posted)).outcome is StepOutcome.FINAL
    turn = await bench.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert turn.status is TurnStatus.COMPLETED
    assert (await bench.answer(posted)).content == "text"


async def test_live_delivery_that_fails_costs_the_turn_nothing(bench: Bench, stores: Stores, model_url: str) -> None:
    model = ModelService(settings_for(model_url))
    relay = RelaySender("http://127.0.0.1:1", RelayTokens("s" * 32))
    watch = CancelWatch(stores.turns.cancel_requested)
    bridge = SessionAgentBridge(stores.steps, AgentExecutor(model), bench.publisher, relay, watch)
    posted = await stores.turn(script(tokens=50, token_ms=3))

    report = await bridge.run_step(posted.turn.id, 1)

    assert report.outcome is StepOutcome.FINAL
    first = envelopes(report.messages)[0]["seq"]
    assert first > 4  # the deltas before it were numbered all the same
    await relay.aclose()
    await model.aclose()


async def _has_begun(stores: Stores, posted: PostedMessage) -> bool:
    return bool(
        await stores.value(
            b"SELECT count(*) FROM messages WHERE turn_id = %(turn)s AND role = 'assistant'", turn=posted.turn.id
        )
    )


def _is_delta(event: dict[str, Any]) -> bool:
    return bool(event["data"].get("frame", {}).get("type") == "content_delta")
