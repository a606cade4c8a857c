"""Schedules and their runs in PostgreSQL. Implements `ScheduleRepository`.

Invariant: a schedule moves on in the transaction that makes its runs, under a row lock that others skip.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.sessions.models import ApprovalMode, SessionConfig
from shared.sessions.structured_output.key_order import kept_in_order
from shared.sessions.unattended.due import Advance
from shared.sessions.unattended.models import (
    Missed,
    Overlap,
    RunStatus,
    Schedule,
    ScheduleDetail,
    ScheduleRun,
    ScheduleStatus,
)
from shared.sessions.unattended.schedules import DueRun, ScheduleRecord

_Q = load_queries("unattended/schedules")


class PostgresSchedules:
    """`ScheduleRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def put(
        self, schedule: Schedule, owner_id: str, *, uid: str, skipping: str, limit: int
    ) -> tuple[Schedule, bool] | None:
        parameters = {
            "uid": uid,
            "owner_id": owner_id,
            "id": schedule.id,
            "name": schedule.name,
            "content": schedule.content,
            "session_id": schedule.session_id,
            "agent_id": schedule.agent_id,
            "config": json(stored_config(schedule.config)),
            "approval_mode": schedule.approval_mode,
            "at": schedule.at,
            "cron": schedule.cron,
            "zone": schedule.zone,
            "missed": schedule.missed.value,
            "overlap": schedule.overlap.value,
            "status": schedule.status.value,
            "next_run_at": schedule.next_run_at,
            "now": schedule.updated_at,
            "limit": limit,
        }
        async with self._pool.transaction() as connection:
            row = await (await connection.execute(_Q["put_schedule"], parameters)).fetchone()
            if row is None:
                return None
            skipped = {"uid": row["uid"], "reason": skipping, "now": schedule.updated_at}
            await connection.execute(_Q["skip_pending_runs"], skipped)
            return _schedule(row), row["is_new"]

    async def get(self, schedule_id: str, owner_id: str, *, runs: int) -> ScheduleDetail | None:
        row = await self._pool.fetch_one(_Q["schedule"], {"id": schedule_id, "owner_id": owner_id})
        if row is None:
            return None
        found = [
            _run(one) for one in await self._pool.fetch_all(_Q["runs_of_schedule"], {"uid": row["uid"], "limit": runs})
        ]
        last = found[0] if found else None
        return ScheduleDetail(**dict(_schedule(row)) | {"last_run": last, "runs": found})

    async def list_for(self, owner_id: str, *, limit: int) -> list[Schedule]:
        rows = await self._pool.fetch_all(_Q["schedules_of_owner"], {"owner_id": owner_id, "limit": limit})
        return [
            _schedule(row).model_copy(
                update={"last_run": None if row["last_run"] is None else _run_of_json(row["last_run"])}
            )
            for row in rows
        ]

    async def delete(self, schedule_id: str, owner_id: str) -> bool:
        row = await self._pool.fetch_one(_Q["delete_schedule"], {"id": schedule_id, "owner_id": owner_id})
        return row is not None

    async def move_due(
        self, step: Callable[[ScheduleRecord, datetime, int], Advance], *, now: datetime, limit: int, kept: int
    ) -> int:
        async with self._pool.transaction() as connection:
            rows = await (await connection.execute(_Q["lock_due_schedules"], {"now": now, "limit": limit})).fetchall()
            for row in rows:
                moved = step(_record(row), row["next_run_at"], row["pending"])
                runs = {
                    "uid": row["uid"],
                    "due": [run.due_at for run in moved.runs],
                    "statuses": [run.status.value for run in moved.runs],
                    "reasons": [run.reason for run in moved.runs],
                    "now": now,
                }
                await connection.execute(_Q["insert_runs"], runs)
                await connection.execute(_Q["forget_old_runs"], {"uid": row["uid"], "kept": kept})
                await connection.execute(_Q["move_schedule"], {"uid": row["uid"], "next_run_at": moved.next_run_at})
            return len(rows)

    async def claim_runs(self, *, now: datetime, until: datetime, limit: int) -> list[DueRun]:
        rows = await self._pool.fetch_all(_Q["claim_runs"], {"now": now, "until": until, "limit": limit})
        return [DueRun(_record(row), row["due_at"], row["overlaps"]) for row in rows]

    async def note_run(
        self,
        run: DueRun,
        status: RunStatus,
        *,
        reason: str | None = None,
        session_id: str | None = None,
        turn_id: str | None = None,
        now: datetime,
    ) -> None:
        await self._pool.execute(_Q["note_run"], _noted(run, status, reason, session_id, turn_id, now))

    async def stop(self, run: DueRun, reason: str, *, now: datetime) -> None:
        uid, updated_at = run.record.uid, run.record.schedule.updated_at
        async with self._pool.transaction() as connection:
            await connection.execute(_Q["note_run"], _noted(run, RunStatus.REFUSED, reason, None, None, now))
            stopping = {"uid": uid, "updated_at": updated_at, "reason": reason}
            if (await connection.execute(_Q["stop_schedule"], stopping)).rowcount:
                await connection.execute(_Q["skip_pending_runs"], {"uid": uid, "reason": reason, "now": now})


def _noted(
    run: DueRun, status: RunStatus, reason: str | None, session_id: str | None, turn_id: str | None, now: datetime
) -> dict[str, Any]:
    return {
        "uid": run.record.uid,
        "due_at": run.due_at,
        "status": status.value,
        "reason": reason,
        "session_id": session_id,
        "turn_id": turn_id,
        "now": now,
    }


def stored_config(config: SessionConfig) -> dict[str, Any]:
    """Only the fields that were set: the others stay what the app's default is on the day of use."""
    return kept_in_order(config.model_dump(mode="json", exclude_unset=True))


def _record(row: Row) -> ScheduleRecord:
    return ScheduleRecord(row["uid"], row["owner_id"], _schedule(row))


def _schedule(row: Row) -> Schedule:
    return Schedule(
        id=row["id"],
        name=row["name"],
        content=row["content"],
        session_id=row["session_id"],
        agent_id=row["agent_id"],
        config=SessionConfig.of_store(row["config"]),
        approval_mode=None if row["approval_mode"] is None else ApprovalMode(row["approval_mode"]),
        at=row["at"],
        cron=row["cron"],
        zone=row["zone"],
        missed=Missed(row["missed"]),
        overlap=Overlap(row["overlap"]),
        status=ScheduleStatus(row["status"]),
        status_reason=row["status_reason"],
        next_run_at=row["next_run_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _run(row: Row) -> ScheduleRun:
    return ScheduleRun(
        due_at=row["due_at"],
        status=RunStatus(row["status"]),
        reason=row["reason"],
        session_id=row["session_id"],
        turn_id=row["turn_id"],
        noted_at=row["noted_at"],
    )


def _run_of_json(row: dict[str, Any]) -> ScheduleRun:
    return ScheduleRun.of_store(row)
