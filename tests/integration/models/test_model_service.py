"""ModelService over real HTTP, against the offline model: answers, the same suite over both APIs."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from aiohttp import web

from shared.adapters.models.service import ModelService
from shared.sessions.llm.conversation import Said, ToolAnswered, UserSaid
from shared.sessions.llm.protocol import (
    ModelText,
)
from shared.sessions.llm.registry import ModelApi
from tests.integration.bench import settings_for
from tests.integration.domain import WAIT_S, script
from tests.integration.models.served_model import (
    SCHEMA,
    SUM,
    TOOL,
    Model,
    api,
    ask,
    model,
    request_to,
    scripted,
    serve,
)
from tests.integration.platform.entra import serving

__all__ = ["api", "model", "serve"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


async def test_text_arrives_as_it_was_written(model: Model, api: ModelApi) -> None:
    content = "e\u0301 🙂\u2028\ttab\r\n end"

    answer = await ask(model, scripted(api, {"content": content, "split_bytes": 3, "cached_tokens": 2}))

    assert (answer.text, answer.end.finish_reason, answer.end.kept) == (content, "stop", [])
    assert answer.end.usage is not None
    assert answer.end.usage.input_tokens > answer.end.usage.cached_input_tokens == 2
    assert answer.end.response_id
    assert answer.end.response_model


async def test_text_comes_while_it_is_written(model: Model, api: ModelApi) -> None:
    events = [event async for event in model.service.stream(scripted(api, {"tokens": 20, "token_ms": 10}))]

    assert len([event for event in events if isinstance(event, ModelText)]) > 1


async def test_usage_that_is_not_told_is_unknown(model: Model, api: ModelApi) -> None:
    assert (await ask(model, scripted(api, {"content": "x", "usage": "none"}))).end.usage is None


async def test_parallel_calls_and_their_results_make_a_turn(model: Model, api: ModelApi) -> None:
    calls = [{**SUM, "id": "call_a"}, {"name": "calculate", "arguments": '{"expression"', "id": "call_b"}]
    said = UserSaid(script(tool_calls=[calls], preamble="Let me see.", content="done"))

    first = await ask(model, request_to(api, said, tools=[TOOL]))
    results = [ToolAnswered(call.id, "2") for call in first.end.tool_calls]
    second = await ask(model, request_to(api, said, first.said(), *results, tools=[TOOL]))

    assert (first.text, first.end.finish_reason) == ("Let me see.", "tool_calls")
    assert [(call.id, call.name, call.arguments) for call in first.end.tool_calls] == [
        ("call_a", "calculate", '{"expression":"1 + 1"}'),
        ("call_b", "calculate", '{"expression"'),
    ]
    assert (second.text, second.end.finish_reason) == ("done", "stop")


async def test_reasoning_is_told_and_goes_back_within_its_turn(model: Model, api: ModelApi) -> None:
    said = UserSaid(
        script(reasoning="First this.\n\nThen that.", needs_reasoning=True, tool_calls=[[SUM], [SUM]], content="done")
    )
    conversation: list[Said] = [said]
    for _ in range(3):
        answer = await ask(model, request_to(api, *conversation, tools=[TOOL], reasons=True))
        conversation += [answer.said(), *(ToolAnswered(call.id, "2") for call in answer.end.tool_calls)]

    assert (answer.text, answer.thought) == ("done", "First this.\n\nThen that.")


async def test_a_refusal_is_told_and_marked(model: Model, api: ModelApi) -> None:
    answer = await ask(model, scripted(api, {"refusal": "I cannot help with that."}))

    assert (answer.text, answer.end.finish_reason) == ("I cannot help with that.", "refusal")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_was_cut_says_so(model: Model, api: ModelApi, reason: str) -> None:
    answer = await ask(model, scripted(api, {"content": "half an", "finish_reason": reason}))

    assert (answer.text, answer.end.finish_reason) == ("half an", reason)


async def test_an_answer_in_a_schema_is_asked_for_as_one(model: Model, api: ModelApi) -> None:
    answer = await ask(model, request_to(api, UserSaid("How many?"), output_schema=SCHEMA))

    assert set(json.loads(answer.text)) == {"n"}


async def test_a_server_that_answers_at_once_has_answered(model: Model, api: ModelApi) -> None:
    chat = {"choices": [{"message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}
    response = {
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "whole"}]}],
    }

    answer = await ask(model, scripted(api, {"stream": json.dumps(chat if api is ModelApi.CHAT else response)}))

    assert answer.text == "whole"


async def test_an_answer_is_complete_though_its_server_does_not_hang_up(api: ModelApi) -> None:
    """Nothing comes any more, so the reader does not wait for the connection to end."""
    chat = b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    response = (
        b'data: {"type":"response.completed","response":{"output":[{"type":"message","content":[{"text":"x"}]}]}}\n\n'
    )

    async def linger(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(chat if api is ModelApi.CHAT else response)
        await asyncio.Event().wait()
        return answer

    async with serving(linger) as url:
        model = Model(url, ModelService(settings_for(url, LLM_TIMEOUT_SECONDS=WAIT_S * 3)))
        async with asyncio.timeout(WAIT_S):
            answer = await ask(model, request_to(api, UserSaid("hi")))
        await model.service.aclose()

    assert answer.text == "x"


async def test_the_connection_is_kept_for_the_next_request_and_none_is_worth_a_line(
    api: ModelApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ports: set[int] = set()

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        chunk = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}
        last = {"type": "response.completed", "response": {"output": [{"type": "message", "content": [{"text": "x"}]}]}}
        event = chunk if api is ModelApi.CHAT else last
        return web.Response(text=f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        for _ in range(3):
            await ask(model, request_to(api, UserSaid("hi")))
        await model.service.aclose()

    assert len(ports) == 1
    # Servers of other tests, which live as long as the process, may be asked at the same time.
    said = [record.getMessage() for record in caplog.records if record.name.startswith(("httpx", "openai"))]
    assert [line for line in said if url in line] == []
