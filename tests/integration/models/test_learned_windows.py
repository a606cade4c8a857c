"""A window that nobody has written down, learned from the words of the server that refuses; on real stores."""

from __future__ import annotations

import pytest

from devhost.model.options import Overflow
from devhost.model.server import ModelOptions
from shared.errors import ErrorCode
from shared.sessions.llm.conversation import ToolAnswered
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import MessageRole, TurnStatus
from shared.sessions.records.steps import StepOutcome
from tests.integration.bench import FETCH, Bench, MakeBench
from tests.integration.domain import script

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

WINDOW = 4_096
TURNS = 12

SERVERS: list[tuple[Overflow, ModelApi]] = [
    ("llama.cpp", ModelApi.CHAT),
    ("vllm", ModelApi.CHAT),
    ("mistral", ModelApi.CHAT),
    ("openai", ModelApi.CHAT),
    ("openai", ModelApi.RESPONSES),
]
every_server = pytest.mark.parametrize(
    ("overflow", "api"), SERVERS, ids=[f"{overflow}-{api}" for overflow, api in SERVERS]
)
"""All but the last say how long the window is."""


async def _bench(benches: MakeBench, overflow: Overflow, *, compacts: bool = False) -> Bench:
    server = ModelOptions(scripted=True, first_s=0, token_s=0, context_tokens=WINDOW, overflow=overflow)
    return await benches(server=server, compacts=compacts)


def _long(turn: int, words: int = 300) -> str:
    """A question of about `words` tokens, which is answered with as many."""
    return script(tokens=words) + f"\nQuestion {turn}: " + "why and how " * (words // 3)


@every_server
@pytest.mark.parametrize("compacts", [False, True], ids=["leaves out", "compacts"])
async def test_a_conversation_that_outgrows_the_window_goes_on_at_the_price_of_one_refused_request(
    benches: MakeBench, overflow: Overflow, api: ModelApi, compacts: bool
) -> None:
    bench = await _bench(benches, overflow, compacts=compacts)
    session = await bench.stores.session()

    ran = [
        await bench.say(
            session.id, _long(turn), model_api=api, tools=["calculate"], compact_at=0.8 if compacts else None
        )
        for turn in range(TURNS)
    ]

    assert [one.turn.status for one in ran] == [TurnStatus.COMPLETED] * TURNS
    assert bench.model.overflows == 1
    assert [one.turn.steps for one in ran] == [1] * TURNS, "a refused request is no step and no try"
    longest = max(len(request.conversation) for request in bench.model.requests)
    assert longest > 6, "and not at the price of the conversation"
    answers = await bench.messages(session.id, MessageRole.ASSISTANT)
    assert all(answer.content for answer in answers)


@every_server
async def test_a_process_that_is_new_learns_it_again_once(
    benches: MakeBench, overflow: Overflow, api: ModelApi
) -> None:
    first = await _bench(benches, overflow)
    session = await first.stores.session()
    for turn in range(TURNS):
        await first.say(session.id, _long(turn), model_api=api, tools=[])
    second = await benches(model_url=first.model_url)

    ran = [await second.say(session.id, _long(turn), model_api=api, tools=[]) for turn in range(3)]

    assert [one.turn.status for one in ran] == [TurnStatus.COMPLETED] * 3
    # Without a number each refusal only says: shorter. The whole conversation is about twice the window.
    assert 1 <= second.model.overflows <= (1 if api is ModelApi.CHAT else 3)


@every_server
async def test_a_message_longer_than_the_window_fails_and_the_next_one_is_answered(
    benches: MakeBench, overflow: Overflow, api: ModelApi
) -> None:
    bench = await _bench(benches, overflow)
    session = await bench.stores.session()
    before = await bench.say(session.id, _long(1), model_api=api, tools=[])

    too_long = await bench.say(session.id, _long(2, words=9_000), model_api=api, tools=[])
    after = await bench.say(session.id, _long(3), model_api=api, tools=[])

    assert before.turn.status is TurnStatus.COMPLETED
    assert (too_long.outcome, too_long.turn.error and too_long.turn.error.code) == (
        StepOutcome.FAILED,
        ErrorCode.TOKEN_LIMIT,
    )
    assert too_long.turn.usage.input_tokens == 0, "what is refused is not paid for"
    assert after.turn.status is TurnStatus.COMPLETED


@every_server
async def test_messages_that_are_too_long_do_not_narrow_the_window_for_others(
    benches: MakeBench, overflow: Overflow, api: ModelApi
) -> None:
    bench = await _bench(benches, overflow)
    session, other = await bench.stores.session(), await bench.stores.session()
    for turn in range(4):
        ran = await bench.say(session.id, _long(turn, words=9_000), model_api=api, tools=[])
        assert ran.turn.status is TurnStatus.FAILED

    for turn in range(4):
        ran = await bench.say(other.id, _long(turn, words=150), model_api=api, tools=[])
        assert ran.turn.status is TurnStatus.COMPLETED

    # Four questions and three answers come to some two thousand tokens of ours: half of the window.
    assert len(bench.model.requests[-1].conversation) == 7


@every_server
async def test_tool_results_longer_than_the_window_are_cut_and_the_turn_completes(
    benches: MakeBench, overflow: Overflow, api: ModelApi
) -> None:
    bench = await _bench(benches, overflow)
    bench.pages.text = "The page says a lot. " * 1_500
    session = await bench.stores.session()

    ran = await bench.say(
        session.id,
        script(tool_calls=[[FETCH, FETCH], []], content="read"),
        model_api=api,
        tools=["fetch_url"],
    )

    assert (ran.turn.status, ran.turn.error, ran.turn.steps) == (TurnStatus.COMPLETED, None, 2)
    told = [said.text for said in bench.model.requests[-1].conversation if isinstance(said, ToolAnswered)]
    assert len(told) == 2
    assert all("[cut: " in text and text.startswith('{"') for text in told)
    assert all(len(text) > 1_000 for text in told), "as much as there is room for"
    stored = await bench.messages(session.id, MessageRole.TOOL)
    assert all("[cut: " not in message.content for message in stored)


@every_server
async def test_what_an_answer_may_be_long_is_left_free_where_the_server_counts_it_in(
    benches: MakeBench, overflow: Overflow, api: ModelApi
) -> None:
    bench = await _bench(benches, overflow)
    session = await bench.stores.session()

    ran = [
        await bench.say(session.id, _long(turn), model_api=api, tools=[], max_output_tokens=1_000)
        for turn in range(TURNS)
    ]

    assert [one.turn.status for one in ran] == [TurnStatus.COMPLETED] * TURNS
    assert bench.model.overflows == 1
    assert bench.model.requests[-1].max_output_tokens == 1_000
