"""Compaction: what a summary is made of, what stays word for word, and that a turn never fails for want of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ErrorCode, ModelFailed, Transient
from shared.sessions.context.compaction import INSTRUCTIONS, Compactor, _transcript, split
from shared.sessions.context.window import SUMMARY_HEAD, estimate_tokens
from shared.sessions.limits.budgets import MoneySpent, TokensUsed
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import ContextOverflow, ModelEnd, ModelEvent, ModelRequest, ModelText, PromptFiltered
from shared.sessions.llm.registry import Model, ModelApi, ModelRegistry
from shared.sessions.models import FinishReason, MessageStatus, ReasoningEffort, Usage
from shared.sessions.records.steps import SUMMARY_ROLE, ContextMessage, StepStart
from tests.unit.turns.asking import PRICED, Summaries, Told, long_start, start

ROOM = 2_000
NO_END = ModelEnd(FinishReason.STOP, None)


def _message(role: str, turn: int, step: int, tokens: int = 100, **fields: Any) -> ContextMessage:
    values: dict[str, Any] = {"content": f"{role}-{turn}-{step}", "status": MessageStatus.COMPLETED}
    return ContextMessage(role=role, tokens=tokens, turn_number=turn, step=step, **values | fields)


def _turn(number: int, tokens: int = 100) -> list[ContextMessage]:
    """A turn that called a tool, oldest first; each of its messages of so many tokens."""
    call = {"id": "c", "name": "fetch_url", "arguments": {"url": "http://x.test/"}}
    return [
        _message("user", number, 0, tokens),
        _message("assistant", number, 1, tokens, calls=[call], content=""),
        _message("tool", number, 1, tokens, tool_call_id="c"),
        _message("assistant", number, 2, tokens),
    ]


def _turns(*numbers: int, tokens: int = 100) -> list[ContextMessage]:
    """Newest first."""
    return [message for number in numbers for message in reversed(_turn(number, tokens))]


def _summary(turn: int, tokens: int = 100, **fields: Any) -> ContextMessage:
    return _message(SUMMARY_ROLE, turn, 2**31 - 1, tokens, **{"content": "what was"} | fields)


def _start(context: Sequence[ContextMessage], *, compact_at: float | None = 0.8, **plan: Any) -> StepStart:
    begun = start()
    return replace(
        begun,
        context=list(context),
        plan=begun.plan.model_copy(update={"compact_at": compact_at, **plan}),
        used=TokensUsed(1, 2, 3),
        spent=MoneySpent(Decimal(1), Decimal(2), Decimal(3)),
    )


class Facts:
    """A model that summarises as one hopes for: every line that tells a fact stays."""

    def __init__(self) -> None:
        self.asked: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> Any:
        self.asked.append(request)
        yield ModelText("\n".join(facts(request)) or "Nothing of note.")
        yield ModelEnd(FinishReason.STOP, Usage(input_tokens=100, output_tokens=10))


def facts(request: ModelRequest) -> list[str]:
    """What a reader of the request finds told as a fact, each once."""
    lines = [line for said in request.conversation for line in texts_of(said).splitlines()]
    return list(dict.fromkeys("FACT" + line.rpartition("FACT")[2] for line in lines if "FACT" in line))


def texts_of(said: Any) -> str:
    return "\n".join((*said.before, said.text)) if isinstance(said, UserSaid) else str(said.text)


# What stays. -------------------------------------------------------------------------------------


@st.composite
def stored(draw: st.DrawFn) -> list[ContextMessage]:
    """Newest first: perhaps a summary, some turns, and the running one, perhaps of an earlier turn's question."""
    count = draw(st.integers(1, 6))
    sizes = st.integers(1, 200)
    messages: list[ContextMessage] = []
    for number in range(11, 11 + count):
        messages += [message._replace(tokens=draw(sizes)) for message in _turn(number)]
    running = draw(st.integers(1, 4))
    newest = [message._replace(tokens=draw(sizes)) for message in _turn(11 + count)[:running]]
    if draw(st.booleans()) and running > 1:
        newest = newest[1:]  # a regeneration: its question is the one before
    messages += newest
    return [*reversed(messages), *([_summary(10, draw(sizes))] if draw(st.booleans()) else [])]


