"""A Redis that was started again from older data, or whose place a replica took: it has no scripts, and is not believed
what it counted. Its scripts are those of all its databases, so this one is nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from devhost.servers.valkey import Valkey
from shared.adapters.redis.epochs import Epochs
from shared.adapters.redis.events import RedisEventLog
from shared.adapters.redis.presence import RedisPresenceMarks
from shared.ids import new_id
from shared.sessions.events import EventTarget, SeqLeaseNeeded
from tests.integration.domain import patient

pytestmark = pytest.mark.integration

NOW_MS = 1_796_040_000_123


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path / "valkey", fast=True) as server:
        yield server


@pytest.fixture
def redis_url(own_valkey: Valkey) -> str:
    """Of a server that no other test uses."""
    return own_valkey.url


@pytest.fixture
def marks(redis: Redis) -> RedisPresenceMarks:
    return RedisPresenceMarks(redis, patient(redis))


def _target() -> EventTarget:
    return EventTarget(new_id(), 0, 100_000, may_seed=True)


def _bodies(count: int) -> list[bytes]:
    return [b'"n":%d}' % number for number in range(count)]


async def _presence(log: RedisEventLog, target: EventTarget) -> int | None:
    return (await log.append(target, [b"x"])).presence


async def test_a_server_without_the_epochs_script_is_not_believed_what_it_counted(
    event_log: RedisEventLog, redis: Redis
) -> None:
    """It was started again, or another took its place: numbers that it does not know of may have been given."""
    target = _target()
    await event_log.append(target, _bodies(1))
    await redis.script_flush()

    outcomes = await asyncio.gather(*(event_log.append(target, _bodies(1)) for _ in range(3)), return_exceptions=True)

    lost = [outcome for outcome in outcomes if isinstance(outcome, SeqLeaseNeeded) and outcome.lost]
    assert len(lost) == 3
    leased = replace(target, seq_floor=100_000, seq_ceiling=200_000, epoch=lost[0].epoch)
    assert (await event_log.append(leased, _bodies(1))).first == 100_001
    assert (await event_log.append(replace(target, may_seed=False), _bodies(1))).first == 100_002


async def test_processes_agree_on_an_epoch_and_on_the_one_after_it(redis: Redis) -> None:
    processes = [Epochs(redis, "return epoch") for _ in range(8)]

    firsts = {await one.agree() for one in processes} | set(await asyncio.gather(*(one.agree() for one in processes)))
    await redis.script_flush()
    nexts = set(await asyncio.gather(*(one.agree() for one in processes)))
    nexts |= set(await asyncio.gather(*(one.agree() for one in processes)))

    assert (len(firsts), len(nexts), firsts & nexts) == (1, 1, set())
    (epoch,) = nexts
    assert await redis.evalsha(epoch.sha, 0) == epoch.id.encode()
    assert abs(epoch.began_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_where_redis_may_have_forgotten_a_join_events_are_sent(
    event_log: RedisEventLog, marks: RedisPresenceMarks, redis: Redis
) -> None:
    target = replace(_target(), subscribed_ms=0)
    await event_log.append(target, [b"x"])
    await marks.join(target.feed, NOW_MS)
    assert await marks.vacate(target.feed, NOW_MS)
    await redis.script_flush()  # it was started again from older data, or a replica took its place

    with pytest.raises(SeqLeaseNeeded) as lost:
        await event_log.append(replace(target, may_seed=False), [b"x"])
    leased = replace(target, seq_floor=1_000, epoch=lost.value.epoch, subscribed_ms=None)
    assert await _presence(event_log, leased) is None
    assert await _presence(event_log, replace(leased, subscribed_ms=0)) == 0, (
        "until the next step tells who is on record"
    )
