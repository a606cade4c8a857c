"""All 24 error codes, each provoked through HTTP by what really causes it.

A code reaches a caller in one of three places: as the answer to a request, as the error of a turn that failed, or with
a tool call that did not run to its end (which the model is told, and which does not fail the turn). The host here has
stores of its own, since two codes need a store that is away, and refuses requests that it cannot count.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from psycopg import sql

from devhost.servers import Valkey
from shared.errors import HTTP_STATUS, ErrorCode
from tests.e2e.support.client import Api, Json, call, eventually, open_api, post_call, script
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import Stores, own_environment, own_stores
from tests.support.servers import shared_server

pytestmark = pytest.mark.timeout(120)

BURST = 60
DAILY_TOKENS = 8_000
COME_BACK = {ErrorCode.RATE_LIMITED, ErrorCode.DATABASE_ERROR, ErrorCode.CACHE_ERROR}


@dataclass(frozen=True)
class Rig:
    """A host and what it stands on. api: of a user of this test alone."""

    api: Api
    host: AppHost
    sink: Sink
    stores: Stores
    valkey: Valkey
    slow_turn: tuple[str, str]
    """(session, turn) of a turn whose model has said nothing since the module began."""

    def path(self, session_id: str, rest: str = "") -> str:
        return f"/api/v1/sessions/{session_id}{rest}"

    async def post(self, session_id: str, content: str, *, key: str | None = None, **body: object) -> httpx.Response:
        """Post a message and wait for what becomes of it."""
        headers = {"prefer": "wait=40"} | ({} if key is None else {"idempotency-key": key})
        message = {"content": content, **body}
        return await self.api.post(self.path(session_id, "/messages"), message, headers=headers)


@dataclass(frozen=True)
class Told:
    """A code that is no answer of its own: where it stands, and what stands beside it."""

    code: str
    place: str
    detail: str


type Provoke = Callable[[Rig], Awaitable[httpx.Response | Told]]

PROVOKED: dict[ErrorCode, Provoke] = {}


def provokes(code: ErrorCode) -> Callable[[Provoke], Provoke]:
    def declare(provoke: Provoke) -> Provoke:
        PROVOKED[code] = provoke
        return provoke

    return declare


def test_every_code_is_provoked() -> None:
    assert set(PROVOKED) == set(ErrorCode)


# Last the one that has been under way since the module began.
@pytest.mark.parametrize("code", sorted(ErrorCode, key=lambda code: code is ErrorCode.LLM_TIMEOUT))
async def test_code_reaches_its_caller(code: ErrorCode, rig: Rig) -> None:
    seen = await PROVOKED[code](rig)
    if isinstance(seen, Told):
        assert (seen.code, bool(seen.detail)) == (code, True)
        return
    if code is ErrorCode.APPROVAL_REQUIRED:
        # No refusal: the message was taken. Its answer is that of any posted message, with this code beside it.
        told = (seen.status_code, seen.headers["content-type"], seen.json()["code"], seen.json()["turn"]["status"])
        assert told == (202, "application/json", code, "waiting_approval")
        return
    # That it is a whole problem document, declared for its route, was checked when it came.
    assert (seen.status_code, seen.headers["content-type"]) == (HTTP_STATUS[code], "application/problem+json")
    body = seen.json()
    assert (body["code"], body["status"]) == (code, HTTP_STATUS[code])
    assert body["detail"]
    assert body["correlation_id"] == seen.headers["x-correlation-id"]
    assert ("retry-after" in seen.headers) == (code in COME_BACK)


# Sessions and messages. ------------------------------------------------------------------------


@provokes(ErrorCode.SESSION_NOT_FOUND)
async def _no_session(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session()
    return await rig.api.as_user("a-stranger").get(rig.path(session_id))


@provokes(ErrorCode.SESSION_ALREADY_EXISTS)
async def _same_id(rig: Rig) -> httpx.Response:
    return await rig.api.post("/api/v1/sessions", {"id": await rig.api.session()})


@provokes(ErrorCode.INVALID_STATE)
async def _ended(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session()
    await rig.api.post(rig.path(session_id, "/end"))
    return await rig.api.post(rig.path(session_id, "/resume"))


@provokes(ErrorCode.SESSION_EXPIRED)
async def _expired(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session(expires_after_seconds=1)

    async def refused() -> httpx.Response | None:
        response = await rig.api.request("PATCH", rig.path(session_id), json={"name": "late"})
        return None if response.status_code == 200 else response

    return await eventually(refused, "the session to expire")


@provokes(ErrorCode.MESSAGE_NOT_FOUND)
async def _no_message(rig: Rig) -> httpx.Response:
    return await rig.api.get(rig.path(await rig.api.session(), "/messages/none"))


@provokes(ErrorCode.INVALID_MESSAGE)
async def _blank(rig: Rig) -> httpx.Response:
    return await rig.post(await rig.api.session(), "  \n")


@provokes(ErrorCode.MESSAGE_TOO_LONG)
async def _too_long(rig: Rig) -> httpx.Response:
    return await rig.post(await rig.api.session(max_context_tokens=256), "word " * 400)


@provokes(ErrorCode.CONFLICT)
async def _key_reused(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session()
    await rig.post(session_id, script(content="one"), key="the-key")
    return await rig.post(session_id, script(content="two"), key="the-key")


@provokes(ErrorCode.VALIDATION_ERROR)
async def _unknown_field(rig: Rig) -> httpx.Response:
    response = await rig.api.post("/api/v1/sessions", {"colour": "red"})
    assert response.status_code == 422, response.text
    assert [error["field"] for error in response.json()["errors"]] == ["colour"]
    return response


@provokes(ErrorCode.UNAUTHENTICATED)
async def _no_name(rig: Rig) -> httpx.Response:
    return await rig.api.get("/api/v1/sessions", headers={"x-dev-user": "no name;approver"})


# Tools and approvals. --------------------------------------------------------------------------


async def _call_ended(rig: Rig, wanted: Json, kind: str = "tool_call.failed", **config: object) -> Told:
    """A turn that makes this call and goes on without its result; the code that the call ended with."""
    session_id = await rig.api.unattended_session(defaults={"approval_mode": "auto", **config})
    answer = await rig.post(session_id, script(tool_calls=[[wanted]], content="so be it"))
    assert answer.json()["turn"]["status"] == "completed", "a call that fails does not fail its turn"
    return await _told_of_call(rig, session_id, kind)


async def _told_of_call(rig: Rig, session_id: str, kind: str) -> Told:
    events = await rig.api.events(session_id)
    [code] = [event["data"]["code"] for event in events if event["type"] == kind and "code" in event["data"]]
    [read] = await rig.api.messages(session_id, role="tool")
    return Told(code, kind, read["content"])


@provokes(ErrorCode.TOOL_NOT_FOUND)
async def _no_approval(rig: Rig) -> httpx.Response:
    told = await _call_ended(rig, call("no_such_tool"))
    assert told.code == ErrorCode.TOOL_NOT_FOUND, "the model hears the same"
    return await rig.api.get("/api/v1/approvals/none")


@provokes(ErrorCode.TOOL_EXECUTION_FAILED)
async def _host_not_allowed(rig: Rig) -> Told:
    return await _call_ended(rig, post_call("http://127.0.0.1:1/"))


@provokes(ErrorCode.TOOL_TIMEOUT)
async def _tool_hangs(rig: Rig) -> Told:
    rig.sink.released.clear()
    return await _call_ended(rig, post_call(rig.sink.url("/hold/for-ever")), tool_timeout_seconds=1)


async def _waiting(rig: Rig, **config: object) -> tuple[str, str]:
    """(session, approval) of a call that waits for a person."""
    session_id = await rig.api.session(**config)
    wanted = post_call(rig.sink.url("/approved"))
    answer = await rig.post(session_id, script(tool_calls=[[wanted]], content="so be it"))
    assert answer.status_code == 202, answer.text
    return session_id, (await rig.api.approval(session_id))["id"]


@provokes(ErrorCode.INVALID_TOOL_ARGS)
async def _wrong_changes(rig: Rig) -> httpx.Response:
    told = await _call_ended(rig, call("calculate", expression=7))
    assert told.code == ErrorCode.INVALID_TOOL_ARGS, "the model hears the same"
    _, approval_id = await _waiting(rig)
    return await rig.api.decide(approval_id, "approve", arguments={"method": 7})


@provokes(ErrorCode.APPROVAL_REQUIRED)
async def _waits(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session()
    wanted = post_call(rig.sink.url("/never"))
    answer = await rig.post(session_id, script(tool_calls=[[wanted]]))
    assert answer.headers["location"].startswith(rig.path(session_id, "/turns/"))
    return answer


@provokes(ErrorCode.APPROVAL_TIMEOUT)
async def _decided_late(rig: Rig) -> httpx.Response:
    session_id, approval_id = await _waiting(rig, approval_timeout_seconds=1)

    async def over() -> list[Json]:
        return await rig.api.approvals(session_id, "timed_out")

    await eventually(over, "the time to decide to be over")
    late = await rig.api.decide(approval_id, "approve")

    async def told() -> bool:
        events = await rig.api.events(session_id)
        return any(event["data"].get("code") == ErrorCode.APPROVAL_TIMEOUT for event in events)

    assert await eventually(told, "the model and the clients to hear the same")
    return late


@provokes(ErrorCode.APPROVAL_REJECTED)
async def _rejected(rig: Rig) -> Told:
    session_id, approval_id = await _waiting(rig)
    assert (await rig.api.decide(approval_id, "reject", comment="not today")).status_code == 200

    async def ended() -> Json | None:
        [turn] = (await rig.api.get(rig.path(session_id, "/turns"))).json()["items"]
        return turn if turn["status"] == "completed" else None

    turn = await eventually(ended, "the turn to go on")
    [rejected] = turn["tool_calls"]
    assert rejected["status"] == "rejected"
    [read] = await rig.api.messages(session_id, role="tool")
    assert "not today" in read["content"]
    return Told(rejected["result"]["code"], "the call's result", rejected["result"]["error"])


# The model and what it may use. ----------------------------------------------------------------


async def _turn_failed(rig: Rig, turn: Json) -> Told:
    assert turn["status"] == "failed"
    events = await rig.api.events(turn["session_id"])
    assert [event["data"] for event in events if event["type"] == "error.occurred"] == [turn["error"]]
    return Told(turn["error"]["code"], "turn.error", turn["error"]["detail"])


@provokes(ErrorCode.LLM_ERROR)
async def _model_refuses(rig: Rig) -> Told:
    session_id = await rig.api.session()
    answer = await rig.post(session_id, script(key=session_id, fail=[{"status": 400}] * 3))
    assert answer.status_code == 200, "a turn that failed is the answer to who waited for it"
    return await _turn_failed(rig, answer.json()["turn"])


@provokes(ErrorCode.LLM_TIMEOUT)
async def _model_is_silent(rig: Rig) -> Told:
    turn = await _slow_turn_has_ended(rig)
    owner = rig.api.as_user("patient")
    return await _turn_failed(Rig(owner, rig.host, rig.sink, rig.stores, rig.valkey, rig.slow_turn), turn)


async def _slow_turn_has_ended(rig: Rig) -> Json:
    owner = rig.api.as_user("patient")
    session_id, turn_id = rig.slow_turn
    await owner.turn_stream(session_id, turn_id)  # one request, where asking until it has ended would be too many
    return await owner.until(session_id, turn_id)


@provokes(ErrorCode.TOKEN_LIMIT)
async def _budget_used_up(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session(max_session_tokens=1)
    first = await rig.post(session_id, script(tokens=3))
    assert first.json()["turn"]["status"] == "completed"
    return await rig.post(session_id, script(tokens=3))


@provokes(ErrorCode.RATE_LIMITED)
async def _too_many_requests(rig: Rig) -> httpx.Response:
    answers = await asyncio.gather(*(rig.api.get("/api/v1/tools") for _ in range(3 * BURST)))
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["ratelimit"].startswith('"user";r=0;t=')
    await asyncio.sleep(int(refused.headers["retry-after"]))  # as told
    assert (await rig.api.get("/api/v1/tools")).status_code == 200
    return refused


async def test_a_user_whose_day_is_used_up_is_told_to_come_back_after_midnight(rig: Rig) -> None:
    session_id = await rig.api.session()
    answers = [await rig.post(session_id, script(tokens=DAILY_TOKENS))]
    while answers[-1].status_code == 200 and len(answers) < 6:
        answers.append(await rig.post(session_id, script(tokens=DAILY_TOKENS)))
    refused = answers[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    # Of one user; and only what costs tokens.
    assert (await rig.api.get(rig.path(session_id))).status_code == 200
    other = rig.api.as_user("somebody-else")
    assert (await other.session()) != session_id


# Our own side. ---------------------------------------------------------------------------------


@provokes(ErrorCode.INTERNAL_ERROR)
async def _missing_table(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session()
    async with await psycopg.AsyncConnection.connect(rig.stores.postgres_url, autocommit=True) as connection:
        await connection.execute("ALTER TABLE bookmarks RENAME TO elsewhere")
        try:
            response = await rig.api.get(rig.path(session_id, "/bookmarks"))
        finally:
            await connection.execute("ALTER TABLE elsewhere RENAME TO bookmarks")
    assert "bookmarks" not in response.text, "what is wrong is for the log"
    assert rig.host.logs(response.headers["x-correlation-id"])
    return response


@provokes(ErrorCode.DATABASE_ERROR)
async def _database_away(rig: Rig) -> httpx.Response:
    session_id = await rig.api.session()
    async with _no_database(rig.stores.postgres_url):
        response = await rig.api.get(rig.path(session_id))
    await _usable_again(rig)
    return response


@asynccontextmanager
async def _no_database(url: str) -> AsyncIterator[None]:
    """Cut off everybody from one database of a server that others use too."""
    name = urlsplit(url).path.lstrip("/")
    with shared_server("postgres") as server:
        async with await psycopg.AsyncConnection.connect(server["POSTGRES_URL"], autocommit=True) as connection:
            allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            await connection.execute(allow.format(sql.Identifier(name), sql.Literal(False)))
            try:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
                )
                yield
            finally:
                await connection.execute(allow.format(sql.Identifier(name), sql.Literal(True)))


@provokes(ErrorCode.CACHE_ERROR)
async def _cache_away(rig: Rig) -> httpx.Response:
    await _slow_turn_has_ended(rig)  # or its events would be lost
    pid = rig.valkey.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        response = await rig.api.as_user("uncounted").get("/api/v1/tools")
        alive = await rig.api.get("/api/v1/health/live")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert alive.status_code == 200, "what needs no caller is not counted"
    await _usable_again(rig)
    return response


async def _usable_again(rig: Rig) -> None:
    """Until a request that needs both stores is answered."""
    anyone = rig.api.as_user("anyone")

    async def answered() -> bool:
        return (await anyone.get("/api/v1/sessions")).status_code == 200

    await eventually(answered, "the stores to be back")


# The host. -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[Rig]:
    """The host, and the turn that takes longest: its model is silent through five tries, while other tests run."""
    folder: Path = tmp_path_factory.mktemp("codes")
    with asyncio.Runner() as runner, own_stores() as shared:
        valkey = Valkey(folder / "valkey", fast=True)
        runner.run(valkey.__aenter__())
        stores = Stores(shared.postgres_url, valkey.url, shared.storage_url)
        environment = own_environment(stores, model_url, sink) | {
            "LLM_TIMEOUT_SECONDS": "0.5",
            "RATE_LIMIT_PER_MINUTE": "1200",
            "RATE_LIMIT_BURST": str(BURST),
            "RATE_LIMIT_FAIL": "closed",
            "USER_DAILY_TOKENS": str(DAILY_TOKENS),
        }
        try:
            with running_host(folder, environment) as host:
                slow_turn = runner.run(_begin_slow_turn(host))
                api = runner.run(open_api(host))
                yield Rig(api, host, sink, stores, valkey, slow_turn)
        finally:
            runner.run(valkey.__aexit__(None, None, None))


async def _begin_slow_turn(host: AppHost) -> tuple[str, str]:
    api = await open_api(host, "patient")
    session_id = await api.session()
    turn_id = await api.say(session_id, script(key=session_id, tokens=9, fail=[{"hang_after": 2}] * 20))
    await api.aclose()
    return session_id, turn_id


@pytest.fixture
async def rig(base: Rig, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """With a user of this test alone: no other's requests or tokens count against it."""
    user = "".join(letter for letter in request.node.name if letter.isalnum())[-40:]
    api = Api(base.host.base_url, base.api._contract, f"{user};approver")
    yield Rig(api, base.host, base.sink, base.stores, base.valkey, base.slow_turn)
    await api.aclose()
