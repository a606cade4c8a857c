"""A cache of computed statistics in Redis; entries expire. Implements `Cache` (of `StatisticsService`)."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import CacheUnavailable

_KEPT_SECONDS = 3_600
"""Bounds memory use only; whether an entry is current is decided by its marker."""


class RedisStatisticsCache:
    """`Cache` over Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def get(self, key: str) -> bytes | None:
        try:
            found = await self._redis.get(key)
        except (RedisError, OSError) as exc:
            raise CacheUnavailable(str(exc)) from exc
        return found.encode() if isinstance(found, str) else found

    async def put(self, key: str, value: bytes) -> None:
        try:
            await self._redis.set(key, value, ex=_KEPT_SECONDS)
        except (RedisError, OSError) as exc:
            raise CacheUnavailable(str(exc)) from exc

    async def drop(self, key: str) -> None:
        try:
            await self._redis.delete(key)
        except (RedisError, OSError) as exc:
            raise CacheUnavailable(str(exc)) from exc
