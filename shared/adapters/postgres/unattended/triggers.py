"""Triggers in PostgreSQL. Implements `TriggerRepository`."""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.unattended.schedules import stored_config
from shared.sessions.models import ApprovalMode, Concurrency, SessionConfig
from shared.sessions.unattended.models import Trigger, TriggerSource, TriggerStatus
from shared.sessions.unattended.triggers import TriggerRecord
from shared.sessions.unattended.webhooks import SecretState

_Q = load_queries("unattended/triggers")


class PostgresTriggers:
    """`TriggerRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def put(
        self, trigger: Trigger, owner_id: str, *, uid: str, key_id: str, limit: int
    ) -> tuple[TriggerRecord, bool] | None:
        row = await self._pool.fetch_one(
            _Q["put_trigger"],
            {
                "uid": uid,
                "owner_id": owner_id,
                "id": trigger.id,
                "name": trigger.name,
                "content": trigger.content,
                "session_id": trigger.session_id,
                "agent_id": trigger.agent_id,
                "config": json(stored_config(trigger.config)),
                "approval_mode": trigger.approval_mode,
                "concurrency": trigger.concurrency,
                "sources": [source.value for source in trigger.sources],
                "status": trigger.status.value,
                "key_id": key_id,
                "now": trigger.updated_at,
                "limit": limit,
            },
        )
        return None if row is None else (_record(row), row["is_new"])

    async def get(self, trigger_id: str, owner_id: str) -> TriggerRecord | None:
        row = await self._pool.fetch_one(_Q["trigger"], {"id": trigger_id, "owner_id": owner_id})
        return None if row is None else _record(row)

    async def by_uid(self, uid: str) -> TriggerRecord | None:
        row = await self._pool.fetch_one(_Q["trigger_by_uid"], {"uid": uid})
        return None if row is None else _record(row)

    async def list_for(self, owner_id: str, *, limit: int) -> list[TriggerRecord]:
        rows = await self._pool.fetch_all(_Q["triggers_of_owner"], {"owner_id": owner_id, "limit": limit})
        return [_record(row) for row in rows]

    async def delete(self, trigger_id: str, owner_id: str) -> bool:
        row = await self._pool.fetch_one(_Q["delete_trigger"], {"id": trigger_id, "owner_id": owner_id})
        return row is not None

    async def rotate(
        self, trigger_id: str, owner_id: str, *, key_id: str, old_until: datetime, now: datetime
    ) -> TriggerRecord | None:
        row = await self._pool.fetch_one(
            _Q["rotate_secret"],
            {"id": trigger_id, "owner_id": owner_id, "key_id": key_id, "old_until": old_until, "now": now},
        )
        return None if row is None else _record(row)

    async def note_fired(self, uid: str, *, session_id: str, turn_id: str, now: datetime) -> None:
        await self._pool.execute(
            _Q["note_fired"], {"uid": uid, "session_id": session_id, "turn_id": turn_id, "now": now}
        )

    async def note_refused(self, record: TriggerRecord, reason: str, *, stopping: bool, now: datetime) -> None:
        await self._pool.execute(
            _Q["note_refused"],
            {
                "uid": record.uid,
                "updated_at": record.trigger.updated_at,
                "reason": reason,
                "stopping": stopping,
                "now": now,
            },
        )


def _record(row: Row) -> TriggerRecord:
    trigger = Trigger(
        id=row["id"],
        name=row["name"],
        content=row["content"],
        session_id=row["session_id"],
        agent_id=row["agent_id"],
        config=SessionConfig.of_store(row["config"]),
        approval_mode=None if row["approval_mode"] is None else ApprovalMode(row["approval_mode"]),
        concurrency=None if row["concurrency"] is None else Concurrency(row["concurrency"]),
        sources=[TriggerSource(source) for source in row["sources"]],
        status=TriggerStatus(row["status"]),
        status_reason=row["status_reason"],
        uid=row["uid"],
        queue=None,
        url="",
        secret_made_at=row["secret_made_at"],
        is_secret_void=False,
        last_fired_at=row["last_fired_at"],
        last_session_id=row["last_session_id"],
        last_turn_id=row["last_turn_id"],
        last_refused_at=row["last_refused_at"],
        last_refusal=row["last_refusal"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
    secret = SecretState(
        row["secret_version"], row["secret_key_id"], row["secret_made_at"], row["old_key_id"], row["old_until"]
    )
    return TriggerRecord(row["uid"], row["owner_id"], trigger, secret)
