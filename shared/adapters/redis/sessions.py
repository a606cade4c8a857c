"""Cached session entries in Redis: one string per session, and a counter of the changes that invalidate it.

Implements `EntryStore`.
"""

from __future__ import annotations

from redis.asyncio import Redis

from shared.adapters.redis.guard import RedisGuard
from shared.sessions.cache import KEPT_S

_CHANGES_MS = 30_000
"""How long a change is remembered: longer than any transaction or load. If a writer crashes, nothing is cached for this
time."""

# KEYS: entry, changes. ARGV: ticket, lifetime in ms, entry.
_KEEP = """
local kept = redis.call('HMGET', KEYS[2], 'n', 'open')
if (kept[1] or '0') == ARGV[1] and tonumber(kept[2] or '0') <= 0 then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
"""

# KEYS: entry, changes. ARGV: 1 for a beginning or -1 for an end, how long to remember it in ms. Both increase the
# count, so that an entry loaded before is not stored after.
_CHANGE = """
redis.call('DEL', KEYS[1])
redis.call('HINCRBY', KEYS[2], 'n', 1)
if redis.call('HINCRBY', KEYS[2], 'open', ARGV[1]) < 0 then redis.call('HSET', KEYS[2], 'open', 0) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
"""


def _keys(session_id: str) -> list[str]:
    return [f"parley:{{{session_id}}}:session", f"parley:{{{session_id}}}:changes"]


class RedisSessionEntries:
    """`EntryStore` over Redis."""

    def __init__(self, redis: Redis, guard: RedisGuard) -> None:
        self._redis = redis
        self._guard = guard
        self._keep = redis.register_script(_KEEP)
        self._change = redis.register_script(_CHANGE)

    async def find(self, session_id: str) -> bytes | None:
        found = await self._guard.run(lambda: self._redis.get(_keys(session_id)[0]))
        return found.encode() if isinstance(found, str) else found

    async def ticket(self, session_id: str) -> str | None:
        count, is_open = await self._guard.run(lambda: self._redis.hmget(_keys(session_id)[1], ["n", "open"]))
        return None if int(is_open or 0) > 0 else str(int(count or 0))

    async def keep(self, session_id: str, ticket: str, entry: bytes) -> None:
        arguments: list[str | int | bytes] = [ticket, int(KEPT_S * 1_000), entry]
        await self._guard.run(lambda: self._keep(keys=_keys(session_id), args=arguments))

    async def begin_change(self, session_id: str) -> None:
        await self._run_change(session_id, 1)

    async def end_change(self, session_id: str) -> None:
        await self._run_change(session_id, -1)

    async def _run_change(self, session_id: str, by: int) -> None:
        await self._guard.run(lambda: self._change(keys=_keys(session_id), args=[by, _CHANGES_MS]))
