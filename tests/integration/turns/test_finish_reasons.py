"""How an answer ended, told alike by message, list, turn, a repeated step and the turn's last event, over both APIs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import ErrorCode
from shared.ids import new_id
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import FinishReason, MessageRole, MessageStatus, TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import PostedMessage
from shared.sessions.turns.patience import Spent
from tests.integration.bench import BOTH_APIS, CALCULATE, Bench, Ran
from tests.integration.domain import OWNER, WAIT_S, envelopes, plan, script, text_of, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60), pytest.mark.parametrize("api", BOTH_APIS)]


async def _posted(bench: Bench, api: ModelApi, **directives: Any) -> PostedMessage:
    session = await bench.stores.session()
    return await bench.stores.post(session.id, script(**directives), turn_plan=plan(model_api=api, tools=["calculate"]))


async def _repeated(bench: Bench, posted: PostedMessage, step: int = 1) -> list[dict[str, Any]]:
    """The events of a stored step that is asked for again."""
    return envelopes((await bench.bridge.run_step(posted.turn.id, step, Spent(2))).messages)


def _frame(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [
        e["data"]["frame"] for e in events if e["type"] == "stream.chunk" and e["data"]["frame"]["type"] == kind
    ]
    return dict(found)


async def _check_told(bench: Bench, ran: Ran, reason: FinishReason, status: MessageStatus) -> None:
    """The same everywhere."""
    posted = ran.posted
    answer = await bench.answer(posted)
    assert (answer.finish_reason, answer.status) == (reason, status)
    assert (await bench.messages(posted.turn.session_id, MessageRole.ASSISTANT))[-1] == answer
    assert ran.turn.finish_reason == ran.finished.finish_reason == reason
    assert _frame(bench.sender.events, "message_end")["finish_reason"] == reason
    (updated,) = [event for event in bench.sender.events if event["type"] == "message.updated"]
    assert (updated["data"]["finish_reason"], updated["data"]["status"]) == (reason, status)
    assert ran.events[-1]["type"] == "stream.ended"
    assert ran.events[-1]["data"]["finish_reason"] == reason
    assert text_of(bench.sender.events) == answer.content
    again = await _repeated(bench, posted)
    assert _frame(again, "message_end")["finish_reason"] == reason
    assert text_of(again) == answer.content


@pytest.mark.parametrize(
    ("directives", "reason"),
    [
        ({"content": "all of it"}, FinishReason.STOP),
        ({"content": "as far as it w", "finish_reason": "length"}, FinishReason.LENGTH),
        ({"content": "as far as it w", "finish_reason": "content_filter"}, FinishReason.CONTENT_FILTER),
        ({"refusal": "I will not help with that."}, FinishReason.REFUSAL),
    ],
    ids=["stop", "length", "content filter", "refusal"],
)
async def test_an_answer_with_words_is_complete_and_says_how_it_ended(
    bench: Bench, api: ModelApi, directives: dict[str, Any], reason: FinishReason
) -> None:
    posted = await _posted(bench, api, **directives)

    ran = await bench.go_on(posted)

    assert (ran.outcome, ran.turn.status, ran.turn.error) == (StepOutcome.FINAL, TurnStatus.COMPLETED, None)
    assert (await bench.answer(posted)).content == (directives.get("content") or directives["refusal"])
    await _check_told(bench, ran, reason, MessageStatus.COMPLETED)


async def test_an_answer_cut_at_the_output_limit_keeps_what_had_come(bench: Bench, api: ModelApi) -> None:
    """Cut by the model itself, at the limit that the session sets."""
    session = await bench.stores.session()
    posted = await bench.stores.post(
        session.id, script(tokens=500), turn_plan=plan(model_api=api, tools=[], max_output_tokens=32)
    )

    ran = await bench.go_on(posted)

    assert len((await bench.answer(posted)).content.split()) == 32
    await _check_told(bench, ran, FinishReason.LENGTH, MessageStatus.COMPLETED)


async def test_a_step_with_calls_says_so_and_the_turn_takes_the_reason_of_its_last_answer(
    bench: Bench, api: ModelApi
) -> None:
    posted = await _posted(bench, api, tool_calls=[[CALCULATE]], content="two")

    await bench.run_calls(await bench.run(posted))
    waiting = await bench.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    called = await bench.answer(posted)
    ran = await bench.go_on(posted, 2)

    assert called.finish_reason == waiting.finish_reason == FinishReason.TOOL_CALLS
    assert _frame(await _repeated(bench, posted), "message_end")["finish_reason"] == "tool_calls"
    assert ran.turn.finish_reason == FinishReason.STOP
    reasons = [message.finish_reason for message in await bench.messages(posted.turn.session_id)]
    assert reasons == [None, FinishReason.TOOL_CALLS, None, FinishReason.STOP]


@pytest.mark.parametrize(
    ("directives", "code", "reason", "words"),
    [
        ({"content": "", "finish_reason": "length"}, ErrorCode.TOKEN_LIMIT, FinishReason.LENGTH, "max_output_tokens"),
        (
            {"content": "", "finish_reason": "content_filter"},
            ErrorCode.LLM_ERROR,
            FinishReason.CONTENT_FILTER,
            "content filter",
        ),
        (
            {"reasoning": "all of it was thought", "content": " \n", "finish_reason": "length"},
            ErrorCode.TOKEN_LIMIT,
            FinishReason.LENGTH,
            "max_output_tokens",
        ),
    ],
    ids=["length", "content filter", "reasoning alone"],
)
async def test_an_answer_that_ends_before_it_says_anything_fails_its_turn_at_once(
    bench: Bench, api: ModelApi, directives: dict[str, Any], code: ErrorCode, reason: FinishReason, words: str
) -> None:
    key = new_id()
    posted = await _posted(bench, api, key=key, **directives)

    ran = await bench.go_on(posted)

    assert (ran.outcome, ran.turn.status) == (StepOutcome.FAILED, TurnStatus.FAILED)
    assert ran.turn.error is not None
    assert (ran.turn.error.code, words in ran.turn.error.detail) == (code, True)
    assert (await bench.calls(key))["calls"] == 1, "asked again it would be the same, and cost the same"
    assert ran.turn.usage.input_tokens > 0
    await _check_told(bench, ran, reason, MessageStatus.FAILED)
    again = await bench.bridge.run_step(posted.turn.id, 1, Spent(2))
    assert (again.outcome, again.code, again.detail) == (StepOutcome.FAILED, code, ran.turn.error.detail)


async def test_nothing_without_a_reason_is_tried_again_and_counts_each_time(bench: Bench, api: ModelApi) -> None:
    key = new_id()
    posted = await _posted(bench, api, key=key, content="")

    first = await bench.run(posted)
    after_one = (await bench.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage
    last = await bench.run(posted, tries=5)

    assert (first.outcome, last.outcome, last.code) == (StepOutcome.RETRY, StepOutcome.FAILED, ErrorCode.LLM_ERROR)
    assert (await bench.calls(key))["calls"] == 2
    after_two = (await bench.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage
    assert (after_two.input_tokens, after_one.input_tokens > 0) == (2 * after_one.input_tokens, True)


async def test_a_cancelled_answer_says_that_it_was(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(bench, api, tokens=10_000, token_ms=10)
    running = asyncio.create_task(bench.run(posted))
    async with asyncio.timeout(WAIT_S):
        while len(bench.sender.batches) < 3:
            bench.sender.sent.clear()
            await bench.sender.sent.wait()

    await bench.stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
    ran = await bench.finish(posted, await running)

    assert ran.turn.status is TurnStatus.CANCELLED
    assert (await bench.answer(posted)).content
    await _check_told(bench, ran, FinishReason.CANCELLED, MessageStatus.CANCELLED)


async def test_words_that_the_filter_stopped_are_shown_to_people_and_to_no_model(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(bench, api, content="the first half of something", finish_reason="content_filter")
    await bench.go_on(posted)

    later = await bench.say(posted.turn.session_id, script(tokens=3), model_api=api, tools=[])

    assert (await bench.messages(posted.turn.session_id))[1].content == "the first half of something"
    assert all(isinstance(said, UserSaid) for said in bench.model.requests[-1].conversation)
    assert len(bench.model.requests[-1].conversation) == 2
    assert later.turn.status is TurnStatus.COMPLETED
