"""Redis as something one can do without: asked for a moment only, and not at all for a second after it was away.

Invariant: an absent or frozen Redis costs one caller the time-out now and then, never every caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from shared.errors import CacheUnavailable

ANSWER_S = 1.0
"""Well above what a loaded Redis takes, well below what a caller minds."""

AWAY_S = 1.0


class RedisGuard:
    """Runs calls to Redis, or refuses at once while it is known to be away."""

    def __init__(self, *, answer_s: float = ANSWER_S, away_s: float = AWAY_S) -> None:
        self._answer_s = answer_s
        self._away_s = away_s
        self._away_until = 0.0

    async def run[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """Raises CacheUnavailable."""
        now = time.monotonic()
        if now < self._away_until:
            raise CacheUnavailable("Redis was away a moment ago")
        if self._away_until:
            # One caller finds out whether it is back; the others need not wait for that.
            self._away_until = now + self._answer_s
        try:
            async with asyncio.timeout(self._answer_s):
                result = await call()
        except (RedisError, OSError, TimeoutError) as exc:
            self._away_until = time.monotonic() + self._away_s
            raise CacheUnavailable(str(exc) or type(exc).__name__) from exc
        self._away_until = 0.0
        return result
