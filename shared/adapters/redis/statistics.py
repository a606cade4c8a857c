"""A cache of computed statistics in Redis; entries expire. Implements `Cache` (of `StatisticsService`)."""

from __future__ import annotations

from redis.asyncio import Redis

from shared.adapters.redis.guard import RedisGuard

_KEPT_SECONDS = 3_600
"""Bounds memory use only; whether an entry is current is decided by its marker."""


class RedisStatisticsCache:
    """`Cache` over Redis."""

    def __init__(self, redis: Redis, guard: RedisGuard) -> None:
        self._redis = redis
        self._guard = guard

    async def get(self, key: str) -> bytes | None:
        found = await self._guard.run(lambda: self._redis.get(key))
        return found.encode() if isinstance(found, str) else found

    async def put(self, key: str, value: bytes) -> None:
        await self._guard.run(lambda: self._redis.set(key, value, ex=_KEPT_SECONDS))

    async def drop(self, key: str) -> None:
        await self._guard.run(lambda: self._redis.delete(key))
