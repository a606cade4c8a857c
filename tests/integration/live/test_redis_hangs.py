"""Redis that hangs, stalls single connections and comes back, behind a proxy that fails as networks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import pytest

from devtools.chaos.proxy import Fault, FaultyProxy
from shared.adapters.redis import followers as followers_module
from shared.adapters.redis.events import RedisEventLog
from shared.adapters.redis.guard import RedisGuard
from shared.errors import CacheUnavailable
from shared.ids import new_id
from shared.sessions.events import EventLogUnavailable, EventTarget
from shared.sessions.turns.waiting import TurnWaiter
from tests.integration.domain import OWNER, WAIT_S, Stores, connect_redis

pytestmark = pytest.mark.integration


@dataclass
class Behind:
    """A process whose Redis is reached through a proxy."""

    guard: RedisGuard
    log: RedisEventLog
    proxy: FaultyProxy

    async def until_away(self) -> None:
        self.guard.suspect()
        async with asyncio.timeout(WAIT_S):
            while not self.guard.is_away:  # noqa: ASYNC110  # the guard tells nobody
                await asyncio.sleep(0.01)


@pytest.fixture
async def behind(redis_url: str) -> AsyncIterator[Behind]:
    parts = urlsplit(redis_url)
    async with FaultyProxy(parts.hostname or "", parts.port or 6379) as proxy:
        login, at, _ = parts.netloc.rpartition("@")
        url = urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{proxy.port}"))
        clients = [connect_redis(url), connect_redis(url), connect_redis(url, socket_timeout=None)]
        guard = RedisGuard(clients[0], clients[1])
        log = RedisEventLog(clients[0], clients[2], guard, length=100, ttl_seconds=60)
        await log.ping()
        yield Behind(guard, log, proxy)
        await proxy.become(Fault.NONE)
        await guard.aclose()
        await log.aclose()
        for client in clients:
            await client.aclose()


def _target() -> EventTarget:
    return EventTarget(new_id(), 0, 1_000, may_seed=True)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.REFUSE])
async def test_nobody_waits_for_a_redis_that_is_away_and_all_use_it_when_it_is_back(
    behind: Behind, fault: Fault
) -> None:
    await behind.proxy.become(fault)
    waiting = [asyncio.create_task(behind.log.append(_target(), [b"x"])) for _ in range(20)]
    async with asyncio.timeout(WAIT_S):
        refusals = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(refusal) for refusal in refusals} == {EventLogUnavailable}
    await behind.until_away()
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1

    for _ in range(100):
        with pytest.raises(CacheUnavailable):
            await behind.guard.run(ask)
    assert asked == 0, "only the ping asks"

    await behind.proxy.become(Fault.NONE)
    async with asyncio.timeout(WAIT_S):
        await behind.guard.settled()
    assert (await behind.log.append(_target(), [b"x"])).first == 1


async def test_a_connection_that_stalls_is_replaced_and_others_that_lay_idle_too(behind: Behind) -> None:
    await asyncio.gather(*(behind.log.read(new_id(), 0, 1) for _ in range(5)))  # several connections
    await behind.proxy.become(Fault.HALF_OPEN)
    failed = 0
    async with asyncio.timeout(WAIT_S):
        while failed < 5:
            try:
                await behind.log.read(new_id(), 0, 1)
            except EventLogUnavailable:
                failed += 1
                await behind.guard.settled()
            else:
                break
    assert failed <= 2, "not one for each connection that is dead"


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HALF_OPEN])
async def test_a_follower_that_hears_nothing_is_told(
    behind: Behind, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers_module, "_HEARTBEAT_S", 0.2)
    async with aclosing(behind.log.follow(new_id())) as live:
        assert await anext(live) is None
        await asyncio.sleep(0.5)  # it is quiet, and answers pings
        await behind.proxy.become(fault)
        with pytest.raises(EventLogUnavailable):
            async with asyncio.timeout(WAIT_S):
                await anext(live)


async def test_a_follower_is_told_when_its_connection_breaks_and_the_next_one_hangs(
    behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers_module, "_HEARTBEAT_S", 0.2)
    monkeypatch.setattr(followers_module, "_SUBSCRIBE_S", 0.3)
    async with aclosing(behind.log.follow(new_id())) as live:
        assert await anext(live) is None
        await behind.proxy.become(Fault.RESET)
        await behind.proxy.become(Fault.HANG)
        with pytest.raises(EventLogUnavailable):
            async with asyncio.timeout(WAIT_S):
                await anext(live)


async def test_the_first_follower_of_a_process_is_told_too(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers_module, "_HEARTBEAT_S", 0.2)
    await behind.proxy.become(Fault.HANG)
    async with aclosing(behind.log.follow(new_id())) as live:
        with pytest.raises(EventLogUnavailable):
            async with asyncio.timeout(WAIT_S):
                await anext(live)


async def test_whoever_waits_for_a_turn_gets_it_although_nothing_is_heard(
    behind: Behind, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers_module, "_HEARTBEAT_S", 0.2)
    posted = await stores.turn()
    await behind.proxy.become(Fault.HANG)
    waiter = TurnWaiter(behind.log, stores.turns)
    waiting = asyncio.create_task(waiter.settled(posted.target, posted.turn.id, OWNER, seconds=WAIT_S))
    await asyncio.sleep(0.1)
    await stores.finish(posted.turn.id)
    assert (await waiting).status.is_terminal
