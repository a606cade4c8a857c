"""The context window: what the model reads is always a valid conversation."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.context import MESSAGE_OVERHEAD_TOKENS, NO_RESULT, estimate_tokens, fit, to_wire
from shared.sessions.models import MessageStatus
from shared.sessions.records import ContextMessage


def _message(role: str, turn: int, step: int, tokens: int = 10, **fields: Any) -> ContextMessage:
    values: dict[str, Any] = {"content": f"{role}-{turn}-{step}", "status": MessageStatus.COMPLETED}
    return ContextMessage(role=role, tokens=tokens, turn_number=turn, step=step, **values | fields)


def _call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "name": "calculate", "arguments": {"expression": "1"}}


@st.composite
def conversations(draw: st.DrawFn) -> list[ContextMessage]:
    """Stored messages, oldest first, as turns leave them: some calls unanswered, some answers cut short."""
    messages: list[ContextMessage] = []
    sizes = st.integers(1, 60)
    for turn in range(1, draw(st.integers(1, 4)) + 1):
        messages.append(_message("user", turn, 0, draw(sizes)))
        for step in range(1, draw(st.integers(0, 3)) + 1):
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
                _message("tool", turn, step, draw(sizes), tool_call_id=call_id, content=f"r-{turn}-{step}-{call_id}")
                for call_id in ids
                if call_id in answered
            )
    return messages


def _groups(messages: list[ContextMessage]) -> list[list[ContextMessage]]:
    return [list(group) for _, group in groupby(messages, key=lambda message: (message.turn_number, message.step))]


@given(stored=conversations(), budget=st.integers(0, 400))
def test_the_newest_groups_that_fit_are_kept_whole_and_in_order(stored: list[ContextMessage], budget: int) -> None:
    kept = fit(reversed(stored), budget)

    groups = _groups(stored)
    kept_groups = _groups(kept)
    assert kept_groups == groups[len(groups) - len(kept_groups) :]
    assert kept_groups, "the newest is never dropped"
    spent = sum(message.tokens for message in kept)
    assert len(kept_groups) == 1 or spent <= budget
    dropped = groups[: len(groups) - len(kept_groups)]
    assert not dropped or spent + sum(message.tokens for message in dropped[-1]) > budget


@given(stored=conversations(), budget=st.integers(0, 400), limit=st.integers(1, 30))
def test_a_read_cut_by_a_row_limit_never_leaves_a_result_without_its_call(
    stored: list[ContextMessage], budget: int, limit: int
) -> None:
    _check_valid(to_wire(fit(list(reversed(stored))[:limit], budget)))


@given(stored=conversations(), budget=st.integers(0, 400))
def test_every_call_is_answered_exactly_once_right_after_it(stored: list[ContextMessage], budget: int) -> None:
    kept = fit(reversed(stored), budget)

    wire = to_wire(kept)

    _check_valid(wire)
    results = [message["content"] for message in wire if message["role"] == "tool"]
    real = [content for content in results if content != NO_RESULT]
    # No result is invented, moved or given twice.
    in_order = [message.content for message in kept if message.role == "tool"]
    assert real == [content for content in in_order if content in real]
    assert len(real) == len(set(real))
    assert [m["content"] for m in wire if m["role"] == "user"] == [m.content for m in kept if m.role == "user"]


def _check_valid(wire: list[dict[str, Any]]) -> None:
    waiting: list[str] = []
    for message in wire:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
            continue
        assert waiting == [], "something stands between a call and its results"
        if message["role"] == "assistant":
            waiting = [call["id"] for call in message.get("tool_calls", ())]
            assert waiting or message["content"]
    assert waiting == []


def test_the_newest_message_is_kept_although_it_is_too_large() -> None:
    newest = _message("user", 2, 0, tokens=1_000)

    assert fit([newest, _message("user", 1, 0)], 10) == [newest]


def test_nothing_older_follows_a_group_that_did_not_fit() -> None:
    small, large, newest = _message("user", 1, 0, 1), _message("user", 2, 0, 100), _message("user", 3, 0, 10)

    assert fit([newest, large, small], 50) == [newest]


def test_a_call_whose_turn_was_cancelled_is_answered_with_that() -> None:
    stored = [
        _message("assistant", 1, 1, calls=[_call("a"), _call("b")]),
        _message("tool", 1, 1, tool_call_id="b", content="result b"),
        _message("user", 2, 0),
    ]

    wire = to_wire(stored)

    assert [(message["role"], message.get("tool_call_id")) for message in wire] == [
        ("assistant", None),
        ("tool", "b"),
        ("tool", "a"),
        ("user", None),
    ]
    assert wire[2]["content"] == NO_RESULT


def test_an_answer_cut_short_is_read_without_its_calls() -> None:
    stored = [_message("assistant", 1, 1, status=MessageStatus.CANCELLED, calls=[_call("a")], content="part")]

    assert to_wire(stored) == [{"role": "assistant", "content": "part"}]


def test_arguments_that_were_no_object_go_back_as_text() -> None:
    stored = [_message("assistant", 1, 1, calls=[{"id": "a", "name": "x", "arguments": "{oops"}])]

    assert to_wire(stored)[0]["tool_calls"][0]["function"]["arguments"] == "{oops"


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abc", 1), ("abcd", 2), ("\u20ac", 1), ("\u20ac\u20ac", 2)]
)
def test_tokens_are_estimated_by_bytes_rounded_up(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens + MESSAGE_OVERHEAD_TOKENS
