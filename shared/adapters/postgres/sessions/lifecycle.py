"""A session's life beside its turns, in PostgreSQL: revision, participants, expiry, erasure.

Invariant: what depends on the session's state is decided under its row lock, which is taken before any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

from shared.adapters.postgres.pool import Connection, PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import session_record, turn_from_row
from shared.adapters.postgres.sessions.sessions import cancel_turns, locked_session
from shared.durable.names import notification_instances
from shared.errors import no_such_session
from shared.sessions.approvals.notices import reminders_until
from shared.sessions.life.lifecycle import Curtailed, Erasure, ErasureMark
from shared.sessions.models import Participant, Session, SessionStatus, Turn
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.pages import Page
from shared.sessions.records.policy import ApprovalPolicy
from shared.sessions.records.sessions import SessionRecord
from shared.sessions.records.turns import Interruption
from shared.sessions.structured_output.key_order import kept_in_order

_Q = load_queries("sessions/lifecycle")
_S = load_queries("sessions/sessions")
_T = load_queries("turns/turns")
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
            record = await locked_session(connection, session_id, user_id)
            if not record.may_write:
                raise no_such_session()
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
        """(number, turn), newest first, one more than `page.limit` when there are more."""
        before = min(page.after[0], _BEYOND_ALL) if page.after is not None else _BEYOND_ALL
        rows = await self._pool.fetch_all(
            _Q["turns_of_session"], {"session_id": session_id, "before": before, "limit": page.limit + 1}
        )
        return [(row["number"], turn_from_row(row)) for row in rows]

    async def has_open_turns(self, session_id: str) -> bool:
        """Whether a turn of it is queued, runs or waits."""
        row = await self._pool.fetch_one(_Q["has_open_turns"], {"session_id": session_id})
        return row is not None and bool(row["open"])

    async def expired(self, *, now: datetime, limit: int) -> list[tuple[str, str]]:
        """(session id, owner id) of sessions that have expired and not ended."""
        rows = await self._pool.fetch_all(_Q["expired_sessions"], {"now": now, "limit": limit})
        return [(row["id"], row["owner_id"]) for row in rows]

    # Participants. -----------------------------------------------------------------------------

    async def participant(self, session_id: str, user_id: str) -> Participant | None:
        row = await self._pool.fetch_one(_Q["participant"], {"session_id": session_id, "user_id": user_id})
        return None if row is None else Participant(session_id=session_id, **row)

    async def is_private(self, session_id: str, user_id: str) -> bool:
        """Whether it is the user's own and nobody else takes part in it."""
        row = await self._pool.fetch_one(_Q["is_private"], {"session_id": session_id, "user_id": user_id})
        return row is not None and bool(row["private"])

    async def put_participant(
        self, participant: Participant, owner_id: str, *, limit: int, now: datetime
    ) -> Curtailed | None:
        """None when the session has `limit` others. Raises NotFound unless the user owns it, Gone."""
        key = {"session_id": participant.session_id, "user_id": participant.user_id}
        async with self._pool.transaction() as connection:
            record = await locked_session(connection, participant.session_id, owner_id)
            if record.access != "owner":
                raise no_such_session()
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
            record = await locked_session(connection, session_id, by_user_id)
            key = {"session_id": session_id, "user_id": user_id}
            await connection.execute(_Q["remove_participant"], key)
            ended = await connection.execute(_N["end_subscriptions"], {**key, "now": now})
            left = [row["connection_id"] for row in await ended.fetchall() if row["connection_id"]]
            return replace(await _curtail(connection, record, user_id, now=now), connection_ids=left)

    # Erasure. ----------------------------------------------------------------------------------

    async def mark_erasure(
        self, session_id: str, user_id: str, check: Callable[[Session], None], *, now: datetime
    ) -> ErasureMark | None:
        """End the session, cancel its turns and put the erasure on record; None when its rows are gone already."""
        key = {"session_id": session_id, "user_id": user_id}
        async with self._pool.transaction() as connection:
            row = await (await connection.execute(_S["lock_session_for_user"], key)).fetchone()
            if row is None:
                if await (await connection.execute(_Q["erasure_of_user"], key)).fetchone() is None:
                    raise no_such_session()
                return None
            record = session_record(row)
            if record.access != "owner":
                raise no_such_session()
            check(record.session)
            ended_now = record.session.status is not SessionStatus.ENDED
            if ended_now:
                status = {"session_id": session_id, "status": "ENDED", "now": now, "access": record.access}
                changed = await (await connection.execute(_S["set_session_status"], status)).fetchone()
                assert changed is not None  # locked above
                record = session_record(changed)
            await connection.execute(_Q["mark_erasure"], {**key, "now": now})
            turns = await (await connection.execute(_T["open_turns"], {"session_id": session_id})).fetchall()
            open_turns = [turn["id"] for turn in turns]
            interruption = Interruption()
            if turns:
                interruption = await cancel_turns(connection, open_turns, now=now)
            return ErasureMark(record, interruption, ended_now)

    async def erase_rows(self, session_id: str) -> Erasure | None:
        """Delete every row of the session, keeping what is still to be done elsewhere."""
        key = {"session_id": session_id}
        async with self._pool.transaction() as connection:
            await connection.execute(_Q["lock_session"], key)
            marked = await (await connection.execute(_Q["lock_erasure"], key)).fetchone()
            if marked is None or marked["finished_at"] is not None:
                return None
            if marked["instances"] is None:
                found = await (await connection.execute(_Q["durable_instances"], key)).fetchall()
                await connection.execute(_Q["note_erased_rows"], {**key, "instances": _instances(found)})
                await connection.execute(_Q["erase_idempotency_keys"], key)
                await connection.execute(_Q["erase_session"], key)
            row = await (await connection.execute(_Q["erasure"], key)).fetchone()
            assert row is not None  # locked above
            return Erasure(**row)

    async def note_erased_instances(self, session_id: str, gone: Sequence[str]) -> None:
        """Take them off what is left."""
        await self._pool.execute(_Q["note_erased_instances"], {"session_id": session_id, "gone": list(gone)})

    async def finish_erasure(self, session_id: str, tell: Callable[[], Awaitable[None]], *, now: datetime) -> bool:
        """Finish and `tell`, which happens once unless it is cut here. False while instances are left, or for the
        second of two who finish."""
        async with self._pool.transaction() as connection:
            cursor = await connection.execute(_Q["finish_erasure"], {"session_id": session_id, "now": now})
            if cursor.rowcount == 0:
                return False
            await tell()
            return True

    async def cut_erasures(self, *, before: datetime, now: datetime, limit: int) -> list[str]:
        """Claim erasures that nobody has worked on since `before`."""
        rows = await self._pool.fetch_all(_Q["cut_erasures"], {"before": before, "now": now, "limit": limit})
        return [row["session_id"] for row in rows]

    async def forget_erasures(self, *, before: datetime) -> int:
        """Drop the records of erasures finished before then; returns how many."""
        return await self._pool.execute(_Q["forget_erasures"], {"before": before})


async def _curtail(connection: Connection, record: SessionRecord, user_id: str, *, now: datetime) -> Curtailed:
    """Cancel what runs for somebody who may no longer write, inside the caller's transaction."""
    key = {"session_id": record.session.id, "user_id": user_id}
    turns = await (await connection.execute(_Q["open_turns_of_user"], key)).fetchall()
    interruption = Interruption()
    if turns:
        interruption = await cancel_turns(connection, [turn["id"] for turn in turns], now=now)
    return Curtailed(record.target, interruption)


def _instances(rows: Sequence[Row]) -> list[str]:
    """Every durable instance of the turns and approvals in `rows`."""
    found: list[str] = []
    for row in rows:
        if row["instance_id"] is None:
            found.append(row["id"])
        else:
            policy = ApprovalPolicy.model_validate(row["policy"])
            reminders = reminders_until(policy, row["requested_at"], row["until"])
            found += (row["instance_id"], *notification_instances(row["id"], reminders=reminders))
    return found
