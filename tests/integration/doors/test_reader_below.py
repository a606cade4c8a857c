"""DoorReader on turns that wait for subagents: where a stream ends and goes on, and what it says without the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta

import orjson
import pytest

from shared.adapters.postgres.turns.children import PostgresChildren
from shared.adapters.redis.events import RedisEventLog
from shared.ids import new_id
from shared.sessions.approvals.voting import public_approval
from shared.sessions.doors.ai_sdk.wire import UiMessageStream
from shared.sessions.doors.reader import DoorReader, Told
from shared.sessions.doors.responses.door import ResponsesDoor
from shared.sessions.doors.responses.ids import ResponseId
from shared.sessions.doors.responses.items import Head
from shared.sessions.doors.snapshot import TurnSnapshots
from shared.sessions.events import Event, EventTarget, EventType, FrameType, SessionEventPublisher, ended_event, frame
from shared.sessions.models import (
    ApprovalStatus,
    JsonObject,
    ToolCallStatus,
    ToolWait,
    TurnStatus,
    Usage,
    WaitKind,
    WaitStatus,
)
from shared.sessions.records.approvals import ApprovalRecord
from shared.sessions.records.children import Child, NewChild
from shared.sessions.records.steps import ProposedCall
from shared.sessions.records.turns import PostedMessage
from shared.sessions.records.waits import NewWait
from shared.sessions.streaming import StreamingHandler
from tests.integration.domain import OWNER, Stores, call, open_streams, plan, streaming, utc_now, viewer_of, vote_on

pytestmark = pytest.mark.integration


class Plain:
    """A door that says what it was told of, and below which call."""

    heartbeat = b"-\n"
    closing = b'"closed"\n'

    def begin(self) -> Sequence[JsonObject]:
        return []

    def event(self, envelope: JsonObject) -> Sequence[JsonObject]:
        kind = envelope["type"]
        if kind in {EventType.STREAM_CHUNK, EventType.STREAM_STARTED}:
            return []
        return [{"said": kind.removeprefix("tool_call.") + (" below" if "subagent" in envelope else "")}]

    def waiting(self) -> Sequence[JsonObject]:
        return [{"said": "waiting"}]

    def cut(self) -> Sequence[JsonObject]:
        return [{"said": "cut"}]

    def encode(self, part: JsonObject) -> bytes:
        return orjson.dumps(part["said"]) + b"\n"


async def read(reader: DoorReader, posted: PostedMessage, told: Told | None = None) -> list[str]:
    stream = reader.stream(Plain(), posted.turn, viewer_of(posted.target), told)
    async with asyncio.timeout(20), aclosing(stream) as pieces:
        return [orjson.loads(piece) async for piece in pieces if piece != Plain.heartbeat]


class Team:
    """A turn that calls an agent, which calls another one, which calls a tool that waits for a person."""

    def __init__(self, stores: Stores, log: RedisEventLog) -> None:
        self.stores = stores
        self.children = PostgresChildren(stores.pool)
        self.publisher = SessionEventPublisher(log, stores.sessions, callers=self.children)
        self.posted: PostedMessage
        self.target: EventTarget
        self.asks: list[ProposedCall] = []
        self.below: list[Child] = []
        self.pay: ProposedCall
        self.approval: ApprovalRecord

    async def ask(self, depth: int = 2, *, tell: bool = True) -> Team:
        self.posted = await self.stores.turn()
        turn_id, self.target = self.posted.turn.id, self.posted.target
        target = self.target
        for _ in range(depth):
            asked = call("ask_helper", {"input": "pay"})
            await self._answers(turn_id, target, asked)
            child = await self._child(asked, turn_id)
            self.asks.append(asked)
            self.below.append(child)
            turn_id, target = child.turn_id, child.target
        self.pay = call("pay", {"sum": 7}, needs_approval=True)
        await self._answers(turn_id, target, self.pay)
        await self.asks_people(tell=tell)
        return self

    async def asks_people(self, *, tell: bool = True) -> None:
        self.approval = await self.stores.request_approval(self.pay)
        if tell:
            await self.tell(EventType.TOOL_CALL_PENDING)

    async def _answers(self, turn_id: str, target: EventTarget, proposed: ProposedCall, step: int = 1) -> None:
        start = await self.stores.answer(turn_id, step, calls=[proposed])
        message_id = start.message_id
        fields = {"id": proposed.id, "name": proposed.name, "arguments": proposed.arguments}
        events = [
            *([Event(EventType.STREAM_STARTED, {}, turn_id)] if step == 1 else []),
            frame(FrameType.MESSAGE_START, turn_id, message_id, message_id=message_id, attempt=1),
            frame(FrameType.TOOL_CALL, turn_id, message_id, **fields),
            frame(
                FrameType.MESSAGE_END,
                turn_id,
                message_id,
                message_id=message_id,
                finish_reason="tool_calls",
                usage=None,
            ),
        ]
        await self.publisher.publish(target, events)

    async def _child(self, asked: ProposedCall, turn_id: str) -> Child:
        now = utc_now()
        wait = ToolWait(
            id=new_id(),
            tool_call_id=asked.id,
            tool=asked.name,
            kind=WaitKind.AGENT,
            status=WaitStatus.PENDING,
            asked_by="helper",
            asked_of=OWNER,
            questions=[],
            opened_at=now,
            expires_at=now + timedelta(hours=1),
        )
        above = ["boss", "helper"][: len(self.asks) + 1]
        child = NewChild(
            tool_call_id=asked.id,
            session_id=new_id(),
            turn_id=new_id(),
            message_id=new_id(),
            agent_id="helper",
            name="Helper",
            plan=plan(agent_id="helper", asked_through=above),
            content="pay",
            tokens=1,
            sources=frozenset(),
            now=now,
        )
        assert await self.stores.waits.open(NewWait(wait.id, asked.id, turn_id, 1, wait, None), [], child)
        found = await self.children.of_call(asked.id)
        assert found is not None
        return found

    async def tell(self, kind: EventType) -> None:
        record = await self.stores.approvals.get(self.approval.id, OWNER)
        assert record is not None
        data = {"approval": public_approval(record).model_dump(mode="json"), "tool_call_id": self.pay.id}
        await self.publisher.publish(self.below[-1].target, [Event(kind, data, record.turn_id)])

    async def decide(self, *, tell: bool = True) -> None:
        assert await self.stores.decide(self.approval, vote_on(self.approval))
        if tell:
            await self.tell(EventType.TOOL_CALL_APPROVED)

    async def pays(self, *, tell: bool = True) -> None:
        await self.stores.tool_result(self.pay.id, result={"paid": True})
        if tell:
            child = self.below[-1]
            await self.publisher.publish(child.target, [_ran(self.pay, child.turn_id, {"paid": True})])

    async def pays_again(self) -> None:
        """The subagent asks for another call."""
        self.pay = call("pay", {"sum": 8}, needs_approval=True)
        await self._answers(self.below[-1].turn_id, self.below[-1].target, self.pay, step=2)
        await self.asks_people()

    async def ends(self, *, tell: bool = True) -> None:
        """All of them, from the last one up."""
        turns = [(self.posted.turn.id, self.target), *((one.turn_id, one.target) for one in self.below)]
        for asked, (turn_id, target) in reversed(list(zip([None, *self.asks], turns, strict=True))):
            await self.stores.finish(turn_id)
            if tell:
                await self.publisher.publish(target, [ended_event(turn_id, TurnStatus.COMPLETED, Usage(), 1)])
            if asked is not None:
                await self.stores.tool_result(asked.id, result={"content": "paid"})
                above, of = turns[self.asks.index(asked)]
                if tell:
                    await self.publisher.publish(of, [_ran(asked, above, {"content": "paid"})])


def _ran(proposed: ProposedCall, turn_id: str, result: JsonObject) -> Event:
    told = {"id": proposed.id, "name": proposed.name, "status": ToolCallStatus.COMPLETED, "result": result}
    return Event(EventType.TOOL_CALL_COMPLETED, {"tool_call": told}, turn_id)


@pytest.fixture
def reader(event_log: RedisEventLog, stores: Stores) -> DoorReader:
    return DoorReader(streaming(event_log, stores), stores.approvals, stores.turns)


@pytest.fixture
def team(stores: Stores, event_log: RedisEventLog) -> Team:
    return Team(stores, event_log)


GOES_ON = ["approved below", "completed below", "completed", "stream.ended", "closed"]


@pytest.mark.parametrize("depth", [1, 2])
async def test_a_stream_ends_where_a_subagent_waits_and_goes_on_from_the_decision(
    reader: DoorReader, team: Team, depth: int
) -> None:
    await team.ask(depth)
    assert await read(reader, team.posted) == ["pending below", "waiting", "closed"]
    [found] = await team.stores.approvals.list_below([team.posted.turn.id], ApprovalStatus.PENDING)
    assert [one["tool_call_id"] for one in found.above] == [asked.id for asked in team.asks]
    assert [one["turn_id"] for one in found.above] == [child.turn_id for child in team.below]
    for session_id in (team.posted.turn.session_id, team.below[-1].session_id):
        assert await team.stores.approvals.waits_for(session_id, team.approval.id) is not None
    assert await team.stores.approvals.waits_for(new_id(), team.approval.id) is None

    first = Told(decided=frozenset({team.approval.id}))
    await team.decide()
    await team.pays()
    await team.pays_again()
    assert await read(reader, team.posted, first) == [*GOES_ON[:2], "pending below", "waiting", "closed"]

    second = Told(decided=frozenset({team.approval.id}))
    await team.decide()
    await team.pays()
    await team.ends()
    assert await read(reader, team.posted, second) == GOES_ON
    assert "waiting" not in await read(reader, team.posted), "that it waited is in the past"


async def test_what_somebody_else_decides_while_a_stream_is_open_is_told(reader: DoorReader, team: Team) -> None:
    """The decision is stored before it is told, so the stream does not end at the question."""
    await team.ask()
    await team.decide(tell=False)
    reading = asyncio.create_task(read(reader, team.posted))
    await team.tell(EventType.TOOL_CALL_APPROVED)
    await team.pays()
    await team.ends()

    assert await reading == ["pending below", *GOES_ON]


async def test_whoever_decided_goes_on_from_the_outcome_where_the_decision_was_never_told(
    reader: DoorReader, team: Team
) -> None:
    """Killed between the two."""
    await team.ask()
    await team.decide(tell=False)
    await team.pays()
    await team.ends()

    told = Told(decided=frozenset({team.approval.id}))
    assert await read(reader, team.posted, told) == GOES_ON[1:]


async def test_without_the_log_the_store_says_what_a_subagent_waits_for_and_what_became_of_it(
    reader: DoorReader, team: Team, event_log: RedisEventLog
) -> None:
    await team.ask()
    await event_log.erase(team.target.feed)
    assert (await read(reader, team.posted))[-2:] == ["waiting", "closed"]
    assert "pending below" in await read(reader, team.posted)

    told = Told(decided=frozenset({team.approval.id}))
    await team.decide(tell=False)
    await team.pays(tell=False)
    await team.ends(tell=False)
    assert await read(reader, team.posted, told) == GOES_ON
    assert await read(reader, team.posted) == ["pending below", *GOES_ON]


async def test_what_is_not_told_in_the_callers_session_is_missed_and_read_from_the_store(
    team: Team, stores: Stores, event_log: RedisEventLog
) -> None:
    await team.ask(tell=False)
    await stores.sql(
        b"UPDATE approvals SET requested_at = requested_at - interval '1 minute' WHERE id = %(id)s", id=team.approval.id
    )
    handler = StreamingHandler(event_log, stores.turns, open_streams(stores), keep_alive_s=0.05)

    said = await read(DoorReader(handler, stores.approvals, stores.turns), team.posted)

    assert said[-2:] == ["waiting", "closed"]
    assert "pending below" in said


async def test_a_snapshot_shows_what_the_stream_told(team: Team, stores: Stores) -> None:
    snapshots = TurnSnapshots(stores.turns, stores.approvals)

    async def shown() -> list[tuple[str, str | None]]:
        turn = await stores.turns.get_turn(team.posted.turn.session_id, team.posted.turn.id)
        door = ResponsesDoor(Head(ResponseId(turn.session_id, turn.id), "assistant", 0, {}))
        await snapshots.tell(door, turn)
        response = door.response()
        items = [(one["type"], one.get("name")) for one in response["output"] if one["type"] != "message"]
        return [(response["status"], None), *items]

    await team.ask()
    asked = ("mcp_approval_request", "pay")
    assert await shown() == [("completed", None), asked]
    await team.decide()
    assert await shown() == [("in_progress", None), asked, ("mcp_call", "pay")]
    await team.pays()
    await team.pays_again()
    assert await shown() == [("completed", None), asked, ("mcp_call", "pay"), asked]
    await team.decide()
    await team.pays()
    await team.ends()
    run = [("mcp_call", "pay")]
    assert await shown() == [("completed", None), asked, *run, asked, *run, ("mcp_call", "ask_helper")]


async def test_a_page_that_lost_the_log_is_told_each_part_once(
    reader: DoorReader, team: Team, event_log: RedisEventLog
) -> None:
    await team.ask()
    await event_log.erase(team.target.feed)
    door = UiMessageStream(team.posted.turn.session_id, team.posted.turn.id)
    stream = reader.stream(door, team.posted.turn, viewer_of(team.posted.target))
    async with asyncio.timeout(20), aclosing(stream) as pieces:
        text = b"".join([piece async for piece in pieces])
    assert text.count(b'"tool-approval-request"') == text.count(b'"toolName":"pay"') == 1
    assert b'"waiting_approval"' in text
