"""The request limiter of one process: never more than the shared bucket gave, and few looks at it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from shared.errors import CacheUnavailable, ErrorCode, Transient
from shared.sessions.limits.requests import LEASE_S, UNLIMITED, Grant, RatePolicy, RequestLimiter

POLICY = RatePolicy(per_minute=600, burst=100)


@dataclass
class Bucket:
    """A bucket that does not refill, so that sums can be checked. The clock is the limiter's."""

    tokens: float = 100
    now: float = 1_000.0
    away: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def take(self, user_id: str, policy: RatePolicy, *, wanted: int, given_back: int) -> Grant:
        if self.away:
            raise CacheUnavailable("away")
        await asyncio.sleep(0)
        self.asked.append((wanted, given_back))
        self.tokens += given_back
        granted = min(wanted, int(self.tokens))
        self.tokens -= granted
        return Grant(granted, self.tokens)

    def limiter(self, *, fail_open: bool = True, policy: RatePolicy | None = POLICY) -> RequestLimiter:
        return RequestLimiter(self, policy, fail_open=fail_open, clock=lambda: self.now)


async def test_no_limit_asks_nobody() -> None:
    bucket = Bucket()

    assert await bucket.limiter(policy=None).admit("ann") is UNLIMITED
    assert bucket.asked == []


async def test_exactly_what_the_bucket_holds_is_admitted_by_all_processes_together() -> None:
    bucket = Bucket(tokens=37)
    limiters = [bucket.limiter() for _ in range(3)]

    admitted = [(await limiters[number % 3].admit("ann")).allowed for number in range(120)]

    # What the two others still hold ahead is at most a twentieth of a bucket each.
    assert 37 - 2 * 5 <= sum(admitted) <= 37


async def test_requests_at_the_same_moment_ask_together() -> None:
    bucket = Bucket()
    limiter = bucket.limiter()

    answers = await asyncio.gather(*(limiter.admit("ann") for _ in range(40)))

    assert all(answer.allowed for answer in answers)
    assert bucket.tokens == 100 - sum(wanted for wanted, _ in bucket.asked)
    assert len(bucket.asked) <= 4


async def test_of_more_at_once_than_there_are_tokens_exactly_those_are_admitted() -> None:
    bucket = Bucket(tokens=9)
    limiter = bucket.limiter()

    answers = await asyncio.gather(*(limiter.admit("ann") for _ in range(40)))

    assert sum(answer.allowed for answer in answers) == 9


async def test_a_steady_user_costs_a_look_now_and_then_and_gets_back_what_was_not_spent() -> None:
    bucket = Bucket()
    limiter = bucket.limiter()

    for _ in range(20):
        assert (await limiter.admit("ann")).allowed

    assert len(bucket.asked) <= 7
    held = sum(wanted - back for wanted, back in bucket.asked) - 20
    bucket.now += LEASE_S
    assert (await limiter.admit("ann")).allowed
    assert bucket.asked[-1][1] == held, "unspent tokens go back when their second is over"


async def test_a_refusal_says_when_the_next_token_comes_and_asks_nobody_until_then() -> None:
    bucket = Bucket(tokens=0.25)
    limiter = bucket.limiter()

    refused = await limiter.admit("ann")
    looks = len(bucket.asked)
    again = await limiter.admit("ann")

    # 0.75 of a token, at ten a second.
    assert (refused.allowed, again.allowed, len(bucket.asked)) == (False, False, looks)
    assert refused.retry_after_s == pytest.approx(0.075)
    assert refused.headers == {"RateLimit-Policy": '"user";q=100;w=10', "RateLimit": '"user";r=0;t=10'}
    bucket.tokens, bucket.now = 1, bucket.now + 0.08
    assert (await limiter.admit("ann")).allowed


async def test_answers_tell_what_is_left() -> None:
    bucket = Bucket(tokens=51)

    admission = await bucket.limiter().admit("ann")

    assert admission.headers["RateLimit"] == '"user";r=50;t=5'


async def test_users_do_not_spend_each_others_tokens() -> None:
    bucket = Bucket(tokens=1)
    limiter = bucket.limiter()

    assert (await limiter.admit("ann")).allowed
    assert not (await limiter.admit("ann")).allowed
    bucket.tokens = 1  # bob's own
    assert (await limiter.admit("bob")).allowed


async def test_without_the_buckets_requests_go_on_or_are_refused_as_set() -> None:
    bucket = Bucket(away=True)

    assert await bucket.limiter(fail_open=True).admit("ann") is UNLIMITED
    with pytest.raises(Transient) as refused:
        await bucket.limiter(fail_open=False).admit("ann")
    assert (refused.value.code, refused.value.retry_after_s) == (ErrorCode.CACHE_ERROR, 1)
