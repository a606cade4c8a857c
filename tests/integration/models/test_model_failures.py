"""ModelService over real HTTP, when things go wrong: what is tried again, what is given up, and in which words."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web

from shared.adapters.models.service import ModelService
from shared.errors import ErrorCode, ModelFailed, Transient
from shared.ids import new_id
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import (
    ContextOverflow,
    PromptFiltered,
)
from shared.sessions.llm.registry import ModelApi
from tests.integration.bench import settings_for
from tests.integration.domain import until
from tests.integration.models.served_model import (
    Model,
    Serve,
    api,
    ask,
    failure_of,
    model,
    request_to,
    scripted,
    serve,
)
from tests.integration.platform.entra import serving

__all__ = ["api", "model", "serve"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.mark.parametrize(
    ("directives", "code"),
    [
        ({"cut_after": 3}, ErrorCode.LLM_ERROR),
        ({"cut_after": 0}, ErrorCode.LLM_ERROR),
        ({"fail": [{"error_after": 3}]}, ErrorCode.LLM_ERROR),
        ({"fail": [{"error_after": 0, "code": "rate_limit_exceeded"}]}, ErrorCode.RATE_LIMITED),
        ({"response_failed": {}}, ErrorCode.LLM_ERROR),
        ({"response_failed": {"code": "rate_limit_exceeded"}}, ErrorCode.RATE_LIMITED),
        ({"stream": "<html>a proxy's page</html>"}, ErrorCode.LLM_ERROR),
        ({"stream": ["{not json}"]}, ErrorCode.LLM_ERROR),
    ],
)
async def test_an_answer_that_breaks_off_may_be_tried_again(
    model: Model, api: ModelApi, directives: dict[str, Any], code: ErrorCode
) -> None:
    failure = await failure_of(model, scripted(api, {"key": new_id(), "tokens": 10} | directives))

    assert isinstance(failure, Transient)
    assert failure.code is code
    assert len(model.arrived) == 1


@pytest.mark.parametrize("directives", [{"fail": [{"hang": True}]}, {"hang_after": 0}, {"hang_after": 2}])
async def test_a_model_that_falls_silent_is_a_timeout(serve: Serve, api: ModelApi, directives: dict[str, Any]) -> None:
    model = await serve({"LLM_TIMEOUT_SECONDS": 0.3, "LLM_FIRST_BYTE_SECONDS": 0.3})

    failure = await failure_of(model, scripted(api, {"key": new_id()} | directives))

    assert isinstance(failure, Transient)
    assert failure.code is ErrorCode.LLM_TIMEOUT
    assert len(model.arrived) == 1


async def test_closing_the_answer_closes_the_request(model: Model, api: ModelApi) -> None:
    key = new_id()

    async with aclosing(model.service.stream(scripted(api, {"key": key, "tokens": 5_000, "token_ms": 5}))) as events:
        async for _ in events:
            break

    async def noticed() -> bool:
        return bool((await model.counts(key))["abandoned"] == 1)

    await until(noticed)


async def test_cancelling_the_reader_closes_the_request(model: Model, api: ModelApi) -> None:
    key = new_id()
    asking = asyncio.create_task(ask(model, scripted(api, {"key": key, "tokens": 5_000, "first_ms": 60_000})))

    async def arrived() -> bool:
        return bool((await model.counts(key))["calls"] == 1)

    async def noticed() -> bool:
        return bool((await model.counts(key))["abandoned"] == 1)

    await until(arrived)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(noticed)


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_server_that_broke_down_is_asked_once(model: Model, api: ModelApi, status: int) -> None:
    """Whoever asks decides whether it is asked again (`shared/sessions/turns/patience.py`)."""
    request = scripted(api, {"key": new_id(), "fail": [{"status": status}], "content": "at last"})
    failure = await failure_of(model, request)

    assert isinstance(failure, Transient)
    assert failure.code is ErrorCode.LLM_ERROR
    assert len(model.arrived) == 1
    assert (await ask(model, request)).text == "at last"


async def test_a_server_that_says_when_to_come_back_is_not_asked_before(model: Model, api: ModelApi) -> None:
    for status, code in ((429, ErrorCode.RATE_LIMITED), (503, ErrorCode.LLM_ERROR)):
        model.arrived.clear()
        failure = await failure_of(
            model, scripted(api, {"key": new_id(), "fail": [{"status": status, "retry_after": 37}] * 2})
        )

        assert isinstance(failure, Transient)
        assert (failure.code, failure.retry_after_s) == (code, 37)
        assert len(model.arrived) == 1


async def test_money_that_is_used_up_is_asked_for_once(model: Model, api: ModelApi) -> None:
    body = {"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota"}}

    failure = await failure_of(model, scripted(api, {"key": new_id(), "fail": [{"status": 429, "body": body}] * 2}))

    assert isinstance(failure, ModelFailed)
    assert "quota" in failure.safe_message
    assert len(model.arrived) == 1


@pytest.mark.parametrize(
    ("overflow", "knows_read"), [("openai", True), ("llama.cpp", True), ("vllm", True), ("mistral", True)]
)
async def test_a_conversation_that_is_too_long_is_told_with_its_numbers(
    serve: Serve, api: ModelApi, overflow: str, knows_read: bool
) -> None:
    model = await serve(context_tokens=300, overflow=overflow)

    failure = await failure_of(model, request_to(api, UserSaid("word " * 2_000)))

    assert isinstance(failure, ContextOverflow)
    if overflow == "openai" and api is ModelApi.RESPONSES:
        assert (failure.limit_tokens, failure.read_tokens) == (None, None)  # it tells none there
    else:
        assert failure.limit_tokens == 300
        assert (failure.read_tokens or 0) > 300
    assert len(model.arrived) == 1


@pytest.mark.parametrize("after", [0, 3])
async def test_an_overflow_in_the_stream_counts_as_one_before_the_first_word_alone(
    model: Model, api: ModelApi, after: int
) -> None:
    fault = {
        "error_after": after,
        "code": "context_length_exceeded",
        "message": "The input exceeds the context window.",
    }

    failure = await failure_of(model, scripted(api, {"key": new_id(), "tokens": 10, "fail": [fault]}))

    assert failure.code is ErrorCode.TOKEN_LIMIT
    assert isinstance(failure, ContextOverflow) is (after == 0)


async def test_a_prompt_that_the_filter_refuses_is_known(model: Model, api: ModelApi) -> None:
    body = {"error": {"message": "The response was filtered.", "code": "content_filter", "param": "prompt"}}

    failure = await failure_of(model, scripted(api, {"key": new_id(), "fail": [{"status": 400, "body": body}]}))

    assert isinstance(failure, PromptFiltered)


async def test_an_answer_that_the_filter_stops_is_no_filtered_prompt(model: Model, api: ModelApi) -> None:
    fault = {"error_after": 3, "code": "content_filter", "message": "Filtered."}

    failure = await failure_of(model, scripted(api, {"key": new_id(), "tokens": 10, "fail": [fault]}))

    assert not isinstance(failure, PromptFiltered)
    assert "filter" in failure.safe_message


async def test_a_server_that_is_not_there_is_told_apart_from_one_that_is_silent(
    api: ModelApi, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model("", ModelService(settings_for("http://127.0.0.1:1")))

    failure = await failure_of(model, request_to(api, UserSaid("hi")))
    await model.service.aclose()

    assert isinstance(failure, Transient)
    assert failure.code is ErrorCode.LLM_ERROR
    assert "cannot be reached" in failure.safe_message
    assert "127.0.0.1" not in failure.safe_message
    assert "cannot be reached: " in caplog.text


async def test_an_error_without_end_is_read_as_far_as_it_is_bounded(api: ModelApi) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse(status=400)
        await answer.prepare(request)
        for _ in range(1_000):
            await answer.write(b"x" * 100_000)
            sent += 1
        return answer

    async with serving(flood) as url:
        model = Model(url, ModelService(settings_for(url)))
        failure = await failure_of(model, request_to(api, UserSaid("hi")))
        await model.service.aclose()

    assert isinstance(failure, ModelFailed)
    assert sent < 500


async def test_a_redirect_is_not_followed_with_our_key(api: ModelApi) -> None:
    seen: list[str] = []

    async def other(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response()

    async with serving(other) as elsewhere:

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": elsewhere + request.path})

        async with serving(redirect) as url:
            model = Model(url, ModelService(settings_for(url, OPENAI_API_KEY="key-of-ours")))
            failure = await failure_of(model, request_to(api, UserSaid("hi")))
            await model.service.aclose()

    assert seen == []
    assert isinstance(failure, ModelFailed)
    assert "address" in failure.safe_message
