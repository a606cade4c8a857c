"""Who hears a session's events, in PostgreSQL: who joined which connection to its group, and whose streams may go on.

Implements `SubscriptionRepository`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.errors import no_such_session
from shared.sessions.events import feed_name
from shared.sessions.live.audience import Listener
from shared.sessions.live.open_streams import Viewer
from shared.sessions.live.presence import OnRecord
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

    async def stands(self, session_id: str, user_id: str, connection_id: str | None) -> bool:
        """Whether what was added is still on record and not ended. Raises NotFound."""
        parameters = {"session_id": session_id, "user_id": user_id, "connection_id": connection_id or _EVERY}
        row = await self._pool.fetch_one(_Q["subscription_stands"], parameters)
        if row is None:
            raise no_such_session()
        return bool(row["stands"])

    async def remove(self, session_id: str, user_id: str, connection_id: str | None) -> tuple[str, list[str]]:
        """The feed they leave, and with None every connection that was on record. Raises NotFound."""
        row = await self._pool.fetch_one(
            _Q["unsubscribe"], {"session_id": session_id, "user_id": user_id, "connection_id": connection_id}
        )
        if row is None:
            raise no_such_session()
        return feed_name(session_id, row["incarnation"]), row["connection_ids"]

    async def on_record(self, session_id: str) -> OnRecord:
        """Who has joined and not left, of all users. Raises Transient."""
        row = await self._pool.fetch_one(_Q["on_record"], {"session_id": session_id})
        assert row is not None  # an aggregate
        return OnRecord(row["connections"], row["users"])

    async def listeners(self, session_id: str, limit: int) -> list[Listener]:
        """Who has joined and not left, the latest first. Raises Transient."""
        rows = await self._pool.fetch_all(_Q["listeners"], {"session_id": session_id, "limit": limit})
        return [Listener(row["user_id"], row["connection_id"] or None) for row in rows]

    async def ended(self, *, limit: int) -> list[EndedSubscription]:
        """Those that must leave, the longest since first."""
        rows = await self._pool.fetch_all(_Q["ended_subscriptions"], {"limit": limit})
        return [
            EndedSubscription(
                feed_name(row["session_id"], row["incarnation"]), row["user_id"], row["connection_id"] or None
            )
            for row in rows
        ]

    async def readable(self, viewers: Collection[Viewer]) -> set[Viewer]:
        """Those of them who may read their session now, in one query. Raises Transient."""
        asked = sorted({(viewer.session_id, viewer.user_id) for viewer in viewers})
        rows = await self._pool.fetch_all(
            _Q["still_readable"],
            {"session_ids": [session_id for session_id, _ in asked], "user_ids": [user_id for _, user_id in asked]},
        )
        found = {
            Viewer(row["session_id"], row["user_id"], feed_name(row["session_id"], row["incarnation"])) for row in rows
        }
        return found & set(viewers)

    async def forget(self, *, ended_before: datetime) -> None:
        await self._pool.execute(_Q["forget_subscriptions"], {"before": ended_before})
