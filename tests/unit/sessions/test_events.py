"""The event publisher over stores in memory, and the writer that coalesces deltas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from shared.principal import Role
from shared.sessions.events import (
    MOST_LIVE_BYTES,
    SEQ_LEASE,
    Envelope,
    Event,
    EventLogUnavailable,
    EventTarget,
    EventType,
    FrameType,
    LogSlice,
    SeqLeaseNeeded,
    SessionEventPublisher,
    envelope,
    frame,
)
from shared.sessions.live.groups import role_group, role_memberships
from shared.sessions.live.realtime import DeliveryFailed, StreamWriter

pytestmark = pytest.mark.timeout(30)


@dataclass
class MemoryLog:
    """An `EventLog` by the rules of the real one."""

    seq: dict[str, int] = field(default_factory=dict)
    ceiling: dict[str, int] = field(default_factory=dict)
    is_down: bool = False
    kept: list[tuple[int, bytes]] = field(default_factory=list)

    async def append(self, target: EventTarget, bodies: Sequence[bytes]) -> int:
        await asyncio.sleep(0)
        if self.is_down:
            raise EventLogUnavailable("down")
        feed = target.feed
        if feed not in self.seq and not target.may_seed:
            raise SeqLeaseNeeded(lost=True)
        seq = max(self.seq.get(feed, -1), target.seq_floor)
        ceiling = max(self.ceiling.get(feed, 0), target.seq_ceiling)
        if seq + len(bodies) > ceiling:
            raise SeqLeaseNeeded(lost=False)
        self.seq[feed], self.ceiling[feed] = seq + len(bodies), ceiling
        self.kept.extend(enumerate(bodies, seq + 1))
        return seq + 1

    async def read(self, feed: str, after: int, limit: int) -> LogSlice:
        raise NotImplementedError

    async def read_back(self, feed: str, before: int | None, limit: int) -> list[tuple[int, bytes]]:
        raise NotImplementedError

    def follow(self, feed: str) -> AsyncGenerator[list[tuple[int, bytes]] | None]:
        raise NotImplementedError

    async def erase(self, feed: str) -> None:
        self.seq.pop(feed, None)


@dataclass
class MemoryLeases:
    """`SequenceLeases` of one session's row."""

    floor: int = 0
    ceiling: int = SEQ_LEASE
    calls: list[str] = field(default_factory=list)

    async def lease(self, target: EventTarget, *, lost: bool) -> EventTarget:
        self.calls.append("lost" if lost else "more")
        if lost:
            self.floor = self.ceiling
        self.ceiling += SEQ_LEASE
        return replace(target, seq_floor=self.floor, seq_ceiling=self.ceiling, may_seed=lost)

    async def allocate(self, target: EventTarget, count: int) -> EventTarget:
        self.calls.append("allocate")
        self.floor = self.ceiling = self.ceiling + count
        return replace(target, seq_floor=self.floor, seq_ceiling=self.ceiling)

    def target(self, *, may_seed: bool = False) -> EventTarget:
        return EventTarget("s", self.floor, self.ceiling, may_seed)


class Bench:
    def __init__(self) -> None:
        self.log, self.leases = MemoryLog(), MemoryLeases()
        self.publisher = SessionEventPublisher(self.log, self.leases)

    async def publish(self, count: int = 1, target: EventTarget | None = None) -> list[int]:
        events = [Event(EventType.STREAM_CHUNK, {}) for _ in range(count)]
        messages = await self.publisher.publish(target or self.leases.target(), events)
        return [orjson.loads(message)["arguments"][0]["seq"] for message in messages]


@pytest.mark.parametrize("ids", [{}, {"turn_id": "t"}, {"turn_id": "t", "message_id": "m"}])
def test_what_is_encoded_is_the_envelope_that_clients_are_told_of(ids: dict[str, str]) -> None:
    event = Event(EventType.MESSAGE_CREATED, {"id": "m", "nested": [1, None]}, **ids)

    encoded = envelope(7, event.body("s"))

    told = Envelope.model_validate_json(encoded)
    assert (told.seq, told.type, told.session_id, told.at, told.data) == (7, event.type, "s", event.at, event.data)
    assert list(orjson.loads(encoded)) == ["seq", "type", "session_id", *ids, "at", "data"]
    assert told.model_dump(exclude_none=True).keys() == orjson.loads(encoded).keys()


def _at(day: int, hour: int) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def test_whoever_connects_hears_what_their_roles_may_decide_today_and_tomorrow_and_not_later() -> None:
    joined = [
        group for group, is_member in role_memberships(frozenset({Role.USER, Role.APPROVER}), _at(25, 23)) if is_member
    ]

    told = {day: role_group(Role.APPROVER, _at(day, 12)) for day in (24, 25, 26, 27)}
    assert [day for day, group in told.items() if group in joined] == [25, 26]
    assert role_group(Role.ADMIN, _at(25, 12)) not in joined


