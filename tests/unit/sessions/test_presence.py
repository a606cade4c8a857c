"""Whether a session's group is taken for empty: marks in memory, and what comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import CacheUnavailable
from shared.sessions.events import EventTarget
from shared.sessions.live.presence import AGAIN_FOR_S, LOOK_EVERY_S, SETTLED_S, OnRecord, Presence
from shared.sessions.live.realtime import DeliveryFailed

pytestmark = pytest.mark.timeout(30)

NOW = datetime(2026, 11, 30, 12, 0, 0, 123_456, tzinfo=UTC)
TARGET = EventTarget("s", 0, 100)
NOBODY, SOMEBODY, EVERY_CONNECTION = OnRecord(False, False), OnRecord(True, False), OnRecord(False, True)


@dataclass
class Marks:
    """`PresenceMarks` by the rules of the real ones."""

    mark: int | None = 0
    is_down: bool = False
    joined: asyncio.Event = field(default_factory=asyncio.Event)

    async def find(self, feed: str) -> int | None:
        self._check()
        return self.mark

    async def join(self, feed: str, at_ms: int) -> None:
        self._check()
        self.mark = max(abs(self.mark or 0) + 1, at_ms)
        self.joined.set()

    async def vacate(self, feed: str, mark: int) -> bool:
        self._check()
        if self.mark != mark:
            return False
        self.mark = -mark
        return True

    def _check(self) -> None:
        if self.is_down:
            raise CacheUnavailable("down")


@dataclass
class World:
    """One process. before_answer: what happens while SignalR or the database is asked."""

    marks: Marks = field(default_factory=Marks)
    on_record: OnRecord = NOBODY
    is_empty: bool = True
    is_away: bool = False
    is_believed: bool = True
    """SignalR has found somebody in another group before."""
    asked: int = 0
    now_s: float = NOW.timestamp()
    before_answer: Callable[[], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        self.presence = Presence(
            self.marks, self._is_empty, self._on_record, again_every_s=0.001, clock=lambda: self.now_s
        )

    async def joins(self) -> None:
        await self.presence.joins("s", datetime.fromtimestamp(self.now_s, UTC))

    async def looks(self) -> None:
        assert self.marks.mark is not None
        if self.is_believed:
            self.presence.look(EventTarget("another", 0, 100), 1)
            await self.presence.settled()
            self.is_believed = False
        self.presence.look(TARGET, self.marks.mark)
        await self.presence.settled()

    async def _is_empty(self, group: str) -> bool:
        if group == "session-another":
            return False
        assert group == "session-s"
        self.asked += 1
        if self.before_answer is not None:
            await self.before_answer()
        if self.is_away:
            raise DeliveryFailed("away")
        return self.is_empty

    async def _on_record(self, session_id: str) -> OnRecord:
        assert session_id == "s"
        answer = self.on_record
        if self.before_answer is not None:
            await self.before_answer()
        return answer

    @property
    def is_heard(self) -> bool:
        return self.marks.mark is None or self.marks.mark > 0


async def test_a_join_counts_by_its_time_on_record_and_above_all_before() -> None:
    world = World()
    await world.presence.joins("s", NOW)
    first = world.marks.mark
    await world.presence.joins("s", NOW - timedelta(hours=1))  # by a clock that is slow

    assert first == 1_796_040_000_123
    assert world.marks.mark == first + 1


@pytest.mark.parametrize(("on_record", "is_heard"), [(NOBODY, False), (SOMEBODY, True), (EVERY_CONNECTION, True)])
async def test_the_last_who_unsubscribes_leaves_an_empty_group(on_record: OnRecord, is_heard: bool) -> None:
    world = World(on_record=on_record)
    await world.joins()

    await world.presence.left("s", "s")

    assert world.is_heard is is_heard


async def test_whoever_joins_while_another_leaves_is_heard() -> None:
    world = World()
    await world.joins()
    world.before_answer = world.joins

    await world.presence.left("s", "s")

    assert world.is_heard


async def test_connections_that_died_without_a_word_are_found_out() -> None:
    world = World(on_record=SOMEBODY)
    await world.joins()
    world.now_s += SETTLED_S + 1

    await world.looks()

    assert not world.is_heard
    await world.joins()
    assert world.is_heard


async def test_a_join_may_still_be_on_its_way_to_signalr() -> None:
    world = World(on_record=SOMEBODY)
    await world.joins()
    world.now_s += SETTLED_S - 1

    await world.looks()

    assert (world.asked, world.is_heard) == (0, True)


@pytest.mark.parametrize(
    ("on_record", "is_empty", "is_away"),
    [(SOMEBODY, False, False), (SOMEBODY, True, True), (EVERY_CONNECTION, True, False)],
    ids=["somebody is there", "SignalR is away", "a user whose connections are still to come"],
)
async def test_in_doubt_events_are_sent(on_record: OnRecord, is_empty: bool, is_away: bool) -> None:
    world = World(on_record=on_record, is_empty=is_empty, is_away=is_away)
    await world.joins()
    world.now_s += SETTLED_S + 1

    await world.looks()

    assert (world.asked, world.is_heard) == (1, True)


async def test_a_no_of_something_that_has_never_said_yes_is_not_believed() -> None:
    world = World(on_record=SOMEBODY, is_believed=False)
    await world.joins()
    world.now_s += SETTLED_S + 1

    await world.looks()

    assert (world.asked, world.is_heard) == (1, True)


async def test_whoever_joins_while_signalr_is_asked_is_heard() -> None:
    world = World(on_record=SOMEBODY)
    await world.joins()
    world.now_s += SETTLED_S + 1
    world.before_answer = world.joins

    await world.looks()

    assert world.is_heard


async def test_signalr_is_asked_about_a_session_once_a_minute() -> None:
    world = World(on_record=SOMEBODY, is_empty=False)
    await world.joins()
    world.now_s += SETTLED_S + 1
    for _ in range(5):
        await world.looks()
    assert world.asked == 1

    world.now_s += LOOK_EVERY_S
    await world.looks()

    assert world.asked == 2


async def test_a_join_that_redis_missed_is_said_again_when_it_is_back() -> None:
    world = World()
    world.marks.is_down = True
    await world.joins()
    await world.presence.joins("another", NOW)
    assert world.marks.mark == 0

    world.marks.is_down = False
    await world.presence.settled()

    assert world.is_heard


async def test_a_join_that_redis_misses_for_good_is_given_up_after_the_longest_step() -> None:
    world = World()
    world.marks.is_down = True
    await world.joins()
    await asyncio.sleep(0)  # it is being said again
    world.now_s += AGAIN_FOR_S + 1

    await world.presence.settled()

    assert world.marks.mark == 0
