"""Fixtures that the end-to-end and contract tests share: one host per test worker, and one user's client.

Most tests talk to the same host, which starts once; tests that kill a host, stop a server under it, or need other
settings start one of their own from `environment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from shared.adapters.redis.events import RedisEventLog
from tests.contract.wire import WireContract
from tests.e2e.support.client import Api
from tests.e2e.support.processes import (
    WEBHOOK_SECRET,
    AppHost,
    Sink,
    app_environment,
    running_host,
    running_sink,
    scripted_model,
)
from tests.support.servers import (
    _DATABASES,
    _leased_number,
    _make_template,
    _with_path,
    fresh_database,
    shared_server,
)

WEBHOOK_PATH = "/webhook"


@dataclass(frozen=True, slots=True)
class Stores:
    """URLs of stores of one's own."""

    postgres_url: str
    redis_url: str
    storage_url: str


@contextlib.contextmanager
def own_stores() -> Iterator[Stores]:
    """A migrated database, an empty logical Redis database, and the shared storage account."""
    with (
        shared_server("postgres") as postgres,
        shared_server("valkey") as valkey,
        shared_server("azurite") as azurite,
        _leased_number(_DATABASES) as number,
        fresh_database(postgres["POSTGRES_URL"], template=_make_template(postgres["POSTGRES_URL"])) as database,
    ):
        redis_url = _with_path(valkey["REDIS_URL"], str(number))
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _found(redis_url)).result()
        yield Stores(database, redis_url, azurite["AzureWebJobsStorage"])


async def _found(redis_url: str) -> None:
    """Begin the event log, as the first look of a health probe does: a session that is older than the log has a hole
    at its beginning."""
    async with AsyncRedis.from_url(redis_url) as client:
        log = RedisEventLog(client, client, length=1, ttl_seconds=1)
        await log.ping()
        await log.aclose()


@pytest.fixture(scope="session")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scripted_model(tmp_path_factory.mktemp("model")) as url:
        yield url


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    with running_sink() as running:
        yield running


@pytest.fixture(scope="session")
def parley(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    """The host that all ordinary tests share. It sends webhooks to the sink, and pages of this machine may read its
    answers, as those of `./dev up`."""
    with _webhook_host(tmp_path_factory.mktemp("parley"), model_url, sink, DEVHOST_CORS_LOCAL="true") as host:
        yield host


HARSH = {
    # Five minutes of the real engine in one. Such a header costs a test its time limit; it has tests of its own.
    "DEVHOST_HARSH_SECOND": "0.2",
    "DEVHOST_HARSH": "hung_header=0",
    "TURN_STALLED_SECONDS": "3",
}


@pytest.fixture(scope="session")
def harsh_parley(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    """The same as `parley` with a harsh engine; the sweep runs every second, as if fifteen had passed."""
    with _webhook_host(tmp_path_factory.mktemp("harsh"), model_url, sink, **HARSH) as host, swept(host):
        yield host


@contextlib.contextmanager
def swept(host: AppHost) -> Iterator[None]:
    """Run the sweep every second, as if fifteen had passed for it since the last time."""
    ended = threading.Event()

    def sweep() -> None:
        with (
            httpx.Client(base_url=host.base_url, headers=host.admin_headers, trust_env=False) as client,
            psycopg.connect(host.environment["POSTGRES_URL"], autocommit=True) as database,
        ):
            while not ended.wait(1.0):
                database.execute(
                    "UPDATE turns SET dispatched_at = dispatched_at - interval '15 seconds'"
                    " WHERE ended_at IS NULL AND dispatched_at IS NOT NULL"
                )
                with contextlib.suppress(httpx.HTTPError):  # a host that stops
                    client.post("/admin/functions/sweep", json={"input": ""})

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def _webhook_host(folder: Path, model_url: str, sink: Sink, **more: str) -> Iterator[AppHost]:
    with own_stores() as stores:
        environment = app_environment(
            postgres_url=stores.postgres_url,
            redis_url=stores.redis_url,
            storage_url=stores.storage_url,
            model_url=model_url,
            sink_port=sink.port,
        )
        webhook = {"APPROVAL_WEBHOOK_URL": sink.url(WEBHOOK_PATH), "APPROVAL_WEBHOOK_SECRET": WEBHOOK_SECRET}
        # So that the purge, when a test asks for it, takes what has just ended; sessions take a month, or ten years.
        kept = {"TURN_HISTORY_DAYS": "0", "SESSION_RETENTION_DAYS": "30", "SESSION_IDLE_DAYS": "3650"}
        with running_host(folder, environment | webhook | kept | more) as host:
            yield host


@pytest.fixture(scope="session")
def contract(parley: AppHost) -> WireContract:
    """The judge, with the document that the running app serves."""
    return WireContract(httpx.get(f"{parley.base_url}/api/v1/openapi.json", trust_env=False).json())


@pytest.fixture
async def api(parley: AppHost, contract: WireContract) -> AsyncIterator[Api]:
    """A session owner who may approve."""
    client = Api(parley.base_url, contract)
    yield client
    await client.aclose()


def own_environment(stores: Stores, model_url: str, sink: Sink) -> dict[str, str]:
    """Settings of a host on stores of its own."""
    return app_environment(
        postgres_url=stores.postgres_url,
        redis_url=stores.redis_url,
        storage_url=stores.storage_url,
        model_url=model_url,
        sink_port=sink.port,
    )


@pytest.fixture(scope="module")
def own_host(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    """A host that only the tests of one module use, and may kill and start again."""
    folder: Path = tmp_path_factory.mktemp("own")
    with own_stores() as stores, running_host(folder, own_environment(stores, model_url, sink)) as host:
        yield host
