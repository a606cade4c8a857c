"""A circuit breaker for calls to Redis: short timeout, and no calls for a second after a failure.

Implements no port: other stores in Redis make their calls through it.

Invariant: while Redis is down or frozen, only one caller at a time waits for the timeout, never all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from shared.errors import CacheUnavailable

ANSWER_S = 1.0
"""Timeout of a call: well above a loaded Redis's response time, and short enough for callers."""

AWAY_S = 1.0


class RedisGuard:
    """Runs calls to Redis, or fails at once while Redis is known to be unavailable."""

    def __init__(self, *, answer_s: float = ANSWER_S, away_s: float = AWAY_S) -> None:
        self._answer_s = answer_s
        self._away_s = away_s
        self._away_until = 0.0

    async def run[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """Raises CacheUnavailable."""
        now = time.monotonic()
        if now < self._away_until:
            raise CacheUnavailable("Redis was unavailable a moment ago")
        if self._away_until:
            # One caller probes whether Redis is back; the others fail at once meanwhile.
            self._away_until = now + self._answer_s
        try:
            async with asyncio.timeout(self._answer_s):
                result = await call()
        except (RedisError, OSError, TimeoutError) as exc:
            self._away_until = time.monotonic() + self._away_s
            raise CacheUnavailable(str(exc) or type(exc).__name__) from exc
        self._away_until = 0.0
        return result
