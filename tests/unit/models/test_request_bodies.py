"""What is sent over either API, held against the types of the openai package."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from shared.adapters.models.chat import request as chat_request
from shared.adapters.models.responses import request as responses_request
from shared.sessions.llm.conversation import AssistantSaid, ModelImage, ModelToolCall, Said, ToolAnswered, UserSaid
from shared.sessions.llm.protocol import ModelRequest
from shared.sessions.llm.registry import ModelApi
from tests.unit.models.typed import check_chat, check_responses

_PNG = ModelImage("image/png", b"\x89PNG", "chart.png")
_PDF = ModelImage("application/pdf", b"%PDF-1.7", "paper.pdf")
_TOOL = (
    b'{"name":"calculate","description":"Sums.","parameters":{"type":"object","properties":{"x":{"type":"string"}}}}'
)
_CALLS = (ModelToolCall("call_1", "calculate", '{"x":"1+1"}'), ModelToolCall("call_2", "calculate", '{"x":"2+2"}'))
_RESULTS = (ToolAnswered("call_1", "2"), ToolAnswered("call_2", "4"))
_STRICT = {
    "type": "object",
    "properties": {"n": {"type": "number"}},
    "required": ["n"],
    "additionalProperties": False,
}
_LOOSE = {"type": "object", "properties": {"n": {"type": "number"}}}
_NOTE = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "encrypted_content": "x",
}
_OPEN_NOTE: dict[str, Any] = {
    "type": "reasoning",
    "id": "rs_2",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
_CALLED: list[dict[str, Any]] = [{"type": "function_call", "call_id": call.id} for call in _CALLS]
_PHASED: list[dict[str, Any]] = [{"type": "message", "phase": "commentary"}]


def _request(*said: Said, api: ModelApi = ModelApi.CHAT, **changes: Any) -> ModelRequest:
    return replace(ModelRequest("m", api, "Be brief.", said or (UserSaid("hi"),)), **changes)


_CONVERSATIONS: dict[str, Sequence[Said]] = {
    "one message": (UserSaid("hi"),),
    "a note, images, a file": (UserSaid("Look.", ("2 files",), (_PNG, _PDF, ModelImage("application/pdf", b"%PDF"))),),
    "an answer": (UserSaid("hi"), AssistantSaid("Hello."), UserSaid("bye")),
    "an empty answer": (UserSaid("hi"), AssistantSaid(""), UserSaid("bye")),
    "parallel calls": (UserSaid("hi"), AssistantSaid("", _CALLS), *_RESULTS),
    "calls with text": (
        UserSaid("hi"),
        AssistantSaid("Let me see.", _CALLS),
        *_RESULTS,
        AssistantSaid("4"),
        UserSaid("?"),
    ),
}
_NOTED: dict[str, Sequence[Said]] = {
    "notes": (UserSaid("hi"), AssistantSaid("", _CALLS, [_NOTE, *_CALLED]), *_RESULTS),
    "notes in the open": (UserSaid("hi"), AssistantSaid("", _CALLS, [_OPEN_NOTE, *_CALLED]), *_RESULTS),
    "phases": (UserSaid("hi"), AssistantSaid("Let me see.", _CALLS, [_NOTE, *_PHASED, *_CALLED]), *_RESULTS),
}
_CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"tools": [_TOOL, _TOOL]},
    "strict": {"output_schema": _STRICT},
    "loose": {"output_schema": _LOOSE},
    "all": {
        "tools": [_TOOL],
        "temperature": 0.0,
        "max_output_tokens": 5,
        "reasoning_effort": "low",
        "reasons": True,
        "output_schema": _STRICT,
        "traceparent": "00-1-2-01",
    },
    "no reasoning": {"reasons": False},
}


def _chat(request: ModelRequest, *left_out: str) -> Any:
    return orjson.loads(chat_request.encode(request, frozenset(left_out)))


def _responses(request: ModelRequest, *left_out: str) -> Any:
    return orjson.loads(responses_request.encode(request, frozenset(left_out)))


@pytest.mark.parametrize("changes", _CHANGES.values(), ids=_CHANGES)
@pytest.mark.parametrize("said", _CONVERSATIONS.values(), ids=_CONVERSATIONS)
def test_a_chat_request_is_what_the_types_know(said: Sequence[Said], changes: dict[str, Any]) -> None:
    check_chat(_chat(_request(*said, **changes)))


@pytest.mark.parametrize("changes", _CHANGES.values(), ids=_CHANGES)
@pytest.mark.parametrize("said", (_CONVERSATIONS | _NOTED).values(), ids=_CONVERSATIONS | _NOTED)
def test_a_responses_request_is_what_the_types_know(said: Sequence[Said], changes: dict[str, Any]) -> None:
    check_responses(_responses(_request(*said, **changes)))


def test_the_types_are_strict() -> None:
    chat, other = _chat(_request()), _responses(_request())
    for check, body in (
        (check_chat, chat | {"phase": "x"}),
        (check_chat, chat | {"messages": [{"role": "user", "content": "x", "phase": "x"}]}),
        (check_responses, other | {"messages": []}),
        (check_responses, other | {"input": [{"role": "user", "content": "x", "name": "x"}]}),
        (check_responses, other | {"tools": [{"type": "function", "name": "f", "parameters": {}}]}),
    ):
        with pytest.raises(ValidationError):
            check(body)


def test_a_plain_request_holds_what_was_asked_for_and_nothing_else() -> None:
    assert _chat(_request()) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
    }
    assert _responses(_request(reasons=False)) == {
        "model": "m",
        "stream": True,
        "store": False,
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "hi"}],
    }


def test_everything_that_is_set_is_sent() -> None:
    request = _request(**_CHANGES["all"])
    chat, other = _chat(request), _responses(request)

    assert (chat["temperature"], chat["reasoning_effort"]) == (0.0, "low")
    assert (other["temperature"], other["reasoning"]) == (0.0, {"effort": "low", "summary": "auto"})
    assert other["include"] == ["reasoning.encrypted_content"]
    answer = {"name": "answer", "schema": _STRICT, "strict": True}
    assert chat["response_format"] == {"type": "json_schema", "json_schema": answer}
    assert other["text"] == {"format": {"type": "json_schema", **answer}}


def test_a_tool_is_never_strict_unless_it_says_so() -> None:
    function = orjson.loads(_TOOL)

    assert _responses(_request(tools=[_TOOL]))["tools"] == [{"type": "function", "strict": False, **function}]
    assert _chat(_request(tools=[_TOOL]))["tools"] == [{"type": "function", "function": function}]


@pytest.mark.parametrize(("schema", "is_strict"), [(_STRICT, True), (_LOOSE, False)])
def test_a_schema_is_strict_where_providers_take_it_so(schema: dict[str, Any], is_strict: bool) -> None:
    request = _request(output_schema=schema)

    assert _chat(request)["response_format"]["json_schema"]["strict"] is is_strict
    assert _responses(request)["text"]["format"]["strict"] is is_strict


def test_a_chat_server_nobody_knows_is_not_kept_from_calling_tools_by_a_schema() -> None:
    for reasons, tools, is_parameter in ((None, [_TOOL], False), (None, [], True), (False, [_TOOL], True)):
        request = _request(output_schema=_STRICT, tools=tools, reasons=reasons)
        body = _chat(request)

        assert ("response_format" in body) is is_parameter
        assert ("response_format" in chat_request.optional(request)) is is_parameter
        assert (orjson.dumps(_STRICT).decode() in body["messages"][0]["content"]) is not is_parameter
    assert "text" in _responses(_request(output_schema=_STRICT, tools=[_TOOL]))


@pytest.mark.parametrize(("asked", "responses", "reasoning_chat"), [(1, 16, 16), (16, 16, 16), (17, 17, 17)])
def test_no_output_limit_is_below_the_floor_of_its_api(asked: int, responses: int, reasoning_chat: int) -> None:
    assert _responses(_request(max_output_tokens=asked))["max_output_tokens"] == responses
    assert _chat(_request(max_output_tokens=asked, reasons=True))["max_completion_tokens"] == reasoning_chat
    assert _chat(_request(max_output_tokens=asked))["max_completion_tokens"] == asked


def test_files_go_as_data_and_behind_what_is_said_about_them() -> None:
    said = UserSaid("Look.", ("2 files",), (_PNG, _PDF))
    png = f"data:image/png;base64,{base64.b64encode(_PNG.data).decode()}"
    pdf = f"data:application/pdf;base64,{base64.b64encode(_PDF.data).decode()}"

    assert _chat(_request(said))["messages"][1]["content"] == [
        {"type": "text", "text": "2 files"},
        {"type": "image_url", "image_url": {"url": png}},
        {"type": "file", "file": {"filename": "paper.pdf", "file_data": pdf}},
        {"type": "text", "text": "Look."},
    ]
    assert _responses(_request(said))["input"][0]["content"] == [
        {"type": "input_text", "text": "2 files"},
        {"type": "input_image", "image_url": png, "detail": "auto"},
        {"type": "input_file", "filename": "paper.pdf", "file_data": pdf},
        {"type": "input_text", "text": "Look."},
    ]


def test_what_led_to_calls_goes_back_before_them_and_once() -> None:
    kept: list[dict[str, Any]] = [_NOTE, *_PHASED, _CALLED[0], _OPEN_NOTE]
    said = (UserSaid("hi"), AssistantSaid("Let me see.", _CALLS, kept), *_RESULTS)

    items = _responses(_request(*said))["input"]

    call = {"type": "function_call", "name": "calculate"}
    assert items[1:] == [
        _NOTE,
        {"type": "message", "role": "assistant", "content": "Let me see.", "phase": "commentary"},
        {**call, "call_id": "call_1", "arguments": '{"x":"1+1"}'},
        _OPEN_NOTE,
        {**call, "call_id": "call_2", "arguments": '{"x":"2+2"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "2"},
        {"type": "function_call_output", "call_id": "call_2", "output": "4"},
    ]


def test_kept_reasoning_goes_back_under_its_own_name_and_on_its_own_call() -> None:
    kept = [{"reasoning": "hm", "reasoning_details": [{"type": "x"}], "extra_content": {"call_2": {"google": {}}}}]

    message = _chat(_request(UserSaid("hi"), AssistantSaid("", _CALLS, kept), *_RESULTS))["messages"][2]

    assert (message["content"], message["reasoning"], message["reasoning_details"]) == (None, "hm", [{"type": "x"}])
    assert [call.get("extra_content") for call in message["tool_calls"]] == [None, {"google": {}}]


def test_what_was_kept_over_the_other_api_is_not_sent() -> None:
    """An operator may switch the API while a turn waits for its approval."""
    ours = (UserSaid("hi"), AssistantSaid("Hm.", _CALLS, [_NOTE, *_PHASED, *_CALLED]), *_RESULTS)
    theirs = (UserSaid("hi"), AssistantSaid("Hm.", _CALLS, [{"reasoning_content": "hm"}]), *_RESULTS)
    plain = (UserSaid("hi"), AssistantSaid("Hm.", _CALLS), *_RESULTS)

    assert _chat(_request(*ours)) == _chat(_request(*plain))
    assert _responses(_request(*theirs)) == _responses(_request(*plain))


_KEPT: list[dict[str, Any]] = [
    {"reasoning_content": "hm", "thinking_blocks": [{}], "extra_content": {"call_1": {"google": {}}}}
]


def test_all_that_may_be_left_out_can_be() -> None:
    request = _request(
        UserSaid("hi"), AssistantSaid("t", _CALLS, [*_KEPT, *_PHASED]), *_RESULTS, **(_CHANGES["all"] | {"tools": ()})
    )

    chat = _chat(request, *chat_request.optional(request))
    other = _responses(request, *responses_request.optional(request))

    assert set(chat) == {"model", "stream", "messages"}
    assert set(other) == {"model", "stream", "instructions", "input"}
    assert set(chat["messages"][2]) == {"role", "content", "tool_calls"}
    assert "extra_content" not in chat["messages"][2]["tool_calls"][0]
    assert not any("phase" in item for item in other["input"])
    # What no parameter asks for is asked for in words.
    for words in (chat["messages"][0]["content"], other["instructions"]):
        assert words.startswith("Be brief.")
        assert "JSON Schema" in words


def test_an_older_name_of_the_output_limit_follows_the_newer_one() -> None:
    request = _request(max_output_tokens=50)

    assert _chat(request)["max_completion_tokens"] == 50
    older = _chat(request, "max_completion_tokens")
    assert (older["max_tokens"], "max_completion_tokens" in older) == (50, False)


def test_one_value_of_the_effort_can_be_left_out_alone() -> None:
    low, high = _request(reasoning_effort="low"), _request(reasoning_effort="high")

    assert "reasoning_effort" not in _chat(low, "reasoning_effort=low")
    assert _chat(high, "reasoning_effort=low")["reasoning_effort"] == "high"
    assert "effort" not in _responses(low, "reasoning.effort=low")["reasoning"]
    assert _responses(high, "reasoning.effort=low")["reasoning"]["effort"] == "high"


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        (ModelApi.CHAT, {"stream_options", "temperature", "max_completion_tokens", "max_tokens", "reasoning_effort"}),
        (ModelApi.RESPONSES, {"store", "temperature", "max_output_tokens", "include", "reasoning.summary"}),
    ],
)
def test_only_what_is_sent_may_be_refused(api: ModelApi, expected: set[str]) -> None:
    optional = chat_request.optional if api is ModelApi.CHAT else responses_request.optional
    effort = {"reasoning_effort"} if api is ModelApi.CHAT else {"reasoning.effort"}
    schema = {"response_format"} if api is ModelApi.CHAT else {"text.format"}

    assert optional(_request(**_CHANGES["all"])) == expected | effort | schema
    assert optional(_request(reasons=False)) == ({"stream_options"} if api is ModelApi.CHAT else {"store"})


# What some chat-completion servers want in another way. --------------------------------------------


def test_a_server_that_demands_reasoning_gets_it_on_every_answer() -> None:
    said = (UserSaid("a"), AssistantSaid("b"), UserSaid("c"), AssistantSaid("", _CALLS, [{"reasoning_content": "hm"}]))

    messages = _chat(_request(*said, *_RESULTS), chat_request.BLANK_REASONING)["messages"]

    assert [message.get("reasoning_content") for message in messages if message["role"] == "assistant"] == ["", "hm"]


def test_a_server_that_takes_short_ids_gets_the_same_one_for_the_call_and_its_result() -> None:
    calls = (ModelToolCall("call_1", "f", "{}"), ModelToolCall("abcDEF123", "f", "{}"))
    said = (UserSaid("a"), AssistantSaid("", calls), ToolAnswered("call_1", "x"), ToolAnswered("abcDEF123", "y"))

    _, _, answer, first, second = _chat(_request(*said), chat_request.SHORT_IDS)["messages"]

    ids = [call["id"] for call in answer["tool_calls"]]
    assert ids == [first["tool_call_id"], second["tool_call_id"]]
    assert ids[1] == "abcDEF123"
    assert ids[0].isalnum()
    assert len(ids[0]) == 9


def test_a_server_that_wants_signatures_gets_its_own_or_the_documented_word() -> None:
    kept = [{"extra_content": {"call_1": {"google": {"thought_signature": "mine"}}}}]

    message = _chat(_request(UserSaid("a"), AssistantSaid("", _CALLS, kept)), chat_request.SIGNED_CALLS)["messages"][2]

    signatures = [call["extra_content"]["google"]["thought_signature"] for call in message["tool_calls"]]
    assert signatures == ["mine", "skip_thought_signature_validator"]


def test_a_model_that_takes_tools_only_without_reasoning_is_asked_so_and_only_with_tools() -> None:
    assert _chat(_request(tools=[_TOOL]), chat_request.EFFORT_NONE)["reasoning_effort"] == "none"
    assert "reasoning_effort" not in _chat(_request(), chat_request.EFFORT_NONE)
    asked = _request(tools=[_TOOL], reasoning_effort="high")
    assert _chat(asked, chat_request.EFFORT_NONE)["reasoning_effort"] == "high"
