"""Token buckets in a real Redis: shared, atomic, refilling, and no burden when the server is away."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from devhost.servers import Valkey
from shared.adapters.azure.entra import TokenUnavailable
from shared.adapters.redis.buckets import RedisBuckets
from shared.adapters.redis.guard import RedisGuard
from shared.errors import CacheUnavailable, ErrorCode, Transient
from shared.ids import new_id
from shared.sessions.limits.requests import Grant, RatePolicy, RequestLimiter
from tests.integration.domain import WAIT_S, connect_redis, patient, until

pytestmark = pytest.mark.integration

SLOW = RatePolicy(per_minute=1, burst=30)
"""Refills too slowly to matter while a test runs."""


def _limiter(redis: Redis, policy: RatePolicy) -> RequestLimiter:
    return RequestLimiter(RedisBuckets(redis, patient(redis)), policy, fail_open=False)


async def test_instances_together_admit_what_the_bucket_holds(redis: Redis) -> None:
    user = new_id()
    limiters = [_limiter(redis, SLOW) for _ in range(3)]

    answers = await asyncio.gather(*(limiters[number % 3].admit(user) for number in range(90)))

    # One token may be held ahead by each of the others (a twentieth of thirty).
    assert 28 <= sum(answer.allowed for answer in answers) <= 30
    refused = next(answer for answer in answers if not answer.allowed)
    assert 0 < refused.retry_after_s <= 60


async def test_a_bucket_refills_with_the_servers_clock(redis: Redis) -> None:
    user, policy = new_id(), RatePolicy(per_minute=6_000, burst=2)
    buckets = RedisBuckets(redis, patient(redis))
    first = await buckets.take(user, policy, wanted=5, given_back=0)

    async def refilled() -> int:
        granted = 0
        while granted == 0:
            granted = (await buckets.take(user, policy, wanted=5, given_back=0)).granted
        return granted

    assert first.granted == 2
    async with asyncio.timeout(20):
        assert await refilled() in {1, 2}


async def test_what_is_given_back_never_overfills_and_a_full_bucket_is_forgotten(redis: Redis) -> None:
    user = new_id()
    buckets = RedisBuckets(redis, patient(redis))

    grant = await buckets.take(user, SLOW, wanted=1, given_back=500)

    assert (grant.granted, grant.left) == (1, 29)
    # One token is missing, which a minute brings back.
    assert 55 < await redis.ttl(f"parley:rate:{user}") <= 61


async def test_a_frozen_server_costs_one_caller_its_time_out_and_the_others_nothing(tmp_path: Path) -> None:
    async with Valkey(tmp_path / "valkey", fast=True) as server:
        redis = connect_redis(server.url)
        guard = RedisGuard(redis, patience_s=0.2)
        buckets = RedisBuckets(redis, guard)
        await buckets.take("ann", SLOW, wanted=1, given_back=0)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(CacheUnavailable):
                await buckets.take("ann", SLOW, wanted=1, given_back=0)

            # On a busy machine the ping beside it, which decides that the server is away, may end after it.
            async def is_away() -> bool:
                return guard.is_away

            await until(is_away)
            asked = 0

            async def ask() -> None:
                nonlocal asked
                asked += 1

            for _ in range(100):
                with pytest.raises(CacheUnavailable):
                    await guard.run(ask)
            assert asked == 0, "nobody asks a server that was away a moment ago"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await redis.aclose()


async def test_a_server_that_came_back_is_used_again(redis: Redis) -> None:
    nowhere = connect_redis("redis://127.0.0.1:1")
    guard = RedisGuard(redis, nowhere)
    guard.suspect()
    await asyncio.sleep(0.1)
    with pytest.raises(CacheUnavailable, match="away"):
        await RedisBuckets(redis, guard).take("ann", SLOW, wanted=1, given_back=0)
    guard._probe = redis
    async with asyncio.timeout(WAIT_S):
        await guard.settled()
    assert (await RedisBuckets(redis, guard).take(new_id(), SLOW, wanted=1, given_back=0)).granted == 1
    await nowhere.aclose()


@pytest.mark.parametrize("fail_open", [True, False], ids=["open", "closed"])
@pytest.mark.parametrize("away", ["gone", "frozen", "without a token"])
async def test_without_redis_requests_are_served_uncounted_or_refused_until_it_is_back(
    tmp_path: Path, away: str, fail_open: bool
) -> None:
    """`RATE_LIMIT_FAIL`: open serves them, closed answers CACHE_ERROR and says when to come back."""
    async with Valkey(tmp_path / "valkey", fast=True) as server:
        redis = connect_redis(server.url)
        client: Any = {"gone": connect_redis("redis://127.0.0.1:1"), "without a token": _NoToken()}.get(away, redis)
        guard = RedisGuard(client)
        buckets = _Buckets(client, guard)
        limiter = RequestLimiter(buckets, RatePolicy(per_minute=1, burst=1), fail_open=fail_open)
        assert server.pid is not None
        if away == "frozen":
            os.kill(server.pid, signal.SIGSTOP)
        try:
            for _ in range(5):  # more than the bucket holds
                if fail_open:
                    admission = await limiter.admit("ann")
                    assert (admission.allowed, dict(admission.headers)) == (True, {})
                else:
                    with pytest.raises(Transient) as refused:
                        await limiter.admit("ann")
                    assert (refused.value.code, refused.value.retry_after_s) == (ErrorCode.CACHE_ERROR, 1)
        finally:
            os.kill(server.pid, signal.SIGCONT)
            await guard.aclose()
        buckets.store = RedisBuckets(redis, patient(redis))
        await limiter.admit("ann")  # the bucket's one token, unless a command that was frozen took it
        assert not (await limiter.admit("ann")).allowed
        await redis.aclose()
        await client.aclose()


class _Buckets:
    """Buckets whose store can be exchanged."""

    def __init__(self, client: Any, guard: RedisGuard) -> None:
        self.store: Any = client if isinstance(client, _NoToken) else RedisBuckets(client, guard)
        self.guard = guard

    async def take(self, user_id: str, policy: RatePolicy, *, wanted: int, given_back: int) -> Grant:
        if isinstance(self.store, _NoToken):
            return await self.guard.run(self.store.ping)
        return await self.store.take(user_id, policy, wanted=wanted, given_back=given_back)


class _NoToken:
    """A client of a Redis whose connections cannot be opened, since the identity's endpoint does not answer."""

    @property
    def connection_pool(self) -> Any:
        return self

    async def disconnect(self, **_: Any) -> None: ...

    async def ping(self) -> Any:
        raise TokenUnavailable("ClientAuthenticationError")

    async def aclose(self) -> None: ...