def _numbers(messages: Sequence[ContextMessage]) -> list[int]:
    return [number for number, _ in groupby(message.turn_number for message in messages)]


@given(context=stored(), keep_tokens=st.integers(0, 2_000))
def test_whole_turns_stay_the_newest_first_and_with_them_the_question_that_is_answered(
    context: list[ContextMessage], keep_tokens: int
) -> None:
    older, kept = split(context, keep_tokens=keep_tokens)

    assert [*kept, *older] == context
    assert not set(_numbers(kept)) & set(_numbers(older)), "a turn is on one side"
    question = next(message for message in context if message.role == "user")
    needed = [number for number in _numbers(context) if number >= question.turn_number]
    assert kept[0] == context[0]
    assert question in kept
    if not older:
        return
    assert all(message.role != SUMMARY_ROLE for message in kept), "the next summary stands for the one before"
    free = [message for message in kept if message.turn_number not in needed]
    cost = sum(message.tokens for message in kept)
    assert not free or cost <= keep_tokens
    # As many as may stay, do.
    next_turn = [message for message in older if message.turn_number == older[0].turn_number]
    assert next_turn[0].role == SUMMARY_ROLE or cost + sum(message.tokens for message in next_turn) > keep_tokens


def test_a_regenerated_turns_question_stays_word_for_word_with_all_after_it() -> None:
    answer = _turn(9)[1:3]  # of turn 9, to the question of turn 7
    context = [*reversed(answer), *_turns(7)[3:], *_turns(6, 5)]

    older, kept = split(context, keep_tokens=0)

    assert _numbers(kept) == [9, 7]
    assert _numbers(older) == [6, 5]


def test_nothing_older_than_the_running_turn_is_nothing_to_summarise() -> None:
    assert split(_turns(3), keep_tokens=0) == ([], _turns(3))
    assert split([*_turns(3), _summary(2)], keep_tokens=0) == ([], [*_turns(3), _summary(2)])


# What the model is told. -------------------------------------------------------------------------


def test_turns_are_told_oldest_first_and_as_far_as_they_fit_but_one_at_least() -> None:
    older = _turns(3, 2, 1)
    told, last = _transcript(older, 10_000)

    assert (len(told), last) == (12, older[0])
    assert [text.partition(":")[0] for text in told] == ["user", "assistant", "tool result", "assistant"] * 3
    one_turn = sum(map(estimate_tokens, told[:4]))
    for budget, turns in ((3 * one_turn, 3), (3 * one_turn - 1, 2), (one_turn, 1), (0, 1)):
        told, last = _transcript(older, budget)
        assert (len(told), last.turn_number, last.step) == (4 * turns, turns, 2)


def test_a_turn_that_is_too_long_alone_is_told_by_its_beginnings() -> None:
    long = [message._replace(content="b" * 9_000) for message in _turns(1)]

    told, _ = _transcript(long, 400)

    assert sum(map(estimate_tokens, told)) <= 400 + 4 * 4
    assert all(len(text) > 200 for text in told)


def test_a_summary_is_never_told_alone() -> None:
    told, last = _transcript([*_turns(12, 11), _summary(10, content="s" * 3_000)], 500)

    assert told[0].startswith("Summary of what came before:\nsss")
    assert (len(told), last.turn_number) == (5, 11)


def test_what_the_filter_refused_is_not_told() -> None:
    messages = [
        _message("assistant", 2, 1, content="half of it", finish_reason=FinishReason.CONTENT_FILTER),
        _message("user", 2, 0, content="foul", left_out="content_filter"),
        _message("tool", 1, 1, content="fouler", left_out="content_filter"),
        _message("user", 1, 0, content="fine"),
    ]

    told, _ = _transcript(messages, 10_000)

    text = "\n".join(told)
    assert "fine" in text
    assert not any(word in text for word in ("half", "foul"))
    assert text.count("content filter") == 3


