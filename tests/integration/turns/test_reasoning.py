"""What a model tells of its reasoning, and what its API wants back of it while a turn goes on; over both APIs."""

from __future__ import annotations

from typing import Any

import pytest

from shared.ids import new_id
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.llm.conversation import AssistantSaid
from shared.sessions.llm.protocol import ModelRequest
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import FinishReason, TurnStatus
from shared.sessions.records.steps import StepOutcome
from shared.sessions.records.turns import PostedMessage
from shared.sessions.turns.patience import Spent
from tests.integration.bench import BOTH_APIS, CALCULATE, Bench, MakeBench
from tests.integration.branches.branching import Conversation
from tests.integration.domain import Stores, envelopes, erase_session, plan, result_of, script

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60), pytest.mark.parametrize("api", BOTH_APIS)]

THOUGHTS = "The user wants a sum.\n\nI have a tool for sums, so I call it."


async def _posted(bench: Bench, api: ModelApi, *, session_id: str | None = None, **directives: Any) -> PostedMessage:
    session_id = session_id or (await bench.stores.session()).id
    return await bench.stores.post(session_id, script(**directives), turn_plan=plan(model_api=api, tools=["calculate"]))


def _needing(key: str, *, calls: int = 1, content: str = "2") -> dict[str, Any]:
    """A model that refuses to go on unless it gets its reasoning back."""
    return {
        "key": key,
        "reasoning": THOUGHTS,
        "needs_reasoning": True,
        "tool_calls": [[CALCULATE]] * calls,
        "content": content,
    }


def _kept(request: ModelRequest) -> list[Any]:
    return [said.kept for said in request.conversation if isinstance(said, AssistantSaid) and said.kept]


