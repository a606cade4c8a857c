"""Servers that do not do what they were asked, and do not say so, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from aiohttp import web

from shared.adapters.models import service
from shared.adapters.models.service import ModelService
from shared.errors import ErrorCode, Transient
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import ContextOverflow, ModelEnd, ModelText
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import FinishReason
from tests.integration.bench import settings_for
from tests.integration.models.served_model import SCHEMA, Model, ask, failure_of, request_to
from tests.integration.platform.entra import serving

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def test_an_answer_that_does_not_end_at_its_limit_is_cut_and_the_other_name_is_tried() -> None:
    """llama-cpp-python knows `max_tokens` alone, and ignores what it does not know."""
    asked: list[dict[str, Any]] = []
    closed = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        words = 4 if "max_tokens" in body else 100_000
        try:
            for _ in range(words):
                await response.write(_event({"choices": [{"delta": {"content": "word "}}]}))
            await response.write(_event({"choices": [{"delta": {}, "finish_reason": "length"}]}))
        except ConnectionError:
            closed.set()
        return response

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        request = request_to(ModelApi.CHAT, UserSaid("hi"), max_output_tokens=8)
        first = await ask(model, request)
        second = await ask(model, request)
        await asyncio.wait_for(closed.wait(), 10)
        await model.service.aclose()

    assert (first.end.finish_reason, len(first.text)) == (FinishReason.LENGTH, 1_152)
    assert (second.end.finish_reason, second.text) == (FinishReason.LENGTH, "word " * 4)
    assert [{"max_completion_tokens", "max_tokens"} & set(body) for body in asked] == [
        {"max_completion_tokens"},
        {"max_tokens"},
    ]


async def test_a_server_that_fails_behind_its_headers_is_asked_why() -> None:
    """llama-cpp-python sends 200 and nothing; asked for the answer in one piece, it says what is wrong."""
    asked: list[bool] = []
    words = "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens"

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body["stream"])
        if body["stream"]:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            return response
        assert "stream_options" not in body
        if "short" in json.dumps(body):
            return web.json_response({"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]})
        return web.json_response({"error": {"message": words, "code": "context_length_exceeded"}}, status=400)

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        failure = await failure_of(model, request_to(ModelApi.CHAT, UserSaid("long")))
        whole = await ask(model, request_to(ModelApi.CHAT, UserSaid("short")))
        await model.service.aclose()

    assert isinstance(failure, ContextOverflow)
    assert (failure.limit_tokens, failure.read_tokens) == (2048, 3000)
    assert (whole.text, whole.end.finish_reason) == ("whole", FinishReason.STOP)
    assert asked == [True, False, True, False]


async def test_a_parameter_that_fails_a_servers_validation_is_left_out_whatever_the_status() -> None:
    asked: list[dict[str, Any]] = []
    words = (
        "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or"
        " 'json_object'\", 'input': 'json_schema'}]"
    )

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
        if "response_format" in body:
            return web.json_response({"error": {"message": words, "type": "internal_server_error"}}, status=500)
        return web.Response(
            text='data: {"choices":[{"delta":{"content":"{\\"n\\":1}"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
            content_type="text/event-stream",
        )

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        said = await ask(model, request_to(ModelApi.CHAT, UserSaid("hi"), output_schema=SCHEMA))
        await model.service.aclose()

    assert said.text == '{"n":1}'
    assert json.dumps(SCHEMA, separators=(",", ":")) in asked[-1]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("used", "reasons", "said"),
    [(16, None, "length"), (15, None, "stop"), (16, True, "stop")],
    ids=["at the limit", "below it", "a model in the list"],
)
async def test_a_cut_answer_that_is_called_complete_says_that_it_was_cut(
    used: int, reasons: bool | None, said: str
) -> None:
    """llama.cpp, over the responses API; a provider that is known is believed."""
    message = {"type": "message", "content": [{"type": "output_text", "text": "It is"}]}
    usage = {"input_tokens": 3, "output_tokens": used}
    end = {"type": "response.completed", "response": {"status": "completed", "output": [message], "usage": usage}}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=_event(end), content_type="text/event-stream")

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        request = request_to(ModelApi.RESPONSES, UserSaid("hi"), max_output_tokens=8, reasons=reasons)
        answered = await ask(model, request)
        await model.service.aclose()

    assert (answered.text, answered.end.finish_reason) == ("It is", said)


async def test_a_proxy_without_a_database_means_the_key() -> None:
    """LiteLLM, of any key but its master key."""

    async def answer(request: web.Request) -> web.Response:
        error = {"message": "No connected db.", "type": "no_db_connection", "code": "400"}
        return web.json_response({"error": error}, status=400)

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        failure = await failure_of(model, request_to(ModelApi.CHAT, UserSaid("hi")))
        await model.service.aclose()

    assert failure.code is ErrorCode.LLM_ERROR
    assert "OPENAI_API_KEY" in failure.safe_message


async def test_a_server_that_never_says_anything_is_asked_why_once() -> None:
    asked: list[bool] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((await request.json())["stream"])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        return response

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        for _ in range(3):
            failure = await failure_of(model, request_to(ModelApi.CHAT, UserSaid("hi")))
            assert isinstance(failure, Transient)
        await model.service.aclose()
    assert asked == [True, False, True, True]


@pytest.mark.parametrize("sends", ["nothing", "headers"])
@pytest.mark.parametrize("api", list(ModelApi))
async def test_a_model_is_waited_for_until_its_first_byte_and_then_between_two(api: ModelApi, sends: str) -> None:
    over = asyncio.Event()
    asked: list[float] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(1)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if sends == "headers":
            await response.prepare(request)
            await response.write(b"")
        await over.wait()
        return response

    async with serving(answer) as url:
        settings = settings_for(url, LLM_FIRST_BYTE_SECONDS=0.3, LLM_TIMEOUT_SECONDS=600)
        model = Model(url, ModelService(settings))
        async with asyncio.timeout(20):
            failure = await failure_of(model, request_to(api, UserSaid("hi")))
        over.set()
        await model.service.aclose()
    assert isinstance(failure, Transient)
    assert failure.code is ErrorCode.LLM_TIMEOUT
    assert len(asked) == 1


async def test_a_model_may_think_longer_before_its_first_byte_than_between_two() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(1)
        await response.write(_event({"choices": [{"delta": {"content": "thought"}}]}))
        await asyncio.sleep(60)
        return response

    async with serving(answer) as url:
        settings = settings_for(url, LLM_FIRST_BYTE_SECONDS=60, LLM_TIMEOUT_SECONDS=0.2)
        model = Model(url, ModelService(settings))
        events = model.service.stream(request_to(ModelApi.CHAT, UserSaid("hi")))
        async with asyncio.timeout(20):
            first = await anext(events)
            with pytest.raises(Transient) as caught:
                await anext(events)
        await model.service.aclose()
    assert (first, caught.value.code) == (ModelText("thought"), ErrorCode.LLM_TIMEOUT)


async def test_what_is_sent_after_the_last_word_does_not_keep_an_answer_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that says every moment that it is there."""
    monkeypatch.setattr(service, "_USAGE_S", 0.3)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event({"choices": [{"delta": {"content": "all of it"}, "finish_reason": "stop"}]}))
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b": still here\n\n")
                await asyncio.sleep(0.05)
        return response

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        async with asyncio.timeout(20):
            found = await ask(model, request_to(ModelApi.CHAT, UserSaid("hi")))
        await model.service.aclose()
    assert (found.text, found.end.finish_reason) == ("all of it", FinishReason.STOP)


