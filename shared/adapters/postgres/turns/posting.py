"""The rules by which a session takes another turn.

Implements no port: `turns.py`, `../branches/branches.py` and `../branches/edits.py` post through it.

Invariant: a turn is admitted under its session's row lock, which is taken before any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from shared.adapters.postgres.history.lexemes import vector_of
from shared.adapters.postgres.pool import Connection, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import event_target, message_from_row, turn_from_row
from shared.adapters.postgres.sessions.sessions import cancel_turns, claim_idempotency
from shared.adapters.postgres.turns.messages import message_row
from shared.durable.hub import TaskHub
from shared.errors import AppError, BudgetExceeded, Conflict, ErrorCode, InvalidState, NotFound
from shared.ids import new_id
from shared.rights import RIGHTS, Action, may, require, who
from shared.sessions.events import EventTarget
from shared.sessions.models import (
    Concurrency,
    JsonObject,
    Message,
    SessionStatus,
    Turn,
)
from shared.sessions.posting.joining import Joining, OpenToJoin, may_join
from shared.sessions.posting.titles import title_of
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.turns import Interruption, PostedMessage

MAX_OPEN_TURNS = 32
"""Of one session, the running one among them: more than people type ahead, and what a client that runs wild leaves."""

_FULL_RETRY_S = 5.0
_UNTOLD = timedelta(minutes=10)
"""As in `insert_user_turn_if_free`. Later a log may be gone for other reasons, with numbers that were seen."""

_S = load_queries("sessions/sessions")
_Q = load_queries("turns/turns")


@dataclass(frozen=True, slots=True)
class Admitted:
    """A session that takes a turn now, locked until the transaction ends."""

    session: Row
    target: EventTarget
    interruption: Interruption | None

    dispatch: bool
    """No other turn is in the way."""

    joins: str | None = None
    """The turn that the message joins, instead of beginning one."""

    @property
    def activates(self) -> bool:
        return bool(self.session["status"] == SessionStatus.CREATED)


async def admit_turn(
    connection: Connection,
    message_id: str,
    turn: Turn,
    *,
    user_id: str,
    concurrency: Concurrency,
    idempotency: Idempotency | None,
    refusal: AppError | None,
    joining: Joining | None = None,
) -> Admitted | PostedMessage:
    """Lock the session and apply the rules for a new turn; or what the same request did when it came before.

    joining: the message, with `steer`; None: it joins no turn.

    Raises NotFound, InvalidState, Conflict (a turn runs and the choice is `reject`, or `interrupt` and the turn is not
    the user's to cancel; a reused key), BudgetExceeded (RATE_LIMITED: as many turns as a session may have open), and
    `refusal`.
    """
    key = {"session_id": turn.session_id, "user_id": user_id}
    locked = await connection.execute(_S["lock_session_for_user"], key)
    opened = await connection.execute(_Q["open_turns"], key)
    session = await locked.fetchone()
    require(None if session is None else session["access"], Action.POST)
    assert session is not None  # a stranger may do nothing
    target = event_target(session, session_id=turn.session_id)
    joins = None
    if joining is not None and concurrency is Concurrency.STEER:
        joins = await turn_to_join(connection, turn.session_id, joining)
    if idempotency is not None:
        outcome = {"message_id": message_id, "turn_id": joins or turn.id}
        earlier = await claim_idempotency(connection, idempotency, outcome)
        if earlier is not None:
            return await _posted_before(connection, turn.session_id, earlier, target)
    status = SessionStatus(session["status"])
    if status not in {SessionStatus.CREATED, SessionStatus.ACTIVE}:
        raise InvalidState(f"A session that is {status} takes no messages.")
    if status is SessionStatus.CREATED and turn.created_at - session["created_at"] < _UNTOLD:
        target = replace(target, may_seed=True, made_at=session["created_at"])
    if refusal is not None:
        raise refusal
    if joins is not None:
        return Admitted(session, target, None, dispatch=False, joins=joins)
    open_turns = await opened.fetchall()
    if open_turns and concurrency is Concurrency.REJECT:
        raise Conflict(ErrorCode.CONFLICT, "A turn of this session is still running.")
    is_others = any(open_turn["requested_by"] != user_id for open_turn in open_turns)
    if is_others and concurrency is Concurrency.INTERRUPT and not may(session["access"], Action.CANCEL_ANY_TURN):
        raise Conflict(
            ErrorCode.CONFLICT,
            f"A turn of somebody else is still running; interrupting it is for {who(Action.CANCEL_ANY_TURN)} only.",
        )
    if len(open_turns) >= MAX_OPEN_TURNS and concurrency in {Concurrency.ENQUEUE, Concurrency.STEER}:
        raise BudgetExceeded(
            ErrorCode.RATE_LIMITED,
            f"A session has {MAX_OPEN_TURNS} open turns at most; wait until one has ended.",
            retry_after_s=_FULL_RETRY_S,
        )
    interruption: Interruption | None = None
    if open_turns and concurrency is Concurrency.INTERRUPT:
        interruption = await cancel_turns(
            connection, [open_turn["id"] for open_turn in open_turns], now=turn.created_at
        )
    dispatch = not open_turns or (interruption is not None and not interruption.turn_ids)
    return Admitted(session, target, interruption, dispatch)


async def turn_to_join(connection: Connection, session_id: str, joining: Joining) -> str | None:
    """Of a session that is locked, so that no step of it begins or ends before the message is stored."""
    row = await (await connection.execute(_Q["turn_to_join"], {"session_id": session_id})).fetchone()
    if row is None:
        return None
    plan = TurnPlan.model_validate(row["plan"])
    turn = OpenToJoin(row["id"], row["requested_by"], plan, row["steps"], row["messages"], row["tokens"])
    return turn.turn_id if may_join(joining, turn) else None


async def _posted_before(
    connection: Connection, session_id: str, earlier: JsonObject, target: EventTarget
) -> PostedMessage:
    cursor = await connection.execute(_Q["turn"], {"session_id": session_id, "turn_id": earlier["turn_id"]})
    turn = await cursor.fetchone()
    message = await message_row(connection, session_id, earlier["message_id"])
    if turn is None or message is None:
        raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "The message of that request is gone.")
    return PostedMessage(message_from_row(message), turn_from_row(turn), target, replayed=True)


def user_turn_row(
    message: Message,
    turn: Turn,
    plan: TurnPlan,
    *,
    user_id: str,
    tokens: int,
    note: str | None,
    sources: Sequence[str],
    hub: TaskHub,
) -> dict[str, Any]:
    """What `insert_user_turn` and `insert_user_turn_if_free` store of a message and its turn."""
    return {
        "session_id": turn.session_id,
        "turn_id": turn.id,
        "message_id": message.id,
        "checkpoint_id": new_id(),
        "left_branch": None,
        "user_id": user_id,
        "plan": json(plan.stored()),
        "content": message.content,
        "title": title_of(message.content),
        "words": vector_of(message.content),
        "attachments": json([item.model_dump(mode="json") for item in message.attachments] or None),
        "note": note,
        "sources": list(sources) or None,
        "tokens": tokens,
        "hub": hub.id,
        "now": turn.created_at,
        "may_post": list(RIGHTS[Action.POST]),
    }


def on_branch[Placed: (Message, Turn)](item: Placed, branch: int) -> Placed:
    """Branch 0, where most are, is the default already."""
    return item if branch == item.branch else item.model_copy(update={"branch": branch})
