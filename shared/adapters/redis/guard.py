"""A circuit breaker for calls to Redis, opened by a call that gets no answer and closed by a ping beside the callers.

Implements no port: the stores in Redis make their calls through it.

Invariant: nobody waits for a Redis that hangs for longer than `patience_s`, and while it is away nobody waits at all.
It is asked again PING_EVERY_S later, and from its first answer on everybody uses it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from redis.exceptions import RedisError, ResponseError

from shared.adapters.azure.entra import TokenUnavailable
from shared.adapters.watch import Watch
from shared.errors import CacheUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

LOST = (RedisError, OSError, TokenUnavailable, AttributeError, RuntimeError)
"""What a lost connection raises, or one that cannot be opened without a token. The last two come from asyncio's own
transport when redis-py writes to one that was reset: `writelines` of CPython 3.13 then registers a writer at a loop
that is gone."""
ANSWER_S = 1.0
"""Timeout of a call while Redis answers pings: well above a loaded Redis's response time."""
PATIENCE_S = 0.3
"""A Redis that is silent for so long is away: a third of it for the call, the rest for a ping. Its one thread is never
busy for so long with what this app asks."""
FIRST_S = 2.0
"""For the first ping of a process, which may have to fetch a token and to agree on TLS."""
PING_EVERY_S = 0.25
_LATE_S = 0.05
"""A timer of ours that is this late says something of this process, and nothing of Redis."""


class RedisGuard(Watch):
    """Runs calls to Redis, or fails at once while Redis is known to be unavailable.

    redis: whose connections it looks after. probe: a client with a connection of its own, so that a ping waits for no
    place in a pool.
    """

    name = "Redis"

    def __init__(
        self, redis: Redis, probe: Redis | None = None, *, answer_s: float = ANSWER_S, patience_s: float = PATIENCE_S
    ) -> None:
        super().__init__()
        self._redis = redis
        self._probe = probe or redis
        # Who is patient on purpose waits for an answer no less long.
        self._answer_s = max(answer_s, patience_s)
        self._slow_s = patience_s / 3
        self._ping_s = patience_s - self._slow_s
        self._has_answered = False
        self._waiting: set[asyncio.Timeout] = set()

    async def run[T](self, call: Callable[[], Awaitable[T]]) -> T:
        """Raises CacheUnavailable."""
        if self.is_away:
            self.suspect()
            raise CacheUnavailable("Redis is away")
        timer = asyncio.get_running_loop().call_later(self._slow_s, self.suspect)
        try:
            async with asyncio.timeout(self._answer_s) as waiting:
                self._waiting.add(waiting)
                try:
                    result = await call()
                finally:
                    self._waiting.discard(waiting)
        except ResponseError as exc:
            raise CacheUnavailable(str(exc)) from exc  # it answers
        except LOST as exc:
            self.suspect()
            if isinstance(exc, TimeoutError) and not self.is_away:
                # It may answer others: then this connection is dead, and those that lie idle may be, too.
                await self._drop_idle()
            raise CacheUnavailable(str(exc) or type(exc).__name__) from exc
        finally:
            timer.cancel()
        self._has_answered = True
        return result

    def _leave(self) -> None:
        now = asyncio.get_running_loop().time()
        for waiting in self._waiting:
            if not waiting.expired():
                waiting.reschedule(now)

    async def _return(self) -> None:
        await self._drop_idle()

    def _pause_s(self) -> float:
        return PING_EVERY_S

    async def _answers(self) -> bool:
        loop = asyncio.get_running_loop()
        while True:
            until = loop.time() + (self._ping_s if self._has_answered else FIRST_S)
            try:
                async with asyncio.timeout_at(until):
                    await self._probe.ping()
            except Exception as exc:
                # Also what the credentials' provider raises: without it nobody gets in.
                if isinstance(exc, TimeoutError) and loop.time() - until > _LATE_S:
                    continue
                self._tell(exc)
                return False
            self._has_answered = True
            return True

    async def _drop_idle(self) -> None:
        with contextlib.suppress(*LOST):
            await self._redis.connection_pool.disconnect(inuse_connections=False)
