"""Messages and turns in PostgreSQL: posted, read, ended, handed over. Implements `TurnRepository`.

What happens in between is in `steps.py`.

Invariant: each method is one transaction that may run again with the same arguments and changes nothing the second
time; at most one turn of a session is dispatched, by a unique index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from psycopg.errors import UniqueViolation

from shared.adapters.postgres.history.lexemes import vector_of
from shared.adapters.postgres.pool import Connection, PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import (
    event_target,
    finished_turn,
    message_from_row,
    turn_from_row,
)
from shared.adapters.postgres.sessions.sessions import cancel_turns
from shared.adapters.postgres.turns.messages import list_messages, message_row
from shared.adapters.postgres.turns.posting import admit_turn, on_branch, user_turn_row
from shared.durable.hub import TaskHub, only_hub
from shared.errors import AppError, ErrorCode, NotFound, no_such_session
from shared.ids import first_id_at
from shared.rights import Action, require
from shared.sessions.approvals.containment import FILES, PEOPLE
from shared.sessions.events import EventTarget, feed_name
from shared.sessions.limits.budgets import usage_day
from shared.sessions.models import (
    Concurrency,
    Message,
    ToolCall,
    Turn,
    TurnError,
    TurnStatus,
)
from shared.sessions.posting.joining import Joining
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.turns import (
    CutAnswer,
    FinishedTurn,
    Interruption,
    OpenAnswer,
    OpenTurn,
    PostedMessage,
    ReadableTurn,
)

_Q = load_queries("turns/turns")


class PostgresTurns:
    """`TurnRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, hub: TaskHub | None = None) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._hub = hub or only_hub()

    # Posting and reading. ----------------------------------------------------------------------

    async def post_message(
        self,
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
        """Store a user message and its queued turn, apply the concurrency choice, claim the turn if it is next; or
        store it in the turn that it joins.

        Raises NotFound, InvalidState, Conflict (a turn runs and the choice is `reject`; a reused key), and `refusal`.
        """
        session_id = turn.session_id
        row = user_turn_row(
            message, turn, plan, user_id=user_id, tokens=tokens, note=note, sources=sources, hub=self._hub
        )
        if idempotency is None and refusal is None:
            free = await self._post_if_free(row)
            if free is not None:
                return PostedMessage(
                    on_branch(message, free["active_branch"]),
                    on_branch(turn, free["active_branch"]),
                    replace(
                        event_target(free, session_id=session_id), may_seed=free["may_seed"], made_at=free["made_at"]
                    ),
                    activated=free["activated"],
                    dispatched=True,
                )
        async with self._pool.pipelined() as connection:
            admitted = await admit_turn(
                connection,
                message.id,
                turn,
                user_id=user_id,
                concurrency=concurrency,
                idempotency=idempotency,
                refusal=refusal,
                joining=Joining(user_id, plan, tokens),
            )
            if isinstance(admitted, PostedMessage):
                return admitted
            if admitted.joins is not None:
                return await joined_message(connection, message, admitted.joins, row, admitted.target)
            await connection.execute(_Q["insert_user_turn"], {**row, "dispatch": admitted.dispatch})
        return PostedMessage(
            on_branch(message, admitted.session["active_branch"]),
            on_branch(turn, admitted.session["active_branch"]),
            admitted.target,
            activated=admitted.activates,
            dispatched=admitted.dispatch,
            interrupted=admitted.interruption,
        )

    async def _post_if_free(self, row: dict[str, Any]) -> Row | None:
        """Post in one statement when nothing is in the way; None when something is."""
        try:
            return await self._pool.fetch_one(_Q["insert_user_turn_if_free"], row)
        except UniqueViolation:
            # Another message came at the same moment and has the place.
            return None

    async def get_turn(self, session_id: str, turn_id: str) -> Turn:
        """Raises NotFound. The caller has checked access to the session."""
        row = await self._pool.fetch_one(_Q["turn"], {"session_id": session_id, "turn_id": turn_id})
        if row is None:
            # The contract has no code of its own for turns: a turn is found through its message.
            raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such turn.")
        return turn_from_row(row)

    async def readable_turn(self, session_id: str, turn_id: str, user_id: str) -> ReadableTurn:
        """A turn, and whether the user may read its session, in one look. Raises NotFound."""
        row = await self._pool.fetch_one(
            _Q["readable_turn"], {"session_id": session_id, "turn_id": turn_id, "user_id": user_id}
        )
        if row is None:
            raise no_such_session()
        if row["id"] is None:
            raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such turn.")
        return ReadableTurn(turn_from_row(row), feed_name(session_id, row["incarnation"]))

    async def open_turn(self, session_id: str, user_id: str) -> ReadableTurn | None:
        row = await self._pool.fetch_one(_Q["open_turn"], {"session_id": session_id, "user_id": user_id})
        if row is None:
            raise no_such_session()
        if row["id"] is None:
            return None
        return ReadableTurn(turn_from_row(row), feed_name(session_id, row["incarnation"]))

    async def tool_calls(self, session_id: str, ids: Sequence[str]) -> list[ToolCall]:
        rows = await self._pool.fetch_all(_Q["some_tool_calls"], {"session_id": session_id, "ids": list(ids)})
        return [ToolCall.of_store(row) for row in rows]

    async def get_message(self, session_id: str, message_id: str) -> Message:
        """Raises NotFound."""
        async with self._pool.connection() as connection:
            row = await message_row(connection, session_id, message_id)
        if row is None:
            raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such message.")
        return message_from_row(row)

    async def list_messages(self, session_id: str, wanted: MessageFilter, page: Page) -> list[tuple[int, Message]]:
        async with self._pool.connection() as connection:
            return await list_messages(connection, session_id, wanted, page)

    # Ends. -------------------------------------------------------------------------------------

    async def cancel_requested(self, turn_ids: Sequence[str]) -> set[str]:
        """Which of these turns should stop."""
        rows = await self._pool.fetch_all(_Q["cancel_requested"], {"turn_ids": list(turn_ids)})
        return {row["id"] for row in rows}

    async def cancel(
        self, session_id: str, turn_id: str, user_id: str, *, now: datetime
    ) -> tuple[Interruption, EventTarget]:
        """Ask a turn to stop; harmless when it has ended. Raises NotFound."""
        async with self._pool.transaction() as connection:
            cursor = await connection.execute(
                _Q["lock_turn_for_user"], {"session_id": session_id, "turn_id": turn_id, "user_id": user_id}
            )
            row = await cursor.fetchone()
            if row is None:
                raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such turn.")
            is_own = row["requested_by"] == user_id
            require(row["access"], Action.CANCEL_OWN_TURN if is_own else Action.CANCEL_ANY_TURN)
            interruption = Interruption()
            if row["ended_at"] is None:
                interruption = await cancel_turns(connection, [turn_id], now=now)
            return interruption, event_target(row)

    async def open_answer(self, turn_id: str) -> OpenAnswer | None:
        """The answer of a turn that was begun and has no end."""
        row = await self._pool.fetch_one(_Q["open_answer"], {"turn_id": turn_id})
        if row is None:
            return None
        feed = event_target(row, session_id=row["session_id"]).feed
        return OpenAnswer(row["id"], feed, row["content"], row["reasoning"])

    async def finish(
        self,
        turn_id: str,
        *,
        status: TurnStatus,
        error: TurnError | None,
        now: datetime,
        answer: CutAnswer | None = None,
    ) -> FinishedTurn:
        """Close a turn with all that hangs open in it and claim the session's next one. Safe to repeat: then the next
        one is named again until it has begun.

        answer: what was streamed of its open answer.
        """
        parameters = {
            "turn_id": turn_id,
            "status": status.value,
            "error_code": error.code if error else None,
            "error_detail": error.detail if error else None,
            "now": now,
            "hub": self._hub.id,
            "day": usage_day(now),
            "content": answer.content if answer else None,
            "words": vector_of(answer.content) if answer else None,
            "reasoning": answer.reasoning or None if answer else None,
            "tokens": answer.tokens if answer else None,
            "sources": [FILES, PEOPLE] if answer else None,
        }
        async with self._pool.connection() as connection:
            # One round trip and, without BEGIN, one transaction: the hand-over is part of the end.
            async with connection.pipeline():
                locked = await connection.execute(_Q["lock_session_of_turn"], parameters)
                finished = await connection.execute(_Q["finish_turn"], parameters)
                if status is not TurnStatus.COMPLETED:
                    await connection.execute(_Q["close_open_messages"], parameters)
                    await connection.execute(_Q["close_open_tool_calls"], parameters)
                end = await connection.execute(_Q["turn_end"], parameters)
                of = {"session_id": None, "ended_at": None}
                next_turn = await connection.execute(_Q["claim_next_turn"], {**parameters, **of})
            session = await locked.fetchone()
            closed_now = await finished.fetchone() is not None
            row = await end.fetchone()
            claimed = await next_turn.fetchone()
            if not closed_now and claimed is None:
                claimed = await (await connection.execute(_Q["handed_over"], parameters)).fetchone()
        if session is None or row is None:
            raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such turn.")
        return finished_turn(
            row,
            event_target(session, session_id=session["id"]),
            closed_now=closed_now,
            next_turn_id=claimed["id"] if claimed else None,
        )

    async def claim_next(self, session_id: str, *, now: datetime) -> str | None:
        """Claim the session's next queued turn, if none runs; the caller starts its orchestration."""
        parameters = {"session_id": session_id, "turn_id": None, "ended_at": None, "hub": self._hub.id, "now": now}
        row = await self._pool.fetch_one(_Q["claim_next_turn"], parameters)
        return None if row is None else str(row["id"])

    async def to_look_at(self, *, running_before: datetime, waiting_before: datetime, limit: int) -> list[OpenTurn]:
        """Open turns whose orchestration was asked for, or looked at, before then; those that wait for people apart.
        Not those of other hubs."""
        parameters = {
            "running_before": running_before,
            "waiting_before": waiting_before,
            "limit": limit,
            "turn_id": None,
            "hub": self._hub.id,
        }
        rows = await self._pool.fetch_all(_Q["turns_to_look_at"], parameters)
        return [_open_turn(row) for row in rows]

    async def look_again(self, turn_id: str) -> OpenTurn | None:
        """A turn of `to_look_at` as it is now; None when it has ended, or is or was just suspended."""
        parameters = {"running_before": None, "waiting_before": None, "limit": 1, "turn_id": turn_id}
        row = await self._pool.fetch_one(_Q["turns_to_look_at"], parameters | {"hub": self._hub.id})
        return None if row is None else _open_turn(row)

    async def may_be_queued(self, since: datetime, *, now: datetime) -> bool:
        """Whether what became ready at `since` may still wait for a place: another turn runs, and none that was made
        later has begun."""
        parameters = {"later_ids": first_id_at(since), "hub": self._hub.id, "now": now}
        row = await self._pool.fetch_one(_Q["queue_passed"], parameters)
        assert row is not None
        return bool(row["busy"] and not row["passed"])

    async def own(self, turn_id: str) -> None:
        """Note that a turn that names no hub is this one's."""
        await self._pool.execute(_Q["own_turn"], {"turn_id": turn_id, "hub": self._hub.id})

    async def calls_that_wait(self, turn_id: str) -> list[str]:
        """Ids of the turn's tool calls that have an orchestration of their own: for an approval or an answer."""
        return [row["id"] for row in await self._pool.fetch_all(_Q["calls_that_wait"], {"turn_id": turn_id})]

    async def note_restart(self, turn_id: str, *, most: int, now: datetime) -> int | None:
        """Count that an open turn is started again; None when that was done `most` times, or it has ended."""
        row = await self._pool.fetch_one(_Q["note_restart"], {"turn_id": turn_id, "most": most, "now": now})
        return None if row is None else int(row["restarts"])

    async def forget_restart(self, turn_id: str) -> None:
        """Take a restart back that the durable backend did not accept."""
        await self._pool.execute(_Q["forget_restart"], {"turn_id": turn_id})

    async def sessions_with_idle_queue(self, *, before: datetime, limit: int) -> list[str]:
        """Sessions with a queued turn and none that runs: a hand-over was cut."""
        rows = await self._pool.fetch_all(_Q["idle_sessions_with_queue"], {"before": before, "limit": limit})
        return [row["session_id"] for row in rows]

    async def touch_dispatch(self, turn_id: str, *, now: datetime) -> bool:
        """Note that the orchestration was looked at, or asked for again. False when the turn has ended."""
        return await self._pool.execute(_Q["touch_dispatch"], {"turn_id": turn_id, "now": now}) > 0


async def joined_message(
    connection: Connection, message: Message, turn_id: str, row: dict[str, Any], target: EventTarget
) -> PostedMessage:
    """Store a message in a turn of a session that is locked. row: as of `user_turn_row`."""
    placed = await (await connection.execute(_Q["insert_joined_message"], {**row, "joins": turn_id})).fetchone()
    key = {"session_id": message.session_id, "turn_id": turn_id}
    joined = await (await connection.execute(_Q["turn"], key)).fetchone()
    assert placed is not None  # its session is locked
    assert joined is not None
    turn = turn_from_row(joined)
    changes = {"turn_id": turn_id, "branch": turn.branch, "joined": True, "joined_after": placed["joined_after"]}
    return PostedMessage(message.model_copy(update=changes), turn, target)


def _open_turn(row: Row) -> OpenTurn:
    return OpenTurn(
        row["id"],
        row["session_id"],
        TurnStatus(row["status"]),
        quiet_until=row["quiet_until"],
        runs_until=row["runs_until"],
        restarts=row["restarts"],
        names_hub=row["names_hub"],
    )
