"""Who may be listening, as Redis tells it with each batch: marks, notes of readers, and races between processes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from redis.asyncio import Redis

from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions
from shared.adapters.redis.events import RedisEventLog
from shared.adapters.redis.feeds import counter
from shared.adapters.redis.followed import NOTE_LASTS_S
from shared.adapters.redis.presence import RedisPresenceMarks
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.events import Event, EventTarget, EventType, SeqLeaseNeeded, SessionEventPublisher
from shared.sessions.live.presence import SETTLED_S, Presence
from shared.sessions.live.realtime import DeliveryFailed
from shared.sessions.live.subscriptions import SubscriptionService
from shared.sessions.records.steps import StepStart
from tests.integration.domain import OWNER, WAIT_S, Stores, connect_redis, new_session, patient, until

pytestmark = pytest.mark.integration

NOW_MS = 1_796_040_000_123


@pytest.fixture
def marks(redis: Redis) -> RedisPresenceMarks:
    return RedisPresenceMarks(redis, patient(redis))


@pytest.fixture
def rows(stores: Stores) -> PostgresSubscriptions:
    return PostgresSubscriptions(stores.pool)


def _new(**fields: int | None) -> EventTarget:
    """Of a session that was made just now."""
    return replace(EventTarget(new_id(), 0, 100_000, may_seed=True, subscribed_ms=0), **fields)  # type: ignore[arg-type]  # numbers


async def _presence(log: RedisEventLog, target: EventTarget) -> int | None:
    return (await log.append(target, [b"x"])).presence


async def test_nobody_listens_to_a_new_session_until_somebody_joins(
    event_log: RedisEventLog, marks: RedisPresenceMarks
) -> None:
    target = _new()
    assert await _presence(event_log, target) == 0
    later = replace(target, subscribed_ms=None)

    await marks.join(target.feed, NOW_MS)
    assert await _presence(event_log, later) == NOW_MS
    await marks.join(target.feed, NOW_MS - 5)
    assert await marks.find(target.feed) == NOW_MS + 1

    assert not await marks.vacate(target.feed, NOW_MS), "somebody joined since"
    assert await marks.vacate(target.feed, NOW_MS + 1)
    assert await _presence(event_log, later) == -(NOW_MS + 1)
    await marks.join(target.feed, NOW_MS - 5)
    assert await _presence(event_log, later) == NOW_MS + 2


async def test_who_joins_before_the_first_event_is_heard(event_log: RedisEventLog, marks: RedisPresenceMarks) -> None:
    target = _new()
    await marks.join(target.feed, NOW_MS)

    appended = await event_log.append(target, [b"x"])

    assert (appended.first, appended.presence) == (1, NOW_MS)


@pytest.mark.parametrize(
    ("kept", "told", "found"),
    [
        (None, None, None),
        (None, 0, 0),
        (None, 500, 500),
        (0, 500, 500),
        (400, 500, 500),
        (-400, 500, 500),
        (-500, 500, -500),
        (-600, 500, -600),
        (600, 500, 600),
        (600, 0, 600),
    ],
)
async def test_what_is_on_record_counts_where_redis_knows_less(
    event_log: RedisEventLog, redis: Redis, kept: int | None, told: int | None, found: int | None
) -> None:
    target = _new(subscribed_ms=None)
    assert await _presence(event_log, target) is None, "of a counter that may have been lost nothing is known"
    if kept is not None:
        await redis.hset(counter(target.feed), "presence", str(kept))

    assert await _presence(event_log, replace(target, subscribed_ms=told)) == found
    assert await _presence(event_log, target) == found


async def test_after_redis_has_lost_everything_nothing_is_known(
    event_log: RedisEventLog, marks: RedisPresenceMarks, redis: Redis
) -> None:
    target = _new()
    assert await _presence(event_log, target) == 0
    await redis.flushdb()
    with pytest.raises(SeqLeaseNeeded):
        await event_log.append(replace(target, may_seed=False), [b"x"])

    leased = replace(target, seq_floor=1_000, may_seed=True, subscribed_ms=None)
    assert await _presence(event_log, leased) is None

    # A mark alone is no counter: whoever joins meanwhile does not make numbers begin again.
    await redis.flushdb()
    await marks.join(target.feed, NOW_MS)
    assert await redis.ttl(counter(target.feed)) > 0, "it does not stay for ever"
    with pytest.raises(SeqLeaseNeeded):
        await event_log.append(replace(target, may_seed=False), [b"x"])
    assert await _presence(event_log, replace(leased, seq_floor=2_000)) == NOW_MS


class TestReaders:
    async def test_nobody_reads_a_new_session_and_a_reader_is_known_to_other_processes(
        self, event_log: RedisEventLog, redis_url: str
    ) -> None:
        client = connect_redis(redis_url)
        writing = RedisEventLog(client, client, patient(client), length=100, ttl_seconds=60)
        target = _new()
        assert not (await writing.append(target, [b"x"])).is_followed

        async with aclosing(event_log.follow(target.feed)) as live:
            assert await anext(live) is None

            async def is_known() -> bool:
                return (await writing.append(target, [b"x"])).is_followed

            await until(is_known)
        await client.aclose()

    async def test_whoever_waits_for_a_turn_reads_nothing(self, event_log: RedisEventLog) -> None:
        target = _new()
        await event_log.append(target, [b"x"])

        async with asyncio.timeout(WAIT_S), aclosing(event_log.follow(target.feed, reads=False)) as live:
            assert await anext(live) is None
            for _ in range(3):
                assert not (await event_log.append(target, [b"x"])).is_followed
                assert await anext(live), "and hears of it all the same"

    async def test_the_note_of_a_process_that_was_killed_does_not_last(self, redis: Redis) -> None:
        now = 1_796_040_000.0
        log = RedisEventLog(redis, redis, patient(redis), length=100, ttl_seconds=60, clock=lambda: now)
        target = _new()
        await log.append(target, [b"x"])
        await redis.hset(counter(target.feed), "followed", f"{now:.0f}")
        assert (await log.append(target, [b"x"])).is_followed

        now += NOTE_LASTS_S

        assert not (await log.append(target, [b"x"])).is_followed

    async def test_notes_are_renewed_while_a_reader_stays(
        self, redis: Redis, event_log: RedisEventLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_log._followed, "_renewed_every_s", 0.02)
        target = _new()
        await event_log.append(target, [b"x"])

        async def is_noted() -> bool:
            return await redis.hget(counter(target.feed), "followed") != b"0"

        async with aclosing(event_log.follow(target.feed)) as live:
            assert await anext(live) is None
            for _ in range(2):
                await until(is_noted)
                await redis.hset(counter(target.feed), "followed", "0")  # as if it were old
            await until(is_noted)

    async def test_a_reader_of_an_erased_session_leaves_no_key(self, redis: Redis, event_log: RedisEventLog) -> None:
        feed = new_id()
        async with aclosing(event_log.follow(feed)) as live:
            assert await anext(live) is None
            await event_log._followed._note([feed])
        assert await redis.exists(counter(feed)) == 0


class Group:
    """A SignalR group: who is in it hears what is sent."""

    def __init__(self) -> None:
        self.heard: dict[str, set[int]] = {}

    def send(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            for numbers in self.heard.values():
                numbers.add(orjson.loads(message)["arguments"][0]["seq"])

    async def change(self, action: bytes) -> bool:
        await asyncio.sleep(0)
        told = orjson.loads(action)
        if told["action"] == "add":
            self.heard.setdefault(told["connectionId"], set())
        else:
            self.heard.pop(told["connectionId"], None)
        return True

    async def is_empty(self, group: str) -> bool:
        return not self.heard


@pytest.fixture
async def processes(redis_url: str) -> AsyncIterator[list[RedisEventLog]]:
    clients = [connect_redis(redis_url) for _ in range(2)]
    yield [RedisEventLog(client, client, patient(client), length=1_000, ttl_seconds=60) for client in clients]
    for client in clients:
        await client.aclose()


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_joins_in_the_middle_gets_every_event_from_the_log_or_live(
    processes: list[RedisEventLog], stores: Stores, rows: PostgresSubscriptions, marks: RedisPresenceMarks, seed: int
) -> None:
    """One process writes and looks, others join, leave and die; all in an order of chance."""
    order = random.Random(seed)
    late = timedelta(seconds=SETTLED_S * 2)
    group = Group()

    async def nobody_can_say(_: str) -> bool:
        raise DeliveryFailed("not asked here")

    looking = Presence(marks, group.is_empty, rows.on_record, clock=lambda: (datetime.now(UTC) + late).timestamp())
    joining = [SubscriptionService(rows, Presence(marks, nobody_can_say, rows.on_record)) for _ in range(2)]
    record, _ = await stores.create(new_session())
    target = replace(record.target, may_seed=True, subscribed_ms=0)
    looking._has_found_somebody = True
    log = processes[0]
    publisher = SessionEventPublisher(log, stores.sessions, looking)
    missed: list[tuple[str, set[int]]] = []
    is_over = False
    sent = told = 0

    async def pause() -> None:
        for _ in range(order.randrange(6)):
            await asyncio.sleep(0)

    async def write() -> None:
        nonlocal sent, told, is_over
        for number in range(1, 121):
            messages = await publisher.publish(target, [Event(EventType.STREAM_CHUNK, {"n": number})])
            await pause()
            group.send(messages)
            sent, told = sent + len(messages), number
            # Whoever died may be looked for at any time. Nobody here joins for longer than a moment.
            looking._looked.clear()
        is_over = True

    async def use(user: int) -> None:
        service = joining[user]
        principal = Principal(OWNER, frozenset({Role.USER}))
        while not is_over:
            connection = new_id()
            await service.subscribe(record.session.id, connection, principal, group.change)
            known = {seq for seq, _ in (await processes[1].read(target.feed, 0, 1_000)).items}
            for _ in range(order.randrange(1, 12)):
                await pause()
            if order.random() < 0.5:
                for action in await service.unsubscribe(record.session.id, connection, principal, _refused):
                    await _left(action)
            else:
                await _left(orjson.dumps({"action": "remove", "connectionId": connection}), known=known)
            await pause()

    async def _refused(_: bytes) -> bool:
        return False

    async def _left(action: bytes, known: set[int] | None = None) -> None:
        connection = orjson.loads(action)["connectionId"]
        heard = group.heard.get(connection)
        if known is not None and heard is not None:
            missed.append((connection, set(range(1, told + 1)) - known - heard))
        await group.change(action)

    with suppress(asyncio.CancelledError):
        async with asyncio.timeout(WAIT_S * 3), asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            tasks.create_task(use(0))
            tasks.create_task(use(1))
    await looking.settled()

    assert [(connection, lost) for connection, lost in missed if lost] == []
    assert missed
    assert sent > 0


async def _begun(stores: Stores, turn_id: str) -> StepStart:
    now = datetime.now(UTC)
    started = await stores.steps.begin_step(turn_id, 1, message_id=new_id(), now=now, quiet_until=now)
    assert isinstance(started, StepStart)
    return started


async def test_a_step_begins_with_who_is_on_record(stores: Stores, rows: PostgresSubscriptions) -> None:
    posted = await stores.turn()
    session_id = posted.turn.session_id
    assert (await _begun(stores, posted.turn.id)).target.subscribed_ms == 0

    joined = datetime(2026, 11, 30, 12, 0, 0, 123_987, tzinfo=UTC)
    await rows.add(session_id, OWNER, "old", limit=9, now=joined - timedelta(days=1))
    await rows.add(session_id, OWNER, "new", limit=9, now=joined)
    assert (await _begun(stores, posted.turn.id)).target.subscribed_ms == NOW_MS

    await rows.remove(session_id, OWNER, None)
    assert (await _begun(stores, posted.turn.id)).target.subscribed_ms == 0
