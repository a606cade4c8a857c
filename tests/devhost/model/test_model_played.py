"""Streams that a script spells out, and the script fields that both APIs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

type Make = Callable[..., str]


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def raw_stream(url: str, path: str, body: Any) -> bytes:
    async with httpx.AsyncClient() as http:
        return (await http.post(f"{url}{path}", json={"model": "m", "stream": True, **body})).content


async def test_events_of_any_server_are_sent_as_they_stand(model_url: str, script: Make) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "ž"}]}}]}
    asked = {"messages": [user(script(stream=[chunk, "[DONE]"]))]}
    sent = await raw_stream(model_url, "/v1/chat/completions", asked)
    expected = 'data: {"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"ž"}]}}]}\n\ndata: [DONE]\n\n'
    assert sent.decode() == expected


async def test_events_with_a_type_get_an_event_line(model_url: str, script: Make) -> None:
    event = {"type": "response.output_text.delta", "delta": "x"}
    sent = await raw_stream(model_url, "/v1/responses", {"input": script(stream=[event])})
    assert sent == b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n'


@pytest.mark.parametrize("split_bytes", [None, 1])
async def test_raw_text_is_sent_to_the_byte(model_url: str, script: Make, split_bytes: int | None) -> None:
    text = '\ufeffdata: {"a": "\\ud83d"}\r\rdata: [DONE]\r'
    more = {"split_bytes": split_bytes} if split_bytes else {}
    asked = {"messages": [user(script(stream=text, **more))]}
    assert await raw_stream(model_url, "/v1/chat/completions", asked) == text.encode()


async def test_a_played_stream_is_the_first_of_its_turn_only(client: openai.AsyncOpenAI, script: Make) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "stop"}]}
    asked = user(script(stream=[chunk], content="done"))
    first = [item async for item in await client.chat.completions.create(model="m", messages=[asked], stream=True)]
    assert first[0].choices[0].finish_reason == "stop"
    made = {"role": "assistant", "content": None, "tool_calls": [{k: v for k, v in call.items() if k != "index"}]}
    history: Any = [asked, made, {"role": "tool", "tool_call_id": "c1", "content": "ok"}]
    later = await client.chat.completions.create(model="m", messages=history, stream=True)
    assert "".join([item.choices[0].delta.content or "" async for item in later]) == "done"


async def test_a_played_stream_breaks_off_where_a_fault_says(client: openai.AsyncOpenAI, script: Make) -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"content": f"{i}"}}]} for i in range(9)]
    asked = [user(script(key="p", stream=chunks, fail=[{"error_after": 4}]))]
    seen: list[str] = []

    async def read() -> None:
        stream = await client.chat.completions.create(model="m", messages=asked, stream=True)
        async for chunk in stream:
            seen.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the break

    with pytest.raises(openai.APIError, match="scripted stream failed"):
        await read()
    assert seen == ["0", "1", "2", "3"]


async def test_a_played_stream_does_not_answer_a_request_for_the_whole(
    client: openai.AsyncOpenAI, script: Make
) -> None:
    with pytest.raises(openai.BadRequestError, match="'stream' answers only"):
        await client.responses.create(model="m", input=script(stream=[]))


async def test_chat_refuses_in_refusal_deltas(client: openai.AsyncOpenAI, script: Make) -> None:
    asked = [user(script(refusal="I cannot do that."))]
    whole = (await client.chat.completions.create(model="m", messages=asked)).choices[0]
    assert (whole.message.refusal, whole.message.content, whole.finish_reason) == ("I cannot do that.", None, "stop")
    stream = await client.chat.completions.create(model="m", messages=asked, stream=True)
    deltas = [chunk.choices[0].delta async for chunk in stream]
    assert "".join(delta.refusal or "" for delta in deltas) == "I cannot do that."
    assert not any(delta.content for delta in deltas)


async def test_chat_tells_cached_and_reasoning_tokens_or_no_usage_at_all(
    client: openai.AsyncOpenAI, script: Make
) -> None:
    asked = [user(script(content="a b", reasoning="one two three", cached_tokens=5))]
    usage = (await client.chat.completions.create(model="m", messages=asked)).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert (usage.prompt_tokens_details.cached_tokens, usage.completion_tokens) == (5, 5)
    assert usage.completion_tokens_details.reasoning_tokens == 3
    asked = [user(script(content="a b", usage="none"))]
    assert (await client.chat.completions.create(model="m", messages=asked)).usage is None
    stream = await client.chat.completions.create(
        model="m", messages=asked, stream=True, stream_options={"include_usage": True}
    )
    assert [chunk.usage async for chunk in stream] == [None] * 4  # the role, two tokens, the finish reason


async def test_a_failing_model_ends_a_chat_stream_with_an_error(client: openai.AsyncOpenAI, script: Make) -> None:
    asked = [user(script(content="a b", response_failed={"code": "server_error", "message": "it broke"}))]
    stream = await client.chat.completions.create(model="m", messages=asked, stream=True)
    with pytest.raises(openai.APIError, match="it broke"):
        [chunk async for chunk in stream]
    with pytest.raises(openai.InternalServerError, match="it broke"):
        await client.chat.completions.create(model="m", messages=asked)


@pytest.mark.parametrize("reason", ["length", "content_filter", "stop"])
async def test_chat_ends_with_any_finish_reason(client: openai.AsyncOpenAI, script: Make, reason: str) -> None:
    asked = [user(script(content="half", finish_reason=reason))]
    answer = await client.chat.completions.create(model="m", messages=asked)
    assert answer.choices[0].finish_reason == reason
