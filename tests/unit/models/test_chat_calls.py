"""Tool calls out of the pieces that chat-completion servers send."""

from __future__ import annotations

from typing import Any

import pytest

from shared.adapters.models.calls import MAX_CHARS, MAX_ID_CHARS, MAX_TOOL_CALLS
from shared.adapters.models.chat.answer_parser import ChatParser
from shared.errors import ErrorCode, ModelFailed
from shared.sessions.llm.conversation import MAX_ARGUMENT_CHARS
from shared.sessions.llm.protocol import ModelEnd
from tests.unit.models.replay import Event, call_part, chat, chat_stream, delta, named, sse


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        (
            [
                call_part(1, "two", '{"x"', id="b"),
                call_part(0, "one", "{}", id="a"),
                call_part(1, arguments=":1}"),
            ],
            [("a", "one", "{}"), ("b", "two", '{"x":1}')],
        ),
        (
            [
                call_part(0, "f", "", id="a"),
                call_part(0, arguments='{"x"', id="a"),
                call_part(0, arguments=":1}", id="a"),
            ],
            [("a", "f", '{"x":1}')],
        ),
        (
            [call_part(0, "f", '{"x"', id="a"), call_part(0, "f", ":[", id="a"), call_part(0, "f", "{}]}", id="a")],
            [("a", "f", '{"x":[{}]}')],
        ),
        (
            [
                call_part(0, "f", '{"x"', id="a"),
                call_part(0, arguments=":1", id="b"),
                call_part(0, arguments="}", id="c"),
            ],
            [("a", "f", '{"x":1}')],
        ),
        (
            [call_part(0, "f", '{"x"', id="a"), call_part(0, "f", ":1}", id="b")],
            [("a", "f", '{"x":1}')],
        ),
        (
            [call_part(None, "f", '{"x"', id="a"), call_part(None, "f", ":1}", id="b")],
            [("a", "f", '{"x":1}')],
        ),
        (
            [call_part(0, "f", '{"x":1}', id="a"), call_part(0, "f", '{"x":2}', id="b")],
            [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}')],
        ),
        (
            [call_part(0, "f", '{"x":1}', id="same"), call_part(0, "f", '{"x":2}', id="same")],
            [("same", "f", '{"x":1}'), ("same_1", "f", '{"x":2}')],
        ),
        (
            [call_part(0, "f", "", id="a"), call_part(0, "g", "", id="b"), call_part(0, arguments='{"y":1}')],
            [("a", "f", ""), ("b", "g", '{"y":1}')],
        ),
        (
            [
                call_part(None, "f", '{"x"', id="a"),
                call_part(None, arguments=":1}"),
                call_part(None, "g", "{}", id="b"),
            ],
            [("a", "f", '{"x":1}'), ("b", "g", "{}")],
        ),
        (
            [
                call_part(None, "f", '{"x"', id="a"),
                call_part(None, "g", "{", id="b"),
                call_part(None, arguments=":1}", id="a"),
                call_part(None, arguments="}", id="b"),
            ],
            [("a", "f", '{"x":1}'), ("b", "g", "{}")],
        ),
        (
            [call_part(0, "f", {"x": 1}, id="a"), call_part(0, "f", {"x": 2}, id="b"), call_part(0, "g", {}, id="c")],
            [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}'), ("c", "g", "{}")],
        ),
        (
            [call_part(0, "f", "", id="a"), call_part(0, arguments={"x": 1})],
            [("a", "f", '{"x":1}')],
        ),
        (
            # A brace in a text closes nothing, an escaped quote ends no text, wherever the pieces are cut.
            [call_part(0, "f", '{"x":"}\\', id="a"), call_part(0, "f", '"}', id="a"), call_part(0, "f", '{"}', id="a")],
            [("a", "f", '{"x":"}\\"}{"}')],
        ),
        (
            [call_part(0, "f", "{}", id=None, type="function"), call_part(1, "g", None, id=None)],
            [("call_0_0", "f", "{}"), ("call_1_1", "g", "")],
        ),
    ],
    ids=[
        *("by index", "id repeated", "name repeated", "new id each piece", "new id and name repeated"),
        *("the same without index", "one index", "one index and one id", "without arguments", "begins with an id"),
        *("woven without index", "objects", "object behind its name", "braces in text", "no ids"),
    ],
)
def test_pieces_become_the_calls_that_were_meant(parts: list[Event], calls: list[tuple[str, str, str]]) -> None:
    assert chat(chat_stream(*parts)).calls == calls


@pytest.mark.parametrize("index", [-1, True, 2**63, 10**30, 1.5, "0", [], {}])
def test_an_index_that_is_none_does_not_lose_a_call(index: Any) -> None:
    parts = [
        call_part(index, "f", '{"x"', id="a"),
        call_part(index, arguments=":1}"),
        call_part(index, "g", "{}", id="b"),
    ]

    assert named(chat(chat_stream(*parts)).end.tool_calls) == [("f", '{"x":1}'), ("g", "{}")]


