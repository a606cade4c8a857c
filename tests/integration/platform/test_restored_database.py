"""A database that was restored to an earlier instant, with clients and a Redis that know more than it does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shared.adapters.sql.restored import move_numbers
from shared.sessions.events import Event, EventType, SessionEventPublisher
from tests.integration.domain import OWNER, Stores, envelopes

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
GIVEN, LEASED_AT_BACKUP = 100, 50
"""Numbers given until now; up to which the row had leased them at the instant of the backup."""


async def _publish(stores: Stores, publisher: SessionEventPublisher, session_id: str, count: int) -> list[int]:
    """Numbers of events that the app, newly started, sends."""
    record = await stores.sessions.get(session_id, OWNER)
    events = [Event(EventType.SESSION_ACTIVATED, {})] * count
    return [envelope["seq"] for envelope in envelopes(await publisher.publish(record.target, events))]


@pytest.mark.parametrize("redis_is_empty", [False, True], ids=["Redis kept", "Redis emptied"])
async def test_no_number_is_given_twice_after_a_restore(
    stores: Stores, publisher: SessionEventPublisher, redis: Redis, postgres_url: str, redis_is_empty: bool
) -> None:
    session_id = (await stores.session()).id
    given = await _publish(stores, publisher, session_id, GIVEN)

    await stores.sql(
        b"UPDATE sessions SET event_seq_floor = 0, event_seq_ceiling = %(leased)s WHERE id = %(id)s",
        id=session_id,
        leased=LEASED_AT_BACKUP,
    )
    if redis_is_empty:
        await redis.flushdb()
    else:
        # All that was leased meanwhile is used up.
        await redis.hset(f"parley:{{{session_id}}}:seq", "ceiling", str(given[-1]))  # type: ignore[misc]
    assert await asyncio.to_thread(move_numbers, postgres_url) >= 1
    restarted = SessionEventPublisher(publisher._log, stores.sessions)

    after = await _publish(stores, restarted, session_id, 5)

    assert min(after) > max(given)
    assert after == list(range(after[0], after[0] + 5))


def test_the_command_says_what_it_did_and_refuses_without_a_database(postgres_url: str) -> None:
    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "shared.adapters.sql.restored"]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert run(POSTGRES_URL=postgres_url).stdout.endswith("sessions go on above all that were given\n")
    assert (run().returncode, "POSTGRES_URL" in run().stderr) == (2, True)
    assert run(POSTGRES_URL="postgresql://127.0.0.1:1/none").returncode == 1
