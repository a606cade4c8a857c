"""DoorReader on a real event log and real rows: where a stream ends, goes on, and what it says without the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta

import orjson
import pytest

from shared.adapters.redis.events import RedisEventLog
from shared.ids import new_id
from shared.sessions.approvals.voting import public_approval
from shared.sessions.doors.reader import DoorReader, Told
from shared.sessions.events import Event, EventType, FrameType, SessionEventPublisher, ended_event, frame
from shared.sessions.models import (
    Concurrency,
    JsonObject,
    ToolCallStatus,
    ToolWait,
    TurnStatus,
    Usage,
    WaitKind,
    WaitStatus,
)
from shared.sessions.records.approvals import ApprovalRecord
from shared.sessions.records.steps import ProposedCall, StepStart
from shared.sessions.records.turns import PostedMessage
from shared.sessions.records.waits import AnswerRecord, NewWait
from shared.sessions.streaming import StreamingHandler
from shared.sessions.waits.telling import answered_event, waiting_event
from tests.integration.domain import OWNER, Stores, call, open_streams, streaming, utc_now, viewer_of, vote_on
from tests.integration.live.test_streaming import Ticks

pytestmark = pytest.mark.integration


class Plain:
    """A door that says what it was told, in words."""

    heartbeat = b"-\n"
    closing = b'"closed"\n'

    def begin(self) -> Sequence[JsonObject]:
        return [{"said": "begin"}]

    def event(self, envelope: JsonObject) -> Sequence[JsonObject]:
        frame = envelope["data"].get("frame")
        return [{"said": envelope["type"] if frame is None else frame["type"], "text": (frame or {}).get("text")}]

    def waiting(self) -> Sequence[JsonObject]:
        return [{"said": "waiting"}]

    def cut(self) -> Sequence[JsonObject]:
        return [{"said": "cut"}]

    def encode(self, part: JsonObject) -> bytes:
        return orjson.dumps(part) + b"\n"


async def read(reader: DoorReader, posted: PostedMessage, told: Told | None = None) -> list[str]:
    """All that a stream says, without its heartbeats."""
    said: list[str] = []
    async with asyncio.timeout(20):
        turn = posted.turn
        async with aclosing(reader.stream(Plain(), turn, viewer_of(posted.target), told)) as stream:
            async for piece in stream:
                if piece != Plain.heartbeat:
                    part = orjson.loads(piece)
                    said.append(part if isinstance(part, str) else part["said"])
    return said


@pytest.fixture
def reader(event_log: RedisEventLog, stores: Stores) -> DoorReader:
    return DoorReader(streaming(event_log, stores), stores.approvals, stores.turns)


ANSWER = ["message_start", "content_delta", "tool_call", "message_end"]


class Asked:
    """A turn whose first answer calls a tool that waits for a person."""

    def __init__(self, stores: Stores, publisher: SessionEventPublisher) -> None:
        self.stores = stores
        self.publisher = publisher
        self.call: ProposedCall = call("http_request", {"url": "http://a.test/"}, needs_approval=True)
        self.posted: PostedMessage
        self.start: StepStart
        self.approval: ApprovalRecord

    async def ask(self) -> Asked:
        self.posted = await self.stores.turn()
        self.start = await self.stores.answer(self.posted.turn.id, content="Let me ask.", calls=[self.call])
        await self.publisher.publish(self.start.target, [Event(EventType.STREAM_STARTED, {}, self.posted.turn.id)])
        await self.tell_answer()
        self.approval = await self.stores.request_approval(self.call)
        await self.tell(EventType.TOOL_CALL_PENDING)
        return self

    async def tell_answer(self) -> None:
        turn_id, message_id = self.posted.turn.id, self.start.message_id
        await self.publisher.publish(
            self.start.target,
            [
                frame(FrameType.MESSAGE_START, turn_id, message_id, message_id=message_id, attempt=1),
                frame(FrameType.CONTENT_DELTA, turn_id, message_id, index=0, text="Let me ask."),
                frame(FrameType.TOOL_CALL, turn_id, message_id, id=self.call.id, name=self.call.name, arguments={}),
                frame(FrameType.MESSAGE_END, turn_id, message_id, message_id=message_id, finish_reason="tool_calls"),
            ],
        )

    async def tell(self, kind: EventType) -> None:
        approval = public_approval(self.approval).model_dump(mode="json")
        event = Event(kind, {"approval": approval, "tool_call_id": self.call.id}, self.posted.turn.id)
        await self.publisher.publish(self.start.target, [event])

    async def decide(self) -> None:
        assert await self.stores.decide(self.approval, vote_on(self.approval))

    async def run(self) -> None:
        """The call ends, and with it the turn."""
        await self.stores.tool_result(self.call.id)
        await self.stores.finish(self.posted.turn.id)

    async def tell_run(self) -> None:
        result = {"id": self.call.id, "name": self.call.name, "status": ToolCallStatus.COMPLETED, "result": {}}
        turn_id = self.posted.turn.id
        done = Event(EventType.TOOL_CALL_COMPLETED, {"tool_call": result}, turn_id)
        await self.publisher.publish(self.start.target, [done, ended_event(turn_id, TurnStatus.COMPLETED, Usage(), 1)])


@pytest.fixture
async def asked(stores: Stores, publisher: SessionEventPublisher) -> Asked:
    return await Asked(stores, publisher).ask()


async def test_a_stream_ends_where_people_alone_can_go_on(reader: DoorReader, asked: Asked) -> None:
    said = await read(reader, asked.posted)

    assert said == ["begin", "stream.started", *ANSWER, "tool_call.pending", "waiting", "closed"]


async def test_what_is_told_of_an_approval_while_it_waits_is_told_before_the_end(
    reader: DoorReader, asked: Asked, publisher: SessionEventPublisher
) -> None:
    """A vote of two, and then something that is not of this turn."""
    await asked.tell(EventType.TOOL_CALL_PENDING)
    await publisher.publish(asked.start.target, [Event(EventType.SESSION_ACTIVATED, {})])

    said = await read(reader, asked.posted)

    assert said[-4:] == ["tool_call.pending", "tool_call.pending", "waiting", "closed"]


async def test_whoever_decided_goes_on_from_the_decision(reader: DoorReader, asked: Asked) -> None:
    await asked.decide()
    told = Told(decided=frozenset({asked.approval.id}))
    going_on = asyncio.create_task(read(reader, asked.posted, told))
    await asked.tell(EventType.TOOL_CALL_APPROVED)
    await asked.run()
    await asked.tell_run()

    after = ["tool_call.approved", "tool_call.completed", "stream.ended", "closed"]
    assert await going_on == ["begin", *after]
    whole = ["begin", "stream.started", *ANSWER, "tool_call.pending", *after]
    assert await read(reader, asked.posted) == whole, "that it waited is in the past"


async def test_whoever_has_had_a_part_goes_on_after_its_number(reader: DoorReader, asked: Asked) -> None:
    events = await asked_events(reader, asked)
    pending = next(event["seq"] for event in events if event["type"] == "tool_call.pending")

    assert await read(reader, asked.posted, Told(after=pending - 1)) == [
        "begin",
        "tool_call.pending",
        "waiting",
        "closed",
    ]
    assert await read(reader, asked.posted, Told(after=pending)) == ["begin", "waiting", "closed"]


async def asked_events(reader: DoorReader, asked: Asked) -> list[JsonObject]:
    page = await reader._streaming.replay(asked.start.target.feed, 0, 100)
    return [orjson.loads(item) for item in page.items]


async def test_a_repeated_answer_is_told_once(reader: DoorReader, asked: Asked) -> None:
    await asked.tell_answer()

    assert (await read(reader, asked.posted)).count("content_delta") == 1


async def test_without_the_log_the_store_says_what_waits(
    reader: DoorReader, asked: Asked, event_log: RedisEventLog
) -> None:
    await event_log.erase(asked.start.target.feed)

    assert await read(reader, asked.posted) == ["begin", *ANSWER, "tool_call.pending", "waiting", "closed"]


async def test_without_the_log_whoever_decided_goes_on_from_the_outcome(
    reader: DoorReader, asked: Asked, event_log: RedisEventLog
) -> None:
    await asked.decide()
    await asked.run()
    await event_log.erase(asked.start.target.feed)

    told = Told(decided=frozenset({asked.approval.id}))
    assert await read(reader, asked.posted, told) == ["begin", "tool_call.completed", "stream.ended", "closed"]
    assert await read(reader, asked.posted) == ["begin", *ANSWER, "tool_call.completed", "stream.ended", "closed"]


async def test_a_log_that_is_lost_in_mid_stream_leaves_nothing_out_and_nothing_twice(
    reader: DoorReader, asked: Asked, stores: Stores, event_log: RedisEventLog
) -> None:
    """The decision is stored and its event is not told, so the stream does not end there, and reads on."""
    await asked.decide()
    said: list[str] = []
    async with (
        asyncio.timeout(20),
        aclosing(reader.stream(Plain(), asked.posted.turn, viewer_of(asked.posted.target))) as stream,
    ):
        async for piece in stream:
            part = orjson.loads(piece)
            said.append(part if isinstance(part, str) else part["said"])
            if said[-1] == "tool_call.pending":
                await asked.run()
                await event_log.erase(asked.start.target.feed)
                # Numbered above all that were given, as after a Redis that lost its memory.
                await stores.sql(
                    b"UPDATE sessions SET event_seq_floor = 10000 WHERE id = %(s)s", s=asked.posted.turn.session_id
                )
                record = await stores.sessions.get(asked.posted.turn.session_id, "ann")
                await SessionEventPublisher(event_log, stores.sessions).publish(
                    record.target, [Event(EventType.SESSION_ACTIVATED, {})]
                )

    assert said == [
        *("begin", "stream.started"),
        *ANSWER,
        *("tool_call.pending", "tool_call.completed", "stream.ended", "closed"),
    ]


async def test_a_stream_that_is_open_for_long_says_that_it_is_cut(
    asked: Asked, event_log: RedisEventLog, stores: Stores
) -> None:
    handler = StreamingHandler(event_log, stores.turns, open_streams(stores), longest_s=3, clock=Ticks())

    said = await read(DoorReader(handler, stores.approvals, stores.turns), asked.posted)

    assert said[-2:] == ["cut", "closed"]
    assert "waiting" not in said


class Located:
    """A turn whose first answer calls a tool that waits for its user's client, or for a result from elsewhere."""

    def __init__(self, stores: Stores, publisher: SessionEventPublisher, kind: WaitKind) -> None:
        self.stores, self.publisher, self.kind = stores, publisher, kind
        self.call = call("locate", {}, is_client=kind is WaitKind.CLIENT)
        self.posted: PostedMessage
        self.start: StepStart
        self.new: NewWait

    async def ask(self) -> Located:
        self.posted = await self.stores.turn()
        self.start = await self.stores.answer(self.posted.turn.id, content="Let me see.", calls=[self.call])
        turn_id, message_id, now = self.posted.turn.id, self.start.message_id, utc_now()
        told = [
            Event(EventType.STREAM_STARTED, {}, turn_id),
            frame(FrameType.MESSAGE_START, turn_id, message_id, message_id=message_id, attempt=1),
            frame(FrameType.TOOL_CALL, turn_id, message_id, id=self.call.id, name="locate", arguments={}),
            frame(FrameType.MESSAGE_END, turn_id, message_id, message_id=message_id, finish_reason="tool_calls"),
        ]
        await self.publisher.publish(self.start.target, told)
        wait = ToolWait(
            id=new_id(),
            tool_call_id=self.call.id,
            tool="locate",
            kind=self.kind,
            status=WaitStatus.PENDING,
            asked_by=None,
            asked_of=OWNER,
            questions=[],
            opened_at=now,
            expires_at=now + timedelta(hours=1),
        )
        self.new = NewWait(wait.id, self.call.id, turn_id, 1, wait, None)
        assert await self.stores.waits.open(self.new, [])
        await self.publisher.publish(self.start.target, [waiting_event(wait, turn_id, message_id)])
        return self

    async def answer(self) -> None:
        record = await self.stores.waits.of_call(self.call.id)
        assert record is not None
        said = AnswerRecord(self.new.id, OWNER, {"content": "Oslo", "data": None}, "digest", {})
        await self.stores.waits.answer(record, said, [], now=utc_now())
        await self.publisher.publish(self.start.target, [answered_event(self.new.wait, self.posted.turn.id)])

    async def run(self) -> None:
        """The call ends, and with it the turn."""
        await self.stores.tool_result(self.call.id)
        await self.stores.finish(self.posted.turn.id)
        result = {"id": self.call.id, "name": "locate", "status": ToolCallStatus.COMPLETED, "result": {}}
        turn_id = self.posted.turn.id
        done = Event(EventType.TOOL_CALL_COMPLETED, {"tool_call": result}, turn_id)
        over = ended_event(turn_id, TurnStatus.COMPLETED, Usage(), 1)
        await self.publisher.publish(self.start.target, [done, over])


