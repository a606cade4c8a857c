"""Token buckets in Redis, one per user; a full one is not kept. Implements `TokenBuckets`."""

from __future__ import annotations

from redis.asyncio import Redis

from shared.adapters.redis.guard import RedisGuard
from shared.sessions.limits.requests import Grant, RatePolicy

# KEYS: bucket. ARGV: tokens per second, capacity, wanted, given back. Uses the server's clock, which all instances
# share. Returns the tokens granted and, as text (Redis truncates numbers to integers), the tokens left.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(kept[1] or ARGV[2]) + math.max(0, now - tonumber(kept[2] or now)) * rate + tonumber(ARGV[4])
tokens = math.min(burst, tokens)
-- Tolerance of a millionth of a token: a request that waited exactly long enough must not fail by rounding.
local granted = math.min(tonumber(ARGV[3]), math.floor(tokens + 0.000001))
tokens = math.max(0, tokens - granted)
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / rate * 1000) + 1000)
return {granted, string.format('%.6f', tokens)}
"""


class RedisBuckets:
    """`TokenBuckets` over Redis."""

    def __init__(self, redis: Redis, guard: RedisGuard) -> None:
        self._guard = guard
        self._script = redis.register_script(_TAKE)

    async def take(self, user_id: str, policy: RatePolicy, *, wanted: int, given_back: int) -> Grant:
        arguments: list[str | int] = [f"{policy.per_second:.9f}", policy.burst, wanted, given_back]
        granted, left = await self._guard.run(lambda: self._script(keys=[f"parley:rate:{user_id}"], args=arguments))
        return Grant(int(granted), float(left))
