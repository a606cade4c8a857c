"""The lean parser of chat-completion streams, byte by byte."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.openai_chat import _Parser, encode_request
from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.llm import ModelEnd, ModelRequest

_USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def _event(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def _part(index: int, **fields: Any) -> dict[str, Any]:
    return {"index": index, **fields}


_END: list[Any] = [{"choices": [{"delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": _USAGE}]


def _encode(events: list[Any], *, newline: bytes = b"\n", space: bytes = b" ") -> bytes:
    blocks = [b"data:" + space + orjson.dumps(event) for event in events]
    return (newline * 2).join([*blocks, b"data:" + space + b"[DONE]", b""])


def _parse(*chunks: bytes) -> tuple[str, ModelEnd]:
    parser = _Parser()
    text = "".join([parser.feed(chunk) for chunk in chunks])
    return text, parser.end()


_TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=6)


@given(
    texts=_TEXTS,
    arguments=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
    newline=st.sampled_from([b"\n", b"\r\n"]),
    space=st.sampled_from([b"", b" "]),
    data=st.data(),
)
def test_any_split_of_the_bytes_gives_the_same_answer(
    texts: list[str], arguments: list[str], newline: bytes, space: bytes, data: st.DataObject
) -> None:
    calls = [_event(tool_calls=[_part(0, id="c", function={"name": "f", "arguments": ""})])] + [
        _event(tool_calls=[_part(0, function={"arguments": piece})]) for piece in arguments
    ]
    stream = _encode([*(_event(content=text) for text in texts), *calls, *_END], newline=newline, space=space)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    text, end = _parse(*pieces)

    assert text == "".join(texts).replace("\0", "\ufffd")
    (call,) = end.tool_calls
    assert call.arguments == "".join(arguments).replace("\0", "")
    assert (end.finish_reason, end.usage.input_tokens, end.usage.output_tokens) == ("stop", 7, 3)


def test_one_byte_at_a_time() -> None:
    stream = _encode([_event(content="\u017e\U0001f642"), *_END])

    text, _ = _parse(*(bytes([byte]) for byte in stream))

    assert text == "\u017e\U0001f642"


@given(texts=_TEXTS, cut=st.integers(0, 10_000))
def test_a_stream_cut_before_its_finish_reason_is_never_taken_for_an_answer(texts: list[str], cut: int) -> None:
    stream = _encode([_event(content=text) for text in texts] + [_event()])

    with pytest.raises(Transient) as caught:
        _parse(stream[:cut])

    assert caught.value.code is ErrorCode.LLM_ERROR


@given(st.binary(max_size=200), st.booleans())
def test_bytes_of_any_kind_end_in_an_answer_or_an_error_of_ours(noise: bytes, framed: bool) -> None:
    try:
        _parse(b"data: " + noise + b"\n\n" if framed else noise)
    except AppError as exc:
        assert exc.code is ErrorCode.LLM_ERROR  # noqa: PT017  # either outcome is right


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "content", "tool_calls", "index", "function", "name", "usage", "id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON, _JSON, _JSON)
def test_json_of_any_shape_ends_in_an_answer_or_an_error_of_ours(first: Any, delta: Any, call: Any) -> None:
    for event in (first, {"choices": [{"delta": delta}], "usage": call}, _event(tool_calls=[call])):
        stream = b"data: " + json.dumps(event).encode() + b"\n\n" + _encode(_END)
        try:
            text, end = _parse(stream)
        except AppError as exc:
            assert exc.code is ErrorCode.LLM_ERROR  # noqa: PT017  # either outcome is right
        else:
            assert isinstance(text, str)
            assert all(isinstance(found.id, str) and isinstance(found.arguments, str) for found in end.tool_calls)


def test_comments_other_fields_and_empty_lines_mean_nothing() -> None:
    stream = b": keep-alive\n\nevent: x\nid: 1\nretry: 5\n" + _encode(
        [_event(content="a"), _event(role="assistant"), *_END]
    )

    assert _parse(stream)[0] == "a"


def test_parallel_calls_are_put_together_by_index() -> None:
    stream = _encode(
        [
            _event(tool_calls=[_part(1, id="b", function={"name": "two", "arguments": '{"x"'})]),
            _event(tool_calls=[_part(0, id="a", function={"name": "one", "arguments": "{}"})]),
            _event(tool_calls=[_part(1, function={"arguments": ":1}"})]),
            *_END,
        ]
    )

    _, end = _parse(stream)

    assert [(call.id, call.name, call.arguments) for call in end.tool_calls] == [
        ("a", "one", "{}"),
        ("b", "two", '{"x":1}'),
    ]


@pytest.mark.parametrize("ids", [["x", "x", "x"], [None, None], ["call_1", None], ["x", "x_1", "x"], ["a\0", "a"]])
def test_calls_get_ids_of_their_own(ids: list[str | None]) -> None:
    events = [_event(tool_calls=[_part(n, id=call_id, function={"name": "f"})]) for n, call_id in enumerate(ids)]

    _, end = _parse(_encode([*events, *_END]))

    found = [call.id for call in end.tool_calls]
    assert len(set(found)) == len(ids)
    assert all(found)
    assert "\0" not in "".join(found)


@pytest.mark.parametrize(
    "event",
    [{"error": {"message": "secret detail"}}, [], 5, "x", {"choices": 7}, {"choices": [None]}, _event(content=3)],
)
def test_what_is_no_answer_may_be_tried_again_and_is_not_repeated_to_users(event: Any) -> None:
    with pytest.raises(Transient) as caught:
        _parse(_encode([event, *_END]))

    assert "secret" not in caught.value.safe_message


def test_an_answer_without_end_is_given_up() -> None:
    piece = b"x" * 100_000
    with pytest.raises(ModelFailed):
        _parse(*[piece] * 100)
    with pytest.raises(ModelFailed):
        _parse(*[b":" + piece + b"\n"] * 1_000)


def test_too_many_calls_are_given_up() -> None:
    calls = [_part(n, id=str(n), function={"name": "f"}) for n in range(65)]

    with pytest.raises(ModelFailed):
        _parse(_encode([_event(tool_calls=calls), *_END]))


def test_a_request_holds_what_was_asked_for_and_nothing_else() -> None:
    messages = [{"role": "user", "content": "\u017e"}]
    plain = orjson.loads(encode_request(ModelRequest("m", messages)))
    full = orjson.loads(encode_request(ModelRequest("m", messages, [b'{"type":"function"}'], 0.0, 5)))

    always = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": messages}
    assert plain == always
    assert full == {**always, "tools": [{"type": "function"}], "temperature": 0.0, "max_completion_tokens": 5}


def test_calls_without_an_index_begin_with_an_id_and_go_on_without_one() -> None:
    parts = [
        {"id": "a", "function": {"name": "one", "arguments": '{"x"'}},
        {"function": {"arguments": ": 1}"}},
        {"id": "b", "function": {"name": "two", "arguments": "{}"}},
    ]

    _, end = _parse(_encode([*(_event(tool_calls=[part]) for part in parts), *_END]))

    assert [(call.id, call.name, call.arguments) for call in end.tool_calls] == [
        ("a", "one", '{"x": 1}'),
        ("b", "two", "{}"),
    ]
