"""RedisEventLog on a real Redis-compatible server: numbering, trimming, reading, following."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from shared.adapters.redis.epochs import Epoch
from shared.adapters.redis.events import RENEWED_AFTER_S, RedisEventLog
from shared.ids import new_id
from shared.sessions.events import (
    READ_BYTES,
    Appended,
    Event,
    EventTarget,
    EventType,
    SeqLeaseNeeded,
    SessionEventPublisher,
)
from tests.integration.domain import WAIT_S, Stores, connect_redis, envelopes, key, new_session, patient, until

pytestmark = pytest.mark.integration


def _target(*, floor: int = 0, ceiling: int = 100_000, may_seed: bool = True) -> EventTarget:
    return EventTarget(new_id(), floor, ceiling, may_seed)


def _bodies(count: int, session_id: str = "s") -> list[bytes]:
    return [Event(EventType.STREAM_CHUNK, {"n": n}).body(session_id) for n in range(count)]


async def test_numbers_are_dense_from_one_whatever_the_batches(event_log: RedisEventLog) -> None:
    target = _target()

    firsts = [(await event_log.append(target, _bodies(count))).first for count in (1, 3, 2)]

    assert firsts == [1, 2, 5]
    found = await event_log.read(target.feed, 0, 100)
    assert [seq for seq, _ in found.items] == [1, 2, 3, 4, 5, 6]
    assert (found.last_seq, found.is_cut) == (6, False)


async def test_fifty_writers_at_once_leave_no_hole_and_no_double(event_log: RedisEventLog) -> None:
    target = _target()

    async def write(writer: int) -> list[int]:
        numbers: list[int] = []
        for count in (1, 4, 2, 3):
            first = (
                await event_log.append(target, [b'"type":"w%d","i":%d}' % (writer, i) for i in range(count)])
            ).first
            numbers.extend(range(first, first + count))
        return numbers

    written = await asyncio.gather(*(write(writer) for writer in range(50)))

    assert sorted(number for numbers in written for number in numbers) == list(range(1, 501))
    assert all(numbers == sorted(numbers) for numbers in written)
    items = (await event_log.read(target.feed, 0, 1_000)).items
    for writer, numbers in enumerate(written):
        assert {items[number - 1][1].split(b'"')[3] for number in numbers} == {b"w%d" % writer}


async def test_writers_in_several_processes_share_one_numbering(redis_url: str, event_log: RedisEventLog) -> None:
    clients = [connect_redis(redis_url) for _ in range(3)]
    logs = [RedisEventLog(client, client, patient(client), length=1_000, ttl_seconds=60) for client in clients]
    target = _target()

    appended = await asyncio.gather(*(log.append(target, _bodies(2)) for log in logs for _ in range(10)))

    assert sorted(one.first for one in appended) == list(range(1, 60, 2))
    for client in clients:
        await client.aclose()


async def test_reading_pages_forward_and_backward(event_log: RedisEventLog) -> None:
    target = _target()
    bodies = _bodies(7)
    await event_log.append(target, bodies)

    forward = await event_log.read(target.feed, 2, 3)
    backward = await event_log.read_back(target.feed, None, 3)
    further = await event_log.read_back(target.feed, 5, 10)

    assert forward.items == [(3, bodies[2]), (4, bodies[3]), (5, bodies[4])]
    assert backward == [(7, bodies[6]), (6, bodies[5]), (5, bodies[4])]
    assert [seq for seq, _ in further] == [4, 3, 2, 1]
    assert await event_log.read_back(target.feed, 1, 10) == []
    assert (await event_log.read(target.feed, 7, 10)).items == []


async def test_a_read_ends_where_its_bytes_are_used_up(event_log: RedisEventLog) -> None:
    target = _target()
    third = b"x" * (READ_BYTES // 3)
    bodies = [b"small", third, third, third, b"", third, b"y" * 3 * READ_BYTES, b"last"]
    for body in bodies:
        await event_log.append(target, [body])

    reads: list[tuple[list[int], bool]] = []
    after = 0
    while after < len(bodies):
        found = await event_log.read(target.feed, after, 100)
        assert [body for _, body in found.items] == [bodies[seq - 1] for seq, _ in found.items]
        reads.append(([seq for seq, _ in found.items], found.is_cut))
        after = found.items[-1][0]

    # One that is larger than a read is read alone, and nothing is left out.
    assert reads == [([1, 2, 3], True), ([4, 5, 6], True), ([7], True), ([8], False)]


async def test_reading_back_ends_where_its_bytes_are_used_up(event_log: RedisEventLog) -> None:
    target = _target()
    for body in (b"first", b"y" * 3 * READ_BYTES, b"x" * READ_BYTES, b"last"):
        await event_log.append(target, [body])

    reads: list[list[int]] = []
    before: int | None = None
    while page := await event_log.read_back(target.feed, before, 100):
        reads.append([seq for seq, _ in page])
        before = page[-1][0]

    assert reads == [[4], [3], [2], [1]]


async def test_a_follower_that_lags_behind_by_too_many_bytes_is_told_to_read_the_log(event_log: RedisEventLog) -> None:
    target = _target()
    async with aclosing(event_log.follow(target.feed)) as follower:
        assert await anext(follower) is None
        await event_log.append(target, [b"x" * 3 * READ_BYTES])
        # Alone it may be of any size.
        assert [len(body) for _, body in await anext(follower) or ()] == [3 * READ_BYTES]

        for _ in range(3):
            await event_log.append(target, [b"x" * (READ_BYTES // 2)])
        await _quiet(event_log)

        # The third did not fit, so all are dropped; the log has them.
        assert await anext(follower) is None
        assert [seq for seq, _ in (await event_log.read(target.feed, 1, 10)).items] == [2, 3]
        await event_log.append(target, [b"next"])
        assert await anext(follower) == [(5, b"next")]


async def test_of_all_followers_the_furthest_behind_is_told_to_read_the_log(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.adapters.redis.followers._QUEUES_BYTES", 2_500)
    client = connect_redis(redis_url)
    log = RedisEventLog(client, client, patient(client), length=1_000, ttl_seconds=60)
    targets = [_target(), _target()]
    async with aclosing(log.follow(targets[0].feed)) as slow, aclosing(log.follow(targets[1].feed)) as quick:
        assert (await anext(slow), await anext(quick)) == (None, None)
        await log.append(targets[0], [b"x" * 1_000])
        await log.append(targets[0], [b"x" * 1_000])
        await log.append(targets[1], [b"y" * 600])
        await _quiet(log)

        assert await anext(slow) is None
        assert await anext(quick) == [(1, b"y" * 600)]
    assert log._followers.held.size_bytes == 0
    await log.aclose()
    await client.aclose()


async def _quiet(log: RedisEventLog) -> None:
    """Until everything that was announced so far has been handed to its followers."""
    target = _target()
    async with aclosing(log.follow(target.feed)) as follower:
        assert await anext(follower) is None
        await log.append(target, [b"mark"])
        assert await anext(follower) == [(1, b"mark")]


async def test_a_session_without_events_is_empty(event_log: RedisEventLog) -> None:
    found = await event_log.read(new_id(), 0, 10)

    assert (found.items, found.last_seq, found.is_cut) == ([], None, False)


async def test_old_events_are_trimmed_and_the_numbers_go_on(redis: Redis) -> None:
    log = RedisEventLog(redis, redis, patient(redis), length=100, ttl_seconds=60)
    target = _target()

    for _ in range(20):
        await log.append(target, _bodies(50))

    found = await log.read(target.feed, 0, 10_000)
    # Trimming is by whole nodes of the stream, about 100 entries each.
    assert 100 <= len(found.items) <= 300
    assert found.last_seq == 1_000
    assert found.items[0][0] == 1_001 - len(found.items)


async def test_the_stream_expires_before_the_counter(redis: Redis) -> None:
    log = RedisEventLog(redis, redis, patient(redis), length=100, ttl_seconds=3_600)
    target = _target()
    await log.append(target, _bodies(1))

    keys = sorted([key async for key in redis.scan_iter(match=f"*{{{target.session_id}}}*")])

    stream_ttl, counter_ttl = [await redis.ttl(key) for key in keys]
    assert 3_600 < stream_ttl <= 3_600 + RENEWED_AFTER_S < counter_ttl


async def test_erased_sessions_leave_nothing_behind(redis: Redis, event_log: RedisEventLog) -> None:
    target = _target()
    await event_log.append(target, _bodies(2))

    await event_log.erase(target.feed)

    assert [key async for key in redis.scan_iter(match=f"*{target.session_id}*")] == []


async def test_without_a_counter_a_session_that_may_have_had_events_needs_a_lease(event_log: RedisEventLog) -> None:
    target = _target(may_seed=False)

    with pytest.raises(SeqLeaseNeeded) as caught:
        await event_log.append(target, _bodies(1))

    assert caught.value.lost
    leased = EventTarget(target.feed, 10_000, 20_000, may_seed=True)
    assert (await event_log.append(leased, _bodies(1))).first == 10_001


async def test_a_batch_that_would_pass_the_ceiling_is_refused_whole(event_log: RedisEventLog) -> None:
    target = _target(ceiling=5)
    await event_log.append(target, _bodies(4))

    with pytest.raises(SeqLeaseNeeded) as caught:
        await event_log.append(target, _bodies(2))

    assert not caught.value.lost
    assert (await event_log.read(target.feed, 0, 10)).last_seq == 4
    assert (await event_log.append(target, _bodies(1))).first == 5
    raised = EventTarget(target.feed, 0, 10)
    assert (await event_log.append(raised, _bodies(2))).first == 6
    # Those who still hold the old ceiling profit from the raised one.
    assert (await event_log.append(target, _bodies(1))).first == 8


async def test_a_higher_floor_is_jumped_to_and_a_lower_one_ignored(event_log: RedisEventLog) -> None:
    target = _target()
    await event_log.append(target, _bodies(3))

    moved = EventTarget(target.feed, 10_007, 20_000)

    assert (await event_log.append(moved, _bodies(1))).first == 10_008
    assert (await event_log.append(target, _bodies(1))).first == 10_009


async def test_one_session_that_needs_a_lease_does_not_fail_the_others_in_its_batch(event_log: RedisEventLog) -> None:
    targets = [_target(may_seed=number % 2 == 0) for number in range(10)]

    outcomes = await asyncio.gather(
        *(event_log.append(target, _bodies(1)) for target in targets), return_exceptions=True
    )

    assert [isinstance(outcome, Appended) for outcome in outcomes] == [target.may_seed for target in targets]
    assert sum(isinstance(outcome, SeqLeaseNeeded) for outcome in outcomes) == 5


async def test_no_test_can_make_the_server_of_all_tests_forget(redis: Redis) -> None:
    for command in ("SCRIPT FLUSH", "FLUSHALL", "SWAPDB 0 1"):
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*command.split())


class TestFollowing:
    async def test_a_follower_is_told_when_it_listens_and_then_gets_every_event(self, event_log: RedisEventLog) -> None:
        target = _target()
        async with asyncio.timeout(WAIT_S), aclosing(event_log.follow(target.feed)) as live:  # type: ignore[type-var]  # a generator behind the protocol
            assert await anext(live) is None
            bodies = _bodies(5)
            for body in bodies:
                await event_log.append(target, [body])
            await event_log.append(target, bodies[:2])
            seen = [pair for _ in range(6) for pair in await anext(live) or ()]

        assert seen == [*enumerate(bodies, 1), (6, bodies[0]), (7, bodies[1])]

    async def test_followers_share_a_connection_and_see_only_their_session(
        self, event_log: RedisEventLog, redis: Redis
    ) -> None:
        targets = [_target() for _ in range(5)]
        before = len(await redis.client_list())
        async with asyncio.timeout(WAIT_S):
            streams = [event_log.follow(target.feed) for target in targets for _ in range(3)]
            assert [await anext(stream) for stream in streams] == [None] * 15
            assert len(await redis.client_list()) - before <= 1
            for target in targets:
                await event_log.append(target, [b'"type":"%b"}' % target.session_id.encode()])
            for number, stream in enumerate(streams):
                item = await anext(stream)
                while item is None:  # another reader of the session subscribed: read what you may have missed
                    item = await anext(stream)
                assert item == [(1, b'"type":"%b"}' % targets[number // 3].session_id.encode())]
            for stream in streams:
                await stream.aclose()  # type: ignore[attr-defined]  # a generator behind the protocol

    async def test_a_follower_that_left_and_one_that_comes_later_are_no_trouble(self, event_log: RedisEventLog) -> None:
        target = _target()
        async with asyncio.timeout(WAIT_S):
            for number in range(3):
                async with aclosing(event_log.follow(target.feed)) as live:  # type: ignore[type-var]  # as above
                    assert await anext(live) is None
                    await event_log.append(target, _bodies(1))
                    assert (await anext(live) or [])[0][0] == number + 1

    async def test_a_follower_that_is_too_slow_is_told_to_catch_up(self, event_log: RedisEventLog) -> None:
        target = _target()
        async with asyncio.timeout(WAIT_S), aclosing(event_log.follow(target.feed)) as live:  # type: ignore[type-var]  # as above
            assert await anext(live) is None
            async with aclosing(event_log.follow(target.feed)) as fast:  # type: ignore[type-var]  # as above
                assert await anext(fast) is None
                last = 0
                for _ in range(1_200):
                    await event_log.append(target, _bodies(1))
                    while last < (await event_log.read(target.feed, 10**9, 1)).last_seq:  # type: ignore[operator]  # numbered just now
                        for seq, _ in await anext(fast) or ():
                            last = seq
            items = [await anext(live)]
            while items[-1] is None or items[-1][-1][0] < 1_200:
                items.append(await anext(live))

        assert None in items
        assert last == 1_200

    async def test_a_follower_cancelled_while_it_subscribes_leaves_nothing_behind(
        self, event_log: RedisEventLog, redis: Redis
    ) -> None:
        target = _target()
        for delay in range(12):
            stream = event_log.follow(target.feed)
            task = asyncio.ensure_future(anext(stream))
            for _ in range(delay):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            await stream.aclose()  # type: ignore[attr-defined]  # a generator behind the protocol
        async with asyncio.timeout(WAIT_S), aclosing(event_log.follow(target.feed)) as live:  # type: ignore[type-var]  # as above
            assert await anext(live) is None
            await event_log.append(target, _bodies(1))
            item = await anext(live)
            while item is None:
                item = await anext(live)
        assert [seq for seq, _ in item] == [1]

        async def nobody_listens() -> bool:
            channels = await redis.pubsub_channels(f"*{target.session_id}*")
            return not channels

        await until(nobody_listens)


@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize(
    ("age", "is_older", "first"), [("1 minute", False, 1), ("1 minute", True, 10_001), ("11 minutes", False, 10_001)]
)
async def test_a_session_whose_maker_was_killed_before_its_first_event_has_a_log_without_a_hole(
    event_log: RedisEventLog, stores: Stores, has_key: bool, age: str, is_older: bool, first: int
) -> None:
    """Later the log may be gone for other reasons, and so it may be where it has forgotten something since the session
    was made: then its numbers were given out."""
    session, _ = await stores.create(new_session())
    session_id = session.session.id
    await stores.sql(
        b"UPDATE sessions SET created_at = now() - %(age)s::interval WHERE id = %(s)s", age=age, s=session_id
    )
    posted = await stores.post(session_id, idempotency=key("k", scope=session_id) if has_key else None)
    if not is_older:
        await event_log.ping()
        event_log._epoch = Epoch("00000000-0000-7000-8000-000000000000", event_log._epoch.sha)  # type: ignore[union-attr]  # found just now
    messages = await SessionEventPublisher(event_log, stores.sessions).publish(
        posted.target, [Event(EventType.MESSAGE_CREATED, {})]
    )
    assert [event["seq"] for event in envelopes(messages)] == [first]
