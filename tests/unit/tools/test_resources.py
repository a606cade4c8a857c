"""Clients made once per process: under concurrency, after failures, and closed when the loop ends in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from parley.tools import Setup, ToolContext, ToolFailed, ToolRefused, per_process, tool
from shared.sessions.tools.base import validate_arguments
from shared.sessions.tools.running.runner import run_tool
from shared.sessions.tools.running.secrets import SettingSecrets
from shared.sessions.tools.services import ToolServices

pytestmark = pytest.mark.timeout(30)

TOKEN = "tok-1234-5678"


@dataclass
class Client:
    token: str = ""
    closed: bool = False


@dataclass
class Made:
    """What a factory has made, and how often it shall fail first."""

    failures: list[BaseException] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    tries: int = 0

    def one(self, token: str = "") -> Client:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        self.clients.append(Client(token))
        return self.clients[-1]


@pytest.fixture
def made() -> Made:
    return Made()


def as_async(made: Made, gate: asyncio.Event | None = None) -> Any:
    @per_process
    async def crm() -> AsyncIterator[Client]:
        if gate is not None:
            await gate.wait()
        client = made.one()
        yield client
        await asyncio.sleep(0)
        client.closed = True

    return crm


def as_sync(made: Made, gate: threading.Event | None = None) -> Any:
    @per_process
    def crm() -> Iterator[Client]:
        if gate is not None:
            gate.wait()
        client = made.one()
        yield client
        client.closed = True

    return crm


async def test_calls_at_once_share_one_async_client(made: Made, call: ToolContext) -> None:
    gate = asyncio.Event()
    crm = as_async(made, gate)
    asking = [asyncio.create_task(crm(call)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()  # a call that ends does not end it for the others
    gate.set()

    found = await asyncio.gather(*asking[1:])

    assert found == [made.clients[0]] * 19
    assert (await crm(call), made.tries) == (made.clients[0], 1)


def test_threads_at_once_share_one_sync_client(made: Made, call: ToolContext) -> None:
    gate = threading.Event()
    crm = as_sync(made, gate)
    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(crm, call) for _ in range(8)]
        gate.set()
        found = [asked.result() for asked in asking]

    assert all(client is made.clients[0] for client in found)
    assert made.tries == 1


@pytest.mark.parametrize(
    "error", [OSError("refused"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), ToolFailed("no")]
)
async def test_a_factory_that_fails_is_tried_again_by_the_next_call(
    made: Made, call: ToolContext, error: BaseException
) -> None:
    made.failures = [error, error]
    sync, asynchronous = as_sync(made), as_async(made)

    @tool(risks=())
    async def uses() -> str:
        """Use."""
        return str(await asynchronous(call))

    @tool(risks=())
    def uses_sync() -> str:
        """Use."""
        return str(sync(call))

    for which in (uses, uses_sync):
        with pytest.raises(ToolFailed):
            await run_tool(which, validate_arguments(which, {}), call, timeout_s=20)
    for which in (uses, uses_sync):
        assert "Client" in (await run_tool(which, validate_arguments(which, {}), call, timeout_s=20)).content
    assert made.tries == 4


async def test_those_who_waited_for_a_factory_that_failed_are_told(made: Made, call: ToolContext) -> None:
    gate = asyncio.Event()
    made.failures = [OSError("refused")]
    crm = as_async(made, gate)
    asking = [asyncio.create_task(crm(call)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()

    found = await asyncio.gather(*asking, return_exceptions=True)

    assert [type(each) for each in found] == [OSError] * 3
    assert await crm(call) is made.clients[0]


@pytest.mark.parametrize("make", [as_async, as_sync], ids=["async", "sync"])
def test_an_orderly_stop_closes_it(make: Callable[..., Any], made: Made) -> None:
    crm = make(made)

    @tool(risks=())
    async def uses(call: ToolContext) -> str:
        """Use."""
        return str(await crm(call))

    @tool(risks=())
    def uses_sync(call: ToolContext) -> str:
        """Use."""
        return str(crm(call))

    which = uses if make is as_async else uses_sync

    async def serve() -> None:
        call = ToolContext("call-1", "session-1", "turn-1", "alice", datetime.now(UTC))
        await run_tool(which, validate_arguments(which, {}), call, timeout_s=20)
        await run_tool(which, validate_arguments(which, {}), call, timeout_s=20)
        assert [client.closed for client in made.clients] == [False]

    asyncio.run(serve())
    assert [client.closed for client in made.clients] == [True]

    asyncio.run(serve_again(which))  # another process's loop makes its own
    assert [client.closed for client in made.clients] == [True, True]


async def serve_again(which: Any) -> None:
    call = ToolContext("call-2", "session-1", "turn-1", "alice", datetime.now(UTC))
    await run_tool(which, validate_arguments(which, {}), call, timeout_s=20)


async def test_it_reads_the_secrets_that_it_declared(made: Made, call: ToolContext) -> None:
    @per_process(secrets=["CRM_TOKEN"])
    async def crm(setup: Setup) -> AsyncIterator[Client]:
        with pytest.raises(ToolRefused, match="did not declare the secret OTHER"):
            setup.secret("OTHER")
        yield made.one(setup.secret("CRM_TOKEN"))

    with pytest.raises(ToolFailed, match="secrets for tools"):
        await crm(call)
    secrets = SettingSecrets({"TOOL_SECRET_CRM_TOKEN": TOKEN})
    assert (await crm(replace(call, services=ToolServices(secrets=secrets)))).token == TOKEN


async def test_one_that_yields_nothing_says_so(call: ToolContext) -> None:
    @per_process
    async def crm() -> AsyncIterator[Client]:
        if call.cancelled:
            yield Client()

    @per_process
    def db() -> Iterator[Client]:
        if call.cancelled:
            yield Client()

    with pytest.raises(RuntimeError, match="'crm' yields nothing"):
        await crm(call)
    with pytest.raises(RuntimeError, match="'db' yields nothing"):
        db(call)


def as_client() -> Client:
    return Client()


def test_what_is_no_generator_is_refused() -> None:
    with pytest.raises(TypeError, match="must yield what it makes"):
        per_process(as_client)  # type: ignore[call-overload]  # the point of the test
    with pytest.raises(TypeError, match="takes nothing, or a Setup"):
        per_process(as_sync)  # type: ignore[call-overload]  # the point of the test
    with pytest.raises(TypeError, match="'crm' names the secret 'x'"):

        @per_process(secrets="x")
        def crm() -> Iterator[Client]:
            yield Client()
