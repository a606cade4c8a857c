"""Branches of a session in PostgreSQL. Implements `BranchRepository`.

Invariant: which branch is active, and the numbers of branches, change under the session's row lock only, which is taken
before any other.
"""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.pool import Connection, PostgresPool, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import message_from_row, session_record
from shared.adapters.postgres.sessions.sessions import locked_session
from shared.adapters.postgres.turns.messages import message_row
from shared.adapters.postgres.turns.posting import admit_turn
from shared.errors import AppError, Conflict, ErrorCode, InvalidInput, InvalidState, NotFound
from shared.ids import new_id
from shared.rights import Action
from shared.sessions.life.branches import MAX_BRANCHES, Branch
from shared.sessions.models import Concurrency, MessageRole, SessionStatus, Turn
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.pages import Page
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.turns import PostedMessage

_Q = load_queries("branches/branches")
_T = load_queries("turns/turns")


class PostgresBranches:
    """`BranchRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def regenerate(
        self,
        turn: Turn,
        plan: TurnPlan,
        *,
        user_id: str,
        concurrency: Concurrency,
        idempotency: Idempotency | None,
        refusal: AppError | None = None,
    ) -> PostedMessage:
        async with self._pool.pipelined() as connection:
            admitted = await admit_turn(
                connection,
                turn.message_id,
                turn,
                user_id=user_id,
                concurrency=concurrency,
                idempotency=idempotency,
                refusal=refusal,
            )
            if isinstance(admitted, PostedMessage):
                return admitted
            row = await message_row(connection, turn.session_id, turn.message_id)
            if row is None:
                raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such message.")
            if row["role"] != MessageRole.USER:
                raise InvalidInput(ErrorCode.INVALID_MESSAGE, "Only a user's message can be answered again.")
            branch = admitted.session["last_branch"] + 1
            if branch >= MAX_BRANCHES:
                raise too_many_branches()
            await connection.execute(
                _Q["insert_regenerated_turn"],
                {
                    "session_id": turn.session_id,
                    "turn_id": turn.id,
                    "message_id": turn.message_id,
                    "checkpoint_id": new_id(),
                    "user_id": user_id,
                    "plan": json(plan.stored()),
                    "parent_branch": row["branch"],
                    "fork_turn_number": row["turn_number"],
                    # Of a message that joined a turn, behind the step that it followed.
                    "fork_step": row["step"],
                    "left_branch": admitted.session["active_branch"],
                    "dispatch": admitted.dispatch,
                    "now": turn.created_at,
                },
            )
        return PostedMessage(
            message_from_row(row),
            turn.model_copy(update={"branch": branch}),
            admitted.target,
            activated=admitted.activates,
            dispatched=admitted.dispatch,
            interrupted=admitted.interruption,
        )

    async def list_for(self, session_id: str, page: Page) -> list[Branch]:
        after = -1 if page.after is None else page.after[0]
        rows = await self._pool.fetch_all(
            _Q["branches"], {"session_id": session_id, "after": after, "limit": page.limit + 1}
        )
        return [Branch(**row) for row in rows]

    async def activate(
        self, session_id: str, user_id: str, branch: int, *, now: datetime
    ) -> tuple[SessionRecord, bool]:
        async with self._pool.transaction() as connection:
            record = await locked_session(connection, session_id, user_id, Action.POST)
            if not 0 <= branch <= record.last_branch:
                raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such branch.")
            refuse_expired(record.session, now)
            if record.session.status is SessionStatus.ENDED:
                raise InvalidState("A session that is ENDED does not change.")
            if branch == record.session.active_branch:
                return record, False
            await refuse_open_turns(connection, session_id)
            cursor = await connection.execute(
                _Q["set_active_branch"],
                {"session_id": session_id, "branch": branch, "now": now, "access": record.access},
            )
            row = await cursor.fetchone()
            assert row is not None  # locked above
            return session_record(row), True


async def refuse_open_turns(connection: Connection, session_id: str) -> None:
    """Of a session that is locked. Raises Conflict when a turn is queued, runs or waits."""
    opened = await (await connection.execute(_T["has_open_turns"], {"session_id": session_id})).fetchone()
    if opened is not None and opened["open"]:
        raise Conflict(ErrorCode.CONFLICT, "A turn of this session is still running.")


def too_many_branches() -> InvalidState:
    return InvalidState(f"A session has {MAX_BRANCHES} branches at most: fork it to go on.")