async def test_a_stream_ends_where_the_client_alone_can_go_on_and_its_answer_goes_on(
    reader: DoorReader, stores: Stores, publisher: SessionEventPublisher
) -> None:
    located = await Located(stores, publisher, WaitKind.CLIENT).ask()
    asked = ["begin", "stream.started", "message_start", "tool_call", "message_end", "tool_call.waiting"]
    assert await read(reader, located.posted) == [*asked, "waiting", "closed"]

    await located.answer()
    await located.run()
    rest = ["tool_call.answered", "tool_call.completed", "stream.ended", "closed"]
    told = Told(answered=frozenset({located.call.id}))
    assert await read(reader, located.posted, told) == ["begin", *rest]
    assert await read(reader, located.posted) == [*asked, *rest], "a wait of the past ends no stream"


async def test_without_the_log_a_turn_that_waits_for_its_client_is_told_from_the_store(
    reader: DoorReader, stores: Stores, publisher: SessionEventPublisher, event_log: RedisEventLog
) -> None:
    located = await Located(stores, publisher, WaitKind.CLIENT).ask()
    await event_log.erase(located.start.target.feed)
    said = await read(reader, located.posted)
    assert said[:2] == ["begin", "message_start"]
    assert said[-3:] == ["tool_call.waiting", "waiting", "closed"]


