"""Who joined which connection to a session's group, in PostgreSQL. Implements `SubscriptionRepository`."""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.errors import no_such_session
from shared.sessions.events import feed_name
from shared.sessions.live.subscriptions import EndedSubscription

_Q = load_queries("sessions/subscriptions")

_EVERY = ""
"""How the table says: every connection of the user."""


class PostgresSubscriptions:
    """`SubscriptionRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def add(self, session_id: str, user_id: str, connection_id: str | None, *, limit: int, now: datetime) -> str:
        """Put on record that the user joins a connection, or all of theirs. Raises NotFound."""
        parameters = {
            "session_id": session_id,
            "user_id": user_id,
            "connection_id": connection_id or _EVERY,
            "limit": limit,
            "now": now,
        }
        async with self._pool.pipelined() as connection:
            # Only a statement that begins with the lock held sees whether they have just been taken out.
            await connection.execute(_Q["share_session"], parameters)
            added = await connection.execute(_Q["subscribe"], parameters)
            await connection.execute(_Q["end_oldest"], parameters)
            row = await added.fetchone()
        if row is None:
            raise no_such_session()
        return feed_name(session_id, row["incarnation"])

    async def remove(self, session_id: str, user_id: str, connection_id: str | None) -> tuple[str, list[str]]:
        """The feed they leave, and with None every connection that was on record. Raises NotFound."""
        row = await self._pool.fetch_one(
            _Q["unsubscribe"], {"session_id": session_id, "user_id": user_id, "connection_id": connection_id}
        )
        if row is None:
            raise no_such_session()
        return feed_name(session_id, row["incarnation"]), row["connection_ids"]

    async def ended(self, *, limit: int) -> list[EndedSubscription]:
        """Those that must leave, the longest since first."""
        rows = await self._pool.fetch_all(_Q["ended_subscriptions"], {"limit": limit})
        return [
            EndedSubscription(
                feed_name(row["session_id"], row["incarnation"]), row["user_id"], row["connection_id"] or None
            )
            for row in rows
        ]

    async def forget(self, *, ended_before: datetime) -> None:
        await self._pool.execute(_Q["forget_subscriptions"], {"before": ended_before})