def test_long_results_are_cut_and_what_nobody_sees_is_taken_out() -> None:
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "obey")
    messages = [
        _message("tool", 1, 1, content=f"r{hidden}" + "x" * 5_000),
        _message("user", 1, 0, content="look", note=f"[Files] n{hidden}", attachments=[]),
    ]

    told, _ = _transcript(messages, 100_000)

    assert told[0] == "user: [files: [Files] n]\nlook"
    assert told[1] == "tool result: r" + "x" * 1_999 + " [cut]"


# What is asked, kept and counted. ----------------------------------------------------------------


async def test_older_turns_give_way_to_a_summary_of_them_and_the_last_ones_stay_word_for_word() -> None:
    llm, kept = Facts(), Summaries()
    context = [*_turns(5, 4, 3, 2), *_turns(1)[:-1], _message("user", 1, 0, content="FACT: the code is 7431")]

    found = await Compactor(llm, kept, ModelRegistry()).compact(_start(context), room=ROOM, api=ModelApi.CHAT)

    # 2000 tokens are more than 0.8 of the room; 0.4 of it stay: turns 5 and 4.
    summary = found.context[-1]
    assert found.context[:-1] == _turns(5, 4)
    assert (summary.role, summary.content, summary.turn_number) == (SUMMARY_ROLE, "FACT: the code is 7431", 3)
    assert summary.tokens == estimate_tokens(SUMMARY_HEAD) + estimate_tokens(summary.content)
    (saved,) = kept.saved
    assert (saved.content, saved.turn_number, saved.tokens, saved.model) == (summary.content, 3, summary.tokens, "m")
    (request,) = llm.asked
    assert (request.instructions, request.tools, request.temperature) == (INSTRUCTIONS, (), None)
    assert request.max_output_tokens == ROOM // 8


@pytest.mark.parametrize("compact_at", [None, 1.0])
async def test_below_its_share_or_without_one_nothing_is_asked(compact_at: float | None) -> None:
    llm, begun = Facts(), _start(_turns(5, 4, 3, 2, 1), compact_at=compact_at)

    found = await Compactor(llm, Summaries(), ModelRegistry()).compact(begun, room=ROOM, api=ModelApi.CHAT)

    assert found == begun
    assert llm.asked == []


async def test_a_window_too_small_for_a_summary_gets_none() -> None:
    llm, begun = Facts(), _start(_turns(5, 4, 3, 2, 1))

    assert await Compactor(llm, Summaries(), ModelRegistry()).compact(begun, room=511, api=ModelApi.CHAT) is begun
    assert llm.asked == []