def test_whoever_connects_leaves_the_groups_of_roles_they_have_lost() -> None:
    yesterday = role_memberships(frozenset({Role.USER, Role.APPROVER, Role.ADMIN}), _at(24, 12))
    now = dict(role_memberships(frozenset({Role.USER}), _at(25, 12)))

    left_over = {group for group, is_member in yesterday if is_member} - {
        g for g, is_member in now.items() if not is_member
    }
    heard = {role_group(role, _at(25, 12)) for role in (Role.APPROVER, Role.ADMIN)}
    assert heard.isdisjoint(left_over)
    assert [group for group, is_member in now.items() if is_member] == [
        role_group(Role.USER, _at(25, 12)),
        role_group(Role.USER, _at(26, 12)),
    ]


async def test_a_new_session_is_numbered_from_one_without_a_lease() -> None:
    bench = Bench()

    assert await bench.publish(3, bench.leases.target(may_seed=True)) == [1, 2, 3]
    assert bench.leases.calls == []


async def test_a_lost_counter_goes_on_above_all_it_could_have_given() -> None:
    bench = Bench()
    await bench.publish(3, bench.leases.target(may_seed=True))
    bench.log.seq.clear()

    assert await bench.publish(2) == [SEQ_LEASE + 1, SEQ_LEASE + 2]
    assert bench.leases.calls == ["lost"]
    assert await bench.publish() == [SEQ_LEASE + 3]


async def test_an_exhausted_lease_is_renewed_without_a_hole() -> None:
    bench = Bench()
    bench.leases.ceiling = 4
    numbers = await bench.publish(3, bench.leases.target(may_seed=True))

    assert numbers + await bench.publish(3) == [1, 2, 3, 4, 5, 6]
    assert bench.leases.calls == ["more"]


async def test_while_the_log_is_down_the_database_numbers_and_afterwards_the_log_goes_on_above() -> None:
    bench = Bench()
    stale = bench.leases.target()
    numbers = await bench.publish(2, bench.leases.target(may_seed=True))
    bench.log.is_down = True
    numbers += await bench.publish(3, stale)
    numbers += await bench.publish(1, stale)
    bench.log.is_down = False
    # A caller that read the row before all this, in the same process.
    numbers += await bench.publish(2, stale)

    assert numbers == sorted(set(numbers))
    assert numbers[2:6] == [SEQ_LEASE + n for n in range(1, 5)]
    assert bench.leases.calls == ["allocate", "allocate", "more"]


async def test_the_log_going_down_between_lease_and_append_loses_no_number() -> None:
    bench = Bench()
    await bench.publish(1, bench.leases.target(may_seed=True))
    bench.log.seq.clear()

    async def lease(target: EventTarget, *, lost: bool) -> EventTarget:
        bench.log.is_down = True
        return await MemoryLeases.lease(bench.leases, target, lost=lost)

    bench.leases.lease = lease  # type: ignore[method-assign]  # the moment between the two calls

    assert await bench.publish(2) == [2 * SEQ_LEASE + 1, 2 * SEQ_LEASE + 2]


async def test_another_process_never_repeats_a_number() -> None:
    bench = Bench()
    other = SessionEventPublisher(bench.log, bench.leases)
    numbers = await bench.publish(2, bench.leases.target(may_seed=True))
    bench.log.is_down = True
    numbers += await bench.publish(2)
    bench.log.is_down = False
    for publisher in (other, bench.publisher, other):
        messages = await publisher.publish(bench.leases.target(), [Event(EventType.STREAM_CHUNK, {})])
        numbers += [orjson.loads(message)["arguments"][0]["seq"] for message in messages]

    assert numbers == sorted(set(numbers))


async def test_every_group_gets_every_event_in_order() -> None:
    bench = Bench()
    events = [Event(EventType.TOOL_CALL_PENDING, {"n": n}, "t", "m") for n in range(2)]

    messages = await bench.publisher.publish(bench.leases.target(may_seed=True), events, also_to=["approvers"])

    sent = [orjson.loads(message) for message in messages]
    assert [(message["groupName"], message["arguments"][0]["seq"]) for message in sent] == [
        ("session-s", 1),
        ("approvers", 1),
        ("session-s", 2),
        ("approvers", 2),
    ]
    assert {message["target"] for message in sent} == {"event"}
    event = sent[0]["arguments"][0]
    assert (event["type"], event["session_id"], event["turn_id"], event["message_id"]) == (
        "tool_call.pending",
        "s",
        "t",
        "m",
    )
    assert event["at"].endswith("Z")
    assert list(event)[:2] == ["seq", "type"]


def test_an_envelope_is_one_line_whatever_it_holds() -> None:
    body = frame(FrameType.CONTENT_DELTA, "t", "m", index=0, text="a\nb\r\u2028\x00").body("s")

    assert b"\n" not in envelope(1, body)
    assert orjson.loads(envelope(1, body))["data"]["frame"]["text"] == "a\nb\r\u2028\x00"


