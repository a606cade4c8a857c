"""Pinned sessions in PostgreSQL. Implements `PinRepository`."""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.errors import no_such_session

_Q = load_queries("features/pins")


class PostgresPins:
    """`PinRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def put(self, session_id: str, user_id: str, *, limit: int, now: datetime) -> bool:
        row = await self._pool.fetch_one(
            _Q["pin"], {"session_id": session_id, "user_id": user_id, "limit": limit, "now": now}
        )
        if row is None:
            raise no_such_session()
        return bool(row["pinned"])

    async def delete(self, session_id: str, user_id: str) -> None:
        await self._pool.execute(_Q["unpin"], {"session_id": session_id, "user_id": user_id})
