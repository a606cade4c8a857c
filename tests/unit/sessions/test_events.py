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
    Appended,
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
from shared.sessions.live.pace import Pace
from shared.sessions.live.realtime import MOST_DELTA_CHARS, DeliveryFailed, StreamWriter

pytestmark = pytest.mark.timeout(30)


@dataclass
class MemoryLog:
    """An `EventLog` by the rules of the real one."""

    seq: dict[str, int] = field(default_factory=dict)
    ceiling: dict[str, int] = field(default_factory=dict)
    is_down: bool = False
    presence: int | None = None
    is_followed: bool = True
    kept: list[tuple[int, bytes]] = field(default_factory=list)

    async def append(self, target: EventTarget, bodies: Sequence[bytes]) -> Appended:
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
        return Appended(seq + 1, self.presence, self.is_followed)

    async def read(self, feed: str, after: int, limit: int) -> LogSlice:
        raise NotImplementedError

    async def read_back(self, feed: str, before: int | None, limit: int) -> list[tuple[int, bytes]]:
        raise NotImplementedError

    def follow(self, feed: str, *, reads: bool = True) -> AsyncGenerator[list[tuple[int, bytes]] | None]:
        raise NotImplementedError

    async def erase(self, feed: str) -> None:
        self.seq.pop(feed, None)

    async def until_kept(self, count: int) -> None:
        while len(self.kept) < count:  # noqa: ASYNC110  # a few rounds of the loop
            await asyncio.sleep(0)


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


def _at(day: int, hour: int) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


def test_whoever_connects_hears_what_their_roles_may_decide_today_and_tomorrow_and_not_later() -> None:
    joined = [
        group for group, is_member in role_memberships(frozenset({Role.USER, Role.APPROVER}), _at(25, 23)) if is_member
    ]

    told = {day: role_group(Role.APPROVER, _at(day, 12)) for day in (24, 25, 26, 27)}
    assert [day for day, group in told.items() if group in joined] == [25, 26]
    assert role_group(Role.ADMIN, _at(25, 12)) not in joined


def test_roles_of_an_organisation_have_groups_of_their_own() -> None:
    joined = [group for group, is_member in role_memberships({"user", "finance", "users"}, _at(25, 23)) if is_member]

    own = {role_group(role, _at(day, 12)) for role in ("user", "finance", "users") for day in (25, 26)}
    assert own <= set(joined)
    assert len(own) == 6, "the role “users” is not everybody"


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


