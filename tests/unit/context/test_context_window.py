"""The context window: what the model reads is always a valid conversation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.context.window import (
    FILTERED_RESULT,
    MESSAGE_OVERHEAD_TOKENS,
    NO_RESULT,
    SUMMARY_HEAD,
    estimate_tokens,
    fit,
    to_conversation,
)
from shared.sessions.llm.conversation import AssistantSaid, ModelToolCall, ToolAnswered, UserSaid
from shared.sessions.models import FinishReason, MessageStatus
from shared.sessions.records.steps import SUMMARY_ROLE, ContextMessage
from tests.unit.turns.asking import check_valid

LEAST_RESULT_TOKENS = 64
"""A result is cut to no less."""


def _message(role: str, turn: int, step: int, tokens: int = 10, **fields: Any) -> ContextMessage:
    values: dict[str, Any] = {"content": f"{role}-{turn}-{step}", "status": MessageStatus.COMPLETED}
    return ContextMessage(role=role, tokens=tokens, turn_number=turn, step=step, **values | fields)


def _summary(turn: int, tokens: int = 10) -> ContextMessage:
    return _message(SUMMARY_ROLE, turn, 2**31 - 1, tokens, content="what was")


def _result(turn: int, step: int, call_id: str, chars: int) -> ContextMessage:
    text = f"r-{turn}-{step}-{call_id} ".ljust(chars, "x")
    return _message("tool", turn, step, estimate_tokens(text), tool_call_id=call_id, content=text)


def _call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "name": "calculate", "arguments": {"expression": "1"}}


@st.composite
def conversations(draw: st.DrawFn, most_chars: int = 150, least_steps: int = 0) -> list[ContextMessage]:
    """Stored messages, oldest first, as turns leave them: some calls unanswered, some answers cut short."""
    messages: list[ContextMessage] = []
    sizes = st.integers(1, 60)
    for turn in range(1, draw(st.integers(1, 4)) + 1):
        messages.append(_message("user", turn, 0, draw(sizes)))
        for step in range(1, draw(st.integers(least_steps, 3)) + 1):
            # Some servers use the same ids in every turn.
            ids = [f"call_{n}" for n in range(draw(st.integers(0, 3)))]
            status = draw(
                st.sampled_from([MessageStatus.COMPLETED] * 4 + [MessageStatus.CANCELLED, MessageStatus.FAILED])
            )
            calls = [_call(call_id) for call_id in ids] or None
            content = draw(st.sampled_from(["", f"a-{turn}-{step}"]))
            messages.append(_message("assistant", turn, step, draw(sizes), status=status, calls=calls, content=content))
            answered = draw(st.lists(st.sampled_from(ids), unique=True)) if ids else []
            messages.extend(
                _result(turn, step, call_id, draw(st.integers(0, most_chars))) for call_id in ids if call_id in answered
            )
    return messages


def _groups(messages: Sequence[ContextMessage]) -> list[list[ContextMessage]]:
    return [list(group) for _, group in groupby(messages, key=lambda message: (message.turn_number, message.step))]


def _places(messages: Sequence[ContextMessage]) -> list[tuple[int, int]]:
    return [(group[0].turn_number, group[0].step) for group in _groups(messages)]


def _tokens(messages: Sequence[ContextMessage]) -> int:
    return sum(message.tokens for message in messages)


def _pinned(stored: Sequence[ContextMessage]) -> list[tuple[int, int]]:
    """The newest question and the newest group."""
    question = next(message for message in reversed(stored) if message.role == "user")
    return sorted({(question.turn_number, 0), _places(stored)[-1]})


# What is kept. -----------------------------------------------------------------------------------


@given(stored=conversations(), budget=st.integers(0, 400))
def test_the_newest_groups_that_fit_are_kept_whole_and_in_order_and_the_question_whatever_fits(
    stored: list[ContextMessage], budget: int
) -> None:
    kept = fit(reversed(stored), budget)

    places, pinned = _places(kept), _pinned(stored)
    assert set(pinned) <= set(places), "the newest group and the newest question are never dropped"
    assert places == [place for place in _places(stored) if place in places], "in order"
    # Beside what is pinned it is the newest ones, without a gap.
    free = [place for place in places if place not in pinned]
    others = [place for place in _places(stored) if place not in pinned]
    assert free == others[len(others) - len(free) :]
    by_place = {_places(group)[0]: group for group in _groups(stored)}
    for group in _groups(kept)[:-1]:
        assert group == by_place[_places(group)[0]], "whole"
    if free:
        assert _tokens(kept) <= budget
    dropped = others[: len(others) - len(free)]
    assert not dropped or _tokens(kept) + _tokens(by_place[dropped[-1]]) > budget, "as many as fit"


@given(stored=conversations(most_chars=3_000, least_steps=1), budget=st.integers(0, 1_000))
def test_a_newest_group_that_is_larger_than_the_budget_keeps_its_calls_and_the_beginning_of_each_result(
    stored: list[ContextMessage], budget: int
) -> None:
    kept = fit(reversed(stored), budget)

    newest, was = _groups(kept)[-1], _groups(stored)[-1]
    assert [message._replace(content="", tokens=0) for message in newest] == [
        message._replace(content="", tokens=0) for message in was
    ]
    results = [(now, before) for now, before in zip(newest, was, strict=True) if now.role == "tool"]
    assert all(now == before for now, before in zip(newest, was, strict=True) if now.role != "tool")
    for now, before in results:
        assert now.tokens <= before.tokens
        assert estimate_tokens(now.content) <= now.tokens, "what is kept is no larger than it is counted"
        if now != before:
            head, _, mark = now.content.rpartition("\n[cut: ")
            assert before.content.startswith(head)
            assert mark.startswith(f"{len(before.content) - len(head)} more bytes")
            assert now.tokens >= LEAST_RESULT_TOKENS
    fixed = _tokens([message for message in kept if message.role != "tool" or message not in newest])
    room = budget - fixed
    if _tokens(kept) > budget:
        # Over the budget only by what is never cut.
        assert all(now.tokens <= max(LEAST_RESULT_TOKENS, 1) for now, _ in results)
    elif any(now != before for now, before in results):
        # No result is cut for nothing: the cut ones share what the others leave.
        assert _tokens([now for now, _ in results]) > room - len(results)


def test_small_results_leave_their_share_to_the_large_one() -> None:
    question, answer = _message("user", 1, 0), _message("assistant", 1, 1, calls=[_call(name) for name in "abc"])
    small, large = [_result(1, 1, "a", 30), _result(1, 1, "b", 60)], _result(1, 1, "c", 9_000)

    kept = fit([large, *reversed(small), answer, question], 520)

    # 520 - 10 - 10 - 14 - 24 = 462
    assert kept[2:4] == small
    assert kept[4].tokens == 462


@given(stored=conversations(), budget=st.integers(0, 400), size=st.integers(1, 300))
def test_a_summary_comes_first_while_it_leaves_half_of_the_budget_or_all_that_must_be_fits_beside_it(
    stored: list[ContextMessage], budget: int, size: int
) -> None:
    newer = [message._replace(turn_number=message.turn_number + 10) for message in stored]
    summary = _summary(10, size)

    kept = fit([*reversed(newer), summary], budget)

    pinned = _tokens([m for m in newer if (m.turn_number, m.step) in _pinned(newer)])
    is_kept = size <= max(budget // 2, budget - pinned)
    assert (kept[0] == summary) is is_kept
    rest = kept[1:] if is_kept else kept
    # What a summary leaves is fitted as if it were all there is.
    assert rest == fit(reversed(newer), budget - size if is_kept else budget)


@given(stored=conversations(), budget=st.integers(0, 400), limit=st.integers(1, 30))
def test_a_read_cut_by_a_row_limit_never_leaves_a_result_without_its_call(
    stored: list[ContextMessage], budget: int, limit: int
) -> None:
    check_valid(to_conversation(fit(list(reversed(stored))[:limit], budget)))


@given(stored=conversations(), budget=st.integers(0, 400), is_summarised=st.booleans())
def test_every_call_is_answered_exactly_once_right_after_it(
    stored: list[ContextMessage], budget: int, is_summarised: bool
) -> None:
    kept = fit([*reversed(stored), *([_summary(0)] if is_summarised else [])], budget)

    said = to_conversation(kept)

    check_valid(said)
    real = [one.text for one in said if isinstance(one, ToolAnswered) and one.text != NO_RESULT]
    # No result is invented, moved or given twice.
    in_order = [message.content for message in kept if message.role == "tool"]
    assert real == [content for content in in_order if content in real]
    assert len(real) == len(set(real))
    questions = [one.text for one in said if isinstance(one, UserSaid) and not one.text.startswith(SUMMARY_HEAD)]
    assert questions == [m.content for m in kept if m.role == "user"]
    told = sum(SUMMARY_HEAD in "".join((*one.before, one.text)) for one in said if isinstance(one, UserSaid))
    assert told == (kept[0].role == SUMMARY_ROLE), "a summary that is kept is told once"


def test_the_newest_message_is_kept_although_it_is_too_large() -> None:
    newest = _message("user", 2, 0, tokens=1_000)

    assert fit([newest, _message("user", 1, 0)], 10) == [newest]


def test_nothing_older_follows_a_group_that_did_not_fit() -> None:
    small, large, newest = _message("user", 1, 0, 1), _message("user", 2, 0, 100), _message("user", 3, 0, 10)

    assert fit([newest, large, small], 50) == [newest]


def test_the_question_is_kept_however_many_steps_its_turn_has_taken() -> None:
    question = _message("user", 1, 0, 30)
    steps = [_message("assistant", 1, step, 30) for step in range(1, 9)]

    # 100 - 30 of the question - 30 of the newest: one more.
    assert fit([*reversed(steps), question], 100) == [question, steps[-2], steps[-1]]


# What is said. -----------------------------------------------------------------------------------


def test_a_call_whose_turn_was_cancelled_is_answered_with_that() -> None:
    stored = [
        _message("assistant", 1, 1, calls=[_call("a"), _call("b")]),
        _message("tool", 1, 1, tool_call_id="b", content="result b"),
        _message("user", 2, 0),
    ]

    asked, *rest = to_conversation(stored)

    assert isinstance(asked, AssistantSaid)
    assert [call.id for call in asked.calls] == ["a", "b"]
    assert rest == [ToolAnswered("b", "result b"), ToolAnswered("a", NO_RESULT), UserSaid("user-2-0")]


def test_an_answer_cut_short_is_read_without_its_calls() -> None:
    stored = [_message("assistant", 1, 1, status=MessageStatus.CANCELLED, calls=[_call("a")], content="part")]

    assert to_conversation(stored) == [AssistantSaid("part", [])]


def test_arguments_that_were_no_object_go_back_as_text() -> None:
    stored = [_message("assistant", 1, 1, calls=[{"id": "a", "name": "x", "arguments": "{oops"}])]

    (said, _) = to_conversation(stored)

    assert isinstance(said, AssistantSaid)
    assert said.calls == [ModelToolCall("a", "x", "{oops")]


def test_what_an_api_wants_back_goes_with_its_answer() -> None:
    kept = [{"type": "reasoning", "encrypted_content": "x"}]
    stored = [_message("assistant", 1, 1, calls=[_call("a")], kept=kept, content="")]

    (said, _) = to_conversation(stored)

    assert isinstance(said, AssistantSaid)
    assert said.kept == kept


@pytest.mark.parametrize("first", ["user", "assistant"])
def test_a_summary_stands_before_the_first_message_and_says_what_it_is(first: str) -> None:
    newer = [_message(first, 3, 0), _message("user", 4, 0)]

    said = to_conversation([_summary(2), *newer])

    told = f"{SUMMARY_HEAD}\nwhat was"
    if first == "user":
        assert said == [UserSaid("user-3-0", (told,)), UserSaid("user-4-0")]
    else:
        assert said == [UserSaid(told), AssistantSaid("assistant-3-0", []), UserSaid("user-4-0")]


def test_a_summary_stands_before_an_answer_whose_question_the_filter_refused() -> None:
    stored = [_summary(2), _message("user", 3, 0, left_out="content_filter"), _message("assistant", 3, 1)]

    said = to_conversation([*stored, _message("user", 4, 0)])

    assert said == [UserSaid(f"{SUMMARY_HEAD}\nwhat was"), AssistantSaid("assistant-3-1", []), UserSaid("user-4-0")]


def test_what_the_filter_refused_is_not_said_again_but_for_the_newest_question() -> None:
    stored = [
        _message("user", 1, 0, left_out="content_filter"),
        _message("user", 2, 0),
        _message("assistant", 2, 1, calls=[_call("a")], content="I look"),
        _message("tool", 2, 1, tool_call_id="a", content="foul", left_out="content_filter"),
        _message("assistant", 2, 2, finish_reason=FinishReason.CONTENT_FILTER, content="half of it"),
        _message("user", 3, 0, left_out="content_filter"),
    ]

    said = to_conversation(stored)

    assert [one.text for one in said] == ["user-2-0", "I look", FILTERED_RESULT, "user-3-0"]


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abc", 1), ("abcd", 2), ("\u20ac", 1), ("\u20ac\u20ac", 2)]
)
def test_tokens_are_estimated_by_bytes_rounded_up(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens + MESSAGE_OVERHEAD_TOKENS
