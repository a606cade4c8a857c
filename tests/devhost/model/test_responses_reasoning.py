"""Reasoning: told as a summary, given in sealed form, and demanded back, in either API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

Make = Callable[..., str]

ASKED: Any = {"store": False, "include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}}
PLAN: Any = [[{"name": "f"}, {"name": "g"}], [{"name": "h"}]]


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


async def first(client: openai.AsyncOpenAI, asked: str) -> list[Any]:
    """The output of the first answer as the client would send it back."""
    answer = await client.responses.create(model="m", input=asked, **ASKED)
    return [item.to_dict() for item in answer.output]


async def test_a_turn_that_sends_it_back_goes_on(client: openai.AsyncOpenAI, script: Make) -> None:
    asked = script(reasoning="I need tools", needs_reasoning=True, tool_calls=PLAN, content="done")
    history: list[Any] = [user(asked)]
    for _ in range(3):
        stream = await client.responses.create(model="m", input=history, stream=True, **ASKED)
        done = [event.item.to_dict() async for event in stream if event.type == "response.output_item.done"]
        assert done[0]["summary"] == [{"type": "summary_text", "text": "I need tools"}]
        history += done
        history += [output(str(item["call_id"])) for item in done if item["type"] == "function_call"]
    assert history[-1]["content"][0]["text"] == "done"
    assert [item["type"] for item in history[1:4]] == ["reasoning", "function_call", "function_call"]


@pytest.mark.parametrize(
    ("asked", "has_summary", "has_sealed"),
    [
        ({}, False, False),
        ({"reasoning": {"summary": "concise"}}, True, False),
        ({"include": ["reasoning.encrypted_content"]}, False, True),
    ],
)
async def test_only_what_was_asked_for_is_told(
    model_url: str, script: Make, asked: Any, has_summary: bool, has_sealed: bool
) -> None:
    _, answer = await post(model_url, input=script(reasoning="secret thought"), **asked)
    item = answer["output"][0]
    assert item["type"] == "reasoning"
    assert bool(item["summary"]) is has_summary
    assert ("encrypted_content" in item) is has_sealed


async def test_what_lacks_its_reasoning_is_refused(client: openai.AsyncOpenAI, model_url: str, script: Make) -> None:
    asked = script(reasoning="why", needs_reasoning=True, tool_calls=PLAN)
    thought, *calls = await first(client, asked)
    outputs = [output(item["call_id"]) for item in calls]
    required = f"Item '{calls[0]['id']}' of type 'function_call' was provided without its required 'reasoning' item"
    alone = f"Item '{thought['id']}' of type 'reasoning' was provided without its required following item."
    changed = {**thought, "encrypted_content": thought["encrypted_content"][:-8] + "AAAAAAA="}
    padded = {**thought, "encrypted_content": "!" + thought["encrypted_content"]}
    unverified = f"The encrypted content for item {thought['id']} could not be verified."
    other_id = {**thought, "id": "rs_other"}
    for history, said in (
        ([*calls, *outputs], required),
        ([*calls, thought, *outputs], alone),
        ([*calls, *outputs, thought], alone),
        ([thought, user("no")], alone),
        ([thought, call("another"), output("another")], alone),
        ([changed, *calls, *outputs], unverified),
        ([padded, *calls, *outputs], unverified),
        ([other_id, *calls, *outputs], "rs_other could not be verified"),
        ([thought, thought, *calls, *outputs], f"Duplicate item found with id {thought['id']}"),
    ):
        status, answer = await post(model_url, input=[user(asked), *history])
        assert status == 400, history
        assert said in answer["error"]["message"]


async def test_the_announced_item_does_not_serve_in_place_of_the_finished_one(
    client: openai.AsyncOpenAI, model_url: str, script: Make
) -> None:
    asked = script(reasoning="why", needs_reasoning=True, tool_calls=PLAN)
    stream = await client.responses.create(model="m", input=asked, stream=True, **ASKED)
    added = [event.item.to_dict() async for event in stream if event.type == "response.output_item.added"]
    outputs = [output(str(item["call_id"])) for item in added[1:]]
    history = [user(asked), *[{**item, "status": "completed"} for item in added], *outputs]
    status, answer = await post(model_url, input=history)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


async def test_a_turn_gone_by_may_leave_its_reasoning_out(
    client: openai.AsyncOpenAI, model_url: str, script: Make
) -> None:
    asked = script(reasoning="why", needs_reasoning=True, tool_calls=[[{"name": "f"}]])
    _, made = await first(client, asked)
    history = [user(asked), made, output(made["call_id"]), answered("so"), user(asked)]
    status, _ = await post(model_url, input=history)
    assert status == 200


async def test_chat_completions_demand_reasoning_content_as_deepseek_does(
    client: openai.AsyncOpenAI, script: Make
) -> None:
    asked = script(reasoning="why", needs_reasoning=True, tool_calls=[[{"name": "f"}]], content="done")
    stream = await client.chat.completions.create(model="m", messages=[user(asked)], stream=True)
    deltas = [chunk.choices[0].delta.to_dict() async for chunk in stream]
    thought = "".join(str(delta.get("reasoning_content", "")) for delta in deltas)
    assert thought == "why"
    whole = await client.chat.completions.create(model="m", messages=[user(asked)])
    message: Any = whole.choices[0].message.to_dict()
    assert message["reasoning_content"] == "why"
    result: Any = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "ok"}
    answer = await client.chat.completions.create(model="m", messages=[user(asked), message, result])
    assert answer.choices[0].message.content == "done"
    for wrong in (None, "what"):
        history = [user(asked), {**message, "reasoning_content": wrong}, result]
        with pytest.raises(openai.BadRequestError, match="must be passed back to the API") as refused:
            await client.chat.completions.create(model="m", messages=history)
        assert refused.value.code == "invalid_request_error"
