"""The offline model behind a ModelService, with all that arrives there; fixtures `serve`, `model` and `api`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from devhost.model.server import ModelOptions, ModelServer
from shared.adapters.models.service import ModelService
from shared.errors import ModelFailed, Transient
from shared.sessions.llm.conversation import AssistantSaid, Said, UserSaid
from shared.sessions.llm.protocol import (
    ModelEnd,
    ModelEvent,
    ModelReasoning,
    ModelRequest,
    ModelText,
)
from shared.sessions.llm.registry import ModelApi
from tests.integration.bench import settings_for
from tests.integration.domain import script

TOOL = b'{"name":"calculate","parameters":{"type":"object","properties":{"expression":{"type":"string"}}}}'
SUM = {"name": "calculate", "arguments": {"expression": "1 + 1"}}
SCHEMA = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"], "additionalProperties": False}
AZURE = {"AZURE_OPENAI_DEPLOYMENT": "scripted", "AZURE_OPENAI_API_KEY": "azure-key"}

type Serve = Callable[..., Awaitable[Model]]


@dataclass(frozen=True)
class Arrived:
    """A request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Model:
    """An offline model, the service that asks it, and what has arrived there."""

    url: str
    service: ModelService
    arrived: list[Arrived] = field(default_factory=list)

    async def counts(self, key: str) -> dict[str, Any]:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/__calls?key={key}") as answer:
            return dict(await answer.json())


@dataclass(frozen=True)
class Answered:
    text: str
    thought: str
    end: ModelEnd

    def said(self) -> AssistantSaid:
        """As the turn goes on with it."""
        return AssistantSaid(self.text, self.end.tool_calls, self.end.kept)


@asynccontextmanager
async def _served(options: dict[str, Any], settings: dict[str, Any], endpoint: str | None) -> AsyncIterator[Model]:
    arrived: list[Arrived] = []

    @web.middleware
    async def watch(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        if request.method == "POST":
            headers = {name.lower(): value for name, value in request.headers.items()}
            arrived.append(Arrived(request.path_qs, headers, json.loads(await request.read())))
        return await handler(request)

    app = ModelServer(ModelOptions(scripted=True, first_s=0, token_s=0, **options)).app
    app.middlewares.append(watch)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    if endpoint is not None:
        settings = AZURE | {"AZURE_OPENAI_ENDPOINT": f"{url}{endpoint}"} | settings
    service = ModelService(settings_for(url, **settings))
    yield Model(url, service, arrived)
    await service.aclose()
    await runner.cleanup()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A model with these options and settings; endpoint: what is pasted behind its origin as an Azure endpoint."""
    async with AsyncExitStack() as stack:

        async def start(
            settings: dict[str, Any] | None = None, *, endpoint: str | None = None, **options: Any
        ) -> Model:
            return await stack.enter_async_context(_served(options, settings or {}, endpoint))

        yield start


@pytest.fixture
async def model(serve: Serve) -> Model:
    return await serve()


@pytest.fixture(params=list(ModelApi))
def api(request: pytest.FixtureRequest) -> ModelApi:
    return ModelApi(request.param)


def request_to(api: ModelApi, *said: Said, **changes: Any) -> ModelRequest:
    values: dict[str, Any] = {"model": "scripted", "api": api, "instructions": "Be brief.", "conversation": said}
    return ModelRequest(**values | changes)


def scripted(api: ModelApi, directives: dict[str, Any], **changes: Any) -> ModelRequest:
    return request_to(api, UserSaid(script(**directives)), **changes)


async def ask(model: Model, request: ModelRequest) -> Answered:
    events: list[ModelEvent] = [event async for event in model.service.stream(request)]
    *told, end = events
    assert isinstance(end, ModelEnd)
    assert not any(isinstance(event, ModelEnd) for event in told)
    return Answered(
        "".join(event.text for event in told if isinstance(event, ModelText)),
        "".join(event.text for event in told if isinstance(event, ModelReasoning)),
        end,
    )


async def failure_of(model: Model, request: ModelRequest) -> Transient | ModelFailed:
    with pytest.raises((Transient, ModelFailed)) as caught:
        await ask(model, request)
    assert isinstance(caught.value, (Transient, ModelFailed))
    return caught.value
