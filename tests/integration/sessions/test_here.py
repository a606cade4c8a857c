"""Who has a shared session before them, on a real Redis: its people alone, told to its people, and not for long."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from shared.adapters.redis.events import RedisEventLog
from shared.adapters.redis.feeds import here
from shared.adapters.redis.here import RedisHere
from shared.adapters.redis.sessions import RedisSessionEntries
from shared.errors import CacheUnavailable, NotFound
from shared.principal import Principal, Role
from shared.sessions.cache import SessionCache
from shared.sessions.live.here import HERE_FOR_S, Here
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, Stores, new_session, patient, until

pytestmark = pytest.mark.integration


def _who(name: str) -> Principal:
    return Principal(name, frozenset({Role.USER}))


@pytest.fixture
def cache(stores: Stores, redis: Redis) -> SessionCache:
    return SessionCache(RedisSessionEntries(redis, patient(redis)), stores.sessions.entry)


def _here(cache: SessionCache, redis: Redis, lasts_s: float = HERE_FOR_S) -> Here:
    return Here(cache.get, RedisHere(redis, patient(redis)), lasts_s=lasts_s)


async def _shared(stores: Stores) -> tuple[str, str]:
    """(id, feed) of a session with two people beside its owner."""
    record, _ = await stores.create(new_session())
    await stores.share(record.session.id, READER, "read")
    await stores.share(record.session.id, WRITER, "write")
    return record.session.id, record.target.feed


async def test_people_see_one_another_and_never_themselves(stores: Stores, cache: SessionCache, redis: Redis) -> None:
    session_id, _ = await _shared(stores)
    people = _here(cache, redis)
    assert (await people.announce(session_id, _who(OWNER))).here == []
    assert (await people.announce(session_id, _who(READER))).here == [OWNER]
    assert (await people.announce(session_id, _who(OWNER))).here == [READER]
    told = await people.announce(session_id, _who(WRITER))
    assert (told.is_shared, told.here) == (True, sorted([OWNER, READER]))


async def test_of_a_session_of_one_nothing_is_kept(stores: Stores, cache: SessionCache, redis: Redis) -> None:
    record, _ = await stores.create(new_session())
    told = await _here(cache, redis).announce(record.session.id, _who(OWNER))
    assert (told.is_shared, told.here) == (False, [])
    assert await redis.exists(here(record.target.feed)) == 0


async def test_a_stranger_is_told_nothing_and_never_named(stores: Stores, cache: SessionCache, redis: Redis) -> None:
    session_id, feed = await _shared(stores)
    people = _here(cache, redis)
    await people.announce(session_id, _who(OWNER))
    with pytest.raises(NotFound):
        await people.announce(session_id, _who(STRANGER))
    assert await redis.zrange(here(feed), 0, -1) == [OWNER.encode()]
    # Somebody who is taken out is named no more, though they said it a moment ago.
    await people.announce(session_id, _who(READER))
    async with cache.changing(session_id, takes_access=True):
        await stores.sql(
            b"DELETE FROM session_participants WHERE session_id = %(s)s AND user_id = %(u)s", s=session_id, u=READER
        )
    assert (await people.announce(session_id, _who(OWNER))).here == []
    with pytest.raises(NotFound):
        await people.announce(session_id, _who(READER))


async def test_who_says_nothing_more_is_gone_and_leaves_nothing(
    stores: Stores, cache: SessionCache, redis: Redis
) -> None:
    session_id, feed = await _shared(stores)
    await _here(cache, redis, lasts_s=0.05).announce(session_id, _who(READER))

    async def nothing() -> bool:
        return await redis.exists(here(feed)) == 0

    await until(nothing)
    # Of those who go on saying it, only they stay.
    people = _here(cache, redis)
    await people.announce(session_id, _who(READER))
    await redis.zincrby(here(feed), -HERE_FOR_S * 1_000, READER)
    assert (await people.announce(session_id, _who(OWNER))).here == []
    assert 0 < await redis.pttl(here(feed)) <= HERE_FOR_S * 1_000


async def test_what_is_kept_and_named_is_bounded(redis: Redis) -> None:
    marks = RedisHere(redis, patient(redis))
    for number in range(9):
        found = await marks.announce("feed-many", f"user-{number}", lasts_s=30, limit=4)
    assert len(found) == 4
    assert "user-8" in found
    assert await redis.zcard(here("feed-many")) == 4


async def test_while_redis_is_away_nobody_is_known(stores: Stores, cache: SessionCache) -> None:
    class Away:
        async def announce(self, feed: str, user_id: str, *, lasts_s: float, limit: int) -> list[str]:
            raise CacheUnavailable("away")

    session_id, _ = await _shared(stores)
    assert (await Here(cache.get, Away()).announce(session_id, _who(OWNER))).here == []


async def test_an_erasure_forgets_it(
    stores: Stores, cache: SessionCache, redis: Redis, event_log: RedisEventLog
) -> None:
    session_id, feed = await _shared(stores)
    await _here(cache, redis).announce(session_id, _who(OWNER))
    await event_log.erase(feed)
    assert await redis.exists(here(feed)) == 0
