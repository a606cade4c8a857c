"""The erasure of a session's rows, and the records of erasures, in PostgreSQL. Implements `ErasureRepository`.

Invariant: what depends on the session's state is decided under its row lock, which is taken before any other. A record
outlives the rows that it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime

from shared.adapters.postgres.audit import Forward
from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import session_record
from shared.adapters.postgres.sessions.sessions import cancel_open_turns
from shared.durable.hub import TaskHub, only_hub
from shared.durable.names import call_instance, notification_instances
from shared.errors import no_such_session
from shared.rights import Action
from shared.sessions.approvals.notices import reminders_until
from shared.sessions.audit.chain import SealedLine
from shared.sessions.audit.forwarding import LEASE_S
from shared.sessions.life.erasure import Erasure, ErasureMark
from shared.sessions.models import Session, SessionStatus
from shared.sessions.records.approval_policy import ApprovalPolicy

_Q = load_queries("sessions/erasure")
_S = load_queries("sessions/sessions")
_T = load_queries("turns/turns")


class PostgresErasures:
    """`ErasureRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, forward: Forward, hub: TaskHub | None = None) -> None:
        """forward: is given the line that remains, once it is committed. hub: of this process; None: the only one there
        is."""
        self._pool = pool
        self._forward = forward
        self._hub = hub or only_hub()

    async def mark(
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
            record.require(Action.ERASE)
            check(record.session)
            ended_now = record.session.status is not SessionStatus.ENDED
            if ended_now:
                status = {"session_id": session_id, "status": "ENDED", "now": now, "access": record.access}
                changed = await (await connection.execute(_S["set_session_status"], status)).fetchone()
                assert changed is not None  # locked above
                record = session_record(changed)
            await connection.execute(_Q["mark_erasure"], {**key, "now": now})
            interruption = await cancel_open_turns(connection, session_id, now=now)
            return ErasureMark(record, interruption, ended_now)

    async def has_open_turns(self, session_id: str) -> bool:
        """Whether a turn of it is queued, runs or waits."""
        row = await self._pool.fetch_one(_T["has_open_turns"], {"session_id": session_id})
        return row is not None and bool(row["open"])

    async def erase_rows(self, session_id: str) -> Erasure | None:
        """Delete every row of the session, keeping what is still to be done elsewhere. Returns what of that is this
        hub's."""
        key = {"session_id": session_id, "hub": self._hub.id}
        async with self._pool.transaction() as connection:
            await connection.execute(_Q["lock_session"], key)
            marked = await (await connection.execute(_Q["lock_erasure"], key)).fetchone()
            if marked is None or marked["finished_at"] is not None:
                return None
            if marked["instances"] is None:
                found = await (await connection.execute(_Q["durable_instances"], key)).fetchall()
                homes = [(instance, row["hub"]) for row in found for instance in _instances(row)]
                left = {
                    "instances": [instance for instance, _ in homes],
                    "homes": json({i: home for i, home in homes if home is not None and home != self._hub.id}),
                }
                await connection.execute(_Q["note_erased_rows"], {**key, **left})
                await connection.execute(_Q["erase_idempotency_keys"], key)
                await connection.execute(_Q["erase_session"], key)
                await connection.execute(_Q["erase_deliveries"], key)
            row = await (await connection.execute(_Q["erasure"], key)).fetchone()
            assert row is not None  # locked above
            return Erasure(**row)

    async def note_gone(self, session_id: str, instances: Sequence[str]) -> None:
        """Take durable instances off what is left."""
        await self._pool.execute(_Q["note_gone_instances"], {"session_id": session_id, "gone": list(instances)})

    async def note_told(self, session_id: str, *, now: datetime) -> None:
        """Durable instances were told to end."""
        await self._pool.execute(_Q["note_told_instances"], {"session_id": session_id, "now": now})

    async def finish(self, session_id: str, line: SealedLine, *, now: datetime) -> bool:
        """Finish, and store the line that remains and its seal. False while instances are left, or for the second of
        two who finish."""
        values = {"session_id": session_id, "lease_s": LEASE_S, "now": now, **asdict(line)}
        if not await self._pool.execute(_Q["finish_erasure"], values):
            return False
        self._forward([(session_id, line)])
        return True

    async def claim_cut(self, *, before: datetime, now: datetime, limit: int) -> list[str]:
        """Claim erasures that nobody has worked on since `before`, and of which this hub has something to do."""
        parameters = {"before": before, "hub": self._hub.id, "now": now, "limit": limit}
        rows = await self._pool.fetch_all(_Q["claim_cut_erasures"], parameters)
        return [row["session_id"] for row in rows]

    async def forget_finished(self, *, before: datetime) -> int:
        """Drop the records of erasures finished before then; returns how many."""
        return await self._pool.execute(_Q["forget_finished_erasures"], {"before": before})


def _instances(row: Row) -> list[str]:
    """Every durable instance of the turn, tool call or approval of a row."""
    if row["instance_id"] is None:
        return [row["id"]]
    if row["policy"] is None:
        return [call_instance(row["instance_id"], row["id"])]
    policy = ApprovalPolicy.model_validate(row["policy"])
    reminders = reminders_until(policy, row["requested_at"], row["until"])
    return [row["instance_id"], *notification_instances(row["id"], reminders=reminders)]
