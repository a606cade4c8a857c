"""What is asked of SignalR, of the durable backend and of Blob storage, and which answers count as one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import azure.durable_functions as df
import jwt
import pytest
from aiohttp import web
from azure.durable_functions.models.utils import http_utils

from activities import durable_client
from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.azure.signalr import RestSender
from shared.errors import Transient
from shared.sessions.live.realtime import DeliveryFailed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

NOWHERE = "http://127.0.0.1:1"
KEY = "k" * 44


@dataclass
class Service:
    """Answers whatever it is asked with one status and body."""

    status: int = 200
    body: str = "[]"
    url: str = ""
    asked: list[web.Request] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return web.Response(status=self.status, text=self.body, content_type="application/json")


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    await runner.cleanup()
    # The SDK's own, one for the process and of this test's loop.
    await http_utils._close_session()


async def _ping_signalr(url: str) -> None:
    sender = RestSender.with_key(f"Endpoint={url};AccessKey={KEY};Version=1.0;")
    try:
        await sender.ping()
    finally:
        await sender.aclose()


@pytest.mark.parametrize("status", [200, 404])
async def test_signalr_that_knows_us_is_well_whether_anybody_listens_or_not(service: Service, status: int) -> None:
    service.status = status

    await _ping_signalr(service.url)

    (request,) = service.asked
    assert (request.method, request.path) == ("GET", "/api/v1/hubs/parley/groups/health")
    token = request.headers["authorization"].removeprefix("Bearer ")
    jwt.decode(token, KEY, algorithms=["HS256"], audience=f"{service.url}{request.path}")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_signalr_that_refuses_us_is_not_well_and_says_how(service: Service, status: int) -> None:
    service.status = status

    with pytest.raises(DeliveryFailed, match=f"answered {status}"):
        await _ping_signalr(service.url)


async def test_signalr_that_cannot_be_reached_is_not_well() -> None:
    with pytest.raises(DeliveryFailed):
        await _ping_signalr(NOWHERE)


def _client(url: str) -> df.DurableOrchestrationClient:
    """As the host's binding makes it."""
    urls = {"id": "INSTANCE"}
    context = {"taskHubName": "hub", "creationUrls": {}, "managementUrls": urls, "rpcBaseUrl": f"{url}/runtime/"}
    return df.DurableOrchestrationClient(json.dumps(context))


async def test_a_durable_backend_that_lists_nothing_is_well(service: Service) -> None:
    await durable_client.ping(_client(service.url))

    (request,) = service.asked
    assert (request.method, request.path, dict(request.query)) == (
        "GET",
        "/runtime/instances/",
        {"instanceIdPrefix": "health-probe"},
    )


@pytest.mark.parametrize("status", [404, 500, 503])
async def test_a_durable_backend_that_answers_with_an_error_is_not_well(service: Service, status: int) -> None:
    service.status, service.body = status, '{"Message": "storage is away"}'

    with pytest.raises(Exception, match=str(status)):
        await durable_client.ping(_client(service.url))


async def test_blobs_are_well_where_our_container_can_be_read(storage_url: str, unique_name: str) -> None:
    store = AzureBlobStore(connection_string=storage_url, endpoint=None, container=f"c{unique_name[-20:].lower()}")
    try:
        await store.ping()
    finally:
        await store.aclose()


@pytest.mark.parametrize("connection", [f"AccountName=a;AccountKey=YQ==;BlobEndpoint={NOWHERE}/a;", "nonsense", None])
async def test_blobs_are_not_well_without_a_store(connection: str | None) -> None:
    store = AzureBlobStore(connection_string=connection, endpoint=None)
    with pytest.raises(Transient):
        await store.ping()
    await store.aclose()
