"""A request that is longer than the model reads: made shorter, sent again at once, and never after a word was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import BudgetExceeded, ErrorCode, ModelFailed
from shared.sessions.context.compaction import INSTRUCTIONS, Compactor
from shared.sessions.context.window import SUMMARY_HEAD, estimate_tokens
from shared.sessions.executor import AgentExecutor
from shared.sessions.limits.budgets import TokensUsed
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import ContextOverflow, ModelEnd, ModelText
from shared.sessions.llm.registry import ModelRegistry
from shared.sessions.llm.windows import Windows
from shared.sessions.models import FinishReason, Usage
from tests.unit.turns.asking import END, Summaries, Told, Windowed, long_start, start

# Too long. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("says", ["both", "limit", "nothing"])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.8])
async def test_a_conversation_that_is_too_long_is_sent_again_shorter_at_once_and_fits_from_then_on(
    says: str, ratio: float
) -> None:
    llm, begun = Windowed(4_096, ratio, says=says), long_start(120)
    executor = AgentExecutor(llm, windows=Windows())

    events = [event async for event in await executor.execute(begun, [], stream=True)]

    tries = len(llm.asked)
    assert events == [ModelText("fits"), END]
    assert llm.asked_tokens == sorted(llm.asked_tokens, reverse=True), "each try is shorter"
    assert llm.asked[-1].conversation[-1].text == begun.context[0].content, "the question is in all of them"

    await executor.execute(begun, [])
    assert len(llm.asked) == tries + 1, "what was learned holds for the next step"


async def test_what_one_model_refused_says_nothing_of_another() -> None:
    windows = Windows()
    await AgentExecutor(Windowed(4_096), windows=windows).execute(long_start(120), [])
    other = replace(long_start(120), plan=long_start(120, model="n").plan)

    request = await AgentExecutor(Told(), windows=windows).request(other, [])

    assert len(request.conversation) == 239


async def test_what_had_been_read_by_a_person_is_not_answered_anew() -> None:
    llm = Told([ModelText("It is"), ContextOverflow(limit_tokens=4_096)], [ModelText("again"), END])
    windows = Windows()

    events = await AgentExecutor(llm, windows=windows).execute(long_start(120), [], stream=True)
    assert await anext(events) == ModelText("It is")
    with pytest.raises(ContextOverflow):
        await anext(events)

    assert len(llm.asked) == 1
    assert windows.of("m") is not None, "the next turn is shorter all the same"


async def test_a_window_that_tools_and_instructions_fill_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    begun = start()
    crowded = begun.plan.model_copy(update={"instructions": "x" * 4_000, "max_context_tokens": 1_500})
    executor = AgentExecutor(Told())

    await executor.request(begun, [])
    assert caplog.messages == []
    for _ in range(2):
        await executor.request(replace(begun, plan=crowded), [])

    (said,) = caplog.messages
    assert said.startswith("model m: instructions, tools and schema take about 1338 tokens, and leave 162 for")


async def test_a_message_that_is_too_long_by_itself_is_not_sent_forever() -> None:
    question = "x" * 30_000
    begun = start()
    begun = replace(begun, context=[begun.context[0]._replace(content=question, tokens=estimate_tokens(question))])
    llm = Windowed(4_096)

    with pytest.raises(ContextOverflow) as refused:
        await AgentExecutor(llm).execute(begun, [])

    assert refused.value.code is ErrorCode.TOKEN_LIMIT
    assert "4096" in refused.value.safe_message
    assert len(llm.asked) == 2


async def test_messages_that_are_too_long_do_not_narrow_the_window_for_others() -> None:
    question = "x" * 30_000
    begun, windows, llm = start(), Windows(), Windowed(4_096)
    begun = replace(begun, context=[begun.context[0]._replace(content=question, tokens=estimate_tokens(question))])
    executor = AgentExecutor(llm, windows=windows)

    for _ in range(10):
        with pytest.raises(ContextOverflow):
            await executor.execute(begun, [])

    window = windows.of("m")
    assert window is not None
    assert window.limit_tokens == 4_096
    assert window.ratio == pytest.approx(1.0, abs=0.01)


async def test_a_server_that_counts_the_answer_is_asked_for_a_shorter_one() -> None:
    llm, windows = Windowed(4_096, counts_answer=True), Windows()
    executor = AgentExecutor(llm, windows=windows)

    answer = await executor.execute(start(max_output_tokens=64_000), [])

    window = windows.of("m")
    assert answer.content == "fits"
    assert llm.asked[0].max_output_tokens == 64_000
    assert (llm.asked[-1].max_output_tokens or 0) > 3_000, "as long as there is room for"
    assert window is not None
    assert window.ratio < 1.3, "a short request says nothing of how tokens are counted"


async def test_after_five_tries_the_turn_fails_and_says_why() -> None:
    # Never satisfied: each try is shorter, and none short enough.
    llm = Windowed(1, says="nothing")

    with pytest.raises(ModelFailed) as refused:
        await AgentExecutor(llm).execute(long_start(400), [])

    assert refused.value.code is ErrorCode.TOKEN_LIMIT
    assert len(llm.asked) <= 5


# Compaction. -------------------------------------------------------------------------------------


async def test_a_window_that_is_learned_brings_a_summary_in_the_same_step() -> None:
    llm, kept, windows = Windowed(4_096), Summaries(), Windows()
    executor = AgentExecutor(llm, windows=windows, compactor=Compactor(llm, kept, ModelRegistry()))

    answer = await executor.execute(long_start(60), [])

    first, *summarising, last = llm.asked
    assert answer.content == "fits"
    assert len(first.conversation) == 119
    assert summarising
    assert all(request.instructions == INSTRUCTIONS for request in summarising)
    assert isinstance(last.conversation[0], UserSaid)
    assert SUMMARY_HEAD in "".join((*last.conversation[0].before, last.conversation[0].text))
    assert last.conversation[-1].text.startswith("user 60 ")
    assert kept.saved


async def test_what_a_summary_used_counts_before_the_step_is_asked() -> None:
    llm, kept = (
        Told([ModelText("short"), ModelEnd(FinishReason.STOP, Usage(input_tokens=900, output_tokens=100))]),
        Summaries(),
    )
    begun = long_start(60, max_context_tokens=2_000, max_turn_tokens=1_000)
    executor = AgentExecutor(llm, compactor=Compactor(llm, kept, ModelRegistry()))

    with pytest.raises(BudgetExceeded):
        await executor.execute(begun, [])

    assert all(request.instructions == INSTRUCTIONS for request in llm.asked)
    assert len(kept.used) == len(llm.asked)


async def test_no_summary_is_paid_for_once_a_budget_is_used_up() -> None:
    llm, kept = Told([ModelText("short"), END]), Summaries()
    begun = long_start(60, max_context_tokens=2_000, max_turn_tokens=1_000, used=TokensUsed(turn=1_000))

    with pytest.raises(BudgetExceeded):
        await AgentExecutor(llm, compactor=Compactor(llm, kept, ModelRegistry())).execute(begun, [])

    assert (llm.asked, kept.used) == ([], [])
