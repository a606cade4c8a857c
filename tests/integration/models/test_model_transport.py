"""How requests get to the model: by a proxy, over TLS, long; and what comes back otherwise than it was asked for."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from shared.adapters.models.service import ModelService
from shared.errors import ErrorCode, Transient
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.registry import ModelApi
from tests.integration.bench import settings_for
from tests.integration.models.served_model import Model, Serve, api, ask, failure_of, model, request_to, scripted, serve
from tests.integration.platform.entra import certificate, serving

__all__ = ["api", "model", "serve"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

_STREAM = b'data: {"choices":[{"delta":{"content":"packed"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@asynccontextmanager
async def _asked(url: str) -> AsyncIterator[Model]:
    model = Model(url, ModelService(settings_for(url, OPENAI_BASE_URL=f"{url}/v1")))
    yield model
    await model.service.aclose()


@pytest.mark.parametrize(("spared", "through"), [("", True), ("127.0.0.1", False)], ids=["proxy", "no proxy"])
async def test_a_proxy_of_the_environment_is_used_unless_the_host_is_spared(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, *, spared: str, through: bool
) -> None:
    passed: list[str] = []

    async def forward(request: web.Request) -> web.Response:
        passed.append(str(request.url))
        return web.Response(body=_STREAM, content_type="text/event-stream")

    async with serving(forward) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("NO_PROXY", spared)
        monkeypatch.setenv("no_proxy", spared)
        model = await serve()
        async with _asked(model.url) as asking:
            answer = await ask(asking, scripted(ModelApi.CHAT, {"content": "x"}))

    assert answer.text == ("packed" if through else "x")
    assert bool(passed) is through


async def test_an_answer_that_is_packed_all_the_same_is_read() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            body=gzip.compress(_STREAM), headers={"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
        )

    async with serving(answer) as url, _asked(url) as model:
        assert (await ask(model, request_to(ModelApi.CHAT, UserSaid("hi")))).text == "packed"


async def test_an_answer_that_is_not_what_its_headers_say_broke_off() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            body=b"no gzip at all", headers={"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
        )

    async with serving(answer) as url, _asked(url) as model:
        failure = await failure_of(model, request_to(ModelApi.CHAT, UserSaid("hi")))

    assert isinstance(failure, Transient)
    assert failure.code is ErrorCode.LLM_ERROR


async def test_what_speaks_no_http_cannot_be_reached() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, _asked(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as model:
        failure = await failure_of(model, request_to(ModelApi.CHAT, UserSaid("hi")))

    assert isinstance(failure, Transient)
    assert "cannot be reached" in failure.safe_message


async def test_a_long_request_arrives_whole(model: Model, api: ModelApi) -> None:
    """Images make requests long: those go in pieces."""
    long = "0123456789" * 40_000

    assert (await ask(model, scripted(api, {"content": "x"}, instructions=long))).text == "x"

    (arrived,) = model.arrived
    assert long in str(arrived.body)


async def test_a_certificate_counts_when_the_machine_trusts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tls = certificate(tmp_path)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=_STREAM, content_type="text/event-stream")

    async with serving(answer, tls=tls) as url:
        async with _asked(url) as stranger:
            failure = await failure_of(stranger, request_to(ModelApi.CHAT, UserSaid("hi")))
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        async with _asked(url) as trusting:
            answered = await ask(trusting, request_to(ModelApi.CHAT, UserSaid("hi")))

    assert "cannot be reached" in failure.safe_message
    assert answered.text == "packed"
