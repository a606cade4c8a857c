"""Copies of sessions in PostgreSQL: one transaction, one INSERT ... SELECT per table. Implements `ForkRepository`.

Invariant: the source is held against erasure while it is copied and is otherwise left alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared.adapters.postgres.branches.checkpoints import checkpoint_row, checkpoint_state
from shared.adapters.postgres.pool import Connection, PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import session_record
from shared.adapters.postgres.sessions.sessions import claim_idempotency, insert_session, session_made_before
from shared.errors import Conflict, ErrorCode, NotFound, no_such_session
from shared.sessions.agents.catalog import DRAFT
from shared.sessions.life.forks import MAX_FORKED_MESSAGES, ForkPlace, fork_name, too_many_messages
from shared.sessions.models import JsonObject, Session, SessionStatus
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.sessions import SessionRecord

_Q = load_queries("branches/forks")

_END = 2**31 - 1
"""Behind every turn, and every step of one."""


class PostgresForks:
    """`ForkRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, *, max_messages: int = MAX_FORKED_MESSAGES) -> None:
        self._pool = pool
        self._max_messages = max_messages

    async def fork(
        self, place: ForkPlace, fork_id: str, user_id: str, *, idempotency: Idempotency | None, now: datetime
    ) -> tuple[SessionRecord, bool]:
        async with self._pool.transaction() as connection:
            source, draft = await _held(connection, place.source_id, user_id)
            if idempotency is not None:
                earlier = await claim_idempotency(connection, idempotency, {"session_id": fork_id})
                if earlier is not None:
                    return await session_made_before(connection, earlier["session_id"], user_id), False
            fork = Session(
                id=fork_id,
                name=fork_name(source.name),
                title=source.title,
                status=SessionStatus.CREATED,
                agent_id=source.agent_id,
                agent_version=source.agent_version,
                config=source.config,
                tags=source.tags,
                metadata=source.metadata,
                forked_from=source.id,
                created_at=now,
                updated_at=now,
            )
            part, fork = await _part(connection, place, source, fork)
            bounded = part | {"limit": self._max_messages + 1}
            counted = await (await connection.execute(_Q["count_history"], bounded)).fetchone()
            if counted is None or counted["messages"] > self._max_messages:
                raise too_many_messages(self._max_messages)
            row = await insert_session(connection, fork, user_id, draft if fork.agent_version == DRAFT else None)
            assert row is not None  # its id is new
            await connection.execute(_Q["steady_plan"])
            await connection.execute(_Q["copy_history"], part)
            return session_record(row), True


async def _held(connection: Connection, session_id: str, user_id: str) -> tuple[Session, JsonObject | None]:
    """The session, and the stored draft of its agent if it tries one."""
    cursor = await connection.execute(_Q["session_to_fork"], {"session_id": session_id, "user_id": user_id})
    row = await cursor.fetchone()
    if row is None:
        raise no_such_session()
    return session_record(row).session, row["agent_draft"]


async def _part(
    connection: Connection, place: ForkPlace, source: Session, fork: Session
) -> tuple[dict[str, Any], Session]:
    """What to copy, as parameters of the queries, and the fork with what a checkpoint says of it."""
    part: dict[str, Any] = {
        "source_id": source.id,
        "fork_id": fork.id,
        "message_id": place.message_id,
        "branch": source.active_branch,
        "turn_number": _END,
        "step": _END,
    }
    if place.message_id is not None:
        cursor = await connection.execute(
            _Q["place_of_message"], {"session_id": source.id, "message_id": place.message_id}
        )
        found = await cursor.fetchone()
        if found is None:
            raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such message.")
        if found["is_open"]:
            raise Conflict(ErrorCode.CONFLICT, "The turn of that message is still running.")
        part |= {"branch": found["branch"], "turn_number": found["turn_number"], "step": found["step"]}
    if place.checkpoint_id is not None:
        row = await checkpoint_row(connection, source.id, place.checkpoint_id)
        part |= {"branch": row["branch"], "turn_number": row["turn_number"]}
        state = checkpoint_state(row)
        changes = {field: getattr(state, field) for field in ("agent_id", "config", "tags", "metadata")}
        version = source.agent_version if state.agent_id == source.agent_id else None
        fork = fork.model_copy(update={**changes, "agent_version": version, "name": fork_name(state.name)})
    return part, fork
