"""Answers that no model gave: JSON of any shape, and what has no end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.models.chat.kept import MAX_ENTRIES
from shared.adapters.models.refusals.refusal import Refusal
from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from tests.unit.models.replay import Parsed, call_part, chat, chat_stream, delta, ended, item_done, responses, sse

_KEYS = (
    *("choices", "delta", "message", "content", "tool_calls", "index", "function", "name", "arguments", "usage", "id"),
    *("finish_reason", "refusal", "reasoning", "reasoning_content", "reasoning_details", "extra_content", "x_groq"),
    *("type", "text", "thinking", "error", "output", "item", "response", "status", "summary", "total_tokens", "code"),
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["response.completed", "response.output_item.done", "message", "reasoning", "function_call"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)


def _check(parsed: Parsed) -> None:
    parsed.text.encode()
    parsed.thought.encode()
    assert all(isinstance(part, str) for call in parsed.calls for part in call)
    assert "\0" not in json.dumps(parsed.end.kept)


@given(_JSON, _JSON, _JSON)
def test_json_of_any_shape_ends_in_an_answer_or_an_error_of_ours(first: Any, inner: Any, call: Any) -> None:
    chats = (first, {"choices": [{"delta": inner}], "usage": call}, delta(tool_calls=[call]), delta(content=inner))
    others = (
        first,
        item_done(inner),
        item_done({"type": "function_call", "name": "f", "arguments": call}),
        {"type": "response.completed", "response": inner},
        ended("completed", inner, usage=call),
    )
    for parse, events in ((chat, chats), (responses, others)):
        for event in events:
            text = json.dumps(event, allow_nan=True)
            for stream in (sse(text, "[DONE]"), text.encode(), sse(text) + chat_stream() + sse(ended())):
                try:
                    parsed = parse(stream)
                except AppError as exc:
                    assert exc.code is ErrorCode.LLM_ERROR  # noqa: PT017  # either outcome is right
                except Refusal as refusal:
                    assert refusal.status == 200  # noqa: PT017
                else:
                    _check(parsed)


@pytest.mark.parametrize(
    "event",
    [
        delta(content="x" * 1_000_000),
        delta(reasoning="x" * 1_000_000),
        delta(reasoning_details=[{"type": "reasoning.text", "text": "x" * 1_000_000}]),
        delta(thinking_blocks=[{"type": "redacted_thinking", "data": "x" * 1_000_000}]),
        call_part(0, "f", "{}", id="a", extra_content={"google": "x" * 1_000_000}),
    ],
    ids=["text", "reasoning", "details", "blocks", "extra"],
)
def test_an_answer_without_end_is_given_up(event: Any) -> None:
    with pytest.raises(ModelFailed) as caught:
        chat(*[sse(event)] * 20)

    assert caught.value.code is ErrorCode.LLM_ERROR


def test_kept_entries_without_end_are_given_up() -> None:
    entries = [{"type": "reasoning.encrypted", "data": "x", "index": n} for n in range(MAX_ENTRIES + 1)]

    with pytest.raises(ModelFailed):
        chat(chat_stream(delta(reasoning_details=entries)))
    assert chat(chat_stream(delta(reasoning_details=entries[:-1]), call_part(0, "f"))).end.kept


def test_what_is_kept_is_not_nested_without_end() -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]

    with pytest.raises(Transient):
        chat(chat_stream(delta(reasoning_details=[{"type": "reasoning.encrypted", "data": deep}])))
