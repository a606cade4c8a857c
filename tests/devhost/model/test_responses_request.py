"""What the Responses API takes and refuses, and what comes of a conversation sent back to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

Make = Callable[..., str]

CALCULATE: Any = {
    "type": "function",
    "name": "calculate",
    "description": "Arithmetic",
    "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    "strict": False,
}
CLOCK: Any = {
    "type": "function",
    "name": "current_time",
    "parameters": {"type": "object", "properties": {"timezone": {"type": "string"}}},
    "strict": False,
}
LAX: Any = {**CLOCK, "strict": True}
NESTED: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


def call(call_id: str, **more: Any) -> Any:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}", **more}


def output(call_id: str) -> Any:
    return {"type": "function_call_output", "call_id": call_id, "output": "done"}


def answered(text: str) -> Any:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


async def post(url: str, **body: Any) -> tuple[int, Any]:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{url}/v1/responses", json={"model": "m", **body})
    return answer.status_code, answer.json()


async def test_an_answer_says_what_it_is_and_uses_the_users_words(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="m", input="Blue whales, please")
    assert "Blue whales, please" in answer.output_text
    assert "not a language model" in answer.output_text


async def test_both_apis_say_the_same(client: openai.AsyncOpenAI) -> None:
    words = "what is 17 * 23? my name is Ana"
    chat = await client.chat.completions.create(model="m", messages=[user(words)])
    assert (await client.responses.create(model="m", input=words)).output_text == chat.choices[0].message.content


async def test_parallel_calls_are_made_and_their_results_told(client: openai.AsyncOpenAI) -> None:
    tools = [CALCULATE, CLOCK]
    history: list[Any] = [user("what is 17 * 23, and what time is it in Tokyo?")]
    first = await client.responses.create(model="m", input=history, tools=tools)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(item.name, json.loads(item.arguments)) for item in calls] == [
        ("calculate", {"expression": "17 * 23"}),
        ("current_time", {"timezone": "Asia/Tokyo"}),
    ]
    history += [item.to_dict() for item in first.output]
    results = ["17 * 23 = 391", "The call was rejected by alice. Comment: not now"]
    for item, result in zip(calls, results, strict=True):
        history.append({"type": "function_call_output", "call_id": item.call_id, "output": result})
    answer = await client.responses.create(model="m", input=history, tools=tools)
    assert "`calculate` says: “17 * 23 = 391”" in answer.output_text
    assert "alice rejected the call of `current_time`" in answer.output_text


async def test_tool_choice_and_parallel_calls_are_obeyed(client: openai.AsyncOpenAI) -> None:
    async def names(text: str, **more: Any) -> list[str]:
        answer = await client.responses.create(model="m", input=text, tools=[CALCULATE, CLOCK], **more)
        return [item.name for item in answer.output if item.type == "function_call"]

    assert await names("hello", tool_choice="none") == []
    assert await names("hello", tool_choice="required") == ["calculate"]
    assert await names("hello", tool_choice={"type": "function", "name": "current_time"}) == ["current_time"]
    assert await names("1 + 1 and the time in Tokyo", parallel_tool_calls=False) == ["calculate"]


@pytest.mark.parametrize(
    "given",
    [
        "plain text",
        [user("easy form")],
        [user([{"type": "input_text", "text": "full form"}])],
        [{"type": "message", **user([{"type": "input_text", "text": "typed"}]), "status": "completed"}],
        [{"role": "developer", "content": "rules"}, user("and words")],
        [user("a"), answered("b"), user("c")],
        [user("a"), {"role": "assistant", "content": "b"}, user("c")],
        [user("a"), {**answered("b"), "id": "msg_1", "status": "completed", "phase": "final_answer"}, user("c")],
        [user("a"), {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, user("c")],
        [user("a"), call("c1"), output("c1")],
        [
            user("a"),
            answered("wait"),
            call("c1", id="fc_1", status="completed"),
            call("c2"),
            output("c2"),
            output("c1"),
        ],
        [user("a"), call("c1"), output("c1"), call("c2"), output("c2"), answered("b"), user("c")],
        [user("a"), call("c1"), {**output("c1"), "output": [{"type": "input_text", "text": "done"}]}],
        [user([{"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}])],
        [user([{"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}])],
    ],
)
async def test_input_of_every_form_is_taken(model_url: str, given: Any) -> None:
    status, answer = await post(model_url, input=given)
    assert status == 200, answer


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"surprise": 1}, "surprise", "Unknown parameter: 'surprise'."),
        ({"messages": []}, "messages", "Unknown parameter: 'messages'."),
        ({"reasoning_effort": "low"}, "reasoning_effort", "Unknown parameter"),
        ({"model": None}, "model", "Missing required parameter: 'model'."),
        ({"input": None}, "input", "must be provided"),
        ({"input": []}, "input", "must be provided"),
        ({"input": 7}, "input", "expected one of a string or array of objects, but got an integer instead"),
        ({"max_output_tokens": 15}, "max_output_tokens", "Expected a value >= 16, but got 15 instead."),
        ({"max_output_tokens": "many"}, "max_output_tokens", "expected an integer, but got a string"),
        ({"temperature": 3}, "temperature", "Invalid 'temperature'"),
        ({"stream": "yes"}, "stream", "expected a boolean"),
        ({"instructions": 1}, "instructions", "expected a string"),
        ({"stream_options": {}}, "stream_options", "only allowed when 'stream' is enabled"),
        (
            {"stream": True, "stream_options": {"include_usage": True}},
            "stream_options.include_usage",
            "Unknown parameter: 'stream_options.include_usage'.",
        ),
        ({"metadata": {"n": 1}}, "metadata.n", "expected a string, but got an integer"),
        ({"include": ["thoughts"]}, "include[0]", "Invalid value: 'thoughts'. Supported values are:"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort", "Invalid value: 'huge'"),
        ({"reasoning": {"max_tokens": 9}}, "reasoning.max_tokens", "Unknown parameter: 'reasoning.max_tokens'."),
        ({"text": {"verbosity": "loud"}}, "text.verbosity", "Invalid value: 'loud'"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type", "Invalid value: 'yaml'"),
        ({"tools": [NESTED]}, "tools[0].name", "Missing required parameter: 'tools[0].name'."),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "no tools of its own"),
        ({"tools": [{**CLOCK, "name": "no spaces"}]}, "tools[0].name", "Invalid 'tools[0].name'"),
        ({"tools": [{**CLOCK, "parameters": {"type": "array"}}]}, "tools[0].parameters", "Invalid schema for function"),
        ({"tools": [LAX]}, "tools[0].parameters", "'additionalProperties' is required to be supplied and to be false."),
        ({"tool_choice": "required"}, "tool_choice", "must be specified with 'tools'"),
        ({"tools": [CLOCK], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", "'x' not found"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "keeps nothing between calls"),
        ({"conversation": "conv_1"}, "conversation", "keeps nothing between calls"),
        ({"background": True}, "background", "keeps nothing between calls"),
        ({"input": [{"content": "x"}]}, "input[0].type", "Missing required parameter: 'input[0].type'."),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "Invalid value: 'tool'"),
        ({"input": [{"role": "user"}]}, "input[0].content", "Missing required parameter"),
        ({"input": [{**user("x"), "name": "ana"}]}, "input[0].name", "Unknown parameter: 'input[0].name'."),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
            "input[0].content[0]",
            "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'.",
        ),
        ({"input": [user([{"type": "text", "text": "x"}])]}, "input[0].content[0]", "Invalid value: 'text'"),
        (
            {"input": [user([{"type": "input_image", "image_url": {"url": "x"}}])]},
            "input[0].content[0].image_url",
            "expected an image URL, but got an object instead",
        ),
        ({"input": [{**answered("x"), "id": "chatcmpl-1"}]}, "input[0].id", "begins with 'msg'"),
        ({"input": [{**call("c"), "call_id": "c" * 65}]}, "input[0].call_id", "1 to 64 characters"),
        ({"input": [{**call("c"), "arguments": {}}]}, "input[0].arguments", "expected a string, but got an object"),
        ({"input": [user("a"), call("c1")]}, "input", "No tool output found for function call c1."),
        ({"input": [user("a"), call("c1"), user("b")]}, "input", "No tool output found for function call c1."),
        ({"input": [call("c1"), call("c2"), output("c1"), answered("b")]}, "input", "No tool output found"),
        ({"input": [user("a"), output("c1")]}, "input", "No tool call found for function call output with call_id c1."),
        ({"input": [call("c1"), output("c1"), output("c1")]}, "input", "More than one tool output"),
    ],
)
async def test_a_wrong_request_is_refused_in_openais_words(
    model_url: str, changes: dict[str, Any], param: str, said: str
) -> None:
    status, answer = await post(model_url, **{"input": "x", **changes})
    assert status == 400
    error = answer["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert said in error["message"]


async def test_items_that_were_never_kept_are_not_found(model_url: str) -> None:
    for item in ({"type": "item_reference", "id": "rs_1"}, {"type": "reasoning", "id": "rs_1", "summary": []}):
        status, answer = await post(model_url, input=[user("a"), item, answered("b")])
        assert status == 404
        assert "Item with id 'rs_1' not found." in answer["error"]["message"]


async def test_a_script_in_the_newest_user_message_is_obeyed_and_echo_tells_the_input(
    client: openai.AsyncOpenAI, script: Make
) -> None:
    history = [user("old"), answered("old"), user([{"type": "input_text", "text": script(echo=True)}])]
    echoed = await client.responses.create(model="m", input=history, instructions="be brief")
    assert json.loads(echoed.output_text) == history
    later = await client.responses.create(model="m", input=[user(script(content="old")), answered("x"), user("plain")])
    assert "You said: “plain”" in later.output_text
    with pytest.raises(openai.BadRequestError, match="Bad script"):
        await client.responses.create(model="m", input='#script {"needs_reasoning": true}')


async def test_a_request_that_names_images_or_files_is_told_that_they_are_not_seen(client: openai.AsyncOpenAI) -> None:
    parts = [
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_text", "text": "what is this?"},
    ]
    answer = await client.responses.create(model="m", input=[user(parts)])
    assert "cannot see the 2 attachments" in answer.output_text
