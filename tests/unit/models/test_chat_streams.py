"""Chat completions as servers stream them: what each way of it means."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.adapters.models.refusals.refusal import Refusal
from shared.errors import ErrorCode, Transient
from shared.sessions.models import Usage
from tests.unit.models.replay import DONE, STREAMS, call_part, chat, chat_stream, delta, each_byte, finish, named, sse

_CALCULATE = ("calculate", '{"expression":"1+1"}')
_TWO = [_CALCULATE, ("calculate", '{"expression":"20+3"}')]
_NOARG = [("current_time", ""), ("calculate", '{"expression":"20+3"}')]


@pytest.mark.parametrize(
    ("name", "text", "reason", "calls"),
    [
        ("same_index_diff_id", "", "tool_calls", _TWO),
        ("same_index_noarg", "", "tool_calls", _NOARG),
        ("noindex_noid", "", "tool_calls", _TWO),
        ("args_object", "", "tool_calls", [_CALCULATE]),
        ("content_list", "The answer is 4.", "stop", []),
        ("refusal", "I am sorry, I cannot help with that.", "refusal", []),
        ("length_mid", "1. one\n2. tw", "length", []),
        ("content_filter_empty", "", "content_filter", []),
        ("no_finish_done", "complete answer", "stop", []),
        ("usage_null", "hello", "stop", []),
        ("surrogate_split", "smile 😀!", "stop", []),
        ("cr_only", "hello", "stop", []),
        ("azure_filter", "Good day.", "stop", []),
        ("gemini_parallel", "", "tool_calls", _TWO),
        ("llama_cpp_timings", "hi", "stop", []),
    ],
)
def test_a_recorded_stream_means_what_its_server_meant(
    name: str, text: str, reason: str, calls: list[tuple[str, str]]
) -> None:
    stream = (STREAMS / f"{name}.sse").read_bytes()

    whole, bytewise = chat(stream), chat(*each_byte(stream))

    assert (whole.text, whole.end.finish_reason, named(whole.end.tool_calls)) == (text, reason, calls)
    assert bytewise == whole


def test_usage_is_unknown_where_the_server_does_not_say() -> None:
    none: list[Any] = [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, [], "many"]
    for usage in none:
        assert chat(chat_stream(delta(content="x"), {"choices": [], "usage": usage})).end.usage is None


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        (
            [{"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}}],
            Usage(input_tokens=11, output_tokens=7),
        ),
        (
            [
                {
                    "choices": [],
                    "usage": {
                        "prompt_tokens": 11,
                        "completion_tokens": 7,
                        "prompt_tokens_details": {"cached_tokens": 8},
                        "completion_tokens_details": {"reasoning_tokens": 5},
                    },
                }
            ],
            Usage(input_tokens=11, output_tokens=7, cached_input_tokens=8, reasoning_tokens=5),
        ),
        # xAI counts reasoning beside the completion: 11 + 7 + 30.
        (
            [{"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 48}}],
            Usage(input_tokens=11, output_tokens=37),
        ),
        # DeepSeek and Moonshot have cached tokens in places of their own.
        (
            [{"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "prompt_cache_hit_tokens": 3}}],
            Usage(input_tokens=11, output_tokens=7, cached_input_tokens=3),
        ),
        # A running count: the last one, not the sum.
        (
            [{"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": n}} for n in (1, 2, 3)],
            Usage(input_tokens=11, output_tokens=3),
        ),
        # Numbers that are none, or that no store takes.
        (
            [{"choices": [], "usage": {"prompt_tokens": True, "completion_tokens": 1e300, "total_tokens": "9"}}],
            Usage(output_tokens=10**9),
        ),
        ([{"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": -2}}], Usage(input_tokens=4)),
    ],
    ids=["openai", "details", "beside", "elsewhere in it", "running", "no numbers", "negative"],
)
def test_usage_is_what_is_billed(events: list[Any], usage: Usage) -> None:
    assert chat(chat_stream(delta(content="x"), *events)).end.usage == usage


@pytest.mark.parametrize(
    "last",
    [
        {"choices": [{"delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 2, "completion_tokens": 1}}]},
        {
            "choices": [{"delta": {}, "finish_reason": "stop"}],
            "x_groq": {"id": "r", "usage": {"prompt_tokens": 2, "completion_tokens": 1}},
        },
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 2, "completion_tokens": 1}},
    ],
    ids=["moonshot", "groq", "mistral"],
)
def test_usage_on_the_last_chunk_counts_wherever_it_lies(last: Any) -> None:
    assert chat(sse(delta(content="x"), last, DONE)).end.usage == Usage(input_tokens=2, output_tokens=1)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((word, "stop") for word in ("stop", "end_turn", "eos", "stop_sequence", "COMPLETE", "pause_turn", "", None)),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        ("model_context_window_exceeded", "length"),
        *((word, "content_filter") for word in ("content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT")),
        ("sensitive", "content_filter"),
        ("refusal", "refusal"),
    ],
)
def test_every_finish_reason_has_a_meaning(word: str | None, reason: str) -> None:
    assert chat(chat_stream(delta(content="x"), reason=word)).end.finish_reason == reason


@pytest.mark.parametrize("word", ["error", "ABORT", "network_error", "insufficient_system_resource"])
def test_an_answer_that_its_server_gave_up_may_be_tried_again(word: str) -> None:
    with pytest.raises(Transient) as caught:
        chat(chat_stream(delta(content="x"), reason=word))

    assert caught.value.code is ErrorCode.LLM_ERROR


@pytest.mark.parametrize("word", ["stop", "tool_calls", "tool_use", "function_call", "STOP", None])
def test_calls_decide_whether_the_turn_goes_on_and_not_the_word(word: str | None) -> None:
    with_calls = chat(chat_stream(call_part(0, "f", "{}", id="a"), reason=word))

    assert with_calls.end.finish_reason == "tool_calls"
    assert chat(chat_stream(delta(content="x"), reason="tool_calls")).end.finish_reason == "stop"


@pytest.mark.parametrize("word", ["length", "content_filter", "refusal"])
def test_a_call_that_the_end_cut_is_marked_and_a_whole_one_before_it_is_not(word: str) -> None:
    parts = [call_part(0, "f", '{"a":1}', id="a"), call_part(1, "g", '{"b":', id="b")]

    answer = chat(chat_stream(*parts, reason=word))

    assert answer.end.finish_reason == word
    assert [call.is_cut for call in answer.end.tool_calls] == [False, True]


def test_a_refusal_in_parts_is_one_as_well() -> None:
    answer = chat(chat_stream(delta(content=[{"type": "refusal", "refusal": "No."}])))

    assert (answer.text, answer.end.finish_reason) == ("No.", "refusal")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
def test_reasoning_is_told_apart_and_goes_back_under_its_name_with_calls(field: str) -> None:
    thoughts = [delta(**{field: "I should "}), delta(**{field: "look."}, content=None)]

    final = chat(chat_stream(*thoughts, delta(content="Hello")))
    calling = chat(chat_stream(*thoughts, call_part(0, "f", "{}", id="a")))

    assert (final.thought, final.text, final.end.kept) == ("I should look.", "Hello", [])
    assert calling.end.kept == [{field: "I should look."}]


def test_reasoning_that_comes_in_two_fields_counts_once() -> None:
    both = [delta(reasoning="hm", reasoning_content="hm"), delta(reasoning="!", reasoning_content="")]

    answer = chat(chat_stream(*both, delta(content="x")))

    assert answer.thought == "hm!"


def test_reasoning_and_text_in_one_delta_are_both_told() -> None:
    answer = chat(chat_stream(delta(content="4", reasoning_content="2+2")))

    assert (answer.thought, answer.text) == ("2+2", "4")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": False}, "4"],
        [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}],
        [{"type": "thinking", "thinking": ["hm"]}, {"type": "output_text", "text": "4"}, {"type": "reference", "x": 1}],
    ],
)
def test_content_may_be_a_list_of_parts(content: Any) -> None:
    answer = chat(chat_stream(delta(content=content)))

    assert (answer.thought, answer.text) == ("hm", "4")


def test_reasoning_details_go_back_whole_and_in_order() -> None:
    pieces = [
        {"type": "reasoning.text", "text": "one ", "index": 0, "format": "x", "signature": None},
        {"type": "reasoning.text", "text": "two", "index": 0},
        {"type": "reasoning.text", "text": "", "index": 0, "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "AAAA", "index": 1, "id": "rs_1"},
        {"type": "reasoning.encrypted", "data": "BBBB", "index": 1, "id": "rs_2"},
        {"type": "reasoning.summary", "summary": "three", "index": 2},
    ]
    deltas = [delta(reasoning=piece.get("text"), reasoning_details=[piece]) for piece in pieces]

    answer = chat(chat_stream(*deltas, call_part(0, "f", "{}", id="a")))

    assert answer.end.kept == [
        {
            "reasoning": "one two",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "one two", "index": 0, "format": "x", "signature": "sig"},
                {"type": "reasoning.encrypted", "data": "AAAA", "index": 1, "id": "rs_1"},
                {"type": "reasoning.encrypted", "data": "BBBB", "index": 1, "id": "rs_2"},
                {"type": "reasoning.summary", "summary": "three", "index": 2},
            ],
        }
    ]


def test_a_thinking_block_ends_with_its_signature() -> None:
    blocks = [
        {"type": "thinking", "thinking": "a", "signature": None},
        {"type": "thinking", "thinking": "b", "signature": None},
        {"type": "thinking", "thinking": "", "signature": "s1"},
        {"type": "thinking", "thinking": "c", "signature": "s2"},
        {"type": "redacted_thinking", "data": "x"},
    ]

    answer = chat(chat_stream(*(delta(thinking_blocks=[block]) for block in blocks), call_part(0, "f", "{}", id="a")))

    assert answer.end.kept == [
        {
            "thinking_blocks": [
                {"type": "thinking", "thinking": "ab", "signature": "s1"},
                {"type": "thinking", "thinking": "c", "signature": "s2"},
                {"type": "redacted_thinking", "data": "x"},
            ]
        }
    ]


def test_what_hangs_on_a_call_goes_back_on_that_call() -> None:
    signature = {"google": {"thought_signature": "c2ln\x00"}}
    parts = [call_part(0, "f", "{}", id="a", extra_content=signature), call_part(0, "g", "{}", id="b")]

    answer = chat(chat_stream(*parts))

    # U+0000 is what no store of ours takes.
    assert answer.end.kept == [{"extra_content": {"a": {"google": {"thought_signature": "c2ln\ufffd"}}}}]


def test_the_response_is_named_by_the_first_event_that_names_it() -> None:
    nameless = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}

    answer = chat(chat_stream(nameless, delta(content="x")))

    assert (answer.end.response_id, answer.end.response_model) == ("c1", "m-1")


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "message": {"content": "whole"}, "finish_reason": None}]},
    ],
)
@pytest.mark.parametrize("lead", [b"", b"\n\n  ", b"\xef\xbb\xbf"])
def test_a_server_that_answers_at_once_has_answered(body: Any, lead: bytes) -> None:
    for text in (json.dumps(body), json.dumps(body, indent=2)):
        assert chat(lead + text.encode()).text == "whole"
        assert chat(*each_byte(lead + text.encode())).text == "whole"


def test_a_whole_message_behind_its_own_pieces_is_not_told_twice() -> None:
    last = {"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}]}

    assert chat(sse(delta(content="all"), last, DONE)).text == "all"


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "Boom", "code": "server_error"}},
        {"error": {"message": "Boom"}, "message": "Boom"},
        {"error": "Boom"},
        [{"error": {"message": "Boom", "status": "INTERNAL"}}],
        {"object": "error", "message": "Boom", "code": 500},
        {"type": "error", "message": "Boom"},
        {"type": "error", "error": {"message": "Boom"}},
        {"detail": "Boom"},
        {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}], "error": {"message": "Boom", "code": 502}},
    ],
    ids=["object", "and beside", "text", "list", "bare", "flat", "nested", "detail", "openrouter"],
)
@pytest.mark.parametrize("after", [[], [delta(content="half an ans")]], ids=["at once", "after text"])
def test_an_error_in_a_stream_is_a_refusal_in_whatever_shape(event: Any, after: list[Any]) -> None:
    with pytest.raises(Refusal) as caught:
        chat(sse(*after, event, finish(), DONE))

    assert (caught.value.status, caught.value.words) == (200, "Boom")


def test_an_error_as_the_whole_body_is_a_refusal() -> None:
    with pytest.raises(Refusal, match="Boom"):
        chat(b'[{"error": {"code": 400, "message": "Boom"}}]')


@pytest.mark.parametrize("event", [{"type": "ping"}, {"choices": []}, {"choices": None}, {}])
def test_an_event_that_says_nothing_changes_nothing(event: Any) -> None:
    assert chat(chat_stream(event, delta(content="x"), event)).text == "x"


@pytest.mark.parametrize(
    "event",
    [
        *(5, None, "x", True, {"choices": 7}, {"choices": [None]}, {"choices": [{"delta": 3}]}, delta(content=3)),
        *(delta(tool_calls=7), delta(tool_calls=["f"]), call_part(0, "f", 3), delta(refusal=[1])),
        delta(tool_calls=[{"index": 0, "function": {"name": 7}}]),
    ],
    ids=str,
)
def test_json_of_another_shape_may_be_tried_again(event: Any) -> None:
    with pytest.raises(Transient) as caught:
        chat(sse(event, finish(), DONE))

    assert caught.value.code is ErrorCode.LLM_ERROR
