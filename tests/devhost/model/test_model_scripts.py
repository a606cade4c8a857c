"""Scripts: the faults and paces that tests of a client need, provoked through the real client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

Make = Callable[..., str]


def user(text: str) -> Any:
    return {"role": "user", "content": text}


async def stream_text(client: openai.AsyncOpenAI, messages: list[Any], **extra: Any) -> list[str]:
    stream = await client.chat.completions.create(model="m", messages=messages, stream=True, **extra)
    return [c.choices[0].delta.content or "" async for c in stream if c.choices]


async def counts(model_url: str, key: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        found: dict[str, Any] = (await http.get(f"{model_url}/__calls", params={"key": key})).json()
    return found


async def test_one_event_per_token(client: openai.AsyncOpenAI, script: Make) -> None:
    pieces = await stream_text(client, [user(script(tokens=64))])
    assert len([piece for piece in pieces if piece]) == 64
    assert any(not piece.isascii() for piece in pieces)


async def test_exact_content_survives_any_split_of_the_bytes(client: openai.AsyncOpenAI, script: Make) -> None:
    content = "naïve 東京 🙂\r\n\u2028 “quoted” \\ \t end"
    for size in (1, 2, 3, 7):
        pieces = await stream_text(client, [user(script(content=content, split_bytes=size))])
        assert "".join(pieces) == content


async def test_tool_calls_follow_the_step_of_the_turn(client: openai.AsyncOpenAI, script: Make) -> None:
    plan = [
        [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": "{broken"}],
        [{"name": "c", "id": "fixed"}],
    ]
    messages = [user(script(tool_calls=plan, content="done"))]
    seen = []
    for _ in range(3):
        answer = await client.chat.completions.create(model="m", messages=messages)
        message = answer.choices[0].message
        calls: list[Any] = list(message.tool_calls or [])
        seen.append([(call.function.name, call.function.arguments) for call in calls])
        messages.append(message.model_dump(exclude_none=True, exclude={"annotations", "refusal"}))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in calls]
    assert seen == [[("a", '{"x":1}'), ("b", "{broken")], [("c", "{}")], []]
    assert messages[-1]["content"] == "done"


async def test_failures_are_used_up_once_each_in_order(
    client: openai.AsyncOpenAI, model_url: str, script: Make
) -> None:
    fail = [{"status": 429, "retry_after": 1}, {}, {"status": 503, "message": "busy"}]
    messages = [user(script(key="k1", content="fine", fail=fail))]
    with pytest.raises(openai.RateLimitError) as limited:
        await stream_text(client, messages)
    assert limited.value.response.headers["retry-after"] == "1"
    assert "".join(await stream_text(client, messages)) == "fine"
    with pytest.raises(openai.InternalServerError, match="busy"):
        await stream_text(client, messages)
    assert "".join(await stream_text(client, messages)) == "fine"
    seen = await counts(model_url, "k1")
    assert (seen["calls"], seen["completed"], seen["failed"]) == (4, 2, 2)
    assert len(seen["arrivals"]) == 4
    assert (await counts(model_url, "other"))["calls"] == 0


async def test_the_clients_own_retry_gets_through_a_429(model_url: str, script: Make) -> None:
    fail = [{"status": 429, "retry_after_ms": 1}]
    async with openai.AsyncOpenAI(base_url=f"{model_url}/v1", api_key="k", max_retries=1) as client:
        assert "".join(await stream_text(client, [user(script(key="r", content="ok", fail=fail))])) == "ok"
    assert (await counts(model_url, "r"))["calls"] == 2


async def test_a_stream_cut_half_way_breaks_and_the_next_attempt_is_whole(
    client: openai.AsyncOpenAI, script: Make
) -> None:
    messages = [user(script(key="cut", tokens=40, fail=[{"cut_after": 20}]))]
    received: list[str] = []

    async def read() -> None:
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        async for chunk in stream:
            received.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the break

    with pytest.raises(openai.APIConnectionError):
        await read()
    assert len([piece for piece in received if piece]) == 20
    assert len([p for p in await stream_text(client, messages) if p]) == 40


async def test_an_error_event_inside_the_stream_is_raised(client: openai.AsyncOpenAI, script: Make) -> None:
    with pytest.raises(openai.APIError, match="scripted stream failed"):
        await stream_text(client, [user(script(key="e", fail=[{"error_after": 3}]))])


@pytest.mark.parametrize("fault", [{"hang": True}, {"hang_after": 2}])
async def test_a_hanging_model_runs_into_the_clients_timeout(
    model_url: str, script: Make, fault: dict[str, Any]
) -> None:
    async with openai.AsyncOpenAI(base_url=f"{model_url}/v1", api_key="k", max_retries=0, timeout=0.3) as client:
        with pytest.raises(Exception, match=r"(?i)time") as caught:
            await stream_text(client, [user(script(key="h", fail=[fault]))])
    assert "imeout" in type(caught.value).__name__


async def test_a_client_that_leaves_is_counted_and_its_stream_stopped(
    client: openai.AsyncOpenAI, model_url: str, script: Make
) -> None:
    stream = await client.chat.completions.create(
        model="m", messages=[user(script(key="gone", tokens=100_000, token_ms=5))], stream=True
    )
    async for _ in stream:
        break
    await stream.close()
    async with asyncio.timeout(20):
        while (await counts(model_url, "gone"))["abandoned"] == 0:  # noqa: ASYNC110 - see below
            await asyncio.sleep(0.02)  # the server is asked over HTTP, there is no event to await


async def test_a_paced_stream_keeps_one_event_per_token(client: openai.AsyncOpenAI, script: Make) -> None:
    pieces = await stream_text(client, [user(script(tokens=30, first_ms=5, token_ms=1))])
    assert len([piece for piece in pieces if piece]) == 30


async def test_echo_returns_the_messages_the_model_was_sent(client: openai.AsyncOpenAI, script: Make) -> None:
    messages = [{"role": "system", "content": "be brief"}, user(script(echo=True))]
    assert json.loads("".join(await stream_text(client, messages))) == messages


@pytest.mark.parametrize(
    "text", ["#script {", '#script {"tokenz": 3}', '#script {"fail": [{}]}', '#script {"tokens": -1}']
)
async def test_a_malformed_script_is_refused(client: openai.AsyncOpenAI, text: str) -> None:
    with pytest.raises(openai.BadRequestError, match="Bad script"):
        await stream_text(client, [user(text)])


async def test_only_the_newest_user_message_is_a_script(client: openai.AsyncOpenAI, script: Make) -> None:
    old = [user(script(content="old")), {"role": "assistant", "content": "old"}]
    assert "You said" in "".join(await stream_text(client, [*old, user("plain words")]))
    assert "".join(await stream_text(client, [*old, user(script(content="new"))])) == "new"


async def test_a_test_says_when_the_rest_comes_at_once(
    client: openai.AsyncOpenAI, script: Make, tmp_path: Path
) -> None:
    enough = tmp_path / "enough"
    told = user(script(tokens=10_000, token_ms=1_000, paced_until=str(enough)))
    stream = await client.chat.completions.create(model="m", messages=[told], stream=True)
    count = 0
    async for chunk in stream:
        count += any(choice.delta.content for choice in chunk.choices)
        enough.touch()
    assert count == 10_000
