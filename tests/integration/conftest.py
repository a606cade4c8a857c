"""Fixtures: the stores on real servers, fresh connections for every test, rows shared by a module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from devhost.model.server import ModelOptions, start_server
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.adapters.redis.events import RedisEventLog
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.service import SessionService
from tests.integration.bench import Bench, MakeBench, bench_maker
from tests.integration.domain import (
    RecordingAudit,
    Stores,
    connect_redis,
    patient,
    session_erasure,
    session_lifecycle,
    session_service,
)


@pytest.fixture
async def stores(postgres_url: str) -> AsyncIterator[Stores]:
    """The three repositories over one pool."""
    pool = PostgresPool(postgres_url, size=8)
    yield Stores.over(pool)
    await pool.aclose()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_redis(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def event_log(redis: Redis, redis_url: str) -> AsyncIterator[RedisEventLog]:
    listening = connect_redis(redis_url, socket_timeout=None)
    log = RedisEventLog(redis, listening, patient(redis), length=10_000, ttl_seconds=3_600)
    yield log
    await log.aclose()
    await listening.aclose()


@pytest.fixture
def publisher(event_log: RedisEventLog, stores: Stores) -> SessionEventPublisher:
    return SessionEventPublisher(event_log, stores.sessions)


@pytest.fixture
async def model_url() -> AsyncIterator[str]:
    """Origin of a scripted model without pacing, in this test's loop."""
    runner, port = await start_server(
        ModelOptions(scripted=True, first_s=0, token_s=0, context_tokens=200_000), host="127.0.0.1", port=0
    )
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture
async def benches(stores: Stores, publisher: SessionEventPublisher) -> AsyncIterator[MakeBench]:
    async with bench_maker(stores, publisher) as make:
        yield make


@pytest.fixture
async def bench(benches: MakeBench, model_url: str) -> Bench:
    return await benches(model_url=model_url)


@pytest.fixture
def audit(stores: Stores) -> RecordingAudit:
    return stores.audit


@pytest.fixture
def rows(stores: Stores) -> PostgresLifecycle:
    return PostgresLifecycle(stores.pool)


@pytest.fixture
def lifecycle(stores: Stores, publisher: SessionEventPublisher) -> SessionLifecycle:
    return session_lifecycle(stores, publisher)


@pytest.fixture
def erasing(stores: Stores, publisher: SessionEventPublisher) -> SessionErasure:
    return session_erasure(stores, publisher)


@pytest.fixture
def service(stores: Stores, publisher: SessionEventPublisher) -> SessionService:
    return session_service(stores, publisher)
