"""What the event log, its publisher and its readers do while a real server is stopped, restarted or frozen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from devhost.servers import Valkey
from shared.adapters.redis.events import RedisEventLog
from shared.adapters.redis.guard import RedisGuard
from shared.adapters.redis.metrics import RedisMetrics
from shared.sessions import models
from shared.sessions.events import (
    Event,
    EventLogUnavailable,
    EventTarget,
    EventType,
    FrameType,
    SessionEventPublisher,
    ended_event,
    frame,
)
from shared.sessions.measuring.catalogue import SESSION_CREATED
from shared.sessions.measuring.sharing import MetricsUnavailable, SharedMetrics
from shared.sessions.metrics import MetricsCollector
from shared.sessions.models import TurnStatus
from shared.sessions.records.steps import StepStart
from tests.integration.domain import (
    WAIT_S,
    Stores,
    connect_redis,
    envelopes,
    new_session,
    result_of,
    streaming,
    viewer_of,
)
from tests.integration.live.sse import Reader, concatenated

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Server:
    """A Valkey of one's own, to be stopped and started."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: Valkey | None = None
        self.url = ""

    async def start(self, *, keep_data: bool = False) -> None:
        self._running = Valkey(self._folder, fast=not keep_data)
        await self._stack.enter_async_context(self._running)
        assert self.url in {"", self._running.url}, "it came back somewhere else"
        self.url = self._running.url

    async def stop(self) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Connected, and silent."""
        assert self._running is not None
        assert self._running.pid is not None
        os.kill(self._running.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._running.pid, signal.SIGCONT)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with AsyncExitStack() as stack:
        yield Server(tmp_path / "valkey", stack)


@asynccontextmanager
async def log_on(server: Server, *, socket_timeout: float = 2.0) -> AsyncIterator[RedisEventLog]:
    """An event log as the composition root makes it; dropped without asking the server."""
    redis = connect_redis(server.url, socket_timeout=socket_timeout)
    listening = connect_redis(server.url, socket_timeout=None)
    log = RedisEventLog(redis, listening, length=10_000, ttl_seconds=3_600)
    try:
        yield log
    finally:
        await log.aclose()
        await redis.aclose()
        await listening.aclose()


async def _target(stores: Stores) -> EventTarget:
    """Of a session that is new."""
    record, _ = await stores.create(new_session())
    return replace(record.target, may_seed=True)


def _events(count: int) -> list[Event]:
    return [Event(EventType.STREAM_CHUNK, {"n": n}) for n in range(count)]


def _numbers(messages: list[bytes]) -> list[int]:
    return [event["seq"] for event in envelopes(messages)]


@pytest.mark.parametrize("keep_data", [True, False])
async def test_numbers_never_repeat_and_never_go_back_over_a_restart(
    server: Server, stores: Stores, keep_data: bool
) -> None:
    target = await _target(stores)
    await server.start(keep_data=keep_data)
    async with log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        numbers = _numbers(await publisher.publish(target, _events(3)))
        await server.stop()

        numbers += _numbers(await publisher.publish(target, _events(2)))
        numbers += _numbers(await publisher.publish(target, _events(2)))
        await server.start(keep_data=keep_data)
        numbers += _numbers(await publisher.publish(target, _events(2)))

        # Another process, which knows only the session's row.
        other = SessionEventPublisher(log, stores.sessions)
        fresh = (await stores.sessions.get(target.session_id, "ann")).target
        numbers += _numbers(await other.publish(fresh, _events(2)))
        # ... and one that read the row before any of this happened.
        stale = SessionEventPublisher(log, stores.sessions)
        numbers += _numbers(await stale.publish(replace(target, may_seed=False), _events(2)))

    assert numbers == sorted(set(numbers))
    assert numbers[:3] == [1, 2, 3]
    assert numbers[3] > 10_000


@pytest.mark.parametrize("knows", ["who wrote them", "who read them", "who heard them"])
async def test_numbers_are_not_given_out_again_when_a_replica_is_promoted_late(
    server: Server, stores: Stores, knows: str
) -> None:
    target = await _target(stores)
    await server.start()
    async with log_on(server) as log, log_on(server) as other, aclosing(other.follow(target.feed)) as live:
        publisher = SessionEventPublisher(log, stores.sessions)
        assert await anext(live) is None
        await publisher.publish(target, _events(3))
        redis = connect_redis(server.url)
        kept = {key: await redis.dump(key) for key in await redis.keys("*")}
        numbers = _numbers(await publisher.publish(target, _events(3)))
        for _ in range(2):
            await anext(live)
        if knows == "who read them":
            other._known = log._known.__class__()
            await other.read(target.feed, 0, 100)
        for key, value in kept.items():
            await redis.restore(key, 0, value, replace=True)
        await redis.aclose()

        behind = publisher if knows == "who wrote them" else SessionEventPublisher(other, stores.sessions)
        again = _numbers(await behind.publish(replace(target, may_seed=False), _events(2)))
        found = await other.read(target.feed, 3, 100)

    assert numbers == [4, 5, 6]
    assert again[0] > 10_000, "beyond all that was leased, so that readers see a hole"
    assert [seq for seq, _ in found.items] == again


@pytest.mark.parametrize("kept_counter", [True, False])
async def test_numbers_are_not_given_out_again_when_nobody_is_left_who_knew_them(
    server: Server, stores: Stores, kept_counter: bool
) -> None:
    """A replica is promoted late while every process of the app is started again. It may not even know the session."""
    target = await _target(stores)
    await server.start()
    async with log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        await log.ping()
        if kept_counter:
            await publisher.publish(target, _events(3))
        redis = connect_redis(server.url)
        kept = {key: await redis.dump(key) for key in await redis.keys("*")}
        given = _numbers(await publisher.publish(target, _events(3)))
        await redis.flushall()
        for key, value in kept.items():
            await redis.restore(key, 0, value)
        await redis.script_flush()
        await redis.aclose()
    async with log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        posted = (await stores.post(target.session_id)).target
        again = _numbers(await publisher.publish(posted, _events(2)))
        later = _numbers(await publisher.publish(replace(target, may_seed=False), _events(2)))

    assert given[-1] < 10
    assert again[0] > 10_000
    assert later == [again[-1] + 1, again[-1] + 2], "once, not with every event"


async def test_an_old_process_and_a_new_one_number_together_after_everything_was_forgotten(
    server: Server, stores: Stores
) -> None:
    target = replace(await _target(stores), may_seed=False)
    await server.start()
    async with log_on(server) as old, log_on(server) as new:
        before, after = (SessionEventPublisher(log, stores.sessions) for log in (old, new))
        await old.append(replace(target, may_seed=True), [b"x"])
        redis = connect_redis(server.url)
        await redis.flushall()
        await redis.aclose()
        numbers = [
            number
            for one in (after, before, after, before, after)
            for number in _numbers(await one.publish(target, _events(1)))
        ]

    assert numbers == sorted(set(numbers))
    assert numbers[0] > 10_000
    assert [later - earlier for earlier, later in pairwise(numbers)][2:] == [1, 1]


async def test_a_reader_sees_the_hole_of_events_after_which_none_came(server: Server, stores: Stores) -> None:
    target = await _target(stores)
    await server.start()
    async with log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions, tell_again_s=0.05)
        await publisher.publish(target, _events(3))
        await server.stop()
        last = _numbers(await publisher.publish(target, _events(2)))[-1]
        await server.start(keep_data=True)
        await log._guard.settled()
        handler = streaming(log, stores)
        async with asyncio.timeout(WAIT_S), aclosing(Reader(handler.session_events(viewer_of(target), 3))) as reader:
            gap = await reader.until("gap")
        told = await handler.replay(target.feed, 3, 10)

    assert gap.data == {"type": "gap", "after": 3, "next": last + 1}
    assert (told.items, told.gap, told.last_seq) == ([], True, last)


async def test_replay_tells_that_events_were_lost_with_the_data(server: Server, stores: Stores) -> None:
    target = await _target(stores)
    await server.start()
    async with log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        handler = streaming(log, stores)
        await publisher.publish(target, _events(3))
        assert (await handler.replay(target.feed, 1, 10)).gap is False
        await server.stop()
        stopped = await handler.replay(target.feed, 1, 10)
        await server.start()
        await log._guard.settled()
        emptied = await handler.replay(target.feed, 1, 10)
        await publisher.publish((await stores.sessions.get(target.session_id, "ann")).target, _events(2))
        moved_on = await handler.replay(target.feed, 1, 10)

    assert (stopped.items, stopped.gap, stopped.next_after) == ([], True, 1)
    assert (emptied.items, emptied.gap) == ([], True)
    assert (len(moved_on.items), moved_on.gap, moved_on.next_after) == (2, True, moved_on.last_seq)
    assert moved_on.last_seq > 10_000


async def test_a_server_that_answers_too_late_keeps_no_batch_twice(server: Server, stores: Stores) -> None:
    target = await _target(stores)
    await server.start()
    async with log_on(server, socket_timeout=0.5) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        numbers = _numbers(await publisher.publish(target, _events(1)))
        async with server.frozen():
            slow = asyncio.create_task(publisher.publish(target, _events(2)))
            # Until the client has given up on its first try and begun the second; then both arrive.
            await asyncio.sleep(0.7)
        numbers += _numbers(await slow)
        await log._guard.settled()
        numbers += _numbers(await publisher.publish(target, _events(1)))
        bodies = [body for _, body in (await log.read(target.feed, 0, 100)).items]

    assert numbers == sorted(set(numbers))
    assert len(bodies) == len(set(bodies)), "a batch is in the log twice"


async def test_a_follower_is_told_when_the_server_goes_and_can_come_back(server: Server, stores: Stores) -> None:
    target = await _target(stores)
    await server.start(keep_data=True)
    async with asyncio.timeout(WAIT_S), log_on(server) as log:
        live = log.follow(target.feed)
        assert await anext(live) is None
        await server.stop()
        with pytest.raises(EventLogUnavailable):
            await _drain(live)
        with pytest.raises(EventLogUnavailable):
            await anext(log.follow(target.feed))

        await server.start(keep_data=True)
        await log._guard.settled()
        again = log.follow(target.feed)
        assert await anext(again) is None
        await SessionEventPublisher(log, stores.sessions).publish(target, _events(1))
        item = await anext(again)
        assert item is not None
        assert len(item) == 1
        await again.aclose()  # type: ignore[attr-defined]  # a generator behind the protocol


async def _drain(live: AsyncIterator[object]) -> None:
    async for _ in live:
        pass


class Turn:
    """A turn that is written by hand, a piece at a time."""

    def __init__(self, stores: Stores, publisher: SessionEventPublisher, start: StepStart) -> None:
        self._stores = stores
        self._publisher = publisher
        self.start = start
        self._texts: list[str] = []

    async def publish(self, *events: Event) -> None:
        await self._publisher.publish(self.start.target, list(events))

    async def write(self, text: str) -> None:
        index = len(self._texts)
        self._texts.append(text)
        await self.publish(
            frame(FrameType.CONTENT_DELTA, self.start.turn_id, self.start.message_id, index=index, text=text)
        )

    async def write_past_the_log(self, text: str) -> None:
        """As the publisher does while the server is away: numbered by the database, kept nowhere."""
        self._texts.append(text)
        moved = await self._stores.sessions.allocate(self.start.target, 1)
        self.start = replace(self.start, target=moved)

    async def end(self) -> str:
        """Store the answer and end the turn; returns the text."""
        text = "".join(self._texts)
        assert await self._stores.steps.save_step(result_of(self.start, content=text))
        finished = await self._stores.finish(self.start.turn_id)
        await self.publish(ended_event(self.start.turn_id, TurnStatus.COMPLETED, finished.usage, finished.steps))
        return text


async def _streaming_turn(stores: Stores, publisher: SessionEventPublisher) -> tuple[Turn, models.Turn]:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    turn = Turn(stores, publisher, start)
    await turn.publish(
        Event(EventType.STREAM_STARTED, {}, start.turn_id),
        frame(FrameType.MESSAGE_START, start.turn_id, start.message_id, message_id=start.message_id, attempt=1),
    )
    return turn, posted.turn


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_turn_read_while_the_log_is_lost_still_ends_with_the_stored_answer(
    server: Server, stores: Stores, comes_back: bool
) -> None:
    await server.start()
    async with asyncio.timeout(60), log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        turn, row = await _streaming_turn(stores, publisher)
        await turn.write("one ")
        async with aclosing(
            Reader(streaming(log, stores).turn_stream(row, viewer_of(turn.start.target), None))
        ) as reader:
            await reader.until("content_delta")
            await server.stop()
            await turn.write("two ")
            if comes_back:
                await server.start()
            await turn.write("three")
            text = await turn.end()
            await reader.until("end")

    assert text == "one two three"
    assert concatenated(reader.events) == text
    end = reader.events[-1]
    assert (end.data["status"], end.data["steps"]) == ("completed", 1)


async def test_a_restart_between_two_deltas_does_not_hide_the_lost_one(server: Server, stores: Stores) -> None:
    """The reader's connection heals by itself, so nothing but the numbers says that a delta is missing."""
    await server.start()
    async with asyncio.timeout(60), log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        turn, row = await _streaming_turn(stores, publisher)
        await turn.write("one ")
        async with aclosing(
            Reader(streaming(log, stores).turn_stream(row, viewer_of(turn.start.target), None))
        ) as reader:
            await reader.until("content_delta")
            await turn.write_past_the_log("two ")
            await turn.write("three")
            text = await turn.end()
            await reader.until("end")

    assert text == "one two three"
    assert concatenated(reader.events) == text


