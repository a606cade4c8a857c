"""Sessions that are kept no longer, in PostgreSQL. Implements `RetentionRepository`.

Invariant: each method is one statement that looks at a session under its row lock, so that what begins to be used in
the same moment is left alone.
"""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import session_record
from shared.sessions.records.sessions import SessionRecord

_Q = load_queries("sessions/retention")


class PostgresRetention:
    """`RetentionRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def end_idle(self, *, before: datetime, now: datetime, limit: int) -> tuple[int, list[SessionRecord]]:
        """How many were looked at, and those that were ended, as they are now."""
        rows = await self._pool.fetch_all(_Q["end_idle_sessions"], {"before": before, "now": now, "limit": limit})
        return rows[0]["looked"], [session_record(row) for row in rows if row["id"] is not None]

    async def claim_old(self, *, before: datetime, now: datetime, limit: int) -> list[str]:
        """Ids of those whose erasure is on record now."""
        rows = await self._pool.fetch_all(_Q["claim_old_sessions"], {"before": before, "now": now, "limit": limit})
        return [row["session_id"] for row in rows]
