"""Who has a session before them, in a sorted set of Redis that expires by itself. Implements `HereMarks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.adapters.redis.feeds import here

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.adapters.redis.guard import RedisGuard

# KEYS: sorted set of user ids by the time of their last announcement. ARGV: user id, how long one lasts in ms, how many
# are kept. By the clock of Redis: those of the app's instances differ.
_ANNOUNCE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZREVRANGE', KEYS[1], 0, -1)
"""


class RedisHere:
    """`HereMarks` over Redis."""

    def __init__(self, redis: Redis, guard: RedisGuard) -> None:
        self._guard = guard
        self._announce = redis.register_script(_ANNOUNCE)

    async def announce(self, feed: str, user_id: str, *, lasts_s: float, limit: int) -> list[str]:
        arguments: list[str | int] = [user_id, int(lasts_s * 1_000), limit]
        found = await self._guard.run(lambda: self._announce(keys=[here(feed)], args=arguments))
        return [one.decode() if isinstance(one, bytes) else one for one in found]
