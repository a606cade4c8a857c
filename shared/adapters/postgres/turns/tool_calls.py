"""Tool calls in PostgreSQL: what is to run, that it began, how it ended. Implements `ToolCallRepository`.

Invariant: a call is begun once and ends once; whoever comes second changes nothing and is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from shared.adapters.postgres.audit import PostgresAuditTrail
from shared.adapters.postgres.history.lexemes import vector_of
from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import event_target, wait_from_row
from shared.errors import ErrorCode, NotFound
from shared.sessions.models import ApprovalStatus, JsonObject, ToolCallStatus
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.plan import TurnPlan
from shared.sessions.records.tool_calls import CallStart, ToolCallResult, ToolExecution
from shared.sessions.records.waits import CallWait

_Q = load_queries("turns/tool_calls")
_A = load_queries("audit")


class PostgresToolCalls:
    """`ToolCallRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, trail: PostgresAuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def tool_execution(self, tool_call_id: str) -> ToolExecution:
        """Raises NotFound."""
        row = await self._pool.fetch_one(_Q["tool_call_for_execution"], {"tool_call_id": tool_call_id})
        if row is None:
            raise NotFound(ErrorCode.TOOL_NOT_FOUND, "No such tool call.")
        return _tool_execution(row)

    async def begin_tool_call(
        self, tool_call_id: str, start_id: str, note: AuditNote | None = None, *, now: datetime
    ) -> CallStart:
        """Mark that the tool is about to run. A repeat with the same start_id is answered as the first time."""
        parameters = {"tool_call_id": tool_call_id, "start_id": start_id, "now": now}
        row: Row | None
        if note is None:
            row = await self._pool.fetch_one(_Q["begin_tool_call"], parameters)
        else:
            async with self._trail.transaction() as audited:
                head = await audited.connection.execute(_A["lock_audit_head_of_tool_call"], parameters)
                begin = await audited.connection.execute(_Q["begin_tool_call"], parameters)
                row = await begin.fetchone()
                if row is not None and row["stored_now"]:
                    await audited.append(await head.fetchone(), [note])
        if row is None or row["cancelled"]:
            return CallStart.CANCELLED
        if row["held"]:
            return CallStart.HELD
        return CallStart.NOW if row["begun_now"] else CallStart.BEFORE

    async def save_tool_result(self, result: ToolCallResult, note: AuditNote | None = None) -> bool:
        """Store a result and its tool message. False when one was stored before."""
        parameters = {
            "tool_call_id": result.tool_call_id,
            "status": result.status.value,
            "result": json(result.result),
            "error_code": result.error_code,
            "message_id": result.message_id,
            "content": result.content,
            "words": vector_of(result.content),
            "tokens": result.tokens,
            "now": result.ended_at,
            "sources": None if result.sources is None else sorted(result.sources),
        }
        if note is None and result.takeover is None:
            return await self._pool.fetch_one(_Q["save_tool_result"], parameters) is not None
        async with self._trail.transaction() as audited:
            # It locks the session's row, too, and knows the trail's end.
            cursor = await audited.connection.execute(_Q["save_tool_result"], parameters)
            row = await cursor.fetchone()
            if row is not None and result.takeover is not None:
                await audited.connection.execute(_Q["hand_over"], parameters | _successor(result.takeover))
            await audited.append(row, [] if note is None else [note])
            return row is not None

    async def time_out_approval(
        self, tool_call_id: str, notes: Callable[[ApprovalStatus], Sequence[AuditNote]], *, now: datetime
    ) -> bool:
        """Close an approval that nobody decided. False when somebody was just in time."""
        parameters = {"tool_call_id": tool_call_id, "now": now}
        async with self._trail.transaction() as audited:
            connection = audited.connection
            # Locked first for the same two reasons as a decision's (PostgresApprovals.vote).
            head = await connection.execute(_A["lock_audit_head_of_tool_call"], parameters)
            await connection.execute(_Q["lock_turn_of_tool_call"], parameters)
            cursor = await connection.execute(_Q["time_out_approval"], parameters)
            row = await cursor.fetchone()
            if row is None:
                return False
            await audited.append(await head.fetchone(), notes(ApprovalStatus(row["status"])))
            return True

    async def mark_approval_delivered(self, tool_call_id: str, *, now: datetime) -> None:
        await self._pool.execute(_Q["mark_approval_delivered"], {"tool_call_id": tool_call_id, "now": now})

    async def newest_of_session(self, session_id: str, *, limit: int) -> list[str]:
        rows = await self._pool.fetch_all(_Q["newest_tool_calls"], {"session_id": session_id, "limit": limit})
        return [row["id"] for row in rows]


def _successor(plan: TurnPlan) -> JsonObject:
    handed = plan.handed_over
    return {
        "plan": json(plan.stored()),
        "agent_id": plan.agent_id,
        "for_session": handed is not None and handed.for_session,
    }


def _tool_execution(row: Row) -> ToolExecution:
    return ToolExecution(
        tool_call_id=row["id"],
        session_id=row["session_id"],
        turn_id=row["turn_id"],
        message_id=row["message_id"],
        provider_call_id=row["provider_call_id"],
        name=row["name"],
        arguments=row["arguments"],
        argument_error=row["argument_error"],
        needs_approval=row["needs_approval"],
        status=ToolCallStatus(row["status"]),
        result=row["result"],
        begun_at=row["begun_at"],
        ended_at=row["ended_at"],
        plan=TurnPlan.model_validate(row["plan"]),
        requested_by=row["requested_by"],
        cancelled=row["cancel_requested_at"] is not None or row["turn_ended_at"] is not None or row["is_stopped_above"],
        target=event_target(row),
        approval_id=row["approval_id"],
        approval_status=ApprovalStatus(row["approval_status"]) if row["approval_status"] else None,
        decided_by=row["decided_by"],
        comment=row["comment"],
        decided_arguments=row["decided_arguments"],
        arguments_digest=row["arguments_digest"],
        error_code=row["error_code"],
        result_message_id=row["result_message_id"],
        granted_tools=frozenset(row["granted_tools"]),
        is_held=row["is_held"],
        contained=row["contained"],
        declined=row["declined"],
        choice_bits=row["choice_bits"],
        sources=frozenset(row["sources"] or ()),
        wait=None if row["wait"] is None else _call_wait(row["wait"]),
    )


def _call_wait(row: JsonObject) -> CallWait:
    return CallWait(
        wait_from_row(row),
        row["number"],
        row["state"],
        row["answer"],
        row["workflow"],
        row["workflow_id"],
        row["begun_by"] is not None,
    )
