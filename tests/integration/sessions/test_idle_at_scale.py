"""What the search for idle sessions reads where most have ended, and where many are old and in use: what it may end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.sessions.retention import PostgresRetention
from tests.integration.domain import Stores, utc_now

pytestmark = pytest.mark.integration

SESSIONS, IDLE, USED = 10_000, 30, 50
"""Created a year ago, and all ended but these."""
LIMIT = 20
PLANNED = 40
"""At most, for planning, which looks at both ends of indexes."""
BEFORE = timedelta(days=90)

_FILL = b"""
WITH made AS (
    INSERT INTO sessions (id, owner_id, status, config, created_at, updated_at, ended_at, event_seq_ceiling)
    SELECT 's' || n, 'ann', CASE WHEN n <= %(idle)s + %(used)s THEN 'ACTIVE' ELSE 'ENDED' END, '{}',
           now() - interval '1 year' - n * interval '1 second', now() - interval '1 year',
           CASE WHEN n > %(idle)s + %(used)s THEN now() - interval '1 year' END, 10000
    FROM generate_series(1, %(sessions)s) n
    RETURNING id
)
INSERT INTO turns (id, session_id, number, message_id, requested_by, status, plan, created_at, ended_at)
SELECT 't' || n, 's' || n, 1, 'm' || n, 'ann', 'completed', '{}', now() - interval '1 year',
       -- Of those in use, half wait for somebody, and the other half ended yesterday.
       CASE WHEN n > %(used)s THEN now() - interval '1 year' WHEN n %% 2 = 0 THEN now() - interval '1 day' END
FROM generate_series(1, %(sessions)s) n JOIN made ON made.id = 's' || n
"""


@pytest.fixture
async def old(postgres_url: str) -> AsyncIterator[Stores]:
    """Over a single connection, whose statistics are therefore all there are."""
    pool = PostgresPool(postgres_url, size=1)
    stores = Stores.over(pool)
    await stores.sql(b"DELETE FROM sessions")
    await stores.sql(_FILL, sessions=SESSIONS, idle=IDLE, used=USED)
    await stores.sql(b"ANALYZE")
    yield stores
    await pool.aclose()


async def _rows_read(stores: Stores) -> tuple[int, int]:
    """Rows of our tables read so far, by reading whole tables and through indexes."""
    await stores.rows(b"SELECT pg_stat_force_next_flush()::text")
    (row,) = await stores.rows(
        b"SELECT sum(seq_tup_read)::bigint AS whole, sum(coalesce(idx_tup_fetch, 0))::bigint AS indexed"
        b" FROM pg_stat_user_tables"
    )
    return row["whole"], row["indexed"]


async def test_a_look_reads_its_share_and_finds_each_session_once(old: Stores) -> None:
    rows, now = PostgresRetention(old.pool), utc_now()
    looked, ended = [], set[str]()
    for _ in range(6):
        whole, indexed = await _rows_read(old)
        found, records = await rows.end_idle(before=now - BEFORE, now=now, limit=LIMIT)
        whole_after, indexed_after = await _rows_read(old)
        looked.append(found)
        ended |= {record.session.id for record in records}
        assert whole_after - whole == 0
        # Each found by its index, its one turn, and the session again to write it.
        assert 3 * found <= indexed_after - indexed <= 3 * found + PLANNED
    assert looked == [20, 20, 20, 20, 0, 0]
    assert ended == {f"s{n}" for n in range(USED + 1, USED + IDLE + 1)}


async def test_what_was_in_use_is_looked_at_again_once_it_may_be_idle(old: Stores) -> None:
    rows, now = PostgresRetention(old.pool), utc_now()
    await rows.end_idle(before=now - BEFORE, now=now, limit=1_000)
    later = now + timedelta(days=88)
    # Those that waited, since nobody knows until when they were in use.
    found, records = await rows.end_idle(before=later - BEFORE, now=later, limit=1_000)
    assert (found, records) == (USED // 2, [])
    later = now + timedelta(days=90)
    found, records = await rows.end_idle(before=later - BEFORE, now=later, limit=1_000)
    assert (found, {int(record.session.id[1:]) % 2 for record in records}) == (USED, {0})
