"""StreamingHandler on a real Redis: catch up, then live, with nothing missing and nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.redis.events import RedisEventLog
from shared.ids import new_id
from shared.sessions.events import (
    Appended,
    Event,
    EventLogUnavailable,
    EventTarget,
    EventType,
    FrameType,
    SessionEventPublisher,
    ended_event,
    frame,
    session_group,
)
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.live.open_streams import CHECK_S, OpenStreams
from shared.sessions.models import Concurrency, TurnStatus, Usage
from shared.sessions.records.steps import StepStart
from shared.sessions.records.turns import PostedMessage
from shared.sessions.streaming import StreamingHandler
from tests.integration.domain import (
    OWNER,
    READER,
    STRANGER,
    Stores,
    erase_session,
    new_session,
    open_streams,
    patient,
    result_of,
    streaming,
    utc_now,
    viewer_of,
)
from tests.integration.live.sse import Reader, concatenated

pytestmark = pytest.mark.integration


@pytest.fixture
def handler(event_log: RedisEventLog, stores: Stores) -> StreamingHandler:
    return streaming(event_log, stores)


async def _session(stores: Stores) -> EventTarget:
    record, _ = await stores.create(new_session())
    return replace(record.target, may_seed=True)


def _chunk(n: int) -> Event:
    return Event(EventType.STREAM_CHUNK, {"n": n})


async def test_readers_that_come_while_a_writer_writes_see_each_event_once(
    handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
) -> None:
    target = await _session(stores)
    total = 300

    async def write() -> None:
        for n in range(0, total, 3):
            await publisher.publish(target, [_chunk(n), _chunk(n + 1), _chunk(n + 2)])

    async def read(delay: int) -> list[int | None]:
        for _ in range(delay):
            await asyncio.sleep(0)
        async with aclosing(Reader(handler.session_events(viewer_of(target), 0))) as reader:
            await reader.until("stream.chunk", times=total)
        return [event.id for event in reader.events]

    async with asyncio.timeout(60):
        _, *seen = await asyncio.gather(write(), *(read(delay * 40) for delay in range(12)))

    assert seen == [list(range(1, total + 1))] * 12


async def test_a_reader_goes_on_after_the_number_it_names(
    handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
) -> None:
    target = await _session(stores)
    await publisher.publish(target, [_chunk(n) for n in range(6)])

    async with asyncio.timeout(20), aclosing(Reader(handler.session_events(viewer_of(target), 4))) as reader:
        await reader.until("stream.chunk", times=2)
        await publisher.publish(target, [_chunk(6)])
        await reader.until("stream.chunk")

    assert [(event.id, event.data["seq"], event.data["data"]["n"]) for event in reader.events] == [
        (5, 5, 4),
        (6, 6, 5),
        (7, 7, 6),
    ]


class _Away:
    """A log that cannot be reached."""

    async def append(self, target: EventTarget, bodies: Sequence[bytes]) -> Appended:
        raise EventLogUnavailable("away")


def _delta(posted: PostedMessage, index: int, text: str) -> Event:
    return frame(FrameType.CONTENT_DELTA, posted.turn.id, "m", index=index, text=text)


class Ticks:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


async def test_a_stream_ends_before_the_platform_cuts_it_and_goes_on_where_it_was(
    publisher: SessionEventPublisher, stores: Stores, event_log: RedisEventLog
) -> None:
    """The clock is read once at the beginning and once for each event: the fourth second is the fourth event."""
    target = await _session(stores)
    await publisher.publish(target, [_chunk(n) for n in range(8)])

    seen: list[list[int | None]] = []
    async with asyncio.timeout(20):
        while sum(map(len, seen)) < 8:
            handler = StreamingHandler(event_log, stores.turns, open_streams(stores), longest_s=4, clock=Ticks())
            after = (seen[-1][-1] or 0) if seen else 0
            async with aclosing(Reader(handler.session_events(viewer_of(target), after))) as reader:
                if len(seen) < 2:
                    await reader.rest()
                    assert reader.reconnects == 1
                else:
                    await reader.until("stream.chunk", times=2)
            seen.append([event.id for event in reader.events])

    assert seen == [[1, 2, 3], [4, 5, 6], [7, 8]]


async def test_a_turns_stream_that_ends_for_its_length_sends_no_end_and_goes_on(
    publisher: SessionEventPublisher, stores: Stores, event_log: RedisEventLog
) -> None:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    turn_id = posted.turn.id
    deltas = [
        frame(FrameType.CONTENT_DELTA, turn_id, start.message_id, message_id=start.message_id, delta=str(n))
        for n in range(4)
    ]
    begun = [
        Event(EventType.STREAM_STARTED, {}, turn_id),
        frame(FrameType.MESSAGE_START, turn_id, start.message_id, message_id=start.message_id, attempt=1),
    ]
    await publisher.publish(start.target, [*begun, *deltas])
    viewer = viewer_of(posted.target)

    async with asyncio.timeout(20):
        short = StreamingHandler(event_log, stores.turns, open_streams(stores), longest_s=5, clock=Ticks())
        async with aclosing(Reader(short.turn_stream(posted.turn, viewer, None))) as first:
            await first.rest()
        await publisher.publish(start.target, [ended_event(turn_id, TurnStatus.COMPLETED, Usage(), 1)])
        whole = streaming(event_log, stores)
        async with aclosing(Reader(whole.turn_stream(posted.turn, viewer, first.events[-1].id))) as second:
            await second.rest()

    assert (first.reconnects, second.reconnects) == (1, 0)
    assert "end" not in {event.name for event in first.events}
    told = [event.data["delta"] for event in (*first.events, *second.events) if event.name == "content_delta"]
    assert told == ["0", "1", "2", "3"]
    assert second.events[-1].name == "end"


async def test_a_log_that_no_longer_reaches_back_says_so(stores: Stores, event_log: RedisEventLog) -> None:
    short = RedisEventLog(event_log._redis, event_log._redis, patient(event_log._redis), length=100, ttl_seconds=60)
    target = await _session(stores)
    publisher = SessionEventPublisher(short, stores.sessions)
    for _ in range(10):
        await publisher.publish(target, [_chunk(n) for n in range(50)])

    page = await streaming(short, stores).replay(target.feed, 0, 10)

    assert page.gap is True
    assert len(page.items) == 10
    assert page.last_seq == 500
    follow_up = await streaming(short, stores).replay(target.feed, page.next_after, 1_000)
    assert (follow_up.gap, follow_up.next_after, follow_up.more) == (False, 500, False)


async def test_replay_pages_join_without_gap_or_overlap(
    handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
) -> None:
    target = await _session(stores)
    await publisher.publish(target, [_chunk(n) for n in range(7)])

    pages = [await handler.replay(target.feed, 0, 3)]
    while pages[-1].more:
        pages.append(await handler.replay(target.feed, pages[-1].next_after, 3))

    assert [len(page.items) for page in pages] == [3, 3, 1]
    assert [(page.gap, page.last_seq) for page in pages] == [(False, 7)] * 3
    beyond = await handler.replay(target.feed, 7, 3)
    assert (beyond.items, beyond.gap, beyond.next_after) == ([], False, 7)


async def test_a_reader_who_has_seen_more_than_the_log_still_has_is_told(
    handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
) -> None:
    target = await _session(stores)
    await publisher.publish(target, [_chunk(n) for n in range(7)])

    page = await handler.replay(target.feed, 12, 3)
    assert (page.items, page.gap, page.next_after, page.last_seq) == ([], True, 7, 7)
    async with asyncio.timeout(20), aclosing(Reader(handler.session_events(viewer_of(target), 12))) as reader:
        gap = await reader.next()
        await publisher.publish(target, [_chunk(7)])
        heard = await reader.next()
    assert (gap.name, gap.data) == ("gap", {"type": "gap", "after": 12, "next": 8})
    assert heard.id == 8


class TestWhoMayNoLongerRead:
    """Their streams end: nothing that is said later reaches them."""

    @pytest.fixture
    def streams(self, stores: Stores) -> OpenStreams:
        """They look when the test says so."""
        return open_streams(stores, check_s=600)

    @pytest.fixture
    def handler(self, event_log: RedisEventLog, stores: Stores, streams: OpenStreams) -> StreamingHandler:
        return StreamingHandler(event_log, stores.turns, streams)

    async def _shared(self, stores: Stores, *access: str) -> EventTarget:
        target = await _session(stores)
        for one in access:
            await stores.share(target.session_id, READER, one)
        return target

    async def _put_out(self, stores: Stores, target: EventTarget) -> None:
        await stores.sql(b"DELETE FROM session_participants WHERE session_id = %(s)s", s=target.session_id)

    async def test_a_stream_ends_before_the_first_event_after_a_look(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores, streams: OpenStreams
    ) -> None:
        target = await self._shared(stores, "read")
        await publisher.publish(target, [_chunk(1)])

        async with (
            asyncio.timeout(20),
            aclosing(Reader(handler.session_events(viewer_of(target, READER), 0))) as reader,
            aclosing(Reader(handler.session_events(viewer_of(target), 0))) as owner,
        ):
            await reader.until("stream.chunk")
            await self._put_out(stores, target)
            await streams.check()
            await publisher.publish(target, [_chunk(2)])
            await reader.rest()
            await owner.until("stream.chunk", times=2)

        assert [event.id for event in reader.events] == [1]
        assert [event.id for event in owner.events] == [1, 2]

    async def test_a_silent_stream_ends_by_itself(self, event_log: RedisEventLog, stores: Stores) -> None:
        """Well before its next heartbeat."""
        assert CHECK_S <= 1
        handler = StreamingHandler(event_log, stores.turns, open_streams(stores, check_s=0.02), keep_alive_s=600)
        target = await self._shared(stores, "read")

        async with (
            asyncio.timeout(20),
            aclosing(Reader(handler.session_events(viewer_of(target, READER), 0))) as reader,
        ):
            reading = asyncio.create_task(reader.rest())
            await asyncio.sleep(0.1)
            assert not reading.done()
            await self._put_out(stores, target)
            assert await reading == []

    async def test_a_turns_stream_ends_without_an_end_that_is_not_theirs_to_see(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores, streams: OpenStreams
    ) -> None:
        posted = await stores.turn()
        await stores.share(posted.turn.session_id, READER, "read")
        start = await stores.started(posted.turn.id)
        begun = [
            Event(EventType.STREAM_STARTED, {}, posted.turn.id),
            frame(FrameType.MESSAGE_START, posted.turn.id, start.message_id, message_id=start.message_id, attempt=1),
        ]
        await publisher.publish(start.target, begun)

        viewer = viewer_of(posted.target, READER)
        async with asyncio.timeout(20), aclosing(Reader(handler.turn_stream(posted.turn, viewer, None))) as reader:
            await reader.until("message_start")
            await self._put_out(stores, start.target)
            await streams.check()
            await stores.finish(posted.turn.id)
            await publisher.publish(start.target, [ended_event(posted.turn.id, TurnStatus.COMPLETED, Usage(), 1)])
            await reader.rest()

        assert [event.name for event in reader.events] == ["message_start"]

    @pytest.mark.parametrize("what", ["erased", "of another owner"])
    async def test_all_streams_of_a_session_end_with_it(
        self, handler: StreamingHandler, stores: Stores, erasing: SessionErasure, streams: OpenStreams, what: str
    ) -> None:
        target = await self._shared(stores, "read")
        other = await _session(stores)
        readers = [Reader(handler.session_events(viewer_of(target, user), 0)) for user in (OWNER, OWNER, READER)]
        unaffected = Reader(handler.session_events(viewer_of(other), 0))
        reading = [asyncio.create_task(reader.rest()) for reader in (*readers, unaffected)]
        if what == "erased":
            await erase_session(erasing, target.session_id)
        else:
            await self._put_out(stores, target)
            await stores.sql(b"UPDATE sessions SET owner_id = %(o)s WHERE id = %(s)s", o=STRANGER, s=target.session_id)
        await streams.check()

        async with asyncio.timeout(20):
            await asyncio.gather(*reading[:3])
        assert (streams.count(OWNER), streams.count(READER)) == (1, 0)
        assert not reading[3].done()
        reading[3].cancel()

    async def test_one_query_asks_for_all_streams_of_a_process(
        self, handler: StreamingHandler, stores: Stores, streams: OpenStreams, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        targets = [await self._shared(stores, "read") for _ in range(10)]
        viewers = [viewer_of(target, user) for target in targets for user in (OWNER, READER)] * 3
        reading = [asyncio.create_task(Reader(handler.session_events(viewer, 0)).rest()) for viewer in viewers]
        await asyncio.sleep(0)
        asked = 0
        fetch_all = PostgresPool.fetch_all

        async def counted(pool: PostgresPool, query: bytes, parameters: Mapping[str, Any]) -> list[Any]:
            nonlocal asked
            asked += 1
            return await fetch_all(pool, query, parameters)

        monkeypatch.setattr(PostgresPool, "fetch_all", counted)
        for _ in range(4):
            await streams.check()

        assert (len(reading), asked) == (60, 4)
        assert not any(task.done() for task in reading)
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        await streams.check()
        assert asked == 4, "nobody is asked for when nothing is open"

    @pytest.mark.parametrize("next_owner", [STRANGER, OWNER])
    async def test_a_later_session_of_the_same_id_is_not_in_the_stream_of_the_earlier(
        self,
        handler: StreamingHandler,
        publisher: SessionEventPublisher,
        stores: Stores,
        erasing: SessionErasure,
        event_log: RedisEventLog,
        streams: OpenStreams,
        next_owner: str,
    ) -> None:
        target = await _session(stores)
        await publisher.publish(target, [_chunk(1)])
        names_alone = StreamingHandler(event_log, stores.turns, open_streams(stores, check_s=600))

        async with (
            asyncio.timeout(20),
            aclosing(Reader(handler.session_events(viewer_of(target), 0))) as reader,
            aclosing(Reader(names_alone.session_events(viewer_of(target), 0))) as unasked,
        ):
            await reader.until("stream.chunk")
            await unasked.until("stream.chunk")
            await erase_session(erasing, target.session_id)
            record, _ = await stores.create(new_session(id=target.session_id), next_owner)
            await streams.check()
            told = await publisher.publish(replace(record.target, may_seed=True), [_chunk(n) for n in range(9)])
            await reader.rest()
            # Whatever else reached the old log would come before this.
            await event_log.append(replace(target, seq_floor=100), [_chunk(99).body(target.session_id)])
            await unasked.until("stream.chunk")

        assert [event.id for event in reader.events] == [1]
        assert [event.name for event in unasked.events] == ["stream.chunk", "session.ended", "gap", "stream.chunk"]
        assert unasked.events[-1].data["data"] == {"n": 99}
        assert {orjson.loads(message)["groupName"] for message in told} == {session_group(record.target.feed)}
        assert session_group(target.feed) != session_group(record.target.feed)


class TestTurnStream:
    async def _run(
        self, stores: Stores, publisher: SessionEventPublisher, posted: PostedMessage, texts: list[str]
    ) -> None:
        """The turn as the bridge and its orchestration run it: two attempts of one step, then the end."""
        turn_id = posted.turn.id
        for attempt in (1, 2):
            start = await stores.started(turn_id)
            first = [Event(EventType.STREAM_STARTED, {}, turn_id)] if attempt == 1 else []
            opening = frame(
                FrameType.MESSAGE_START, turn_id, start.message_id, message_id=start.message_id, attempt=attempt
            )
            await publisher.publish(start.target, [*first, opening])
            for index, text in enumerate(texts if attempt == 2 else ["dropped"]):
                delta = frame(FrameType.CONTENT_DELTA, turn_id, start.message_id, index=index, text=text)
                await publisher.publish(start.target, [delta])
        assert await stores.steps.save_step(result_of(start, content="".join(texts)))
        finished = await stores.finish(turn_id)
        await publisher.publish(
            finished.target, [ended_event(turn_id, TurnStatus.COMPLETED, finished.usage, finished.steps)]
        )

    async def _posted(self, stores: Stores, publisher: SessionEventPublisher) -> PostedMessage:
        posted = await stores.turn()
        message = posted.message.model_dump(mode="json", exclude_none=True)
        event = Event(EventType.MESSAGE_CREATED, message, posted.turn.id, posted.message.id)
        await publisher.publish(posted.target, [event])
        return posted

    @pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
    async def test_whenever_a_reader_comes_it_sees_the_turn_from_its_beginning(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores, when: str
    ) -> None:
        posted = await self._posted(stores, publisher)
        texts = [f"wörd {n} 🙂" for n in range(30)]
        reader = Reader(handler.turn_stream(posted.turn, viewer_of(posted.target), None))

        async with asyncio.timeout(30), aclosing(reader):
            if when == "after":
                await self._run(stores, publisher, posted, texts)
                current = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
                reader = Reader(handler.turn_stream(current, viewer_of(posted.target), None))
                await reader.rest()
            elif when == "meanwhile":
                await asyncio.gather(self._run(stores, publisher, posted, texts), reader.rest())
            else:
                reading = asyncio.create_task(reader.rest())
                await asyncio.sleep(0.05)  # so that it stands there before the turn begins
                await self._run(stores, publisher, posted, texts)
                await reading

        assert [event.name for event in reader.events] == [
            "message_start",
            "content_delta",
            "message_start",
            *["content_delta"] * 30,
            "end",
        ]
        assert concatenated(reader.events) == "".join(texts)
        numbers = [event.id for event in reader.events]
        assert all(number is not None for number in numbers)
        assert numbers == sorted(set(numbers), key=lambda number: number or 0)
        assert [event.data["attempt"] for event in reader.events if event.name == "message_start"] == [1, 2]
        assert [event.data["index"] for event in reader.events if event.name == "content_delta"] == [0, *range(30)]
        assert reader.events[-1].data == {
            "event": "end",
            "status": "completed",
            "usage": Usage(input_tokens=10, output_tokens=5).model_dump(),
            "steps": 1,
            "finish_reason": None,
        }

    @pytest.mark.parametrize("seen", [1, 5, 20])
    async def test_a_reader_that_was_cut_off_goes_on_where_it_was(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores, seen: int
    ) -> None:
        posted = await self._posted(stores, publisher)
        texts = [f"w{n} " for n in range(25)]
        await self._run(stores, publisher, posted, texts)
        turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

        async with asyncio.timeout(20):
            first = Reader(handler.turn_stream(turn, viewer_of(posted.target), None))
            for _ in range(seen):
                await first.next()
            await first.aclose()
            second = Reader(handler.turn_stream(turn, viewer_of(posted.target), first.events[-1].id))
            await second.rest()
            whole = await Reader(handler.turn_stream(turn, viewer_of(posted.target), None)).rest()

        assert [event.id for event in [*first.events, *second.events]] == [event.id for event in whole]

    async def test_a_reader_that_had_seen_the_end_is_told_so_at_once(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
    ) -> None:
        posted = await self._posted(stores, publisher)
        await self._run(stores, publisher, posted, ["a", "b"])
        turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

        async with asyncio.timeout(10):  # below the heartbeat, which would notice too
            whole = await Reader(handler.turn_stream(turn, viewer_of(posted.target), None)).rest()
            again = await Reader(handler.turn_stream(turn, viewer_of(posted.target), whole[-1].id)).rest()

        assert [event.name for event in again] == ["end"]

    async def test_a_reader_that_saw_all_the_log_was_told_of_gets_the_rest_from_the_store(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
    ) -> None:
        """The log was away until the turn had ended: nothing in it says that anything is missing."""
        posted = await self._posted(stores, publisher)
        begun = [Event(EventType.STREAM_STARTED, {}, posted.turn.id), _delta(posted, 0, "a")]
        await publisher.publish(posted.target, begun)
        await self._run(stores, SessionEventPublisher(_Away(), stores.sessions), posted, ["a", "b"])
        turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
        newest = (await handler.replay(posted.target.feed, 0, 100)).last_seq

        async with asyncio.timeout(10):
            events = await Reader(handler.turn_stream(turn, viewer_of(posted.target), newest)).rest()

        assert concatenated(events) == "ab"
        assert events[-1].name == "end"

    async def test_a_number_the_log_never_gave_gets_the_stored_answer(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
    ) -> None:
        posted = await self._posted(stores, publisher)
        await self._run(stores, publisher, posted, ["a", "b"])
        turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

        async with asyncio.timeout(10):
            events = await Reader(handler.turn_stream(turn, viewer_of(posted.target), 5_000)).rest()

        assert concatenated(events) == "ab"

    async def test_only_the_frames_of_that_turn_come(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
    ) -> None:
        first = await self._posted(stores, publisher)
        await self._run(stores, publisher, first, ["first"])
        message = await stores.post(first.message.session_id, concurrency=Concurrency.ENQUEUE)
        await publisher.publish(
            message.target, [Event(EventType.MESSAGE_CREATED, {"id": message.message.id}, message.turn.id)]
        )
        await self._run(stores, publisher, message, ["second"])

        for posted, text in ((first, "first"), (message, "second")):
            turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
            async with asyncio.timeout(20):
                assert (
                    concatenated(await Reader(handler.turn_stream(turn, viewer_of(posted.target), None)).rest()) == text
                )

    async def test_a_turn_the_log_no_longer_holds_comes_from_the_store(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores, event_log: RedisEventLog
    ) -> None:
        posted = await self._posted(stores, publisher)
        await self._run(stores, publisher, posted, ["a", "b"])
        await event_log.erase(posted.target.feed)
        turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

        async with asyncio.timeout(20):
            events = await Reader(handler.turn_stream(turn, viewer_of(posted.target), None)).rest()

        assert [event.name for event in events] == ["message_start", "content_delta", "message_end", "end"]
        assert concatenated(events) == "ab"
        assert events[0].data["attempt"] > 2
        assert all(event.id is None for event in events)

    async def test_what_an_instance_with_a_slow_clock_stored_comes_from_the_store_too(
        self, handler: StreamingHandler, stores: Stores, event_log: RedisEventLog
    ) -> None:
        posted = await stores.turn()
        behind = posted.turn.created_at - timedelta(seconds=5)
        start = await stores.steps.begin_step(posted.turn.id, 1, message_id=new_id(), now=behind, quiet_until=behind)
        assert isinstance(start, StepStart)
        assert await stores.steps.save_step(result_of(start, content="the answer"))
        await stores.finish(posted.turn.id)
        later = await stores.post(posted.turn.session_id)
        await stores.answer(later.turn.id, content="another answer")
        await stores.finish(later.turn.id)
        turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)

        async with asyncio.timeout(20):
            events = await Reader(handler.turn_stream(turn, viewer_of(posted.target), None)).rest()

        assert [event.name for event in events] == ["message_start", "content_delta", "message_end", "end"]
        assert concatenated(events) == "the answer"

    async def test_a_queued_turn_that_was_cancelled_ends_without_frames(
        self, handler: StreamingHandler, publisher: SessionEventPublisher, stores: Stores
    ) -> None:
        running = await self._posted(stores, publisher)
        queued = await stores.post(running.message.session_id, concurrency=Concurrency.ENQUEUE)
        await publisher.publish(
            queued.target, [Event(EventType.MESSAGE_CREATED, {"id": queued.message.id}, queued.turn.id)]
        )
        reader = Reader(handler.turn_stream(queued.turn, viewer_of(queued.target), None))
        async with asyncio.timeout(20):
            reading = asyncio.create_task(reader.rest())
            await stores.turns.cancel(queued.turn.session_id, queued.turn.id, OWNER, now=utc_now())
            await publisher.publish(queued.target, [ended_event(queued.turn.id, TurnStatus.CANCELLED, Usage(), 0)])
            await reading

        assert [(event.name, event.data["status"]) for event in reader.events] == [("end", "cancelled")]
