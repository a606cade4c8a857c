"""The session cache on real servers: read-through, invalidated by every write that changes what it keeps, and races."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.adapters.postgres.branches.checkpoints import PostgresCheckpoints
from shared.adapters.redis.guard import RedisGuard
from shared.adapters.redis.sessions import RedisSessionEntries
from shared.errors import NotFound
from shared.principal import Principal
from shared.sessions.cache import KEPT_S, SessionCache, SessionEntry
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.branches import BranchService
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.models import NewParticipant, Regeneration, Session
from shared.sessions.recovery import SessionRecoveryManager
from tests.integration.domain import (
    OWNER,
    READER,
    STRANGER,
    WRITER,
    Stores,
    connect_redis,
    patient,
    session_erasure,
    session_lifecycle,
    turn_planner,
)

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset())


@pytest.fixture
def entries(redis: Redis) -> RedisSessionEntries:
    return RedisSessionEntries(redis, patient(redis))


@pytest.fixture
def cache(entries: RedisSessionEntries, stores: Stores) -> SessionCache:
    return SessionCache(entries, stores.sessions.entry)


@pytest.fixture
def life(stores: Stores, publisher: SessionEventPublisher, cache: SessionCache) -> SessionLifecycle:
    return session_lifecycle(stores, publisher, changes=cache)


async def _is_kept(redis: Redis, session: Session) -> bool:
    return bool(await redis.exists(f"parley:{{{session.id}}}:session"))


async def _reads(cache: SessionCache, session: Session, user: str) -> bool:
    try:
        await cache.get(session.id, user)
    except NotFound:
        return False
    return True


async def test_the_second_read_does_not_ask_the_database(stores: Stores, cache: SessionCache, redis: Redis) -> None:
    session = await stores.shared_session()

    assert [(await cache.get(session.id, user)).access for user in (OWNER, WRITER, READER)] == [
        "owner",
        "write",
        "read",
    ]
    assert 0 < await redis.pttl(f"parley:{{{session.id}}}:session") <= KEPT_S * 1_000
    await stores.sql(b"DELETE FROM session_participants WHERE session_id = %(s)s", s=session.id)  # behind its back
    assert (await cache.get(session.id, READER)).access == "read"
    assert not await _reads(cache, session, STRANGER)


async def test_participants_who_come_and_go_are_seen_at_once(
    stores: Stores, cache: SessionCache, life: SessionLifecycle
) -> None:
    session = await stores.session()
    assert not await _reads(cache, session, READER)

    await life.put_participant(session.id, READER, NewParticipant(access="read"), ANN)
    assert await _reads(cache, session, READER)
    await life.remove_participant(session.id, READER, ANN)
    assert not await _reads(cache, session, READER)


async def test_an_erased_session_is_gone_at_once(
    stores: Stores, cache: SessionCache, publisher: SessionEventPublisher
) -> None:
    erasing = session_erasure(stores, publisher, changes=cache)
    session = await stores.session()
    assert await _reads(cache, session, OWNER)

    await erasing.mark(session.id, ANN, if_match=None)
    await erasing.erase_stores(session.id)

    assert not await _reads(cache, session, OWNER)


async def test_another_active_branch_is_seen_at_once_however_it_came(
    stores: Stores, cache: SessionCache, publisher: SessionEventPublisher
) -> None:
    branches = BranchService(cache, PostgresBranches(stores.pool), publisher, turn_planner(stores), cache)
    recovery = SessionRecoveryManager(cache, PostgresCheckpoints(stores.pool), publisher, cache)
    session = await stores.session()
    posted = await stores.post(session.id)
    await stores.answer(posted.turn.id)
    await stores.finish(posted.turn.id)
    checkpoint = await recovery.create_checkpoint(session.id, ANN)

    async def active_after(change: Callable[[], Awaitable[object]]) -> int:
        await cache.get(session.id, OWNER)
        await change()
        return (await cache.get(session.id, OWNER)).active_branch

    again = await active_after(
        lambda: branches.regenerate(session.id, posted.message.id, Regeneration(), ANN, idempotency_key=None)
    )
    [open_turn] = await stores.rows(b"SELECT id FROM turns WHERE session_id = %(s)s AND ended_at IS NULL", s=session.id)
    await stores.finish(open_turn["id"])
    back = await active_after(lambda: branches.activate(session.id, 0, ANN))
    forth = await active_after(lambda: branches.activate(session.id, 1, ANN))
    recovered = await active_after(lambda: recovery.recover_from_checkpoint(session.id, checkpoint.id, ANN))

    row = await stores.sessions.get(session.id, OWNER)
    assert (again, back, forth, recovered) == (1, 0, 1, row.active_branch)


async def test_a_row_read_before_a_change_is_not_kept_after_it(
    stores: Stores, entries: RedisSessionEntries, redis: Redis
) -> None:
    """The classic race: the reader has the old row in hand while the writer commits and drops what is kept."""
    session = await stores.shared_session()
    has_read, changed = asyncio.Event(), asyncio.Event()

    async def slow_load(session_id: str) -> SessionEntry | None:
        row = await stores.sessions.entry(session_id)
        has_read.set()
        await changed.wait()
        return row

    slow = SessionCache(entries, slow_load)
    reading = asyncio.create_task(slow.get(session.id, READER))
    await has_read.wait()
    async with slow.changing(session.id, takes_access=True):
        await stores.sql(
            b"DELETE FROM session_participants WHERE session_id = %(s)s AND user_id = %(u)s", s=session.id, u=READER
        )
    changed.set()

    assert (await reading).access == "read", "it began before the change"
    assert not await _is_kept(redis, session)
    assert not await _reads(SessionCache(entries, stores.sessions.entry), session, READER)


async def test_a_writer_that_was_killed_leaves_nothing_that_could_be_read(
    stores: Stores, entries: RedisSessionEntries, cache: SessionCache, redis: Redis
) -> None:
    session = await stores.shared_session()
    assert await _reads(cache, session, READER)
    await entries.begin_change(session.id)
    assert await _reads(cache, session, READER)  # not committed yet
    await stores.sql(b"DELETE FROM session_participants WHERE session_id = %(s)s", s=session.id)
    # Killed here: no end is announced.

    assert not await _is_kept(redis, session)
    assert not await _reads(cache, session, READER)


async def test_readers_and_writers_at_once_never_leave_an_old_entry(
    stores: Stores, cache: SessionCache, life: SessionLifecycle
) -> None:
    session = await stores.session()

    async def write() -> None:
        for _ in range(10):
            await life.put_participant(session.id, READER, NewParticipant(access="read"), ANN)
            assert await _reads(cache, session, READER)
            await life.remove_participant(session.id, READER, ANN)
            assert not await _reads(cache, session, READER)

    writing = asyncio.create_task(write())

    async def read() -> None:
        while not writing.done():
            await _reads(cache, session, READER)

    await asyncio.gather(writing, *(read() for _ in range(4)))


async def test_without_redis_reads_come_from_the_database(stores: Stores) -> None:
    session = await stores.shared_session()
    nowhere = connect_redis("redis://127.0.0.1:1")
    cache = SessionCache(RedisSessionEntries(nowhere, RedisGuard(nowhere)), stores.sessions.entry)

    assert (await cache.get(session.id, READER)).access == "read"
    await stores.sql(b"DELETE FROM session_participants WHERE session_id = %(s)s", s=session.id)
    assert not await _reads(cache, session, READER)
    await nowhere.aclose()