async def test_a_running_turn_that_fills_the_window_alone_is_left_as_it_is() -> None:
    llm, begun = Facts(), _start([*_turns(5, tokens=900), _summary(4)])

    assert await Compactor(llm, Summaries(), ModelRegistry()).compact(begun, room=ROOM, api=ModelApi.CHAT) == begun
    assert llm.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        [ModelText("It w"), Transient(ErrorCode.LLM_ERROR, "away")],
        [Transient(ErrorCode.RATE_LIMITED, "later", retry_after_s=60)],
        [ModelFailed(ErrorCode.LLM_ERROR, "refused")],
        [ContextOverflow(limit_tokens=512)],
        [PromptFiltered()],
        [ModelText("I will not."), ModelEnd(FinishReason.REFUSAL, Usage(input_tokens=5, output_tokens=5))],
        [ModelText("It w"), ModelEnd(FinishReason.CONTENT_FILTER, Usage(input_tokens=5, output_tokens=5))],
        [ModelText(" \n"), ModelEnd(FinishReason.STOP, Usage(input_tokens=5, output_tokens=5))],
        [ModelEnd(FinishReason.LENGTH, Usage(input_tokens=5, output_tokens=5))],
    ],
    ids=["broken off", "rate", "failed", "too long", "prompt filtered", "refusal", "filtered", "blank", "empty"],
)
async def test_without_a_summary_the_step_goes_on_as_it_is_and_its_turn_does_not_ask_again(
    answer: list[ModelEvent | Exception],
) -> None:
    llm, kept = Told(answer), Summaries()
    compactor, begun = Compactor(llm, kept, ModelRegistry()), _start(_turns(5, 4, 3, 2, 1))

    found = await compactor.compact(begun, room=ROOM, api=ModelApi.CHAT)
    await compactor.compact(replace(begun, step=2), room=ROOM, api=ModelApi.CHAT)

    used = [event.usage for event in answer if isinstance(event, ModelEnd)]
    is_cut = isinstance(answer[0], ModelText) and not used
    assert found.context == begun.context
    assert len(llm.asked) == 1
    assert kept.saved == []
    if is_cut:
        ((reads, writes),) = [(usage.input_tokens, usage.output_tokens) for usage in kept.used]
        assert (reads > 100, writes) == (True, estimate_tokens("It w")), "what it used is estimated"
    else:
        assert kept.used == used, "what it used is counted all the same"
    assert found.used.turn == begun.used.turn + 10 * len(used)

    await compactor.compact(replace(begun, turn_id="next"), room=ROOM, api=ModelApi.CHAT)
    assert len(llm.asked) == 2, "the next turn asks anew"


async def test_a_summary_that_was_cut_at_its_length_is_one() -> None:
    llm = Told([ModelText("They agreed on"), ModelEnd(FinishReason.LENGTH, None)])

    found = await Compactor(llm, Summaries(), ModelRegistry()).compact(
        _start(_turns(5, 4, 3, 2, 1)), room=ROOM, api=ModelApi.CHAT
    )

    assert found.context[-1].content == "They agreed on"


async def test_what_it_used_is_counted_with_its_price_and_estimated_where_nobody_says() -> None:
    begun, known = _start(_turns(5, 4, 3, 2, 1)), Usage(input_tokens=400, output_tokens=20)
    for end, usage in ((ModelEnd(FinishReason.STOP, known), known), (NO_END, None)):
        llm, kept = Told([ModelText("short"), end]), Summaries()

        found = await Compactor(llm, kept, PRICED).compact(begun, room=ROOM, api=ModelApi.CHAT)

        (used,) = kept.used
        (said,) = llm.asked[0].conversation
        reads = sum(map(estimate_tokens, said.before)) if isinstance(said, UserSaid) else 0
        expected = usage or Usage(input_tokens=reads, output_tokens=estimate_tokens("short"))
        cost = Decimal(expected.input_tokens + 10 * expected.output_tokens) / 1_000_000
        assert used == expected.model_copy(update={"cost_usd": float(cost)})
        tokens = expected.input_tokens + expected.output_tokens
        assert found.used == TokensUsed(1 + tokens, 2 + tokens, 3 + tokens)
        assert found.spent == MoneySpent(1 + cost, 2 + cost, 3 + cost)


async def test_a_summary_carries_the_sources_of_all_it_was_written_from() -> None:
    context = [
        *_turns(9, 8),
        _message("user", 7, 0, authors=["will"]),
        *_turns(6),  # it fetched a page
        _message("assistant", 5, 1, 300, sources=["read_attachment"]),
        _message("user", 5, 0, 300),
        _summary(4, sources=["search_history"]),
    ]
    kept = Summaries()

    found = await Compactor(Facts(), kept, ModelRegistry()).compact(_start(context), room=ROOM, api=ModelApi.CHAT)

    (saved,) = kept.saved
    assert saved.sources == {"fetch_url", "other people", "read_attachment", "search_history"}
    assert found.context[-1].sources == sorted(saved.sources)


async def test_sources_of_what_stays_are_not_the_summarys() -> None:
    context = [*_turns(9), *[m._replace(calls=None) for m in _turns(8, 7, 6, 5, 4) if m.role != "tool"]]
    kept = Summaries()

    await Compactor(Facts(), kept, ModelRegistry()).compact(_start(context), room=ROOM, api=ModelApi.CHAT)

    assert [saved.sources for saved in kept.saved] == [frozenset()]


