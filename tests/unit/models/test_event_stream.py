"""Server-sent events in every legal form, and in those that servers send all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.adapters.models.chat.answer_parser import ChatParser
from shared.adapters.models.refusals.refusal import Refusal
from shared.adapters.models.sse import MAX_BODY_BYTES, MAX_EVENT_BYTES, EventStream
from shared.errors import AppError, ErrorCode, ModelFailed, Transient
from shared.sessions.llm.protocol import ModelText
from tests.unit.models.replay import (
    DONE,
    STREAMS,
    call_part,
    chat,
    chat_stream,
    delta,
    each_byte,
    ended,
    finish,
    function_call,
    item_done,
    message,
    pieces,
    responses,
    sse,
    text_delta,
)

_EVENTS: list[Any] = [{"a": 1}, {"b": "x"}, {"c": [None]}]


def _read(*chunks: bytes) -> list[Any]:
    stream = EventStream()
    found = [value for chunk in chunks for value in stream.feed(chunk)]
    return found + stream.end()


def _lines(*lines: str, newline: str = "\n") -> bytes:
    return newline.join([*lines, ""]).encode()


@pytest.mark.parametrize(
    "stream",
    [
        sse(*_EVENTS),
        sse(*_EVENTS, newline="\r\n"),
        sse(*_EVENTS, newline="\r"),
        sse(*_EVENTS, space=""),
        b"\xef\xbb\xbf" + sse(*_EVENTS),
        b"\n\n" + sse(*_EVENTS),
        sse(*_EVENTS).rstrip(b"\n"),
        sse(*_EVENTS).replace(b"\n\n", b"\n"),
        sse(*_EVENTS).replace(b"\n\n", b"\n\n\n\n"),
        _lines(": keep-alive", "", "event: x", "id: 1", "retry: 5", 'data: {"a": 1}', "", "data", "dat: 7", "")
        + sse(*_EVENTS[1:]),
        _lines('data: {"a":', "data: 1}", "", "data: {", 'data:   "b":', "data:", 'data: "x"}', "") + sse(_EVENTS[2]),
        _lines(*json.dumps(_EVENTS[0], indent=1).replace("\n", "\ndata: ").join(["data: ", ""]).split("\n"), "")
        + sse(*_EVENTS[1:]),
        sse(DONE, *_EVENTS, DONE),
        sse(*_EVENTS, "  [DONE]  "),
        sse("", *_EVENTS, " "),
    ],
    ids=[
        *("LF", "CRLF", "CR", "no space", "byte order mark", "white space before", "no end", "no empty lines"),
        *(
            "more empty lines",
            "other fields",
            "several data lines",
            "indented",
            "done",
            "done with space",
            "empty data",
        ),
    ],
)
def test_the_events_are_the_same_in_every_form_and_every_cut(stream: bytes) -> None:
    assert _read(stream) == _EVENTS
    assert _read(*each_byte(stream)) == _EVENTS
    for cut in range(len(stream) + 1):
        assert _read(stream[:cut], stream[cut:]) == _EVENTS
        assert _read(stream[:cut], b"", stream[cut:], b"") == _EVENTS


def test_a_body_that_is_json_is_one_value() -> None:
    text = json.dumps(_EVENTS, indent=2).encode()

    assert _read(text) == _read(*each_byte(b"\xef\xbb\xbf\r\n" + text)) == [_EVENTS]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {not json}\n\n",
        b"data: {\n\n",
        b'data: {"a": 1',
        b"data: Internal Server Error\n\n",
        b"{",
        b'{"a": 1} and more',
        b'data: "' + b"\\ud83d" + b"[" * 20_000 + b'"x\n\n',
        b'{"a": "\\ud83d", "b": ' + b"[" * 20_000,
    ],
)
def test_what_is_no_json_may_be_tried_again(stream: bytes) -> None:
    with pytest.raises(Transient) as caught:
        _read(stream)

    assert caught.value.code is ErrorCode.LLM_ERROR


@pytest.mark.parametrize(
    "chunk",
    [b"x" * 100_000, b"data: " + b"x" * 100_000, b"data: x\n" * 10_000, b'{"' + b"x" * 100_000, b"[" * 100_000],
    ids=["no line", "one line", "one event", "one body", "brackets"],
)
def test_an_event_without_end_is_given_up_at_its_bound(chunk: bytes) -> None:
    with pytest.raises(ModelFailed) as caught:
        _read(*[chunk] * (MAX_EVENT_BYTES // 50_000))

    assert caught.value.code is ErrorCode.LLM_ERROR


@pytest.mark.parametrize(
    "chunk",
    [b": still here" * 1_000 + b"\n", b"\n" * 100_000, b"data: 1" + b" " * 1_000 + b"\n\n", b"\xff" * 1_000 + b"\n"],
)
def test_a_body_without_end_is_given_up_at_its_bound(chunk: bytes) -> None:
    stream = EventStream()

    def feed() -> None:
        for _ in range(MAX_BODY_BYTES // len(chunk) + 1):
            stream.feed(chunk)

    with pytest.raises(ModelFailed):
        feed()


def test_a_long_event_in_small_pieces_is_put_together_once() -> None:
    """Looked at again with each piece, these bytes one by one would be 45 billion."""
    text = "x" * 300_000
    stream = sse({"a": text})

    assert _read(*each_byte(stream)) == [{"a": text}]


_TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=6)
_CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(
    texts=_TEXTS,
    arguments=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    space=st.sampled_from(["", " "]),
    cuts=_CUTS,
)
def test_any_cut_of_a_chat_stream_gives_the_same_answer(
    texts: list[str], arguments: list[str], newline: str, space: str, cuts: list[int]
) -> None:
    calls = [call_part(0, "f", "", id="c"), *(call_part(0, arguments=piece) for piece in arguments)]
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    events = [*(delta(content=text) for text in texts), *calls, finish(), usage, DONE]

    answer = chat(*pieces(sse(*events, newline=newline, space=space), cuts))

    assert answer.text == "".join(texts).replace("\0", "\ufffd")
    assert answer.calls == [("c", "f", "".join(arguments).replace("\0", ""))]
    assert answer.end.usage is not None
    assert (answer.end.usage.input_tokens, answer.end.usage.output_tokens) == (7, 3)


@given(texts=_TEXTS, newline=st.sampled_from(["\n", "\r\n", "\r"]), cuts=_CUTS)
def test_any_cut_of_a_responses_stream_gives_the_same_answer(texts: list[str], newline: str, cuts: list[int]) -> None:
    events = [*map(text_delta, texts), item_done(message(*texts)), item_done(function_call("c", "f"), 1), ended()]

    answer = responses(*pieces(sse(*events, newline=newline), cuts))

    assert answer.text == "".join(texts).replace("\0", "\ufffd")
    assert answer.calls == [("c", "f", "{}")]


@given(st.lists(st.sampled_from(["a", "é", "😀", "\ud83d", "\ude00", "\0", "東"]), max_size=8), st.data())
def test_text_is_the_same_however_the_server_cuts_its_characters(characters: list[str], data: st.DataObject) -> None:
    """Half of a character finds its other half in the next event, or is U+FFFD."""
    text = "".join(characters)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=4))
    parts = [text[start:end] for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True)]

    def escaped(part: str) -> str:
        return json.dumps({"choices": [{"delta": {"content": part}}]})

    whole = chat(sse(escaped(text), finish(), DONE))
    cut = chat(sse(*map(escaped, parts), finish(), DONE))

    assert cut.text == whole.text
    cut.text.encode()
    assert "\0" not in cut.text


@pytest.mark.parametrize("name", sorted(path.stem for path in STREAMS.glob("*.sse")))
def test_a_stream_cut_anywhere_is_the_whole_answer_or_none(name: str) -> None:
    stream = (STREAMS / f"{name}.sse").read_bytes()
    whole = chat(stream)

    for cut in range(len(stream)):
        try:
            answer = chat(stream[:cut])
        except Transient as exc:
            assert exc.code is ErrorCode.LLM_ERROR  # noqa: PT017  # either outcome is right
        else:
            # What comes after the finish reason is the usage.
            assert (answer.text, answer.calls, answer.end.finish_reason) == (
                whole.text,
                whole.calls,
                whole.end.finish_reason,
            )


@given(texts=_TEXTS, cut=st.integers(0, 10_000))
def test_a_stream_cut_before_its_end_is_never_taken_for_an_answer(texts: list[str], cut: int) -> None:
    with pytest.raises(Transient):
        chat(sse(*(delta(content=text) for text in texts), delta(content=""))[:cut])
    with pytest.raises(Transient):
        responses(sse(*map(text_delta, texts), item_done(message(*texts)))[:cut])


@example(noise=b"[]", framed=False)
@given(noise=st.binary(max_size=200), framed=st.booleans())
def test_bytes_of_any_kind_end_in_an_answer_or_an_error_of_ours(noise: bytes, framed: bool) -> None:
    for parse in (chat, responses):
        try:
            parse(b"data: " + noise + b"\n\n" if framed else noise)
        except Refusal:
            pass
        except AppError as exc:
            assert exc.code is ErrorCode.LLM_ERROR  # noqa: PT017  # either outcome is right


def test_a_chat_stream_is_done_when_it_says_so_and_not_before() -> None:
    parser = ChatParser()
    parser.feed(chat_stream(delta(content="x")).removesuffix(b"data: [DONE]\n\n"))
    assert not parser.is_done
    parser.feed(b"data: [DONE]\n\n")
    assert parser.is_done


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (b'data: {"error":{"message":"filtered","code":"content_filter"}}\n\n', Refusal),
        (b"data: {no json}\n\n", Transient),
        (b'data: {"choices":[1]}\n\n', Transient),
    ],
    ids=["error", "no JSON", "another shape"],
)
def test_words_before_a_fault_are_told_though_both_come_together(fault: bytes, error: type[Exception]) -> None:
    parser = ChatParser()

    told = parser.feed(sse(delta(content="before")) + fault)

    assert told == [ModelText("before")]
    assert parser.is_done
    with pytest.raises(error):
        parser.finish()
