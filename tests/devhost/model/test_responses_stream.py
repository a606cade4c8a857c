"""Streamed answers of the Responses API: each event, their order, and what they add up to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from tests.devhost.model.wire import Event, check_events, check_response, joined, kinds, post_stream

Make = Callable[..., str]

CALLS = [[{"name": "a", "arguments": {"x": "ž 🙂"}, "id": "call_a"}, {"name": "b", "arguments": "", "id": "call_b"}]]
THINKING = {"effort": "high", "summary": "auto"}


@pytest.mark.parametrize(
    ("script_fields", "request_fields", "items", "status"),
    [
        ({"content": "two words"}, {}, ["message"], "completed"),
        ({"content": ""}, {}, ["message"], "completed"),
        ({"refusal": "I cannot help with that."}, {}, ["message"], "completed"),
        ({"tool_calls": CALLS}, {}, ["function_call", "function_call"], "completed"),
        ({"tool_calls": CALLS, "preamble": "well"}, {}, ["message", "function_call", "function_call"], "completed"),
        ({"reasoning": "a b\n\nc", "content": "x"}, {"reasoning": THINKING}, ["reasoning", "message"], "completed"),
        ({"reasoning": "a b", "content": "x"}, {}, ["reasoning", "message"], "completed"),
        ({"content": "half an", "finish_reason": "length"}, {}, ["message"], "incomplete"),
        ({"content": "", "finish_reason": "content_filter"}, {}, ["message"], "incomplete"),
        ({"content": "words " * 40}, {"max_output_tokens": 16}, ["message"], "incomplete"),
        ({"reasoning": "a " * 40}, {"max_output_tokens": 16, "reasoning": THINKING}, ["reasoning"], "incomplete"),
        ({"content": "some", "response_failed": {}}, {}, [], "failed"),
        ({"tokens": 5, "usage": "none"}, {}, ["message"], "completed"),
    ],
)
async def test_every_event_has_all_its_fields_and_the_stream_adds_up_to_its_end(
    model_url: str, script: Make, script_fields: Any, request_fields: Any, items: list[str], status: str
) -> None:
    events = await post_stream(model_url, input=script(**script_fields), **request_fields)
    check_events(events)
    final = events[-1]["response"]
    assert kinds(events)[-1] == final["status"] == status
    assert [item["type"] for item in final["output"]] == items
    for index, item in enumerate(final["output"]):
        check_item(events, index, item)
    assert [event["item"] for event in events if event["type"] == "response.output_item.done"] == final["output"]


def check_item(events: list[Event], index: int, item: dict[str, Any]) -> None:
    """The events of an item add up to it."""
    mine = [event for event in events if event.get("output_index") == index]
    assert kinds(mine)[0] == "output_item.added"
    assert mine[0]["item"]["id"] == item["id"]
    assert {event["item_id"] for event in mine if "item_id" in event} <= {item["id"]}
    match item["type"]:
        case "reasoning":
            for i, part in enumerate(item["summary"]):
                assert joined(mine, "reasoning_summary_text", summary_index=i) == part["text"]
        case "message":
            (part,) = item["content"]
            text = joined(mine, "refusal") if part["type"] == "refusal" else joined(mine, "output_text")
            assert text == part.get("text", part.get("refusal"))
        case "function_call":
            assert joined(mine, "function_call_arguments") == item["arguments"]


async def test_the_events_come_in_openais_order(model_url: str, script: Make) -> None:
    events = await post_stream(
        model_url,
        input=script(reasoning="one\n\ntwo", preamble="so", tool_calls=[[{"name": "f"}]]),
        reasoning=THINKING,
    )
    part = [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    assert kinds(events) == [
        *("created", "in_progress"),
        *("output_item.added", *part, *part, "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "output_item.added", "function_call_arguments.delta", "function_call_arguments.done"),
        *("output_item.done", "completed"),
    ]


async def test_a_refusal_streams_as_a_refusal_and_never_as_text(model_url: str, script: Make) -> None:
    events = await post_stream(model_url, input=script(refusal="I am sorry, no."))
    assert joined(events, "refusal") == "I am sorry, no."
    assert joined(events, "output_text") == ""
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "I am sorry, no."}]


async def test_one_delta_per_token(model_url: str, script: Make) -> None:
    events = await post_stream(model_url, input=script(tokens=64))
    assert sum(event["type"] == "response.output_text.delta" for event in events) == 64


async def test_sequence_numbers_go_on_past_any_table(model_url: str, script: Make) -> None:
    events = await post_stream(model_url, input=script(tokens=5000))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_exact_content_survives_any_split_of_the_bytes(client: openai.AsyncOpenAI, script: Make) -> None:
    content = "naïve 東京 🙂\r\n\u2028 “quoted” \\ \t end"
    for size in (1, 3, 7):
        stream = await client.responses.create(model="m", input=script(content=content, split_bytes=size), stream=True)
        text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        assert text == content


async def test_the_clients_accumulated_stream_is_the_whole_answer(client: openai.AsyncOpenAI, script: Make) -> None:
    asked: Any = {
        "model": "m",
        "input": script(reasoning="first\n\nsecond", preamble="well", tool_calls=CALLS),
        "reasoning": THINKING,
        "instructions": "be brief",
        "tools": [{"type": "function", "name": "a", "parameters": {"type": "object", "properties": {}}}],
    }
    async with client.responses.stream(**asked) as stream:
        streamed = await stream.get_final_response()
    whole = await client.responses.create(**asked)
    check_response(whole.to_dict())

    def told(response: Any) -> Any:
        found = response.to_dict()
        for item in found["output"]:
            del item["id"]
            item.pop("parsed_arguments", None)
            for part in item.get("content", []):
                part.pop("parsed", None)
        return {name: value for name, value in found.items() if name not in ("id", "created_at", "completed_at")}

    assert told(streamed) == told(whole)
    assert whole.output_text == "well"
    assert whole.usage is not None
    assert whole.usage.output_tokens_details.reasoning_tokens == 3


async def test_usage_counts_and_what_was_asked_is_echoed(client: openai.AsyncOpenAI, script: Make) -> None:
    answer = await client.responses.create(
        model="m", input=script(content="a b c", cached_tokens=7), store=False, metadata={"k": "v"}, temperature=0.5
    )
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert (answer.usage.output_tokens, answer.usage.input_tokens_details.cached_tokens) == (3, 7)
    assert (answer.metadata, answer.temperature, answer.object) == ({"k": "v"}, 0.5, "response")


@pytest.mark.parametrize(
    ("reason", "told"), [("length", "max_output_tokens"), ("content_filter", "content_filter"), ("stop", None)]
)
async def test_an_answer_cut_short_is_incomplete_and_says_why(
    client: openai.AsyncOpenAI, script: Make, reason: str, told: str | None
) -> None:
    answer = await client.responses.create(model="m", input=script(content="half an", finish_reason=reason))
    assert answer.status == ("incomplete" if told else "completed")
    assert (answer.incomplete_details and answer.incomplete_details.reason) == told
    assert answer.output[0].type == "message"
    assert answer.output[0].status == answer.status
    assert (answer.completed_at is None) is (told is not None)


async def test_a_call_cut_by_the_limit_is_incomplete(client: openai.AsyncOpenAI, script: Make) -> None:
    calls = [[{"name": "f", "arguments": {"text": "word " * 40}}]]
    answer = await client.responses.create(model="m", input=script(tool_calls=calls), max_output_tokens=20)
    call = answer.output[-1]
    assert call.type == "function_call"
    assert (answer.status, call.status) == ("incomplete", "incomplete")
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(call.arguments)


async def test_a_failed_answer_says_so_whole_and_streamed(client: openai.AsyncOpenAI, script: Make) -> None:
    asked = script(content="some words", response_failed={"code": "rate_limit_exceeded", "message": "slow down"})
    whole = await client.responses.create(model="m", input=asked)
    assert (whole.status, whole.output, whole.usage) == ("failed", [], None)
    assert whole.error is not None
    assert (whole.error.code, whole.error.message) == ("rate_limit_exceeded", "slow down")
    stream = await client.responses.create(model="m", input=asked, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error == whole.error
    assert "response.output_item.done" not in [event.type for event in events]


async def test_an_error_event_takes_the_place_of_the_next_token(model_url: str, script: Make) -> None:
    fail = [{"error_after": 3, "message": "Overloaded.", "code": "server_error"}, {"error_after": 0}]
    events = await post_stream(model_url, input=script(key="re", tokens=9, fail=fail))
    check_events(events)
    assert [event["type"] for event in events[-2:]] == ["response.output_text.delta", "error"]
    assert sum(event["type"] == "response.output_text.delta" for event in events) == 3
    assert (events[-1]["message"], events[-1]["code"], events[-1]["param"]) == ("Overloaded.", "server_error", None)
    events = await post_stream(model_url, input=script(key="re", tokens=9, fail=fail))
    check_events(events)
    assert kinds(events) == ["created", "in_progress", "error"]


async def test_a_stream_cut_half_way_breaks_and_the_next_attempt_is_whole(
    client: openai.AsyncOpenAI, script: Make
) -> None:
    asked = script(key="rcut", tokens=40, fail=[{"cut_after": 20}])
    received: list[str] = []

    async def read() -> None:
        stream = await client.responses.create(model="m", input=asked, stream=True)
        async for event in stream:
            received.append(event.type)  # noqa: PERF401 - what came before the break

    with pytest.raises((openai.APIConnectionError, httpx.RemoteProtocolError)):
        await read()
    assert received.count("response.output_text.delta") == 20
    received.clear()
    await read()
    assert received.count("response.output_text.delta") == 40


async def test_failures_and_hangs_befall_calls_of_either_api_in_order(model_url: str, script: Make) -> None:
    fail = [{"status": 429, "retry_after": 1}, {"hang": True}, {"hang_after": 2}]
    asked = script(key="both", content="fine", fail=fail)
    async with openai.AsyncOpenAI(base_url=f"{model_url}/v1", api_key="k", max_retries=0, timeout=0.3) as client:
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": asked}])
        assert limited.value.response.headers["retry-after"] == "1"
        for _ in range(2):
            with pytest.raises(openai.APITimeoutError):
                await client.responses.create(model="m", input=asked)
        assert (await client.responses.create(model="m", input=asked)).output_text == "fine"
    async with httpx.AsyncClient() as http:
        counts = (await http.get(f"{model_url}/__calls", params={"key": "both"})).json()
    assert (counts["calls"], counts["completed"]) == (4, 1)


async def test_a_client_that_leaves_is_counted_and_its_stream_stopped(
    client: openai.AsyncOpenAI, model_url: str, script: Make
) -> None:
    stream = await client.responses.create(
        model="m", input=script(key="rgone", tokens=100_000, token_ms=5), stream=True
    )
    async for _ in stream:
        break
    await stream.close()
    async with asyncio.timeout(20), httpx.AsyncClient() as http:
        while (await http.get(f"{model_url}/__calls", params={"key": "rgone"})).json()["abandoned"] == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # the server is asked over HTTP, there is no event to await


async def test_azure_v1_path_streams_without_an_api_version(model_url: str, script: Make) -> None:
    async with openai.AsyncOpenAI(base_url=f"{model_url}/openai/v1/", api_key="k", max_retries=0) as v1:
        stream = await v1.responses.create(model="deployment", input=script(content="hi"), stream=True)
        assert [event async for event in stream][-1].type == "response.completed"
        assert (await v1.responses.create(model="deployment", input="hello")).output_text.startswith("You said")
