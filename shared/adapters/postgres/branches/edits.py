"""Edited messages in PostgreSQL. Implements `EditRepository`.

Invariant: the edited message and the branch that begins with it are stored in one transaction, under the session's row
lock, which is taken before any other. The message that was edited stays on its own branch.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.adapters.postgres.branches.branches import too_many_branches
from shared.adapters.postgres.pool import Connection, PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.turns.messages import message_row
from shared.adapters.postgres.turns.posting import admit_turn, on_branch, user_turn_row
from shared.durable.hub import TaskHub, only_hub
from shared.errors import AppError, ErrorCode, InvalidInput, NotFound
from shared.sessions.life.branches import MAX_BRANCHES
from shared.sessions.models import Concurrency, Message, MessageRole, Turn
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.turns import PostedMessage

_Q = load_queries("branches/branches")
_C = load_queries("branches/checkpoints")
_T = load_queries("turns/turns")


class PostgresEdits:
    """`EditRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, hub: TaskHub | None = None) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._hub = hub or only_hub()

    async def edit(
        self,
        edited_id: str,
        message: Message,
        turn: Turn,
        plan: TurnPlan,
        *,
        user_id: str,
        tokens: int,
        concurrency: Concurrency,
        idempotency: Idempotency | None,
        refusal: AppError | None = None,
        note: str | None = None,
        sources: Sequence[str] = (),
    ) -> PostedMessage:
        async with self._pool.pipelined() as connection:
            admitted = await admit_turn(
                connection,
                message.id,
                turn,
                user_id=user_id,
                concurrency=concurrency,
                idempotency=idempotency,
                refusal=refusal,
            )
            if isinstance(admitted, PostedMessage):
                return admitted
            edited = await _edited(connection, turn.session_id, edited_id)
            branch = admitted.session["last_branch"] + 1
            if branch >= MAX_BRANCHES:
                raise too_many_branches()
            await connection.execute(
                _Q["begin_branch"],
                {"session_id": turn.session_id, "now": turn.created_at, **await _fork_before(connection, edited)},
            )
            row = user_turn_row(
                message, turn, plan, user_id=user_id, tokens=tokens, note=note, sources=sources, hub=self._hub
            )
            left = {"left_branch": admitted.session["active_branch"], "dispatch": admitted.dispatch}
            await connection.execute(_T["insert_user_turn"], row | left)
        return PostedMessage(
            on_branch(message, branch),
            on_branch(turn, branch),
            admitted.target,
            activated=admitted.activates,
            dispatched=admitted.dispatch,
            interrupted=admitted.interruption,
        )


async def _edited(connection: Connection, session_id: str, message_id: str) -> Row:
    """The message that is edited. Raises NotFound, InvalidInput."""
    row = await message_row(connection, session_id, message_id)
    if row is None:
        raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such message.")
    if row["role"] != MessageRole.USER:
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "Only a user's message can be edited.")
    if row["from_subagent"] is not None:
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "Nobody wrote this message: it tells what became of a subagent.")
    if row["step"] != 0:
        # It joined a turn that had begun with another one: what it would be an alternative of is that turn's answer.
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "Only a message that began a turn can be edited.")
    return row


async def _fork_before(connection: Connection, edited: Row) -> dict[str, int]:
    """Where the branch of the edited message leaves that of the message: behind the last step before it."""
    cursor = await connection.execute(
        _C["last_step"],
        {"session_id": edited["session_id"], "branch": edited["branch"], "turn_number": edited["turn_number"] - 1},
    )
    last = await cursor.fetchone()
    if last is None:
        return {"parent_branch": 0, "fork_turn_number": 0, "fork_step": 0}
    return {"parent_branch": last["branch"], "fork_turn_number": last["turn_number"], "fork_step": last["step"]}
