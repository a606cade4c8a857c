"""The metric totals of all processes in Redis: one hash, and per process the number of its last flush.

Implements `MetricsStore`.

Invariant: a flush is added completely and exactly once. The client repeats a call when it missed the answer; the script
recognises the repeat by the flush's number, which it stores.
"""

from __future__ import annotations

from redis.asyncio import Redis

from shared.adapters.redis.guard import RedisGuard
from shared.errors import CacheUnavailable
from shared.sessions.measuring.catalogue import Totals
from shared.sessions.measuring.sharing import MetricsUnavailable

_TOTALS = "parley:{metrics}:totals"
_WRITER_SECONDS = 7 * 86_400
"""How long a process's last flush number is stored: much longer than a client retries."""

# KEYS: totals, the writer's last flush. ARGV: flush number, seconds to remember it, then pairs of field and delta.
_ADD = """
if redis.call('GET', KEYS[2]) == ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return 1
"""


class RedisMetrics:
    """`MetricsStore` over Redis."""

    def __init__(self, redis: Redis, guard: RedisGuard) -> None:
        self._redis = redis
        self._guard = guard

    async def add(self, writer: str, flush: int, deltas: Totals) -> None:
        parts = [str(part) for pair in deltas.items() for part in pair]
        try:
            await self._guard.run(
                lambda: self._redis.eval(
                    _ADD, 2, _TOTALS, f"parley:{{metrics}}:flush:{writer}", str(flush), str(_WRITER_SECONDS), *parts
                )
            )
        except CacheUnavailable as exc:
            raise MetricsUnavailable(str(exc)) from exc

    async def totals(self) -> dict[str, int]:
        try:
            found = await self._guard.run(lambda: self._redis.hgetall(_TOTALS))
        except CacheUnavailable as exc:
            raise MetricsUnavailable(str(exc)) from exc
        return {(field if isinstance(field, str) else field.decode()): int(value) for field, value in found.items()}
