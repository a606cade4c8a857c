"""Sessions in PostgreSQL: create, read, list, change state, lease event numbers.

Implements `SessionRepository`, `SequenceLeases` (event numbers), `PostedSessions` (what posting reads) and
`ThreadRepository`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from psycopg import sql

from shared.adapters.postgres.listing import Listing, bounded_sql, rows_of_page
from shared.adapters.postgres.pool import Connection, PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import agent_from_row, session_record, stored_agent
from shared.durable.hub import TaskHub, only_hub
from shared.errors import Conflict, ErrorCode, InvalidState, NotFound, no_such_session
from shared.ids import new_id
from shared.rights import Action
from shared.sessions.agents.agent import Agent
from shared.sessions.cache import SessionEntry
from shared.sessions.events import SEQ_LEASE, EventTarget, feed_name
from shared.sessions.models import JsonObject, ListedSession, Session, SessionStatus, TurnStatus
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.idempotency import Idempotency
from shared.sessions.records.pages import Page, SessionFilter
from shared.sessions.records.sessions import DayUsed, Hold, SessionRecord
from shared.sessions.records.turns import Interruption
from shared.sessions.structured_output.key_order import kept_in_order

_Q = load_queries("sessions/sessions")
_T = load_queries("turns/turns")


async def locked_session(connection: Connection, session_id: str, user_id: str, action: Action) -> SessionRecord:
    """The session as its user sees it, locked until the caller's transaction ends.

    Raises NotFound, also when the user may not do `action` in it.
    """
    cursor = await connection.execute(_Q["lock_session_for_user"], {"session_id": session_id, "user_id": user_id})
    row = await cursor.fetchone()
    if row is None:
        raise no_such_session()
    record = session_record(row)
    record.require(action)
    return record


async def insert_session(
    connection: Connection, session: Session, owner_id: str, draft: JsonObject | None = None
) -> Row | None:
    """Inside the caller's transaction; None when its id is taken. draft: the stored draft of its agent."""
    cursor = await connection.execute(
        _Q["insert_session"],
        {
            "id": session.id,
            "owner_id": owner_id,
            "name": session.name,
            "title": session.title,
            "agent_id": session.agent_id,
            "agent_version": session.agent_version,
            "agent_draft": None if draft is None else json(draft),
            "config": json(kept_in_order(session.config.model_dump(mode="json", exclude_unset=True))),
            "tags": session.tags,
            "metadata": json(session.metadata),
            "forked_from": session.forked_from,
            "now": session.created_at,
            "ceiling": SEQ_LEASE,
        },
    )
    return await cursor.fetchone()


async def session_made_before(connection: Connection, session_id: str, user_id: str) -> SessionRecord:
    """The session that an earlier request made. Raises NotFound."""
    cursor = await connection.execute(_Q["session_for_user"], {"session_id": session_id, "user_id": user_id})
    row = await cursor.fetchone()
    if row is None:
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, "The session of that request is gone.")
    return session_record(row)


async def claim_idempotency(connection: Connection, claim: Idempotency, outcome: JsonObject) -> JsonObject | None:
    """Claim a key inside the caller's transaction.

    Returns None when it is the caller's now, or the outcome of the request that had it.
    Raises Conflict when that request had another body.
    """
    key = {"user_id": claim.user_id, "scope": claim.scope, "key": claim.key}
    cursor = await connection.execute(
        _Q["claim_idempotency_key"], {**key, "request_hash": claim.request_hash, "outcome": json(outcome)}
    )
    if await cursor.fetchone() is not None:
        return None
    cursor = await connection.execute(_Q["idempotency_key"], key)
    earlier = await cursor.fetchone()
    if earlier is None or earlier["request_hash"] != claim.request_hash:
        raise Conflict(ErrorCode.CONFLICT, "This Idempotency-Key was used with a different request.")
    found: JsonObject = earlier["outcome"]
    return found


async def move_idempotency(connection: Connection, claim: Idempotency, outcome: JsonObject) -> None:
    """Change the outcome of a key that was claimed in the caller's transaction."""
    key = {"user_id": claim.user_id, "scope": claim.scope, "key": claim.key}
    await connection.execute(_Q["move_idempotency_outcome"], {**key, "outcome": json(outcome)})


