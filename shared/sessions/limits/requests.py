"""RequestLimiter: a rate limit per user, by a token bucket that all instances share.

Invariant: every admitted request takes a token of the shared bucket first, so all instances together never admit more
than it holds. For a busy user, a process takes a few tokens in advance, holds them for at most a second, and returns
the unspent ones. So a busy user costs one bucket access per second, not one per request.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import BudgetExceeded, CacheUnavailable, ErrorCode, Transient

LEASE_S = 1.0
"""How long tokens taken in advance may be spent."""

_AHEAD = 20
"""A process takes at most 1/20 of a bucket in advance."""

_MAX_USERS = 10_000
"""Users that one process remembers. A forgotten user loses tokens taken in advance; the bucket soon refills them."""


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """A bucket of `burst` tokens that refills with `per_minute`; a request takes one."""

    per_minute: int
    burst: int

    @property
    def per_second(self) -> float:
        return self.per_minute / 60


@dataclass(frozen=True, slots=True)
class Grant:
    """granted: tokens taken, from 0 to `wanted`; left: tokens now in the bucket."""

    granted: int
    left: float


class TokenBuckets(Protocol):
    async def take(self, user_id: str, policy: RatePolicy, *, wanted: int, given_back: int) -> Grant:
        """Atomic. Raises CacheUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request is admitted, and the rate limit headers of its response."""

    allowed: bool = True
    retry_after_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10); none without a limit."""

    def check(self) -> None:
        """Raises BudgetExceeded(RATE_LIMITED) when the request is not admitted."""
        if not self.allowed:
            raise BudgetExceeded(
                ErrorCode.RATE_LIMITED, "Too many requests; slow down.", retry_after_s=self.retry_after_s
            )


UNLIMITED = Admission()


@dataclass(slots=True)
class _Lease:
    """One user's tokens taken in advance, and the last known state of the bucket."""

    tokens: int = 0
    began: float = 0.0
    spent: int = 0
    left: float = 0.0
    empty_until: float = 0.0
    waiting: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class RequestLimiter:
    """Admits requests of one process. Bound to its event loop."""

    def __init__(
        self,
        buckets: TokenBuckets,
        policy: RatePolicy | None,
        *,
        fail_open: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """policy: None for no limit. fail_open: whether requests are admitted while the buckets are unavailable."""
        self._buckets = buckets
        self._policy = policy
        self._fail_open = fail_open
        self._clock = clock
        self._leases: OrderedDict[str, _Lease] = OrderedDict()

    async def admit(self, user_id: str) -> Admission:
        """Count one request. Raises Transient(CACHE_ERROR) when the buckets are unavailable, unless `fail_open`."""
        policy = self._policy
        if policy is None:
            return UNLIMITED
        lease = self._lease(user_id)
        try:
            if not self._spends(lease) and not await self._takes(user_id, policy, lease):
                return _refusal(policy, lease.empty_until - self._clock())
        except CacheUnavailable as exc:
            if self._fail_open:
                return UNLIMITED
            raise Transient(
                ErrorCode.CACHE_ERROR, "The rate limit cannot be checked at the moment; try again.", retry_after_s=1
            ) from exc
        return _admission(policy, lease.tokens + lease.left)

    def _lease(self, user_id: str) -> _Lease:
        lease = self._leases.get(user_id)
        if lease is None:
            lease = self._leases[user_id] = _Lease()
            if len(self._leases) > _MAX_USERS:
                self._leases.popitem(last=False)
        else:
            self._leases.move_to_end(user_id)
        return lease

    def _spends(self, lease: _Lease) -> bool:
        if lease.tokens == 0 or self._clock() - lease.began >= LEASE_S:
            return False
        lease.tokens -= 1
        lease.spent += 1
        return True

    async def _takes(self, user_id: str, policy: RatePolicy, lease: _Lease) -> bool:
        """Spend a token from the shared bucket; concurrent waiters share one access."""
        lease.waiting += 1
        try:
            async with lease.lock:
                if self._clock() < lease.empty_until:
                    return False
                if self._spends(lease):
                    return True
                await self._refill(user_id, policy, lease)
                return self._spends(lease)
        finally:
            lease.waiting -= 1

    async def _refill(self, user_id: str, policy: RatePolicy, lease: _Lease) -> None:
        now = self._clock()
        ahead = lease.spent if lease.tokens else 2 * lease.spent
        if now - lease.began >= 2 * LEASE_S:
            ahead = 0
        unspent, lease.tokens = lease.tokens, 0
        wanted = max(lease.waiting, min(ahead, policy.burst // _AHEAD))
        grant = await self._buckets.take(user_id, policy, wanted=wanted, given_back=unspent)
        lease.tokens, lease.left, lease.began, lease.spent = grant.granted, grant.left, self._clock(), 0
        if grant.granted == 0:
            lease.empty_until = self._clock() + (1 - grant.left) / policy.per_second


def _admission(policy: RatePolicy, left: float) -> Admission:
    return Admission(headers=_headers(policy, left))


def _refusal(policy: RatePolicy, retry_after_s: float) -> Admission:
    return Admission(allowed=False, retry_after_s=retry_after_s, headers=_headers(policy, 0))


def _headers(policy: RatePolicy, left: float) -> dict[str, str]:
    """The quota is a full bucket; the window is the time to fill it."""
    window_s = math.ceil(policy.burst / policy.per_second)
    full_in_s = math.ceil((policy.burst - left) / policy.per_second)
    return {
        "RateLimit-Policy": f'"user";q={policy.burst};w={window_s}',
        "RateLimit": f'"user";r={math.floor(left)};t={full_in_s}',
    }
