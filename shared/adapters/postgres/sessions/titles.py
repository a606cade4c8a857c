"""Sessions that wait for a title by a model, in PostgreSQL. Implements `UntitledSessions`."""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import session_record
from shared.sessions.life.titling import LEASE, MOST_CHARS, MOST_MESSAGES, MOST_TRIES, Untitled
from shared.sessions.records.sessions import SessionRecord

_Q = load_queries("sessions/titles")


class PostgresUntitled:
    """`UntitledSessions` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def claim(self, *, made_within: timedelta, limit: int, now: datetime) -> list[Untitled]:
        rows = await self._pool.fetch_all(
            _Q["claim_untitled"],
            {
                "since": now - made_within,
                "now": now,
                "until": now + LEASE,
                "most_tries": MOST_TRIES,
                "most_chars": MOST_CHARS,
                "most_messages": MOST_MESSAGES,
                "limit": limit,
            },
        )
        return [Untitled(row["session_id"], row["turn_id"], row["requested_by"], row["said"]) for row in rows]

    async def set_title(self, session_id: str, title: str, *, now: datetime) -> SessionRecord | None:
        row = await self._pool.fetch_one(_Q["set_title"], {"session_id": session_id, "title": title, "now": now})
        return None if row is None else session_record(row)

    async def leave(self, session_id: str, *, now: datetime) -> None:
        await self._pool.execute(_Q["leave_title"], {"session_id": session_id, "now": now})