async def test_of_a_long_history_that_does_not_fit_one_request_more_than_one_summary_is_made_until_it_does() -> None:
    llm, kept = Facts(), Summaries()
    context = [
        message._replace(content=f"{message.content} FACT: {message.turn_number}".ljust(300, "x").replace("x", ""))
        if message.role == "user"
        else message._replace(content="y" * 280)
        for message in _turns(*range(30, 0, -1))
    ]

    found = await Compactor(llm, kept, ModelRegistry()).compact(_start(context), room=ROOM, api=ModelApi.CHAT)

    assert len(llm.asked) > 1
    assert [saved.turn_number for saved in kept.saved] == sorted({saved.turn_number for saved in kept.saved})
    assert found.context[-1].content == kept.saved[-1].content
    for number in range(1, kept.saved[-1].turn_number + 1):
        assert f"FACT: {number}" in found.context[-1].content.splitlines()
    for request in llm.asked:
        (said,) = request.conversation
        reads = estimate_tokens(texts_of(said)) + estimate_tokens(request.instructions)
        assert reads + (request.max_output_tokens or 0) <= ROOM


@pytest.mark.parametrize(
    ("facts_of", "effort", "most"),
    [
        (Model(name="m", efforts=[ReasoningEffort.HIGH, ReasoningEffort.NONE, ReasoningEffort.LOW]), "none", ROOM // 2),
        (Model(name="m", efforts=[ReasoningEffort.MEDIUM, ReasoningEffort.LOW]), "low", ROOM // 2),
        (Model(name="m", efforts=[]), None, ROOM // 8),
        (Model(name="m"), None, ROOM // 8),
    ],
)
async def test_a_model_reasons_over_a_summary_as_little_as_it_can_and_has_room_for_it(
    facts_of: Model, effort: str | None, most: int
) -> None:
    llm = Facts()

    await Compactor(llm, Summaries(), ModelRegistry({"m": facts_of})).compact(
        _start(_turns(5, 4, 3, 2, 1)), room=ROOM, api=ModelApi.CHAT
    )

    (request,) = llm.asked
    assert (request.reasoning_effort, request.max_output_tokens) == (effort, most)
    (said,) = request.conversation
    assert estimate_tokens(texts_of(said)) + estimate_tokens(INSTRUCTIONS) + most <= ROOM


async def test_it_is_asked_over_the_api_of_the_turn() -> None:
    llm, begun = Facts(), _start(_turns(5, 4, 3, 2, 1))

    await Compactor(llm, Summaries(), ModelRegistry()).compact(begun, room=ROOM, api=ModelApi.RESPONSES)

    assert llm.asked[0].api is ModelApi.RESPONSES


async def test_a_model_that_does_not_keep_to_its_length_does_not_fill_the_window_with_its_summary() -> None:
    llm = Told([ModelText("w" * 50_000), NO_END])

    found = await Compactor(llm, Summaries(), ModelRegistry()).compact(
        _start(_turns(5, 4, 3, 2, 1)), room=ROOM, api=ModelApi.CHAT
    )

    # Twice an eighth of the room, and its head: less than the half that `fit` allows a summary.
    assert found.context[-1].tokens <= ROOM // 4 + estimate_tokens(SUMMARY_HEAD) + 4
    assert found.context[-1].tokens <= ROOM // 2
    assert len(llm.asked) <= 8


async def test_a_step_reads_the_summary_of_a_long_session_that_was_never_summarised() -> None:
    llm = Facts()
    begun = long_start(400)

    found = await Compactor(llm, Summaries(), ModelRegistry()).compact(begun, room=4_000, api=ModelApi.CHAT)

    assert sum(message.tokens for message in found.context) < sum(message.tokens for message in begun.context)
    assert len(llm.asked) <= 8, "no turn waits for more"
