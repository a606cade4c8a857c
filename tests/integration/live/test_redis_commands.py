"""How many commands the event log costs Redis, counted by Redis, those inside scripts too: on a server of one's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from devhost.model.server import ModelOptions
from devhost.servers import Valkey
from shared.adapters.redis.events import RENEWED_AFTER_S, RedisEventLog
from shared.adapters.redis.presence import RedisPresenceMarks
from shared.ids import new_id
from shared.sessions.events import Event, EventTarget, EventType, SessionEventPublisher
from shared.sessions.live.pace import PERIOD_S, UNREAD_PERIODS
from shared.sessions.live.presence import OnRecord, Presence
from tests.integration.bench import bench_maker
from tests.integration.domain import WAIT_S, Stores, connect_redis, envelopes, new_session, patient, script

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

_NOT_COUNTED = {"info", "hello", "client|setinfo", "script|load", "select"}
PER_BATCH = {"evalsha", "hmget", "hset", "publish"}


@dataclass
class Log:
    """The event log on a server that nobody else uses. now_s: its clock."""

    redis: Redis
    now_s: float = 1_796_040_000.0
    log: RedisEventLog = field(init=False)

    def __post_init__(self) -> None:
        self.log = RedisEventLog(
            self.redis, self.redis, patient(self.redis), length=10_000, ttl_seconds=3_600, clock=lambda: self.now_s
        )

    async def commands(self) -> Counter[str]:
        found = await self.redis.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in found.items()}
        return Counter({name: count for name, count in calls.items() if name not in _NOT_COUNTED})

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[Counter[str]]:
        """What Redis ran meanwhile, once it is over."""
        counts = Counter[str]()
        before = await self.commands()
        yield counts
        counts.update(await self.commands() - before)


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Log]:
    async with Valkey(tmp_path / "valkey", fast=True) as server:
        redis = connect_redis(server.url)
        own = Log(redis)
        await own.log.ping()  # finds its epoch, once per process
        yield own
        await own.log.aclose()
        await redis.aclose()


async def test_a_batch_is_one_call_of_four_commands_and_one_for_each_event(own: Log) -> None:
    target = EventTarget(new_id(), 0, 100_000, may_seed=True, subscribed_ms=0)
    once = dict.fromkeys(PER_BATCH, 1)

    async with own.counted() as first:
        await own.log.append(target, [b"x"])
    async with own.counted() as second:
        await own.log.append(replace(target, subscribed_ms=None), [b"x", b"y", b"z"])
    own.now_s += RENEWED_AFTER_S
    async with own.counted() as later:
        await own.log.append(target, [b"x"])

    assert first == {**once, "xadd": 1, "expire": 2}
    assert second == {**once, "xadd": 3}
    assert later == {**once, "xadd": 1, "expire": 2}, "the lives of its keys are lengthened once a minute"


async def test_joining_leaving_and_reading_cost_a_few(own: Log) -> None:
    marks = RedisPresenceMarks(own.redis, patient(own.redis))
    target = EventTarget(new_id(), 0, 100_000, may_seed=True, subscribed_ms=0)
    await own.log.append(target, [b"x"])
    await marks.join(target.feed, 1)
    await marks.vacate(target.feed, 1)

    async with own.counted() as joining:
        await marks.join(target.feed, 2)
    async with own.counted() as leaving:
        await marks.vacate(target.feed, await marks.find(target.feed) or 0)
    async with own.counted() as reading, aclosing(own.log.follow(target.feed, reads=False)) as live:
        assert await anext(live) is None

    assert joining == {"evalsha": 1, "hget": 1, "hset": 1, "ttl": 1}
    assert leaving == {"hget": 2, "evalsha": 1, "hset": 1}
    assert reading["subscribe"] == 2
    assert reading.keys() <= {"subscribe", "unsubscribe", "ping", "auth"}, "whoever only waits leaves no note"


@pytest.mark.parametrize("has_reader", [False, True])
async def test_a_plain_turn_costs_no_more_than_its_batches(own: Log, stores: Stores, has_reader: bool) -> None:
    """With a SignalR reader at most eight batches a second, each one relay; without one no relay, and few batches."""

    async def is_empty(group: str) -> bool:
        return False

    async def on_record(session_id: str) -> OnRecord:
        return OnRecord(connections=has_reader, users=False)

    marks = RedisPresenceMarks(own.redis, patient(own.redis))
    publisher = SessionEventPublisher(own.log, stores.sessions, Presence(marks, is_empty, on_record))
    record, _ = await stores.create(new_session())
    target = replace(record.target, may_seed=True, subscribed_ms=0)
    await publisher.publish(target, [Event(EventType.SESSION_CREATED, {})])
    if has_reader:
        await marks.join(target.feed, int(own.now_s * 1000))
    posted = await stores.post(record.session.id, script(tokens=60, token_ms=20))
    async with bench_maker(stores, publisher) as make:
        bench = await make(server=ModelOptions(scripted=True, first_s=0, token_s=0))
        async with own.counted() as counts, asyncio.timeout(WAIT_S * 2):
            report = await bench.bridge.run_step(posted.turn.id, 1)
    kept = [seq for seq, _ in (await own.log.read(target.feed, 1, 1_000)).items]

    relays = len(bench.sender.batches)
    batches = counts["publish"]
    assert counts == {**dict.fromkeys(PER_BATCH, batches), "xadd": len(kept)}
    heard = [event["seq"] for event in [*bench.sender.events, *envelopes(report.messages)]]
    chunks = [orjson.loads(b"{" + body) for _, body in (await own.log.read(target.feed, 1, 1_000)).items]
    deltas = [_time(chunk) for chunk in chunks if _is_delta(chunk)]
    streamed_s = deltas[-1] - deltas[0]
    assert streamed_s > 1
    if has_reader:
        assert heard == kept
        assert 2 < relays <= 8 * (streamed_s + 1)
        assert relays < batches <= relays + 2, "the last leaves through the binding, and what was not sent yet"
    else:
        assert (heard, relays) == ([], 0)
        assert batches <= 5 + streamed_s / (UNREAD_PERIODS[-1] * PERIOD_S)


def _time(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def _is_delta(event: dict[str, Any]) -> bool:
    return event["type"] == "stream.chunk" and event["data"]["frame"]["type"] == "content_delta"
