"""Streams of the Responses API, as OpenAI and the servers that follow it send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.adapters.models.refusals.refusal import Refusal
from shared.adapters.models.responses.answer_parser import ResponsesParser
from shared.adapters.models.sse import MAX_EVENT_BYTES, Endless
from shared.errors import ErrorCode, ModelFailed, Transient
from shared.sessions.llm.conversation import MAX_ARGUMENT_CHARS
from shared.sessions.llm.protocol import ModelEnd
from shared.sessions.models import Usage
from tests.unit.models.replay import (
    DONE,
    Event,
    each_byte,
    ended,
    function_call,
    item_done,
    message,
    responses,
    sse,
    text_delta,
)

_CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "m-1", "status": "in_progress"}}
_HELLO = [text_delta("Hel"), text_delta("lo")]


def _thought(text: str, place: int | None = 0, kind: str = "reasoning_summary_text") -> Event:
    return {"type": f"response.{kind}.delta", "delta": text, **({} if place is None else {"output_index": place})}


def _part() -> Event:
    return {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0, "part": {}}


def _note(note_id: str = "rs_1", **fields: Any) -> Event:
    return {"type": "reasoning", "id": note_id, "summary": [], "encrypted_content": "sealed", **fields}


def test_text_is_told_once_though_it_comes_again_in_the_item_and_in_the_end() -> None:
    item = message("Hello")
    stream = sse(_CREATED, *_HELLO, item_done(item), ended("completed", item))

    answer = responses(stream)

    assert (answer.text, answer.end.finish_reason, answer.end.kept) == ("Hello", "stop", [])
    assert (answer.end.response_id, answer.end.response_model) == ("resp_1", "m-1")
    assert answer.end.usage == Usage(input_tokens=11, output_tokens=7)
    assert responses(*each_byte(stream)) == answer


@pytest.mark.parametrize(
    "events",
    [
        [*_HELLO, item_done(message("Hello")), ended("completed", message("Hello"))],
        [*_HELLO, item_done(message("Hello")), ended()],
        [*_HELLO, ended("completed", message("Hello"))],
        [*_HELLO, ended()],
        [item_done(message("Hello")), ended()],
        [ended("completed", message("Hello"))],
        [ended("completed", message("Hel", "lo"))],
        [ended("completed", _note(), message("Hello"))],
        [text_delta("Hel", None), text_delta("lo", None), item_done(message("Hello"), None), ended()],
        [text_delta("Hel", None), text_delta("lo", None), item_done(message("Hello"), 3), ended()],
        [text_delta("Hel", None), item_done(message("Hel"), None), item_done(message("lo"), None), ended()],
        [text_delta("Hel", 0), text_delta("lo", 1), item_done(message("Hel"), 0), item_done(message("lo"), 1), ended()],
        [text_delta("Hel", 0), item_done(message("Hel"), 0), item_done(message("lo"), 1), ended()],
    ],
    ids=[
        *(
            "openai",
            "items alone",
            "end alone",
            "pieces alone",
            "no pieces",
            "in the end",
            "in two parts",
            "behind a note",
        ),
        *("without places", "places at the end", "second without pieces", "woven", "second without pieces, placed"),
    ],
)
def test_text_comes_from_wherever_the_server_puts_it(events: list[Event]) -> None:
    assert responses(sse(_CREATED, *events)).text == "Hello"
    assert responses(sse(*events, DONE)).text == "Hello"


def test_parallel_calls_come_from_their_items_and_their_pieces_are_not_read() -> None:
    first, second = function_call("a", "f", '{"x":1}'), function_call("b", "g", {"y": 2})
    skipped = b'data: {"type":"response.function_call_arguments.delta","delta":not even json}\n\n'

    answer = responses(skipped + sse(item_done(first), item_done(second, 1), ended("completed", first, second)))

    assert answer.end.finish_reason == "tool_calls"
    assert answer.calls == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]
    assert answer.end.kept == [{"type": "function_call", "call_id": "a"}, {"type": "function_call", "call_id": "b"}]


LONG = "x" * (MAX_ARGUMENT_CHARS + 1)


def test_a_call_that_is_too_long_is_left_out_and_the_others_are_read() -> None:
    cut, whole = function_call("a", "f", LONG), function_call("b", "g", "{}")

    end = responses(sse(item_done(cut), item_done(whole, 1), ended("completed", cut, whole))).end

    assert [(call.id, call.arguments, call.left_out_chars) for call in end.tool_calls] == [
        ("a", "", len(LONG)),
        ("b", "{}", 0),
    ]
    assert end.usage is not None
    assert [item["call_id"] for item in end.kept] == ["a", "b"]


def test_pieces_of_a_call_without_end_are_not_read_for_ever() -> None:
    parser = ResponsesParser()
    parser.feed(sse(item_done(_note()), _begun(function_call("a", "f", ""))))
    piece = b'data: {"type":"response.function_call_arguments.delta","delta":"%b"}\n\n' % (b"x" * 100_000)
    fed = 0
    while not parser.is_done:
        parser.feed(piece)
        fed += 1

    assert fed * len(piece) > MAX_ARGUMENT_CHARS
    end = parser.finish()[-1]
    assert isinstance(end, ModelEnd)
    assert [(call.id, call.name, call.left_out_chars >= MAX_ARGUMENT_CHARS) for call in end.tool_calls] == [
        ("a", "f", True)
    ]
    assert (end.finish_reason, end.usage) == ("tool_calls", None)
    assert end.kept == [_note(), {"type": "function_call", "call_id": "a"}]


def test_a_call_in_one_event_that_is_longer_than_any_is_left_out() -> None:
    parser = ResponsesParser()
    parser.feed(
        sse(_begun(function_call("a", "f", ""))) + b'data: {"type":"response.function_call_arguments.done","x":"'
    )
    while not parser.is_done:
        parser.feed(b"y" * 100_000)

    end = parser.finish()[-1]
    assert isinstance(end, ModelEnd)
    assert [(call.id, call.left_out_chars >= MAX_ARGUMENT_CHARS) for call in end.tool_calls] == [("a", True)]


def test_text_that_is_longer_than_any_is_an_error_as_before() -> None:
    parser = ResponsesParser()
    parser.feed(sse(_begun(function_call("a", "f", "")), item_done(function_call("a", "f"))))
    with pytest.raises(Endless):
        parser.feed(b"data: " + b"y" * (MAX_EVENT_BYTES + 1))


def _begun(item: Event) -> Event:
    return {"type": "response.output_item.added", "item": item, "output_index": 0}


@pytest.mark.parametrize(
    "events",
    [
        [ended("completed", _note(), function_call("a", "f"))],
        [item_done(_note()), ended("completed", _note(), function_call("a", "f"))],
        [item_done(_note()), item_done(function_call("a", "f"), 1), ended()],
    ],
)
def test_calls_come_from_the_end_where_no_item_had_them(events: list[Event]) -> None:
    answer = responses(sse(*events))

    assert answer.calls == [("a", "f", "{}")]
    assert answer.end.kept == [_note(), {"type": "function_call", "call_id": "a"}]


def test_calls_that_are_all_named_alike_stay_apart_and_go_back_in_order() -> None:
    calls = [item_done(function_call("same", "f", json.dumps({"x": n})), n) for n in range(2)]

    answer = responses(sse(*calls, ended()))

    assert answer.calls == [("same", "f", '{"x": 0}'), ("same_1", "f", '{"x": 1}')]
    assert [item["call_id"] for item in answer.end.kept] == ["same", "same_1"]


def test_what_led_to_the_calls_is_kept_in_the_order_it_was_written_in() -> None:
    items = [_note(), message("Let me see.", phase="commentary"), _note("rs_2"), function_call("a", "f")]

    answer = responses(sse(*(item_done(item, place) for place, item in enumerate(items)), ended("completed", *items)))

    assert answer.end.kept == [
        _note(),
        {"type": "message", "phase": "commentary"},
        _note("rs_2"),
        {"type": "function_call", "call_id": "a"},
    ]


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        (_note(content=None, status="completed"), [_note()]),
        # llama.cpp: in the open, and refused without it.
        (
            _note(encrypted_content="", content=[{"type": "reasoning_text", "text": "hm"}]),
            [_note(encrypted_content="", content=[{"type": "reasoning_text", "text": "hm"}])],
        ),
        # Nothing that the server would know again.
        (_note(encrypted_content=None), []),
        ({"type": "reasoning", "id": "rs_1", "encrypted_content": "a\0"}, [_note(encrypted_content="a\ufffd")]),
    ],
    ids=["sealed", "open", "empty", "NUL"],
)
def test_a_note_is_kept_where_its_server_can_read_it_again(note: Event, kept: list[Event]) -> None:
    answer = responses(sse(item_done(note), item_done(function_call("a", "f"), 1), ended()))

    assert answer.end.kept[:-1] == kept


@pytest.mark.parametrize(
    ("events", "thought"),
    [
        ([_part(), _thought("one"), _part(), _thought("two"), item_done(_note())], "one\n\ntwo"),
        ([_thought("one"), item_done(_note()), _part(), _thought("two", 1), item_done(_note(), 1)], "one\n\ntwo"),
        ([_thought("one"), item_done(_note()), _thought("two", 1), item_done(_note("rs_2"), 1)], "one\n\ntwo"),
        ([_thought("on", None, "reasoning_text"), _thought("e", None, "reasoning_text")], "one"),
        ([item_done(_note(summary=[{"type": "summary_text", "text": t} for t in ("one", "two")]))], "one\n\ntwo"),
        ([item_done(_note(content=[{"type": "reasoning_text", "text": "one"}]))], "one"),
        ([_thought("one"), item_done(_note(summary=[{"type": "summary_text", "text": "one"}]))], "one"),
        ([_part(), item_done(_note())], ""),
    ],
    ids=["parts", "two notes", "without parts", "reasoning_text", "in the item", "open", "told once", "none"],
)
def test_reasoning_is_told_once_in_paragraphs(events: list[Event], thought: str) -> None:
    answer = responses(sse(*events, *_HELLO, ended()))

    assert (answer.thought, answer.text) == (thought, "Hello")


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "response.refusal.delta", "delta": text, "output_index": 0} for text in ("I can", "not.")],
        [item_done({"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]})],
        [],
    ],
    ids=["pieces", "item", "end"],
)
def test_a_refusal_is_told_and_marked(events: list[Event]) -> None:
    last = ended("completed", {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]})

    answer = responses(sse(*events, last))

    assert (answer.text, answer.end.finish_reason) == ("I cannot.", "refusal")


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_output_tokens"}, "length"), ({"reason": "content_filter"}, "content_filter"), (None, "length")],
)
def test_an_incomplete_response_says_why(details: Any, reason: str) -> None:
    answer = responses(sse(*_HELLO, ended("incomplete", incomplete_details=details)))

    assert (answer.text, answer.end.finish_reason) == ("Hello", reason)


def test_the_status_of_the_response_counts_where_the_event_is_always_the_same() -> None:
    cut = ended("incomplete", incomplete_details={"reason": "max_output_tokens"}) | {"type": "response.completed"}
    failed = ended("failed", error={"message": "Boom"}) | {"type": "response.completed"}

    assert responses(sse(*_HELLO, cut)).end.finish_reason == "length"
    with pytest.raises(Refusal, match="Boom"):
        responses(sse(*_HELLO, failed))


def test_a_second_end_adds_nothing() -> None:
    last = ended("completed", message("Hello"), function_call("a", "f"))

    answer = responses(sse(last, last))

    assert (answer.text, answer.calls) == ("Hello", [("a", "f", "{}")])


def test_a_call_that_was_cut_is_marked() -> None:
    cut = function_call("b", "g", '{"y":', status="incomplete")
    items = [item_done(function_call("a", "f")), item_done(cut, 1)]

    answer = responses(sse(*items, ended("incomplete", incomplete_details={"reason": "max_output_tokens"})))

    assert answer.end.finish_reason == "length"
    assert [call.is_cut for call in answer.end.tool_calls] == [False, True]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.failed", "response": {"status": "failed", "error": {"code": "c", "message": "Boom"}}},
        {"type": "response.failed", "response": {"error": {"code": "c", "message": "Boom"}}},
        {"type": "error", "code": "c", "message": "Boom", "param": None, "sequence_number": 3},
        {"type": "error", "error": {"code": "c", "message": "Boom"}},
        {"error": {"code": "c", "message": "Boom"}},
        {"object": "error", "code": "c", "message": "Boom"},
        [{"error": {"code": "c", "message": "Boom"}}],
    ],
    ids=["failed", "failed without status", "flat", "nested", "bare", "vllm", "list"],
)
@pytest.mark.parametrize("after", [[], _HELLO], ids=["at once", "after text"])
def test_an_error_in_a_stream_is_a_refusal_in_whatever_shape(event: Any, after: list[Event]) -> None:
    with pytest.raises(Refusal) as caught:
        responses(sse(_CREATED, *after, event))

    assert (caught.value.status, caught.value.words) == (200, "Boom")
    assert "c" in caught.value.codes


@pytest.mark.parametrize(
    "last",
    [
        [],
        [{"type": "response.in_progress", "response": {"status": "in_progress"}}],
        [ended("cancelled")],
        [{"type": "response.output_text.done", "text": "Hello"}],
    ],
    ids=["nothing", "in progress", "cancelled", "text done"],
)
def test_a_stream_without_its_last_event_is_no_answer(last: list[Event]) -> None:
    with pytest.raises(Transient) as caught:
        responses(sse(_CREATED, *_HELLO, *last))

    assert caught.value.code is ErrorCode.LLM_ERROR


@pytest.mark.parametrize("status", ["completed", None])
def test_a_server_that_answers_at_once_has_answered(status: str | None) -> None:
    body = {"id": "resp_1", "object": "response", "status": status, "error": None, "output": [message("Hello")]}

    answer = responses(json.dumps(body, indent=1).encode())

    assert (answer.text, answer.end.finish_reason, answer.end.response_id) == ("Hello", "stop", "resp_1")


def test_a_whole_body_that_failed_or_is_not_done_is_no_answer() -> None:
    failed = {"status": "failed", "error": {"message": "Boom"}, "output": [message("Hel")]}

    with pytest.raises(Refusal, match="Boom"):
        responses(json.dumps(failed).encode())
    with pytest.raises(Transient):
        responses(json.dumps({"status": "in_progress", "output": []}).encode())


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": "many"}, {"input_tokens": None}]
)
def test_usage_is_unknown_where_the_server_does_not_say(usage: Any) -> None:
    assert responses(sse(*_HELLO, ended("completed", usage=usage))).end.usage is None


def test_usage_tells_what_was_cached_and_what_was_reasoned() -> None:
    usage = {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 5},
    }

    found = responses(sse(*_HELLO, ended("completed", usage=usage))).end.usage

    assert found == Usage(input_tokens=11, output_tokens=7, cached_input_tokens=8, reasoning_tokens=5)


@pytest.mark.parametrize(
    "event",
    [
        *(5, None, "x", {"type": "response.output_text.delta"}, {"type": "response.completed"}),
        *({"type": "response.output_text.delta", "delta": 3}, {"type": "response.output_item.done", "item": 3}),
        item_done({"type": "function_call"}),
        item_done({"type": "message", "content": 3}),
        item_done({"type": "message", "content": [{"text": 3}]}),
        item_done({"type": "reasoning", "summary": 3}),
        *(ended("completed", output=[7]), {"type": "response.created", "response": {"id": 3}}),
    ],
    ids=str,
)
def test_json_of_another_shape_may_be_tried_again(event: Any) -> None:
    with pytest.raises(Transient) as caught:
        responses(sse(event, ended()))

    assert caught.value.code is ErrorCode.LLM_ERROR


@pytest.mark.parametrize(
    "event",
    [
        *({"type": "ping"}, {}, {"type": "response.web_search_call.searching"}, {"type": 7}),
        *(item_done({"type": "web_search_call"}), {"type": "response.content_part.added", "part": {}}),
    ],
    ids=str,
)
def test_an_event_that_is_not_known_changes_nothing(event: Any) -> None:
    assert responses(sse(event, *_HELLO, event, ended())).text == "Hello"


@pytest.mark.parametrize(
    "events",
    [
        [item_done(function_call(f"c{n}", "f"), n) for n in range(1_000)],
        [item_done(_note(), n) for n in range(2_000)],
        [item_done(_note(encrypted_content="x" * 1_000_000), n) for n in range(20)],
        [text_delta("x" * 1_000_000)] * 20,
        [_thought("x" * 1_000_000)] * 20,
    ],
    ids=["calls", "notes", "long notes", "text", "reasoning"],
)
def test_an_answer_without_end_is_given_up(events: list[Event]) -> None:
    with pytest.raises(ModelFailed) as caught:
        responses(*map(sse, events))

    assert caught.value.code is ErrorCode.LLM_ERROR


def test_a_server_that_ends_a_response_as_a_chat_completion_has_answered() -> None:
    answer = responses(sse(_CREATED, *_HELLO, DONE))

    assert (answer.text, answer.end.finish_reason, answer.end.usage) == ("Hello", "stop", None)


def test_an_end_without_a_word_is_no_answer() -> None:
    with pytest.raises(Transient):
        responses(sse(_CREATED, DONE))