def test_there_are_fifteen_event_types() -> None:
    assert len(EventType) == 15


@dataclass
class GatedSender:
    """A sender whose deliveries the test lets through."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Queue[list[dict[str, Any]]] = field(default_factory=asyncio.Queue)
    fails: bool = False

    async def send(self, messages: Sequence[bytes]) -> None:
        self.started.put_nowait([orjson.loads(message)["arguments"][0] for message in messages])
        await self.gate.wait()
        if self.fails:
            raise DeliveryFailed("away")


class Writing:
    """A writer with an hour between deliveries, unless told otherwise: only what the test does ends the wait."""

    def __init__(self, *, coalesce_s: float = 3_600) -> None:
        bench = Bench()
        self.sender = GatedSender()
        target = bench.leases.target(may_seed=True)
        self.writer = StreamWriter(
            bench.publisher, self.sender, target, turn_id="t", message_id="m", coalesce_s=coalesce_s
        )

    async def finish(self) -> list[dict[str, Any]]:
        return [orjson.loads(message)["arguments"][0] for message in await self.writer.finish()]


def _texts(events: list[dict[str, Any]]) -> list[str]:
    frames = [event["data"].get("frame", {}) for event in events]
    return [found["text"] for found in frames if found.get("type") == "content_delta"]


async def test_the_first_text_leaves_at_once_with_what_was_queued_before_it() -> None:
    writing = Writing()
    writing.sender.gate.set()
    writing.writer.add(Event(EventType.STREAM_STARTED, {}, "t"))
    writing.writer.text("one")

    first = await writing.sender.started.get()
    for text in ("two", "three"):
        writing.writer.text(text)
        await asyncio.sleep(0)
    rest = await writing.finish()

    assert [event["type"] for event in first] == ["stream.started", "stream.chunk"]
    assert (_texts(first), _texts(rest)) == (["one"], ["twothree"])
    assert [event["seq"] for event in [*first, *rest]] == [1, 2, 3]
    assert [event["data"]["frame"]["index"] for event in [*first, *rest][1:]] == [0, 1]
    assert writing.sender.started.empty()


async def test_what_comes_during_a_delivery_goes_with_the_next() -> None:
    writing = Writing(coalesce_s=0)
    writing.writer.text("a")
    first = await writing.sender.started.get()
    for text in "bcd":
        writing.writer.text(text)
    writing.sender.gate.set()

    second = await writing.sender.started.get()
    rest = await writing.finish()

    assert [_texts(batch) for batch in (first, second, rest)] == [["a"], ["bcd"], []]


async def test_events_between_texts_keep_their_place() -> None:
    writing = Writing()
    writing.sender.gate.set()
    writing.writer.text("a")
    await writing.sender.started.get()
    writing.writer.text("b")
    writing.writer.add(Event(EventType.MESSAGE_UPDATED, {}, "t"))
    writing.writer.text("c")

    rest = await writing.finish()

    assert [event["type"] for event in rest] == ["stream.chunk", "message.updated", "stream.chunk"]
    assert _texts(rest) == ["b", "c"]


async def test_a_delivery_that_fails_loses_no_number_and_no_text() -> None:
    writing = Writing(coalesce_s=0)
    writing.sender.fails = True
    writing.sender.gate.set()
    batches = []
    for text in "abc":
        writing.writer.text(text)
        batches.append(await writing.sender.started.get())
    writing.writer.add(Event(EventType.MESSAGE_UPDATED, {}, "t"))
    batches.append(await writing.finish())

    events = [event for batch in batches for event in batch]
    assert [event["seq"] for event in events] == [1, 2, 3, 4]
    assert "".join(_texts(events)) == "abc"


async def test_a_step_without_text_sends_all_at_its_end() -> None:
    writing = Writing()
    writing.writer.add(Event(EventType.STREAM_STARTED, {}, "t"))

    assert [event["type"] for event in await writing.finish()] == ["stream.started"]
    assert await writing.finish() == []


async def test_finishing_waits_for_the_delivery_under_way() -> None:
    writing = Writing()
    writing.writer.text("a")
    await writing.sender.started.get()
    finishing = asyncio.create_task(writing.finish())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not finishing.done()

    writing.sender.gate.set()

    assert await finishing == []


async def test_an_event_that_signalr_would_refuse_is_in_the_log_and_leaves_a_hole_in_what_is_sent() -> None:
    bench = Bench()
    events = [Event(EventType.STREAM_CHUNK, {"text": "x" * size}) for size in (10, MOST_LIVE_BYTES, 10)]
    messages = await bench.publisher.publish(bench.leases.target(may_seed=True), events)
    assert [orjson.loads(message)["arguments"][0]["seq"] for message in messages] == [1, 3]
    assert [seq for seq, _ in bench.log.kept] == [1, 2, 3]
