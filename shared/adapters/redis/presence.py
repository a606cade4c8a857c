"""The mark of a session's presence in Redis, in the hash that numbers its events. Implements `PresenceMarks`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.adapters.redis.feeds import COUNTER_SECONDS, counter

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.adapters.redis.guard import RedisGuard

# KEYS: counter hash. ARGV: time in ms, seconds to keep a hash that has nothing else. Each join has a higher mark than
# all before it, whatever the clocks say.
_JOIN = """
local kept = math.abs(tonumber(redis.call('HGET', KEYS[1], 'presence') or '0'))
local mark = math.max(kept + 1, tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'presence', string.format('%.0f', mark))
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return mark
"""

# KEYS: counter hash. ARGV: the mark that stood when nobody was found.
_VACATE = """
if redis.call('HGET', KEYS[1], 'presence') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'presence', '-' .. ARGV[1])
return 1
"""


class RedisPresenceMarks:
    """`PresenceMarks` over Redis."""

    def __init__(self, redis: Redis, guard: RedisGuard) -> None:
        self._redis = redis
        self._guard = guard
        self._join = redis.register_script(_JOIN)
        self._vacate = redis.register_script(_VACATE)

    async def find(self, feed: str) -> int | None:
        found = await self._guard.run(lambda: self._redis.hget(counter(feed), "presence"))
        return None if found is None else int(found)

    async def join(self, feed: str, at_ms: int) -> None:
        arguments = [at_ms, COUNTER_SECONDS]
        await self._guard.run(lambda: self._join(keys=[counter(feed)], args=arguments))

    async def vacate(self, feed: str, mark: int) -> bool:
        return bool(await self._guard.run(lambda: self._vacate(keys=[counter(feed)], args=[mark])))