class PostgresSessions:
    """`SessionRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, hub: TaskHub | None = None) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._hub = hub or only_hub()

    async def create(
        self, session: Session, owner_id: str, *, idempotency: Idempotency | None, thread: str | None = None
    ) -> tuple[SessionRecord, bool]:
        if thread is not None:
            return await self._create_of_thread(session, owner_id, thread)
        return await self.create_trial(session, owner_id, None, idempotency=idempotency)

    async def create_trial(
        self, session: Session, owner_id: str, draft: Agent | None, *, idempotency: Idempotency | None
    ) -> tuple[SessionRecord, bool]:
        """See `TrialRepository`; without a draft also any other session."""
        async with self._pool.transaction() as connection:
            if idempotency is not None:
                earlier = await claim_idempotency(connection, idempotency, {"session_id": session.id})
                if earlier is not None:
                    return await session_made_before(connection, earlier["session_id"], owner_id), False
            row = await insert_session(connection, session, owner_id, None if draft is None else stored_agent(draft))
            if row is None:
                row = await self._insert_elsewhere(connection, session, owner_id, idempotency)
            return session_record(row), True

    async def _create_of_thread(self, session: Session, owner_id: str, thread: str) -> tuple[SessionRecord, bool]:
        key = {"user_id": owner_id, "thread": thread}
        async with self._pool.transaction() as connection:
            # Of two requests at once, the second waits here for the first.
            cursor = await connection.execute(_Q["claim_thread"], {**key, "session_id": session.id})
            if await cursor.fetchone() is None:
                cursor = await connection.execute(_Q["session_of_thread"], key)
                earlier = await cursor.fetchone()
                if earlier is None:
                    raise Conflict(ErrorCode.CONFLICT, "The session of this thread was just deleted.")
                return await session_made_before(connection, earlier["session_id"], owner_id), False
            row = await insert_session(connection, session, owner_id)
            if row is None:
                session = session.model_copy(update={"id": new_id()})
                row = await insert_session(connection, session, owner_id)
                await connection.execute(_Q["move_thread"], {**key, "session_id": session.id})
            if row is None:
                raise Conflict(ErrorCode.CONFLICT, "No new session id was found. Send the request again.")
            return session_record(row), True

    async def session_of(self, thread: str, user_id: str) -> str | None:
        """See `ThreadRepository`."""
        row = await self._pool.fetch_one(_Q["session_for_thread"], {"user_id": user_id, "thread": thread})
        return None if row is None else row["session_id"]

    async def _insert_elsewhere(
        self, connection: Connection, session: Session, owner_id: str, idempotency: Idempotency | None
    ) -> Row:
        """Store a session whose id is taken under a new id, unless the caller may know who has it. Raises Conflict."""
        cursor = await connection.execute(_Q["id_is_known"], {"session_id": session.id, "user_id": owner_id})
        answer = await cursor.fetchone()
        if answer is None or answer["known"]:
            raise Conflict(ErrorCode.SESSION_ALREADY_EXISTS, f"A session {session.id!r} exists already.")
        session = session.model_copy(update={"id": new_id()})
        row = await insert_session(connection, session, owner_id)
        if row is None:
            raise Conflict(ErrorCode.CONFLICT, "No new session id was found. Send the request again.")
        if idempotency is not None:
            await move_idempotency(connection, idempotency, {"session_id": session.id})
        return row

    async def get(self, session_id: str, user_id: str) -> SessionRecord:
        row = await self._pool.fetch_one(_Q["session_for_user"], {"session_id": session_id, "user_id": user_id})
        if row is None:
            raise no_such_session()
        return session_record(row)

    async def entry(self, session_id: str) -> SessionEntry | None:
        """What the cache keeps of a session; None when there is none."""
        row = await self._pool.fetch_one(_Q["session_entry"], {"session_id": session_id})
        if row is None:
            return None
        feed = feed_name(session_id, row["incarnation"])
        return SessionEntry(row["owner_id"], row["participants"], row["active_branch"], row["last_branch"], feed)

    async def get_for_posting(
        self, session_id: str, user_id: str, *, day: date
    ) -> tuple[SessionRecord, Agent | None, DayUsed]:
        row = await self._pool.fetch_one(
            _Q["session_for_posting"], {"session_id": session_id, "user_id": user_id, "day": day}
        )
        if row is None:
            raise no_such_session()
        agent = None if row["agent"] is None else agent_from_row(row["agent"])
        used = DayUsed(row["used_today"] or 0, row["cost_today_usd"] or Decimal(0))
        return session_record(row), agent, used

    async def list_for(self, user_id: str, wanted: SessionFilter, page: Page) -> list[ListedSession]:
        """One row more than `page.limit` when there are more, or CutRows."""
        listing = Listing(page, ("s", wanted.sort.column), ("s", "id"), descending=wanted.sort.descending)
        listing.where("s.status = %(status)s", status=wanted.status)
        listing.where("s.tags @> ARRAY[%(tag)s]::text[]", tag=wanted.tag)
        listing.where("s.agent_id = %(agent_id)s", agent_id=wanted.agent_id)
        parent = wanted.parent_session_id or ""
        listing.where("coalesce(s.parent_session_id, '') = %(parent_session_id)s", parent_session_id=parent)
        listing.where(
            "position(lower(%(q)s COLLATE pg_c_utf8) IN lower(coalesce(s.name, s.title) COLLATE pg_c_utf8)) > 0",
            q=wanted.q,
        )
        listing.where(
            "EXISTS (SELECT 1 FROM session_pins pin WHERE pin.user_id = %(user_id)s AND pin.session_id = s.id)"
            " = %(pinned)s",
            pinned=wanted.pinned,
        )
        query = bounded_sql(_LIST_SQL.format(narrowed=listing.conditions, ordered=listing.order))
        async with self._pool.connection() as connection:
            cursor = await connection.execute(query, {"user_id": user_id, **listing.parameters})
            return rows_of_page(await cursor.fetchall(), page, _listed)

    async def change_status(
        self,
        session_id: str,
        user_id: str,
        *,
        allowed: Sequence[SessionStatus],
        to: SessionStatus,
        now: datetime,
        action: Action = Action.CHANGE,
    ) -> tuple[SessionRecord, Interruption]:
        """Move a session along its state machine.

        Returns it and, for ENDED, what was cancelled with it. Raises NotFound, InvalidState, and but for ENDED Gone.
        """
        async with self._pool.transaction() as connection:
            record = await locked_session(connection, session_id, user_id, action)
            status = record.session.status
            if record.session.parent_session_id is not None and to is not SessionStatus.ENDED:
                raise InvalidState("A subagent's session follows the one that it works for: change that one.")
            if to is not SessionStatus.ENDED:
                refuse_expired(record.session, now)
            if status not in allowed:
                raise InvalidState(f"A session that is {status.value} cannot become {to.value}.")
            cursor = await connection.execute(
                _Q["set_session_status"],
                {"session_id": session_id, "status": to.value, "now": now, "access": record.access},
            )
            changed = await cursor.fetchone()
            assert changed is not None  # locked above
            interruption = Interruption()
            if to is SessionStatus.ENDED:
                interruption = await cancel_open_turns(connection, session_id, now=now)
            return session_record(changed), interruption

    async def hold(self, session_id: str) -> Hold | None:
        """What it wants of its orchestrations in this hub. None when it is erased."""
        key = {"session_id": session_id, "hub": self._hub.id, "is_only": self._hub.is_only}
        row = await self._pool.fetch_one(_Q["hold"], key)
        return None if row is None else Hold(**row)

    async def told_hold(self, session_id: str, version: int, *, now: datetime) -> bool:
        """Note that its orchestrations were told. False when it has changed again meanwhile."""
        key = {"session_id": session_id, "version": version, "hub": self._hub.id, "now": now}
        return await self._pool.execute(_Q["told_hold"], key) > 0

    async def settle_hold(self, session_id: str, version: int) -> bool:
        """Note that its orchestrations in this hub follow. False when it has changed again meanwhile, and while
        nobody knows which ones those are."""
        if self._hub.id is None and not self._hub.is_only:
            return False
        key = {"session_id": session_id, "version": version, "hub": self._hub.id}
        return await self._pool.execute(_Q["settle_hold"], key) > 0

    async def unsettle_hold(self, session_id: str) -> None:
        """Have its orchestrations told once more."""
        await self._pool.execute(_Q["unsettle_hold"], {"session_id": session_id})

    async def unsettled_holds(self, *, limit: int) -> list[str]:
        """Sessions whose orchestrations were not told, or were not yet seen to follow in this hub."""
        rows = await self._pool.fetch_all(_Q["unsettled_holds"], {"limit": limit, "hub": self._hub.id})
        return [row["id"] for row in rows]

    async def lease(self, target: EventTarget, *, lost: bool) -> EventTarget:
        return await self._leased(_Q["lease_lost" if lost else "lease_more"], target, {"lease": SEQ_LEASE}, seeds=lost)

    async def allocate(self, target: EventTarget, count: int) -> EventTarget:
        return await self._leased(_Q["allocate_seq"], target, {"count": count}, seeds=False)

    async def _leased(self, query: bytes, target: EventTarget, wanted: dict[str, int], *, seeds: bool) -> EventTarget:
        key = {"session_id": target.session_id, "incarnation": target.incarnation}
        row = await self._pool.fetch_one(query, {**key, **wanted})
        if row is None:
            raise no_such_session()
        return replace(target, seq_floor=row["event_seq_floor"], seq_ceiling=row["event_seq_ceiling"], may_seed=seeds)

    async def forget_idempotency_keys(self, *, before: datetime) -> int:
        return await self._pool.execute(_Q["forget_idempotency_keys"], {"before": before})

    async def forget_token_usage(self, *, before: date) -> int:
        return await self._pool.execute(_Q["forget_token_usage"], {"before": before})


def _listed(row: Row) -> ListedSession:
    record = session_record(row)
    return ListedSession(
        **dict(record.session),
        access=record.access,
        preview=row["preview"],
        open_turn=None if row["open_turn"] is None else TurnStatus(row["open_turn"]),
        pinned=row["pinned"],
    )


_LIST_SQL = sql.SQL(
    "WITH found AS ("
    "(SELECT s.*, 'owner' AS access FROM sessions s WHERE s.owner_id = %(user_id)s{narrowed}{ordered})"
    " UNION ALL "
    "(SELECT s.*, p.access FROM session_participants p JOIN sessions s ON s.id = p.session_id"
    " WHERE p.user_id = %(user_id)s AND s.owner_id <> %(user_id)s{narrowed}{ordered})"
    ") SELECT s.*, said.preview, turn.status AS open_turn,"
    " EXISTS (SELECT 1 FROM session_pins pin WHERE pin.user_id = %(user_id)s AND pin.session_id = s.id) AS pinned"
    " FROM (SELECT s.* FROM found s{ordered}) s"
    " LEFT JOIN LATERAL (SELECT left(m.content, 160) AS preview FROM messages m"
    " WHERE m.session_id = s.id AND m.branch = s.active_branch AND m.role IN ('user', 'assistant') AND m.content <> ''"
    " ORDER BY m.turn_number DESC, m.step DESC, m.ordinal DESC LIMIT 1) said ON true"
    # The turn that is busy, before those queued behind it.
    " LEFT JOIN LATERAL (SELECT t.status FROM turns t WHERE t.session_id = s.id AND t.ended_at IS NULL"
    " ORDER BY t.number LIMIT 1) turn ON true{ordered}"
)
"""What a user owns and what they take part in, each through an index of its own: no index serves the two as one
condition with OR, and every list would read the sessions of everybody."""


async def cancel_open_turns(connection: Connection, session_id: str, *, now: datetime) -> Interruption:
    """All that are open of a session that is locked; inside the caller's transaction."""
    cursor = await connection.execute(_T["open_turns"], {"session_id": session_id})
    return await cancel_turns(connection, [turn["id"] for turn in await cursor.fetchall()], now=now)


async def cancel_turns(connection: Connection, turn_ids: Sequence[str], *, now: datetime) -> Interruption:
    """Ask dispatched turns to stop, close queued ones, release what waits; inside the caller's transaction."""
    if not turn_ids:
        return Interruption()
    cursor = await connection.execute(_T["request_cancel"], {"turn_ids": list(turn_ids), "now": now})
    rows = await cursor.fetchall()
    cursor = await connection.execute(_T["cancel_approvals"], {"turn_ids": list(turn_ids), "now": now})
    released = await cursor.fetchall()
    return Interruption(
        turn_ids=[row["id"] for row in rows if row["ended_at"] is None],
        closed_turn_ids=[row["id"] for row in rows if row["ended_at"] is not None],
        approvals=[(row["id"], row["instance_id"]) for row in released if row["is_approval"]],
        waits=[(row["id"], row["instance_id"]) for row in released if not row["is_approval"]],
    )
