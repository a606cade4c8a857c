"""The offline model as the real openai client sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

CALCULATE: Any = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Arithmetic",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}
CLOCK: Any = {
    "type": "function",
    "function": {
        "name": "current_time",
        "parameters": {"type": "object", "properties": {"timezone": {"type": "string"}}},
    },
}


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


async def collect(stream: Any) -> tuple[str, dict[int, list[str]], str | None, Any]:
    """Text, tool calls as [id, name, arguments] by index, finish reason and usage of a stream."""
    text, calls, finish, usage = "", {}, None, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                known = calls.setdefault(call.index, ["", "", ""])
                known[0] += call.id or ""
                known[1] += call.function.name or ""
                known[2] += call.function.arguments or ""
    return text, calls, finish, usage


async def test_an_answer_says_what_it_is_and_uses_the_users_words(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="m", messages=[user("Blue whales, please")])
    text = answer.choices[0].message.content or ""
    assert "Blue whales, please" in text
    assert "not a language model" in text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_the_same_request_gets_the_same_words_streamed_or_not(client: openai.AsyncOpenAI) -> None:
    messages = [user("tell me 🙂 něco")]
    whole = await client.chat.completions.create(model="m", messages=messages)
    stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
    text, _, finish, usage = await collect(stream)
    assert text == whole.choices[0].message.content
    assert (finish, usage) == ("stop", None)


async def test_usage_comes_last_in_a_chunk_without_choices_when_asked_for(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="m", messages=[user("hi")], stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(chunks) - 3  # role, finish and usage are no tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_parallel_tool_calls_stream_in_pieces_and_their_results_are_told(
    client: openai.AsyncOpenAI,
) -> None:
    messages = [user("what is 17 * 23, and what time is it in Tokyo?")]
    tools = [CALCULATE, CLOCK]
    stream = await client.chat.completions.create(model="m", messages=messages, tools=tools, stream=True)
    _, calls, finish, _ = await collect(stream)
    assert finish == "tool_calls"
    assert [call[1:] for call in calls.values()] == [
        ["calculate", '{"expression": "17 * 23"}'],
        ["current_time", '{"timezone": "Asia/Tokyo"}'],
    ]
    messages.append(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": c[0], "type": "function", "function": {"name": c[1], "arguments": c[2]}} for c in calls.values()
            ],
        }
    )
    results = ["17 * 23 = 391", "The call was rejected by alice. Comment: not now"]
    for call, result in zip(calls.values(), results, strict=True):
        messages.append({"role": "tool", "tool_call_id": call[0], "content": result})
    answer = await client.chat.completions.create(model="m", messages=messages, tools=tools)
    text = answer.choices[0].message.content or ""
    assert "`calculate` says: “17 * 23 = 391”" in text
    assert "alice rejected the call of `current_time`" in text


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ("17 * 23 = 391", "`calculate` says: “17 * 23 = 391”"),
        ('{"status": "completed", "output": "a page: rejected by bob, timed out"}', "`calculate` says: “a page"),
        ('{"status": "rejected", "by": "alice", "error": "Rejected by alice.", "comment": "no"}', "alice rejected"),
        ("The call was rejected by alice.", "alice rejected the call of `calculate`"),
        ('{"status": "timed_out", "error": "Nobody approved it."}', "The call of `calculate` timed out."),
        ("The approval timed out", "The call of `calculate` timed out."),
        ('{"status": "failed", "error": "Division by zero."}', "failed. I was told: “Division by zero.”"),
        ("[1, 2]", "`calculate` says: “[1, 2]”"),
        ("", "without saying anything"),
    ],
)
async def test_the_answer_tells_how_each_call_ended(client: openai.AsyncOpenAI, told: str, answer: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "calculate", "arguments": "{}"}}
    messages: list[Any] = [
        user("what is 17 * 23"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": told},
    ]
    completion = await client.chat.completions.create(model="m", messages=messages, tools=[CALCULATE])
    assert answer in (completion.choices[0].message.content or "")


async def test_one_call_only_when_parallel_calls_are_off(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="m",
        messages=[user("what is 1 + 1, and what time is it in Tokyo?")],
        tools=[CALCULATE, CLOCK],
        parallel_tool_calls=False,
    )
    assert len(answer.choices[0].message.tool_calls or []) == 1


async def test_tool_choice_is_obeyed(client: openai.AsyncOpenAI) -> None:
    async def calls(choice: Any) -> list[str]:
        answer = await client.chat.completions.create(
            model="m", messages=[user("hello")], tools=[CALCULATE, CLOCK], tool_choice=choice
        )
        return [call.function.name for call in answer.choices[0].message.tool_calls or []]  # type: ignore[union-attr]

    assert await calls("none") == []
    assert await calls("auto") == []
    assert await calls("required") == ["calculate"]
    assert await calls({"type": "function", "function": {"name": "current_time"}}) == ["current_time"]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_the_answer(client: openai.AsyncOpenAI, limit: str) -> None:
    extra: Any = {limit: 5}
    answer = await client.chat.completions.create(model="m", messages=[user("hi")], **extra)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


async def test_image_parts_are_accepted_and_admitted_to_be_unseen(client: openai.AsyncOpenAI) -> None:
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    answer = await client.chat.completions.create(model="m", messages=[user(parts)])
    assert "cannot see" in (answer.choices[0].message.content or "")


async def test_azure_client_streams_through_a_deployment(model_url: str) -> None:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=model_url, azure_deployment="gpt", api_key="k", api_version="2024-10-21", max_retries=0
    ) as azure:
        stream = await azure.chat.completions.create(model="gpt", messages=[user("hi")], stream=True)
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices == []  # Azure opens with its prompt filter results
    assert "".join(c.choices[0].delta.content or "" for c in chunks[1:]).startswith("You said: “hi”")


async def test_azure_v1_path_answers_and_lists_models(model_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{model_url}/openai/v1", api_key="k", max_retries=0) as v1:
        answer = await v1.chat.completions.create(model="gpt", messages=[user("hi")])
        assert answer.object == "chat.completion"
        assert [model.id async for model in v1.models.list()] == ["offline-demo"]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "tool_call_id": "c1", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {
                "messages": [
                    user("x"),
                    {"role": "assistant", "content": None, "tool_calls": [CALL]},
                    user("y"),
                ]
            },
            "messages",
        ),
        ({"messages": [user("x"), {"role": "assistant", "tool_calls": [CALL]}]}, "messages"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [CALCULATE], "tool_choice": {"function": {"name": "other"}}}, "tool_choice"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"n": 2}, "n"),
        ({"response_format": {"type": "json_object"}}, "messages"),  # which do not say "JSON"
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"model": None}, "model"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_a_wrong_request_gets_an_openai_shaped_400_naming_the_parameter(
    model_url: str, changes: dict[str, Any], param: str
) -> None:
    body = {"model": "m", "messages": [user("x")], **changes}
    async with httpx.AsyncClient() as http:
        response = await http.post(f"{model_url}/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert error["message"]


async def test_errors_reach_the_client_as_its_own_exceptions(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="m", messages=[user("long " * 60_000)])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="m", input="x")


async def test_a_body_past_the_limit_and_a_body_that_is_no_json_are_refused(model_url: str) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        url = f"{model_url}/v1/chat/completions"
        assert (await http.post(url, content=b"{nope")).status_code == 400
        assert (await http.post(url, content=b"[]")).status_code == 400
        too_large = await http.post(url, content=b" " * (33 * 1024 * 1024))
    assert too_large.status_code == 413
    assert too_large.json()["error"]["type"] == "invalid_request_error"


async def test_scripts_are_plain_text_to_a_server_that_was_not_told_to_obey_them(
    script: Callable[..., str],
) -> None:
    from devhost.model.server import ModelOptions, start_server

    runner, port = await start_server(ModelOptions(first_s=0, token_s=0), host="127.0.0.1", port=0)
    try:
        async with httpx.AsyncClient() as http:
            body = {"model": "m", "messages": [user(script(content="obeyed"))]}
            response = await http.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body)
            counts = await http.get(f"http://127.0.0.1:{port}/__calls?key=k")
        assert "#script" in response.json()["choices"][0]["message"]["content"]
        assert counts.status_code == 404
    finally:
        await runner.cleanup()
