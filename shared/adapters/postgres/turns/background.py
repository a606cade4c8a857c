"""Subagents in the background, in PostgreSQL. Implements `BackgroundRepository`.

Invariant: a result is told once: the mark at the child's session and the message in its caller's are one transaction.
The child is locked before its caller's session, as everywhere (migration 0057).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.adapters.postgres.audit import PostgresAuditTrail
from shared.adapters.postgres.pool import Connection, PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import event_target
from shared.adapters.postgres.turns.children import insert_child
from shared.adapters.postgres.turns.posting import MAX_OPEN_TURNS, on_branch, turn_to_join, user_turn_row
from shared.adapters.postgres.turns.turns import joined_message
from shared.durable.hub import TaskHub, only_hub
from shared.rights import Action, may
from shared.sessions.models import SessionStatus
from shared.sessions.posting.joining import Joining
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.background import AskedFor, NewResult, WriteResult
from shared.sessions.records.children import NewChild
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.turns import PostedMessage

_Q = load_queries("turns/background")
_A = load_queries("audit")
_T = load_queries("turns/turns")


class _NotNow(Exception):
    """The session takes no message now: what was marked is taken back."""


class PostgresBackground:
    """`BackgroundRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, trail: PostgresAuditTrail, hub: TaskHub | None = None) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._trail = trail
        self._hub = hub or only_hub()

    async def begin(self, child: NewChild, notes: Sequence[AuditNote]) -> bool:
        parameters = {"tool_call_id": child.tool_call_id}
        async with self._trail.transaction() as audited:
            connection = audited.connection
            # Under the lock of the session, so that the second of two sees the child of the first.
            head = await connection.execute(_A["lock_audit_head_of_tool_call"], parameters)
            row = await (await connection.execute(_Q["open_background"], parameters)).fetchone()
            if row is None:
                return False
            if not row["child"]:
                await audited.append(await head.fetchone(), notes)
                await insert_child(connection, child, hub=self._hub.id)
        return True

    async def open_of(self, session_id: str) -> int:
        row = await self._pool.fetch_one(_Q["open_in_background"], {"session_id": session_id})
        assert row is not None  # it counts
        return int(row["open"])

    async def call_of(self, session_id: str) -> str | None:
        row = await self._pool.fetch_one(_Q["call_of_background"], {"session_id": session_id})
        return None if row is None else str(row["parent_tool_call_id"])

    async def to_tell(self, *, before: datetime, limit: int) -> list[str]:
        rows = await self._pool.fetch_all(_Q["results_to_tell"], {"before": before, "limit": limit})
        return [row["parent_tool_call_id"] for row in rows]

    async def overdue(self, *, now: datetime, limit: int) -> list[str]:
        rows = await self._pool.fetch_all(_Q["overdue_background"], {"now": now, "limit": limit})
        return [row["id"] for row in rows]

    async def tell(self, session_id: str, write: WriteResult, *, now: datetime) -> PostedMessage | None:
        try:
            async with self._pool.transaction() as connection:
                taken = await _one(connection, "take_result", {"session_id": session_id, "now": now})
                if taken is None:
                    return None
                return await self._told(connection, taken, write)
        except _NotNow:
            return None

    async def _told(self, connection: Connection, taken: Row, write: WriteResult) -> PostedMessage | None:
        """None: the session takes no message any more."""
        key = {"session_id": taken["parent_session_id"], "user_id": taken["requested_by"]}
        parent = await _one(connection, "lock_parent", key)
        if parent is None or parent["status"] not in {SessionStatus.ACTIVE, SessionStatus.SUSPENDED}:
            return None
        if parent["status"] == SessionStatus.SUSPENDED:
            raise _NotNow
        call = {"tool_call_id": taken["parent_tool_call_id"]}
        place = await _one(connection, "place_of_call", call)
        if place is None:
            return None
        asked = AskedFor(
            taken["parent_session_id"],
            taken["parent_turn_id"],
            taken["parent_tool_call_id"],
            taken["requested_by"],
            TurnPlan.model_validate(taken["plan"]),
            bool(taken["is_late"]),
        )
        new = write(asked)
        row = user_turn_row(
            new.message,
            new.turn,
            new.plan,
            user_id=asked.requested_by,
            tokens=new.tokens,
            note=new.note,
            sources=new.sources,
            hub=self._hub,
        )
        posted = await _placed(connection, new, asked, parent, place, row)
        mark = {"message_id": new.message.id, "from_subagent": json(new.told.model_dump(mode="json"))}
        await connection.execute(_Q["mark_result"], mark)
        return posted


async def _placed(
    connection: Connection, new: NewResult, asked: AskedFor, parent: Row, place: Row, row: dict[str, Any]
) -> PostedMessage:
    """In the turn that runs, in one of its own, or, where nobody goes on from its call, behind the turn of that."""
    target = event_target(parent, session_id=asked.session_id)
    if not (place["is_wanted"] and place["is_on_branch"] and may(parent["access"], Action.POST)):
        return await joined_message(connection, new.message, asked.turn_id, row, target)
    joins = await turn_to_join(connection, asked.session_id, Joining(asked.requested_by, new.plan, new.tokens))
    if joins is not None:
        return await joined_message(connection, new.message, joins, row, target)
    opened = await (await connection.execute(_T["open_turns"], {"session_id": asked.session_id})).fetchall()
    if len(opened) >= MAX_OPEN_TURNS:
        raise _NotNow
    await connection.execute(_T["insert_user_turn"], {**row, "dispatch": not opened})
    branch = parent["active_branch"]
    return PostedMessage(on_branch(new.message, branch), on_branch(new.turn, branch), target, dispatched=not opened)


async def _one(connection: Connection, query: str, parameters: dict[str, Any]) -> Row | None:
    return await (await connection.execute(_Q[query], parameters)).fetchone()