_CHAT_END = [
    _event({"choices": [{"delta": {"content": "all of it"}, "finish_reason": "stop"}]}),
    b"data: [DONE]\n\n",
]
_RESPONSES_END = [
    _event({"type": "response.output_text.delta", "delta": "all of it"}),
    _event({"type": "response.completed", "response": {"status": "completed"}}),
]


@pytest.mark.parametrize("api", list(ModelApi))
@pytest.mark.parametrize("then", ["silent", "cut", "reset"])
async def test_an_answer_that_came_while_nobody_read_is_over_whatever_becomes_of_the_connection(
    api: ModelApi, then: str
) -> None:
    """The reader stores or sends meanwhile: the last bytes and the end of the connection wait for it together."""
    over, sent = asyncio.Event(), asyncio.Event()
    first, last = _CHAT_END if api is ModelApi.CHAT else _RESPONSES_END
    begin = _event({"choices": [{"delta": {"content": "It is "}}]})
    if api is ModelApi.RESPONSES:
        begin = _event({"type": "response.output_text.delta", "delta": "It is "})

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(begin)
        await sent.wait()
        await response.write(first)
        await response.write(last)
        assert request.transport is not None
        if then == "silent":
            await over.wait()
        elif then == "cut":
            request.transport.close()
        else:
            await asyncio.sleep(0.1)
            request.transport.abort()
        return response

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        texts: list[str] = []
        end: ModelEnd | None = None
        async with asyncio.timeout(20):
            async for event in model.service.stream(request_to(api, UserSaid("hi"))):
                if isinstance(event, ModelText):
                    texts.append(event.text)
                    if not sent.is_set():
                        sent.set()
                        await asyncio.sleep(0.5)
                elif isinstance(event, ModelEnd):
                    end = event
        over.set()
        await model.service.aclose()
    assert ("".join(texts), end and end.finish_reason) == ("It is all of it", FinishReason.STOP)


@pytest.mark.parametrize("then", ["silent", "cut"])
@pytest.mark.parametrize("is_done", [False, True])
async def test_an_answer_is_over_with_its_last_word_whatever_becomes_of_the_connection(
    then: str, is_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_USAGE_S", 0.2)
    monkeypatch.setattr(service, "_DRAIN_S", 0.2)
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event({"choices": [{"delta": {"content": "all of it"}, "finish_reason": "stop"}]}))
        if is_done:
            await response.write(b"data: [DONE]\n\n")
        if then == "silent":
            await over.wait()
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(answer) as url:
        model = Model(url, ModelService(settings_for(url)))
        async with asyncio.timeout(20):
            found = await ask(model, request_to(ModelApi.CHAT, UserSaid("hi")))
        over.set()
        await model.service.aclose()
    assert (found.text, found.end.finish_reason) == ("all of it", FinishReason.STOP)