def test_there_are_nineteen_event_types() -> None:
    assert len(EventType) == 19


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

    def __init__(self, *, period_s: float = 3_600) -> None:
        bench = Bench()
        self.sender = GatedSender()
        target = bench.leases.target(may_seed=True)
        self.writer = StreamWriter(
            bench.publisher, self.sender, target, turn_id="t", message_id="m", pace=Pace(period_s, period_s)
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
    writing = Writing(period_s=0)
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
    writing = Writing(period_s=0)
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


# Where nobody listens. ---------------------------------------------------------------------------


class Looks:
    """Remembers which marks were to be looked at."""

    def __init__(self) -> None:
        self.marks: list[int] = []

    def look(self, target: EventTarget, mark: int) -> None:
        self.marks.append(mark)


@pytest.mark.parametrize(
    ("presence", "is_down", "heard", "looked"),
    [
        (None, False, ["session-s"], []),
        (0, False, [], []),
        (-1_700_000_000_000, False, [], []),
        (1_700_000_000_000, False, ["session-s"], [1_700_000_000_000]),
        (0, True, ["session-s"], []),
    ],
    ids=["not known", "nobody yet", "found empty", "somebody", "the log is away"],
)
async def test_a_sessions_group_gets_what_somebody_may_hear(
    presence: int | None, is_down: bool, heard: list[str], looked: list[int]
) -> None:
    log, leases, looks = MemoryLog(presence=presence, is_down=is_down), MemoryLeases(), Looks()
    publisher = SessionEventPublisher(log, leases, looks)

    messages = await publisher.publish(
        leases.target(may_seed=True), [Event(EventType.TOOL_CALL_PENDING, {})], also_to=["approvers"], users=["rita"]
    )

    receivers = [(sent.get("groupName") or sent["userId"]) for sent in map(orjson.loads, messages)]
    assert receivers == [*heard, "approvers", "rita"], "approvers are told in any case"
    assert looks.marks == looked


async def test_what_the_database_said_of_listeners_is_not_said_after_redis_has_lost_what_it_knew() -> None:
    log, leases = MemoryLog(), MemoryLeases()
    told: list[int | None] = []
    append = log.append

    async def remembered(target: EventTarget, bodies: Sequence[bytes]) -> Appended:
        told.append(target.subscribed_ms)
        return await append(target, bodies)

    log.append = remembered  # type: ignore[method-assign]  # to see what it is told
    publisher = SessionEventPublisher(log, leases, Looks())
    target = replace(leases.target(), subscribed_ms=0)

    await publisher.publish(target, [Event(EventType.STREAM_CHUNK, {})])
    log.is_down = True
    await publisher.publish(target, [Event(EventType.STREAM_CHUNK, {})])
    log.is_down = False
    await publisher.publish(target, [Event(EventType.STREAM_CHUNK, {})])

    # Refused and said again after a lease; while it was away; twice afterwards, with what was allocated meanwhile.
    assert told == [0, None, 0, None, None]


async def test_large_text_is_split_so_that_signalr_takes_each_piece() -> None:
    writing = Writing()
    writing.sender.gate.set()
    text = "\x01" * (2 * MOST_DELTA_CHARS + 1)  # in JSON each is six bytes, the most that there are
    writing.writer.text(text)

    sent = await writing.sender.started.get()

    frames = [event["data"]["frame"] for event in sent]
    assert [found["index"] for found in frames] == [0, 1, 2]
    assert "".join(found["text"] for found in frames) == text
    assert max(len(orjson.dumps(event)) for event in sent) < MOST_LIVE_BYTES
    assert await writing.finish() == []


async def test_where_nobody_listens_nothing_is_sent_and_all_is_kept() -> None:
    log, leases = MemoryLog(presence=0, is_followed=False), MemoryLeases()
    sender = GatedSender()
    publisher = SessionEventPublisher(log, leases, Looks())
    target = leases.target(may_seed=True)
    writer = StreamWriter(publisher, sender, target, turn_id="t", message_id="m", pace=Pace(0))
    for text in "abc":
        writer.text(text)
        await log.until_kept("abc".index(text) + 1)
    log.presence = 1_700_000_000_000
    writer.text("d")
    sent = await sender.started.get()
    sender.gate.set()
    log.presence = -1_700_000_000_000
    writer.text("e")

    assert await writer.finish() == []
    assert _texts(sent) == ["d"], "who comes in the middle reads the rest from the log"
    assert sender.started.empty()
    assert [seq for seq, _ in log.kept] == [1, 2, 3, 4, 5]


async def test_who_is_on_record_is_told_to_the_log_with_the_first_batch_of_a_step_alone() -> None:
    log, leases = MemoryLog(), MemoryLeases()
    told: list[int | None] = []
    append = log.append

    async def remembered(target: EventTarget, bodies: Sequence[bytes]) -> Appended:
        told.append(target.subscribed_ms)
        return await append(target, bodies)

    log.append = remembered  # type: ignore[method-assign]  # to see what it is told
    sender = GatedSender()
    sender.gate.set()
    target = replace(leases.target(may_seed=True), subscribed_ms=7)
    writer = StreamWriter(SessionEventPublisher(log, leases), sender, target, turn_id="t", message_id="m", pace=Pace(0))
    writer.text("a")
    await sender.started.get()
    writer.text("b")
    await writer.finish()

    assert told == [7, None]


async def test_a_slow_delivery_delays_nothing_that_is_kept_and_what_gathers_is_sent_together() -> None:
    log, leases = MemoryLog(), MemoryLeases()
    sender = GatedSender()
    writer = StreamWriter(
        SessionEventPublisher(log, leases),
        sender,
        leases.target(may_seed=True),
        turn_id="t",
        message_id="m",
        pace=Pace(0),
    )
    for number, text in enumerate("abcd", 1):
        writer.text(text)
        await log.until_kept(number)

    sender.gate.set()
    batches = [await sender.started.get(), await sender.started.get()]
    rest = await writer.finish()

    assert [_texts(batch) for batch in batches] == [["a"], ["b", "c", "d"]]
    assert rest == []


async def test_what_was_not_sent_when_the_step_ends_goes_through_the_binding_in_order() -> None:
    log, leases = MemoryLog(), MemoryLeases()
    sender = GatedSender()
    writer = StreamWriter(
        SessionEventPublisher(log, leases),
        sender,
        leases.target(may_seed=True),
        turn_id="t",
        message_id="m",
        pace=Pace(0),
    )
    for number, text in enumerate("abc", 1):
        writer.text(text)
        await log.until_kept(number)
    writer.add(Event(EventType.MESSAGE_UPDATED, {}, "t"))
    finishing = asyncio.create_task(writer.finish())
    await log.until_kept(4)
    sender.gate.set()

    rest = [orjson.loads(message)["arguments"][0] for message in await finishing]

    assert (_texts(await sender.started.get()), [event["seq"] for event in rest]) == (["a"], [2, 3, 4])