async def test_a_stream_stays_open_for_a_result_from_elsewhere(
    reader: DoorReader, stores: Stores, publisher: SessionEventPublisher
) -> None:
    located = await Located(stores, publisher, WaitKind.RESULT).ask()
    reading = asyncio.create_task(read(reader, located.posted))
    await asyncio.sleep(0.1)
    assert not reading.done()
    await located.answer()
    await located.run()
    assert "waiting" not in await reading


async def test_who_joined_a_turn_is_told_what_follows_the_answer_that_was_being_written(
    reader: DoorReader, stores: Stores, publisher: SessionEventPublisher
) -> None:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    joined = await stores.post(posted.turn.session_id, concurrency=Concurrency.STEER)
    message, other = joined.message.id, new_id()

    def said(answer: str, kind: FrameType, **fields: object) -> Event:
        return frame(kind, posted.turn.id, answer, **fields)

    def begins(message_id: str, attempt: int = 1) -> Event:
        return said(message_id, FrameType.MESSAGE_START, message_id=message_id, attempt=attempt)

    events = [
        Event(EventType.STREAM_STARTED, {}, posted.turn.id),
        begins(start.message_id),
        Event(EventType.MESSAGE_CREATED, {"id": message, "role": "user", "joined": True}, posted.turn.id, message),
        said(start.message_id, FrameType.CONTENT_DELTA, index=0, text="half"),
        begins(start.message_id, 2),
        said(start.message_id, FrameType.MESSAGE_END, message_id=start.message_id, finish_reason="stop", usage=None),
        begins(other),
        said(other, FrameType.CONTENT_DELTA, index=0, text="whole"),
        ended_event(posted.turn.id, TurnStatus.COMPLETED, Usage(), 2),
    ]
    await publisher.publish(start.target, events)

    assert await read(reader, posted, Told(joined=message)) == [
        "begin", "message_start", "content_delta", "stream.ended", "closed",
    ]  # fmt: skip
