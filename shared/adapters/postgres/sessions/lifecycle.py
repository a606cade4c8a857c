"""A session's life beside its turns, in PostgreSQL: revision, participants, expiry.

Implements `LifecycleRepository` and, for tags, `SessionReviser`.

Invariant: what depends on the session's state is decided under its row lock, which is taken before any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from shared.adapters.postgres.listing import bounded, rows_of_page
from shared.adapters.postgres.pool import Connection, PostgresPool, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import session_record, turn_from_row
from shared.adapters.postgres.sessions.sessions import cancel_turns, locked_session
from shared.rights import Action
from shared.sessions.life.lifecycle import Curtailed
from shared.sessions.models import Participant, Session, Turn
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.pages import Page
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.turns import Interruption
from shared.sessions.structured_output.key_order import kept_in_order

_Q = load_queries("sessions/lifecycle")
_TURNS = bounded(_Q["turns_of_session"])
_N = load_queries("sessions/subscriptions")

_BEYOND_ALL = 2**31 - 1
"""Above every turn's number."""


class PostgresLifecycle:
    """`LifecycleRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def revise(
        self, session_id: str, user_id: str, revise: Callable[[Session], Session], *, now: datetime
    ) -> SessionRecord:
        """Store what `revise` makes of the session. Raises NotFound, and what it raises."""
        async with self._pool.transaction() as connection:
            record = await locked_session(connection, session_id, user_id, Action.CHANGE)
            revised = revise(record.session)
            # Setting what is shown already is a change too: from then on it is no longer the agent's to say.
            same_set = revised.config.model_fields_set == record.session.config.model_fields_set
            if revised == record.session and same_set:
                return record
            cursor = await connection.execute(
                _Q["revise_session"],
                {
                    "session_id": session_id,
                    "name": revised.name,
                    "agent_id": revised.agent_id,
                    "agent_version": revised.agent_version,
                    "config": json(kept_in_order(revised.config.model_dump(mode="json", exclude_unset=True))),
                    "tags": revised.tags,
                    "metadata": json(revised.metadata),
                    "now": now,
                    "access": record.access,
                },
            )
            row = await cursor.fetchone()
            assert row is not None  # locked above
            return session_record(row)

    async def list_turns(self, session_id: str, page: Page) -> list[tuple[int, Turn]]:
        """(number, turn), newest first, one more than `page.limit` when there are more, or CutRows."""
        before = min(page.after[0], _BEYOND_ALL) if page.after is not None else _BEYOND_ALL
        rows = await self._pool.fetch_all(_TURNS, {"session_id": session_id, "before": before, "limit": page.limit + 1})
        return rows_of_page(rows, page, lambda row: (row["number"], turn_from_row(row)))

    async def expired(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """(session id, owner id) of sessions that have expired and not ended."""
        rows = await self._pool.fetch_all(_Q["expired_sessions"], {"now": now, "limit": limit})
        return [(row["id"], row["owner_id"]) for row in rows]

    # Participants. -----------------------------------------------------------------------------

    async def participant(self, session_id: str, user_id: str) -> Participant | None:
        row = await self._pool.fetch_one(_Q["participant"], {"session_id": session_id, "user_id": user_id})
        return None if row is None else Participant(session_id=session_id, **row)

    async def participants(self, session_id: str) -> list[Participant]:
        rows = await self._pool.fetch_all(_Q["participants"], {"session_id": session_id})
        return [Participant(session_id=session_id, **row) for row in rows]

    async def is_private(self, session_id: str, user_id: str) -> bool:
        """Whether it is the user's own and nobody else takes part in it."""
        row = await self._pool.fetch_one(_Q["is_private"], {"session_id": session_id, "user_id": user_id})
        return row is not None and bool(row["private"])

    async def put_participant(
        self, participant: Participant, owner_id: str, *, limit: int, now: datetime
    ) -> Curtailed | None:
        """None when the session has `limit` others. Raises NotFound, Gone."""
        key = {"session_id": participant.session_id, "user_id": participant.user_id}
        async with self._pool.transaction() as connection:
            record = await locked_session(connection, participant.session_id, owner_id, Action.SHARE)
            refuse_expired(record.session, now)
            counted = await (await connection.execute(_Q["count_other_participants"], key)).fetchone()
            if counted is None or counted["others"] >= limit:
                return None
            await connection.execute(_Q["put_participant"], {**key, "access": participant.access})
            if participant.access == "write":
                return Curtailed(record.target, Interruption())
            return await _curtail(connection, record, participant.user_id, now=now)

    async def remove_participant(self, session_id: str, user_id: str, by_user_id: str, *, now: datetime) -> Curtailed:
        """Harmless when there is none. Raises NotFound when the user who asks takes no part in it."""
        async with self._pool.transaction() as connection:
            action = Action.LEAVE if user_id == by_user_id else Action.SHARE
            record = await locked_session(connection, session_id, by_user_id, action)
            key = {"session_id": session_id, "user_id": user_id}
            removed = await connection.execute(_Q["remove_participant"], key)
            ended = await connection.execute(_N["end_subscriptions"], {**key, "now": now})
            left = [row["connection_id"] for row in await ended.fetchall() if row["connection_id"]]
            curtailed = await _curtail(connection, record, user_id, now=now)
            return replace(curtailed, connection_ids=left, took_part=removed.rowcount > 0)


async def _curtail(connection: Connection, record: SessionRecord, user_id: str, *, now: datetime) -> Curtailed:
    """Cancel what runs for somebody who may no longer write, inside the caller's transaction."""
    key = {"session_id": record.session.id, "user_id": user_id}
    turns = await (await connection.execute(_Q["open_turns_of_user"], key)).fetchall()
    return Curtailed(record.target, await cancel_turns(connection, [turn["id"] for turn in turns], now=now))
