"""Tokens in the place of passwords: azure-identity against a token endpoint of ours, the real stores behind it.

The endpoint speaks the protocol of App Service's managed identity. What only Azure has (a database that reads tokens)
is stood in for by passwords that are the tokens the endpoint gave.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import jwt
import psycopg
import pytest
from aiohttp import web
from psycopg import sql
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from shared.adapters.azure.entra import POSTGRES_SCOPE, SIGNALR_SCOPE, TokenUnavailable, token_for
from shared.adapters.azure.signalr import RestSender
from shared.adapters.models.service import ModelService
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.redis.entra import EntraRedisCredentials
from shared.adapters.redis.events import RedisEventLog
from shared.errors import ErrorCode, Transient
from shared.sessions.events import EventTarget
from shared.sessions.live.realtime import DeliveryFailed
from shared.sessions.llm.conversation import UserSaid
from shared.sessions.llm.protocol import ModelEnd, ModelRequest, ModelText
from shared.sessions.llm.registry import ModelApi
from shared.settings import Settings, without_user
from tests.integration.platform.entra import SECRET, Identity, certificate, identity, serving

__all__ = ["identity"]

pytestmark = pytest.mark.integration


def _database_user(admin_url: str, name: str, password: str) -> None:
    with psycopg.connect(admin_url, autocommit=True) as connection:
        verb = (
            "ALTER" if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone() else "CREATE"
        )
        connection.execute(
            sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        )


def _as_user(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}"))


async def test_each_new_database_connection_signs_in_with_the_token_of_its_time(
    identity: Identity, postgres_url: str, postgres_server: dict[str, str]
) -> None:
    name = f"entra_{uuid.uuid4().hex[:8]}"
    identity.on_give = lambda token: _database_user(postgres_server["POSTGRES_ADMIN_URL"], name, token)
    pool = PostgresPool(
        _as_user(postgres_url, name), size=2, password=lambda: token_for(POSTGRES_SCOPE, identity.fresh)
    )
    try:
        async with pool.connection() as first, pool.connection() as second:
            for connection in (first, second):
                found = await (await connection.execute("SELECT current_user AS name")).fetchone()
                assert found == {"name": name}
        assert len(set(identity.given)) >= 2
        assert set(identity.asked) == {"https://ossrdbms-aad.database.windows.net"}
    finally:
        await pool.aclose()
        with psycopg.connect(postgres_server["POSTGRES_ADMIN_URL"], autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
async def users(identity: Identity, redis_url: str) -> AsyncIterator[Callable[[], str]]:
    """Each token is of another user, so that a connection tells which one it signed in with. Gives the last user."""
    numbers, prefix = iter(range(100)), uuid.uuid4().hex[:8]
    names: list[str] = []
    identity.life_s = 241  # renewed one second from now
    admin = Redis.from_url(redis_url)

    def give(token: str) -> None:
        oid = jwt.decode(token, options={"verify_signature": False})["oid"]
        names.append(oid)
        with BlockingRedis.from_url(redis_url) as client:
            client.execute_command("ACL", "SETUSER", oid, "on", f">{token}", "~*", "&*", "+@all")

    identity.user = lambda: f"{prefix}-{next(numbers)}"
    identity.on_give = give
    yield lambda: names[-1]
    for name in names:
        await admin.execute_command("ACL", "DELUSER", name)
    await admin.aclose()


def _client(redis_url: str, credentials: EntraRedisCredentials) -> Redis:
    return credentials.keep(Redis.from_url(without_user(redis_url), protocol=2, credential_provider=credentials))


async def test_a_live_redis_connection_signs_in_again_before_its_token_ends(
    identity: Identity, users: Callable[[], str], redis_url: str
) -> None:
    credentials = EntraRedisCredentials(identity.fresh)
    renewed = asyncio.Event()
    async with _client(redis_url, credentials) as client:
        credentials.on_next(_sets(renewed))
        before = (await client.client_id(), await client.acl_whoami())

        await asyncio.wait_for(renewed.wait(), 30)
        after = (await client.client_id(), await client.acl_whoami())
        await credentials.aclose()

    assert after[0] == before[0], "the same connection"
    assert before[1] != after[1] == users()


async def _listening_users(client: Redis) -> set[str]:
    """Who follows live events with a token; other tests of this server sign in without one."""
    return {line["user"] for line in await client.client_list(_type="pubsub")} - {"default"}


@pytest.mark.usefixtures("users")
async def test_followers_move_to_a_new_connection_and_miss_nothing(identity: Identity, redis_url: str) -> None:
    credentials = EntraRedisCredentials(identity.fresh)
    renewed = asyncio.Event()
    client, listening = _client(redis_url, credentials), _client(redis_url, credentials)
    log = RedisEventLog(client, listening, length=1_000, ttl_seconds=60)
    session_id = uuid.uuid4().hex
    target = EventTarget(session_id, seq_floor=0, seq_ceiling=1_000, may_seed=True)
    follower = log.follow(session_id)
    try:
        assert await anext(follower) is None
        before = await _listening_users(client)
        credentials.on_next(lambda _token: log.renew())
        credentials.on_next(_sets(renewed))
        await asyncio.wait_for(renewed.wait(), 30)

        # The new subscription stands: the follower is sent to the stream, then hears live events again.
        assert await asyncio.wait_for(anext(follower), 10) is None
        await log.append(target, [b"one", b"two"])
        assert await asyncio.wait_for(anext(follower), 10) == [(1, b"one"), (2, b"two")]
        after = await _listening_users(client)
        assert len(before) == len(after) == 1
        assert before != after
    finally:
        await credentials.aclose()
        await follower.aclose()
        await log.aclose()
        await client.aclose()
        await listening.aclose()


def _sets(event: asyncio.Event) -> Callable[[Any], Any]:
    async def told(_token: Any) -> None:
        event.set()

    return told


async def test_signalr_gets_a_token_for_its_own_audience(identity: Identity) -> None:
    seen: list[tuple[str, str, dict[str, Any]]] = []

    async def data_plane(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers["Authorization"], await request.json()))
        return web.Response(status=202)

    message = json.dumps({"target": "event", "groupName": "session:a", "arguments": [{"seq": 1}]}).encode()
    async with serving(data_plane) as url:
        sender = RestSender(url, lambda _url: token_for(SIGNALR_SCOPE, identity.made))
        await sender.send([message, message])
        await sender.aclose()

    assert identity.asked == ["https://signalr.azure.com"], "one token serves many messages"
    body = {"target": "event", "arguments": [{"seq": 1}]}
    path = "/api/v1/hubs/parley/groups/session:a"
    assert seen == [(path, f"Bearer {identity.given[0]}", body)] * 2


def _azure(url: str) -> Settings:
    return Settings.model_validate(
        {
            "AZURE_OPENAI_ENDPOINT": url,
            "AZURE_OPENAI_DEPLOYMENT": "chat",
            "POSTGRES_URL": "postgresql://u@127.0.0.1/x",
            "REDIS_URL": "redis://127.0.0.1",
            "PUBLIC_BASE_URL": "http://127.0.0.1",
            "APPROVAL_LINK_SECRET": "x" * 32,
            "AUTH_MODE": "dev",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        }
    )


_REQUEST = ModelRequest(model="chat", api=ModelApi.RESPONSES, instructions="Be brief.", conversation=[UserSaid("hi")])


async def test_the_model_gets_a_token_and_no_key(identity: Identity) -> None:
    seen: list[tuple[str, str, str | None]] = []

    async def model(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers["Authorization"], request.headers.get("api-key")))
        said = {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}
        last = {"type": "response.completed", "response": {"status": "completed", "output": [said]}}
        return web.Response(text=f"data: {json.dumps(last)}\n\n", content_type="text/event-stream")

    async with serving(model) as url:
        service = ModelService(_azure(url), lambda scope: token_for(scope, identity.made))
        for _ in range(2):
            events = [event async for event in service.stream(_REQUEST)]
            assert [type(event) for event in events] == [ModelText, ModelEnd]
        await service.aclose()

    assert identity.asked == ["https://ai.azure.com"], "one token serves many requests"
    assert seen == [("/openai/v1/responses", f"Bearer {identity.given[0]}", None)] * 2


async def test_no_token_is_a_failure_of_that_service_that_shows_nothing(identity: Identity) -> None:
    identity.refuses = True

    with pytest.raises(TokenUnavailable) as caught:
        await token_for(POSTGRES_SCOPE, identity.made)
    assert SECRET not in str(caught.value)
    sender = RestSender("http://127.0.0.1:1", lambda _url: token_for(SIGNALR_SCOPE, identity.made))
    with pytest.raises(DeliveryFailed):
        await sender.send([b'{"target":"event","groupName":"g","arguments":[]}'])
    service = ModelService(_azure("http://127.0.0.1:1"), lambda scope: token_for(scope, identity.made))
    with pytest.raises(Transient) as failed:
        [event async for event in service.stream(_REQUEST)]
    assert failed.value.code is ErrorCode.LLM_ERROR
    assert "sign in" in failed.value.safe_message
    await service.aclose()


_STORAGE = """
import asyncio, sys
from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.azure.audit_tables import TablesAuditLines

async def main():
    trail = TablesAuditLines(connection_string=None, endpoint=sys.argv[1])
    await trail.ping()
    await trail.aclose()
    blobs = AzureBlobStore(connection_string=None, endpoint=sys.argv[1])
    assert await blobs.exists("a")
    await blobs.aclose()

asyncio.run(main())
"""


async def test_the_audit_table_and_the_files_get_tokens_over_tls(identity: Identity, tmp_path: Path) -> None:
    """In a process of its own: which certificates are trusted is decided when the transport is imported."""
    seen: list[str] = []

    async def storage(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        if request.method == "POST":
            return web.json_response({"TableName": "parleyaudit"}, status=201)
        if request.method == "PUT":
            return web.Response(status=201)
        return web.json_response({"value": []})

    trusted, context = certificate(tmp_path)
    async with serving(storage, tls=context) as url:
        environment = os.environ | {"SSL_CERT_FILE": str(trusted)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _STORAGE, url, env=environment, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, errors.decode()
    assert set(identity.asked) == {"https://storage.azure.com"}
    assert set(seen) == {f"Bearer {token}" for token in identity.given}
    assert len(seen) == 4, "the table is made, then read; so is the container"
