"""Where the model is asked, over which API, and who asks: addresses as they are pasted, keys, identities."""

from __future__ import annotations

import logging

import pytest
from aiohttp import web

from shared.adapters.azure.entra import token_for
from shared.adapters.models.service import ModelService
from shared.errors import ModelFailed
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import Usage
from tests.integration.bench import settings_for
from tests.integration.models.served_model import (
    AZURE,
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
from tests.integration.platform.entra import Identity, identity, serving

__all__ = ["api", "identity", "model", "serve"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

_PATHS = {ModelApi.CHAT: "/chat/completions", ModelApi.RESPONSES: "/responses"}


@pytest.mark.parametrize(
    "endpoint", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/", "/openai/v1/responses"]
)
async def test_an_azure_endpoint_is_found_whatever_was_pasted(serve: Serve, api: ModelApi, endpoint: str) -> None:
    model = await serve(endpoint=endpoint, api_key="azure-key")

    assert (await ask(model, scripted(api, {"content": "x"}))).text == "x"

    (arrived,) = model.arrived
    assert arrived.path == f"/openai/v1{_PATHS[api]}"
    assert arrived.headers["api-key"] == "azure-key"
    assert "authorization" not in arrived.headers
    assert arrived.body["model"] == "scripted"


async def test_a_project_endpoint_keeps_its_project(api: ModelApi) -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.json_response({"error": {"code": "404", "message": "Resource not found"}}, status=404)

    async with serving(answer) as url:
        project = f"{url}/api/projects/openai"
        service = ModelService(settings_for(url, **AZURE, AZURE_OPENAI_ENDPOINT=f"{project}/openai/v1/"))
        failure = await failure_of(Model(url, service), request_to(api, UserSaid("hi")))
        await service.aclose()

    assert paths == [f"/api/projects/openai/openai/v1{_PATHS[api]}"]
    assert "MODEL_API" in failure.safe_message


async def test_a_dated_version_asks_below_the_deployment(serve: Serve) -> None:
    settings = {"AZURE_OPENAI_API_VERSION": "2024-10-21", "MODEL_API": "chat", "AZURE_OPENAI_DEPLOYMENT": "my model/x"}
    model = await serve(settings, endpoint="/openai/v1", api_key="azure-key")

    answer = await ask(model, scripted(ModelApi.CHAT, {"content": "x"}, model="my model/x"))

    assert answer.text == "x"
    (arrived,) = model.arrived
    assert arrived.path == "/openai/deployments/my%20model%2Fx/chat/completions?api-version=2024-10-21"
    assert arrived.headers["api-key"] == "azure-key"


async def test_an_identity_is_a_bearer_for_the_scope_of_the_v1_api(
    serve: Serve, api: ModelApi, identity: Identity
) -> None:
    async def token(scope: str) -> str:
        return await token_for(scope, identity.made)

    model = await serve()
    settings = settings_for(model.url, AZURE_OPENAI_ENDPOINT=model.url, AZURE_OPENAI_DEPLOYMENT="scripted")
    service = ModelService(settings, token)
    await ask(Model(model.url, service), scripted(api, {"content": "x"}))
    await service.aclose()

    (arrived,) = model.arrived
    assert identity.asked == ["https://ai.azure.com"]
    assert arrived.headers["authorization"] == f"Bearer {identity.given[0]}"
    assert "api-key" not in arrived.headers


@pytest.mark.parametrize("pasted", ["/v1", "/v1/", "/v1/chat/completions", "/v1/responses/"])
async def test_a_compatible_server_gets_its_key_as_a_bearer(serve: Serve, api: ModelApi, pasted: str) -> None:
    model = await serve(api_key="key-of-ours")
    service = ModelService(
        settings_for(model.url, OPENAI_BASE_URL=f"{model.url}{pasted}", OPENAI_API_KEY="key-of-ours")
    )

    await ask(Model(model.url, service), scripted(api, {"content": "x"}))
    await service.aclose()

    (arrived,) = model.arrived
    assert arrived.path == f"/v1{_PATHS[api]}"
    assert arrived.headers["authorization"] == "Bearer key-of-ours"


async def test_the_trace_goes_along(model: Model, api: ModelApi) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await ask(model, scripted(api, {"content": "x"}, traceparent=traceparent))
    await ask(model, scripted(api, {"content": "x"}))

    assert [arrived.headers.get("traceparent") for arrived in model.arrived] == [traceparent, None]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"OPENAI_API_KEY": "wrong-key-0815"}, "OPENAI_API_KEY"),
        ({"AZURE_OPENAI_API_KEY": "wrong-key-0815"}, "AZURE_OPENAI_API_KEY"),
    ],
    ids=["compatible", "azure"],
)
async def test_a_wrong_key_names_its_setting_and_stands_in_no_log(
    serve: Serve, api: ModelApi, settings: dict[str, str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(request: web.Request) -> web.Response:
        given = request.headers.get("api-key") or request.headers["Authorization"].removeprefix("Bearer ")
        return web.json_response(
            {"error": {"message": f"Incorrect API key provided: {given}.", "code": given}}, status=401
        )

    async with serving(echo) as url:
        azure = {"AZURE_OPENAI_ENDPOINT": url, "AZURE_OPENAI_DEPLOYMENT": "x"} if "AZURE" in says else {}
        model = Model(url, ModelService(settings_for(url, **azure, **settings)))
        with caplog.at_level(logging.DEBUG):
            failure = await failure_of(model, request_to(api, UserSaid("hi")))
            logging.getLogger("test").error("as a trace", exc_info=failure)
        await model.service.aclose()

    assert isinstance(failure, ModelFailed)
    assert says in failure.safe_message
    assert "wrong-key-0815" not in failure.safe_message
    assert "wrong-key-0815" not in caplog.text
    assert "Incorrect API key provided" in caplog.text


async def test_a_model_that_is_not_there_names_its_setting(serve: Serve, api: ModelApi) -> None:
    compatible = await serve(models=("other",))
    azure = await serve(endpoint="", models=("other",))

    ours = await failure_of(compatible, request_to(api, UserSaid("hi")))
    deployed = await failure_of(azure, request_to(api, UserSaid("hi")))
    agents = await failure_of(azure, request_to(api, UserSaid("hi"), model="of-an-agent"))

    assert "OPENAI_MODEL" in ours.safe_message
    assert "AZURE_OPENAI_DEPLOYMENT" in deployed.safe_message
    assert "of the agent" in agents.safe_message


@pytest.mark.parametrize(
    ("settings", "is_azure", "chosen"),
    [
        ({}, False, ModelApi.CHAT),
        ({"MODEL_API": "responses"}, False, ModelApi.RESPONSES),
        ({}, True, ModelApi.RESPONSES),
        ({"MODEL_API": "chat"}, True, ModelApi.CHAT),
        ({"MODELS": '{"scripted": {"api": "responses"}}'}, False, ModelApi.RESPONSES),
        ({"MODELS": '{"scripted": {"api": "chat"}}', "MODEL_API": "responses"}, True, ModelApi.CHAT),
    ],
)
async def test_the_settings_choose_the_api(
    serve: Serve, settings: dict[str, str], is_azure: bool, chosen: ModelApi
) -> None:
    model = await serve(settings, endpoint="" if is_azure else None)
    azure = {"AZURE_OPENAI_ENDPOINT": model.url, **AZURE} if is_azure else {}

    api = settings_for(model.url, **azure, **settings).api_of("scripted")
    await ask(model, scripted(api, {"content": "x"}))

    assert model.arrived[0].path.endswith(_PATHS[chosen])


async def test_warming_up_asks_nobody(model: Model) -> None:
    await model.service.warm_up()

    assert model.arrived == []
    assert (await ask(model, scripted(ModelApi.CHAT, {"content": "x"}))).end.usage != Usage()