async def test_a_reader_of_the_session_is_told_of_the_hole(server: Server, stores: Stores) -> None:
    target = await _target(stores)
    await server.start(keep_data=True)
    async with asyncio.timeout(60), log_on(server) as log:
        publisher = SessionEventPublisher(log, stores.sessions)
        await publisher.publish(target, _events(2))
        async with aclosing(Reader(streaming(log, stores).session_events(viewer_of(target), 0))) as reader:
            await reader.until("stream.chunk", times=2)
            moved = await stores.sessions.allocate(target, 3)
            await publisher.publish(moved, _events(1))
            await reader.until("stream.chunk")

    gap, event = reader.events[-2:]
    assert (gap.name, gap.id, gap.data) == ("gap", None, {"type": "gap", "after": 2, "next": event.id})
    assert orjson.loads(event.raw)["seq"] == event.id == moved.seq_floor + 1


async def test_counts_survive_an_outage_and_a_flush_whose_answer_was_lost_counts_once(server: Server) -> None:
    await server.start(keep_data=True)
    redis = connect_redis(server.url, socket_timeout=0.3)
    collector = MetricsCollector()
    guard = RedisGuard(redis)
    shared = SharedMetrics(collector, RedisMetrics(redis, guard))
    collector.count(SESSION_CREATED)
    await redis.ping()  # a connection that stands: the flush is the next thing the server will read
    async with server.frozen():
        # The server has the flush, and does it as soon as it goes on; nobody hears of that.
        with pytest.raises(MetricsUnavailable):
            await shared.flush()
        collector.count(SESSION_CREATED)
    await guard.settled()
    assert await shared.totals() == {"session_created_total": 2}

    await server.stop()
    for _ in range(2):
        collector.count(SESSION_CREATED)
        with pytest.raises(MetricsUnavailable):
            await shared.flush()
    await server.start(keep_data=True)
    await guard.settled()
    assert await shared.totals() == {"session_created_total": 4}
    await redis.aclose()
