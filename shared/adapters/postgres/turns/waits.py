"""Waits of tool calls in PostgreSQL. Implements `WaitRepository`.

Invariant: a wait is opened once, ends once, and is gone on from once; whoever comes second changes nothing and is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from shared.adapters.postgres.audit import PostgresAuditTrail
from shared.adapters.postgres.pool import PostgresPool, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import event_target, wait_from_row
from shared.adapters.postgres.turns.children import insert_child
from shared.durable.hub import TaskHub, only_hub
from shared.durable.names import call_instance, workflow_instance
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.children import NewChild
from shared.sessions.records.tool_calls import CallStart
from shared.sessions.records.waits import AnswerEffect, AnswerRecord, NewWait, WaitRecord

_Q = load_queries("turns/waits")
_T = load_queries("turns/tool_calls")
_A = load_queries("audit")


class PostgresWaits:
    """`WaitRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, trail: PostgresAuditTrail, hub: TaskHub | None = None) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._trail = trail
        self._hub = hub or only_hub()

    async def open(self, new: NewWait, notes: Sequence[AuditNote], child: NewChild | None = None) -> bool:
        wait = new.wait
        parameters = {
            "wait_id": new.id,
            "tool_call_id": new.tool_call_id,
            "number": new.number,
            "kind": wait.kind.value,
            "request": orjson.dumps(
                {"asked_by": wait.asked_by, "questions": [one.model_dump(mode="json") for one in wait.questions]}
            ).decode(),
            "state": json(new.state),
            "asked_of": wait.asked_of,
            "now": wait.opened_at,
            "expires_at": wait.expires_at,
            "instance_id": call_instance(new.turn_id, new.tool_call_id),
            "workflow": new.workflow,
            "workflow_id": None if new.workflow is None else workflow_instance(new.turn_id, new.tool_call_id),
        }
        async with self._trail.transaction() as audited:
            connection = audited.connection
            head = await connection.execute(_A["lock_audit_head_of_tool_call"], parameters)
            opened = await (await connection.execute(_Q["open_wait"], parameters)).fetchone()
            if opened is not None:
                await audited.append(await head.fetchone(), notes)
                if child is not None:
                    await insert_child(connection, child, hub=self._hub.id)
        return opened is not None

    async def find(self, tool_call_id: str, wait_id: str, user_id: str) -> WaitRecord | None:
        return await self._find({"tool_call_id": tool_call_id, "wait_id": wait_id, "user_id": user_id})

    async def of_call(self, tool_call_id: str, user_id: str | None = None) -> WaitRecord | None:
        return await self._find({"tool_call_id": tool_call_id, "wait_id": None, "user_id": user_id})

    async def _find(self, key: dict[str, str | None]) -> WaitRecord | None:
        row = await self._pool.fetch_one(_Q["wait"], key)
        if row is None:
            return None
        return WaitRecord(
            wait=wait_from_row(row),
            session_id=row["session_id"],
            turn_id=row["turn_id"],
            message_id=row["message_id"],
            answer_digest=row["answer_digest"],
            instance_id=row["instance_id"],
            target=event_target(row),
            access=row["access"],
        )

    async def answer(
        self, record: WaitRecord, said: AnswerRecord, notes: Sequence[AuditNote], *, now: datetime
    ) -> AnswerEffect:
        parameters = {
            "wait_id": said.wait_id,
            "tool_call_id": record.wait.tool_call_id,
            "user_id": said.user_id,
            "answer": json(said.answer),
            "digest": said.digest,
            "actions": json(said.actions),
            "now": now,
        }
        return AnswerEffect.ENDED if await self._ended("answer_wait", parameters, notes) else AnswerEffect.NOTHING

    async def time_out(self, tool_call_id: str, wait_id: str, notes: Sequence[AuditNote], *, now: datetime) -> bool:
        parameters = {"tool_call_id": tool_call_id, "wait_id": wait_id, "now": now}
        return await self._ended("time_out_wait", parameters, notes)

    async def _ended(self, statement: str, parameters: dict[str, Any], notes: Sequence[AuditNote]) -> bool:
        async with self._trail.transaction() as audited:
            connection = audited.connection
            # Session before turn, as everywhere; and only a statement that starts with the locks held sees the others.
            head = await connection.execute(_A["lock_audit_head_of_tool_call"], parameters)
            await connection.execute(_T["lock_turn_of_tool_call"], parameters)
            ended = await (await connection.execute(_Q[statement], parameters)).fetchone()
            if ended is not None:
                await audited.append(await head.fetchone(), notes)
        return ended is not None

    async def resume(
        self, tool_call_id: str, wait_id: str, start_id: str, note: AuditNote | None, *, now: datetime
    ) -> CallStart:
        parameters = {"tool_call_id": tool_call_id, "wait_id": wait_id, "start_id": start_id, "now": now}
        async with self._trail.transaction() as audited:
            head = await audited.connection.execute(_A["lock_audit_head_of_tool_call"], parameters)
            row = await (await audited.connection.execute(_Q["resume_wait"], parameters)).fetchone()
            if row is not None and row["stored_now"] and note is not None:
                await audited.append(await head.fetchone(), [note])
        if row is None or row["cancelled"]:
            return CallStart.CANCELLED
        if row["held"]:
            return CallStart.HELD
        return CallStart.NOW if row["begun_now"] else CallStart.BEFORE

    async def forget(self, tool_call_id: str, *, now: datetime) -> None:
        await self._pool.execute(_Q["forget_waits"], {"tool_call_id": tool_call_id, "now": now})

    async def undelivered(self, *, before: datetime, limit: int) -> list[tuple[str, str]]:
        parameters = {"before": before, "limit": limit, "hub": self._hub.id, "is_only": self._hub.is_only}
        rows = await self._pool.fetch_all(_Q["undelivered_waits"], parameters)
        return [(row["id"], row["instance_id"]) for row in rows]

    async def give_up_delivery(self, wait_id: str, *, now: datetime) -> None:
        await self._pool.execute(_Q["give_up_wait"], {"wait_id": wait_id, "now": now})
