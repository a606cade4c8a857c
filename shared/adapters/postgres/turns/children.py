"""Sessions and turns that answer calls of agents, in PostgreSQL. Implements `ChildRepository` and `Callers`.

Invariant: a call has one child, which is stored with the wait of the call, and whose end answers that wait in the same
transaction (migration 0057).
"""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.history.lexemes import vector_of
from shared.adapters.postgres.pool import Connection, PostgresPool, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import event_target, turn_error
from shared.adapters.postgres.sessions.sessions import cancel_turns
from shared.sessions.events import SEQ_LEASE, SUBAGENT_MARK, Caller, EventTarget
from shared.sessions.models import Message, MessageRole, MessageStatus, TurnStatus
from shared.sessions.records.children import Child, NewChild
from shared.sessions.records.turns import Interruption

_Q = load_queries("turns/children")


async def insert_child(connection: Connection, child: NewChild, *, hub: str | None) -> None:
    """Inside the transaction that stores the wait of its call."""
    await connection.execute(
        _Q["insert_child"],
        {
            "tool_call_id": child.tool_call_id,
            "session_id": child.session_id,
            "turn_id": child.turn_id,
            "message_id": child.message_id,
            "agent_id": child.agent_id,
            "name": child.name,
            "plan": json(child.plan.stored()),
            "content": child.content,
            "words": vector_of(child.content),
            "tokens": child.tokens,
            "sources": sorted(child.sources) or None,
            "now": child.now,
            "hub": hub,
            "background_until": child.background_until,
            "mark": SUBAGENT_MARK,
            "ceiling": SEQ_LEASE,
        },
    )


class PostgresChildren:
    """`ChildRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def of_call(self, tool_call_id: str) -> Child | None:
        row = await self._pool.fetch_one(_Q["child"], {"tool_call_id": tool_call_id})
        if row is None:
            return None
        asked = Message(
            id=row["message_id"],
            session_id=row["session_id"],
            turn_id=row["turn_id"],
            role=MessageRole.USER,
            content=row["input"],
            author=row["requested_by"],
            status=MessageStatus.COMPLETED,
            created_at=row["asked_at"],
        )
        return Child(
            tool_call_id=tool_call_id,
            session_id=row["session_id"],
            turn_id=row["turn_id"],
            agent_id=row["agent_id"],
            status=TurnStatus(row["status"]),
            is_started=row["started_at"] is not None or row["ended_at"] is not None,
            error=turn_error(row),
            message=asked,
            content=row["content"] or "",
            output=row["output"],
            sources=frozenset(row["sources"] or ()),
            target=event_target(row),
        )

    async def beside(self, tool_call_id: str) -> tuple[int, int]:
        row = await self._pool.fetch_one(_Q["children_of_question"], {"tool_call_id": tool_call_id})
        assert row is not None  # it counts
        return row["open"], row["begun"]

    async def caller_of(self, session_id: str) -> Caller | None:
        row = await self._pool.fetch_one(_Q["caller"], {"session_id": session_id})
        if row is None:
            return None
        named = {
            "tool_call_id": row["parent_tool_call_id"],
            "agent_id": row["agent_id"],
            "session_id": session_id,
            **({"background": True} if row["background"] else {}),
        }
        return Caller(event_target(row), row["turn_id"], named)

    async def stopped(self, turn_id: str | None, *, limit: int) -> list[str]:
        rows = await self._pool.fetch_all(_Q["stopped_children"], {"turn_id": turn_id, "limit": limit})
        return [row["id"] for row in rows]

    async def cancel(self, turn_id: str, *, now: datetime) -> tuple[Interruption, EventTarget] | None:
        async with self._pool.transaction() as connection:
            row = await (await connection.execute(_Q["lock_child"], {"turn_id": turn_id})).fetchone()
            if row is None or row["ended_at"] is not None:
                return None
            return await cancel_turns(connection, [turn_id], now=now), event_target(row)

    async def of_session(self, session_id: str, *, limit: int) -> list[tuple[str, str]]:
        rows = await self._pool.fetch_all(_Q["children_of_session"], {"session_id": session_id, "limit": limit})
        return [(row["id"], row["owner_id"]) for row in rows]