@pytest.mark.parametrize(
    "ids", [["x", "x", "x"], [None, None], ["call_1", None], ["x", "x_1", "x"], ["a\0", "a"], ["\0", ""]]
)
def test_every_call_has_an_id_of_its_own(ids: list[str | None]) -> None:
    parts = [call_part(place, "f", "{}", id=call_id) for place, call_id in enumerate(ids)]

    found = [call.id for call in chat(chat_stream(*parts)).end.tool_calls]

    assert len(set(found)) == len(ids)
    assert all(found)
    assert "\0" not in "".join(found)


def test_what_no_store_takes_is_not_in_a_call() -> None:
    part = call_part(0, "f\0", '{"x":"a\\u0000b\0 \ud83d', id="a\ud800\0")
    other = call_part(0, arguments='\ude00"}')

    (call,) = chat(chat_stream(part, other)).end.tool_calls

    assert (call.id, call.name, call.arguments) == ("a\ufffd", "f", '{"x":"a\\u0000b 😀"}')


def test_a_name_alone_is_a_call_and_arguments_alone_are_one_without_name() -> None:
    assert chat(chat_stream(call_part(0, "f"))).calls == [("call_0_0", "f", "")]
    assert chat(chat_stream(call_part(0, arguments="{}"))).calls == [("call_0_0", "", "{}")]


def test_too_many_calls_end_in_an_error() -> None:
    def stream(calls: int) -> bytes:
        return chat_stream(
            delta(tool_calls=[{"index": n, "id": f"c{n}", "function": {"name": "f"}} for n in range(calls)])
        )

    assert len(chat(stream(MAX_TOOL_CALLS)).end.tool_calls) == MAX_TOOL_CALLS
    with pytest.raises(ModelFailed) as caught:
        chat(stream(1_000))
    assert caught.value.code is ErrorCode.LLM_ERROR


def test_arguments_without_end_are_left_out_and_nothing_after_them_is_read() -> None:
    parser = ChatParser()
    piece = call_part(1, arguments="x" * 1_000)
    parser.feed(sse(call_part(0, "f", "{}", id="a"), call_part(1, "g", "", id="b")))
    fed = 0
    while not parser.is_done:
        parser.feed(sse(piece))
        fed += 1

    assert fed == MAX_ARGUMENT_CHARS // 1_000 + 1
    (end,) = parser.finish()
    assert isinstance(end, ModelEnd)
    whole, cut = end.tool_calls
    assert (end.finish_reason, end.usage) == ("tool_calls", None)
    assert (whole.arguments, whole.left_out_chars) == ("{}", 0)
    assert (cut.id, cut.name, cut.arguments, cut.left_out_chars) == ("b", "g", "", 1_000 * fed)


def test_arguments_of_just_the_most_characters_are_kept() -> None:
    text = '{"x":"' + "y" * (MAX_ARGUMENT_CHARS - 8) + '"}'

    (call,) = chat(
        chat_stream(call_part(0, "f", text[:100], id="a"), call_part(0, arguments=text[100:]))
    ).end.tool_calls

    assert (call.arguments, call.left_out_chars) == (text, 0)


def test_all_calls_of_an_answer_together_are_bounded_too() -> None:
    text = '{"x":"' + "y" * (MAX_ARGUMENT_CHARS - 8) + '"}'
    parts = [call_part(index, "f", text, id=f"c{index}") for index in range(20)]

    calls = chat(chat_stream(*parts)).end.tool_calls

    assert [bool(call.left_out_chars) for call in calls] == [False] * (len(calls) - 1) + [True]
    assert sum(len(call.arguments) for call in calls) <= MAX_CHARS


def test_a_call_is_left_out_where_the_stream_is_longer_than_any() -> None:
    parser = ChatParser()
    parser.feed(sse(call_part(0, "f", '{"x":"', id="a")))
    parser.feed(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"')
    while not parser.is_done:
        parser.feed(b"y" * 100_000)

    (end,) = parser.finish()
    assert isinstance(end, ModelEnd)
    assert [(call.name, call.left_out_chars >= MAX_ARGUMENT_CHARS) for call in end.tool_calls] == [("f", True)]


def test_a_name_repeated_with_each_of_many_pieces_costs_no_more_than_the_pieces() -> None:
    """Each piece looks as if it began an object; looking at all of them again each time would never end."""
    opening = call_part(0, "f", '{"x":"', id="a")
    piece = call_part(0, "f", "{}" * 200, id="a")
    pieces = (MAX_ARGUMENT_CHARS - 1_000) // 400

    (call,) = chat(chat_stream(opening, *[piece] * pieces, call_part(0, arguments='"}'))).end.tool_calls

    assert len(call.arguments) == 400 * pieces + 8


def test_a_long_id_is_cut() -> None:
    (call,) = chat(chat_stream(call_part(0, "f", "{}", id="x" * 10_000))).end.tool_calls

    assert len(call.id) == MAX_ID_CHARS
