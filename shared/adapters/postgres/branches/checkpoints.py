"""Checkpoints of a session in PostgreSQL, beside the rows they point into. Implements `CheckpointRepository`.

Invariant: a session is recovered under its row lock, while no turn of it is open, so what a checkpoint points at
does not move meanwhile.
"""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.branches.branches import refuse_open_turns, too_many_branches
from shared.adapters.postgres.listing import bounded, rows_of_page
from shared.adapters.postgres.pool import Connection, PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import session_record
from shared.adapters.postgres.sessions.sessions import locked_session
from shared.errors import ErrorCode, NotFound
from shared.rights import Action
from shared.sessions.life.branches import MAX_BRANCHES
from shared.sessions.models import SessionConfig, SessionStatus
from shared.sessions.records.pages import Page
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.recovery import (
    KEPT_CHECKPOINTS,
    Checkpoint,
    CheckpointState,
    Recovered,
    recovered_state,
    refuse_recovery,
)
from shared.sessions.structured_output.key_order import kept_in_order

_Q = load_queries("branches/checkpoints")
_LIST = bounded(_Q["checkpoints"])


class PostgresCheckpoints:
    """`CheckpointRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def create(
        self, checkpoint_id: str, session_id: str, user_id: str, label: str | None, *, now: datetime
    ) -> Checkpoint:
        async with self._pool.transaction() as connection:
            record = await locked_session(connection, session_id, user_id, Action.CHANGE)
            refuse_recovery(record.session, now)
            cursor = await connection.execute(
                _Q["insert_checkpoint"],
                {"session_id": session_id, "checkpoint_id": checkpoint_id, "label": label, "now": now},
            )
            row = await cursor.fetchone()
            assert row is not None  # the session is locked above
            await connection.execute(
                _Q["forget_oldest_on_demand"], {"session_id": session_id, "kept": KEPT_CHECKPOINTS}
            )
            return _checkpoint(row)

    async def list_for(self, session_id: str, page: Page) -> list[Checkpoint]:
        after_at, after_id = page.after or (None, None)
        rows = await self._pool.fetch_all(
            _LIST,
            {"session_id": session_id, "after_at": after_at, "after_id": after_id, "limit": page.limit + 1},
        )
        return rows_of_page(rows, page, _checkpoint)

    async def recover(self, session_id: str, user_id: str, checkpoint_id: str, *, now: datetime) -> Recovered:
        async with self._pool.transaction() as connection:
            record = await locked_session(connection, session_id, user_id, Action.CHANGE)
            checkpoint = await checkpoint_row(connection, session_id, checkpoint_id)
            refuse_recovery(record.session, now)
            await refuse_open_turns(connection, session_id)
            branch = await _branch_from(connection, record, checkpoint, now=now)
            wanted = recovered_state(record.session, checkpoint_state(checkpoint)).model_copy(
                update={"active_branch": branch}
            )
            if wanted == record.session:
                return Recovered(record.session, record)
            cursor = await connection.execute(
                _Q["recover_session"],
                {
                    "session_id": session_id,
                    "name": wanted.name,
                    "status": wanted.status.value,
                    "agent_id": wanted.agent_id,
                    "agent_version": wanted.agent_version,
                    "config": json(kept_in_order(wanted.config.model_dump(mode="json", exclude_unset=True))),
                    "tags": wanted.tags,
                    "metadata": json(wanted.metadata),
                    "branch": branch,
                    "access": record.access,
                    "now": now,
                },
            )
            row = await cursor.fetchone()
            assert row is not None  # locked above
            return Recovered(record.session, session_record(row))

    async def forget(self, *, before: datetime, on_demand_before: datetime, since: datetime, kept: int) -> int:
        old = await self._pool.execute(
            _Q["forget_old_checkpoints"], {"before": before, "on_demand_before": on_demand_before}
        )
        return old + await self._pool.execute(_Q["forget_surplus_checkpoints"], {"since": since, "kept": kept})


async def checkpoint_row(connection: Connection, session_id: str, checkpoint_id: str) -> Row:
    """Raises NotFound."""
    cursor = await connection.execute(_Q["checkpoint"], {"session_id": session_id, "checkpoint_id": checkpoint_id})
    row = await cursor.fetchone()
    if row is None:
        # The contract has no code of its own for checkpoints: each stands at a place among the messages.
        raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such checkpoint.")
    return row


async def _branch_from(connection: Connection, record: SessionRecord, checkpoint: Row, *, now: datetime) -> int:
    """The branch that goes on from a checkpoint: one that ends there, or a new one."""
    key = {"session_id": record.session.id}
    cursor = await connection.execute(
        _Q["last_step"], {**key, "branch": checkpoint["branch"], "turn_number": checkpoint["turn_number"]}
    )
    last = await cursor.fetchone()
    if last is None:
        cursor = await connection.execute(_Q["has_messages"], {**key, "branch": 0})
        begun = await cursor.fetchone()
        last = {"branch": 0, "turn_number": 0, "step": 0, "goes_on": begun is not None and begun["found"]}
    if not last["goes_on"]:
        return int(last["branch"])
    fork = {
        **key,
        "parent_branch": last["branch"],
        "fork_turn_number": last["turn_number"],
        "fork_step": last["step"],
    }
    empty = await (await connection.execute(_Q["empty_branch"], fork)).fetchone()
    if empty is not None:
        return int(empty["branch"])
    branch = record.last_branch + 1
    if branch >= MAX_BRANCHES:
        raise too_many_branches()
    await connection.execute(_Q["insert_branch"], {**fork, "branch": branch, "now": now})
    return branch


def checkpoint_state(row: Row) -> CheckpointState:
    """What a session_checkpoints row holds of the session."""
    return CheckpointState(
        name=row["name"],
        status=SessionStatus(row["status"]),
        agent_id=row["agent_id"],
        config=SessionConfig.of_store(row["config"]),
        tags=row["tags"],
        metadata=row["metadata"],
    )


def _checkpoint(row: Row) -> Checkpoint:
    return Checkpoint(
        id=row["id"],
        session_id=row["session_id"],
        automatic=row["automatic"],
        label=row["label"],
        branch=row["branch"],
        before_turn_id=row["before_turn_id"],
        state=checkpoint_state(row),
        created_at=row["created_at"],
    )