async def test_reasoning_is_streamed_before_the_words_and_stored_with_them(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(bench, api, reasoning=THOUGHTS, content="the answer", token_ms=2)

    ran = await bench.go_on(posted)

    answer = await bench.answer(posted)
    assert (answer.reasoning, answer.content) == (THOUGHTS, "the answer")
    thoughts = [frame for frame in bench.frames if frame["type"] == "reasoning_delta"]
    words = [frame for frame in bench.frames if frame["type"] == "content_delta"]
    assert "".join(frame["text"] for frame in thoughts) == THOUGHTS
    assert "".join(frame["text"] for frame in words) == "the answer"
    for deltas in (thoughts, words):  # each kind is numbered from 0
        assert [frame["index"] for frame in deltas] == list(range(len(deltas)))
    kinds = [name for name in bench.names if name.endswith("_delta")]
    assert kinds == sorted(kinds, reverse=True), "all of the reasoning, then all of the words"
    assert ran.turn.usage.reasoning_tokens > 0
    assert ran.turn.usage.output_tokens > ran.turn.usage.reasoning_tokens
    assert (await bench.messages(posted.turn.session_id))[-1] == answer


async def test_a_stored_step_that_is_asked_for_again_tells_its_reasoning_and_its_reason(
    bench: Bench, api: ModelApi
) -> None:
    posted = await _posted(bench, api, reasoning=THOUGHTS, content="the answer")
    await bench.run(posted)

    again = await bench.bridge.run_step(posted.turn.id, 1, Spent(2))

    frames = [event["data"]["frame"] for event in envelopes(again.messages) if event["type"] == "stream.chunk"]
    assert [frame["type"] for frame in frames] == ["message_start", "reasoning_delta", "content_delta", "message_end"]
    assert (frames[0]["attempt"], frames[1]["text"], frames[2]["text"]) == (2, THOUGHTS, "the answer")
    assert frames[3]["finish_reason"] == "stop"
    assert again.outcome is StepOutcome.FINAL


async def test_reasoning_of_an_attempt_that_broke_off_is_not_stored_with_the_next(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(bench, api, key=new_id(), reasoning=THOUGHTS, fail=[{"cut_after": 3}], content="words")
    cut = await bench.run(posted)
    seen = len([frame for frame in bench.frames if frame["type"] == "reasoning_delta"])

    await bench.go_on(posted)

    assert (cut.outcome, seen > 0) == (StepOutcome.RETRY, True)
    assert (await bench.answer(posted)).reasoning == THOUGHTS
    after = bench.frames[[frame.get("attempt") for frame in bench.frames].index(2) :]
    assert "".join(frame["text"] for frame in after if frame["type"] == "reasoning_delta") == THOUGHTS
    assert next(frame["index"] for frame in after if frame["type"] == "reasoning_delta") == 0


async def test_a_model_gets_its_reasoning_back_with_each_later_step_of_the_turn(bench: Bench, api: ModelApi) -> None:
    key = new_id()
    posted = await _posted(bench, api, **_needing(key, calls=3))

    ran = await bench.go_on(posted)

    assert (ran.turn.status, ran.turn.steps) == (TurnStatus.COMPLETED, 4)
    assert (await bench.calls(key))["failed"] == 0
    assert [len(_kept(request)) for request in bench.model.requests] == [0, 1, 2, 3]
    reasons = [m.finish_reason for m in await bench.messages(posted.turn.session_id) if m.role == "assistant"]
    assert reasons == [FinishReason.TOOL_CALLS] * 3 + [FinishReason.STOP]


async def test_what_is_kept_goes_back_after_a_kill_anywhere_between_the_call_and_the_answer(
    benches: MakeBench, api: ModelApi
) -> None:
    """Three processes: one makes the call, one tells it again and runs the tool, one asks for the answer."""
    first = await benches()
    key = new_id()
    posted = await _posted(first, api, **_needing(key))
    called = await first.run(posted)
    second, third = [await benches(model_url=first.model_url) for _ in range(2)]

    told_again = await second.run(posted, tries=2)
    await second.run_calls(told_again)
    ran = await third.go_on(posted, 2)

    assert told_again.calls == called.calls
    assert second.model.requests == []
    assert ran.turn.status is TurnStatus.COMPLETED
    assert await first.calls(key) | {"arrivals": []} == {
        "key": key,
        "calls": 2,
        "completed": 2,
        "failed": 0,
        "abandoned": 0,
        "arrivals": [],
    }
    assert len(_kept(third.model.requests[0])) == 1


async def test_a_step_that_was_killed_before_it_was_stored_keeps_what_its_repeat_was_told(
    bench: Bench, stores: Stores, api: ModelApi
) -> None:
    posted = await _posted(bench, api, **_needing(new_id()))
    overtaken = await stores.started(posted.turn.id)  # a process that began the step and died

    await bench.run_calls(await bench.run(posted, tries=2))
    ran = await bench.go_on(posted, 2)

    assert not await stores.steps.save_step(result_of(overtaken))
    assert ran.turn.status is TurnStatus.COMPLETED


async def test_later_turns_are_sent_neither_reasoning_nor_what_was_kept(bench: Bench, api: ModelApi) -> None:
    posted = await _posted(bench, api, **_needing(new_id()))
    await bench.go_on(posted)

    later = await _posted(bench, api, session_id=posted.turn.session_id, content="later")
    ran = await bench.go_on(later)

    assert ran.turn.status is TurnStatus.COMPLETED
    request = bench.model.requests[-1]
    assert _kept(request) == []
    answers = [said for said in request.conversation if isinstance(said, AssistantSaid)]
    assert [(said.text, len(said.calls)) for said in answers] == [("", 1), ("2", 0)]


async def test_regenerating_and_forking_do_not_take_what_was_kept_along(
    bench: Bench, stores: Stores, publisher: SessionEventPublisher, api: ModelApi
) -> None:
    posted = await _posted(bench, api, **_needing(new_id()))
    await bench.go_on(posted)
    fork = await Conversation(stores, posted.turn.session_id).fork()

    kept = await stores.rows(b"SELECT kept, reasoning FROM messages WHERE session_id = %(s)s AND step > 0", s=fork.id)
    assert [row["kept"] for row in kept] == [None] * 3
    assert {row["reasoning"] for row in kept} == {THOUGHTS, None}
    ran = await bench.go_on(await _posted(bench, api, session_id=fork.id, content="later"))
    assert ran.turn.status is TurnStatus.COMPLETED
    assert _kept(bench.model.requests[-1]) == []


async def test_reasoning_and_what_was_kept_are_erased_with_their_session(
    bench: Bench, stores: Stores, erasing: SessionErasure, api: ModelApi
) -> None:
    posted = await _posted(bench, api, **_needing(new_id()))
    await bench.go_on(posted)
    key = {"s": posted.turn.session_id}
    rows = b"SELECT count(*) FROM messages WHERE session_id = %(s)s AND "
    assert await stores.value(rows + b"kept IS NOT NULL", **key) == 1
    assert await stores.value(rows + b"reasoning IS NOT NULL", **key) == 2

    await erase_session(erasing, posted.turn.session_id)

    assert await stores.value(rows + b"true", **key) == 0
