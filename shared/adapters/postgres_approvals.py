"""Approvals in PostgreSQL. A decision is one statement: of two deciders exactly one wins."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import sql

from shared.adapters.postgres import PostgresPool, Row, json
from shared.adapters.postgres_sessions import event_target
from shared.adapters.sql.queries import load_queries
from shared.sessions.models import ApprovalStatus, Decision
from shared.sessions.pages import ApprovalFilter, Page
from shared.sessions.records import ApprovalRecord, DecisionRecord

_Q = load_queries("approvals")


class PostgresApprovals:
    """`ApprovalRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def request(
        self,
        tool_call_id: str,
        *,
        approval_id: str,
        digest: str,
        instance_id: str,
        expires_at: datetime,
        now: datetime,
    ) -> tuple[ApprovalRecord | None, bool]:
        """Open the approval of a tool call, or return the one it has; the flag says whether it was opened now.

        None when the call is over or its turn was cancelled.
        """
        async with self._pool.transaction() as connection:
            cursor = await connection.execute(
                _Q["request_approval"],
                {
                    "tool_call_id": tool_call_id,
                    "approval_id": approval_id,
                    "digest": digest,
                    "instance_id": instance_id,
                    "expires_at": expires_at,
                    "now": now,
                },
            )
            opened = await cursor.fetchone()
            cursor = await connection.execute(_Q["approval_of_tool_call"], {"tool_call_id": tool_call_id})
            row = await cursor.fetchone()
        return (None if row is None else _approval(row)), opened is not None

    async def get(self, approval_id: str, user_id: str) -> ApprovalRecord | None:
        row = await self._pool.fetch_one(_Q["approval"], {"approval_id": approval_id, "user_id": user_id})
        return None if row is None else _approval(row)

    async def list_for(
        self, wanted: ApprovalFilter, page: Page, *, visible_to: str | None = None
    ) -> list[ApprovalRecord]:
        """Newest first, one more than `page.limit` when there are more.

        visible_to: only approvals of sessions this user may read; None: all of them (an approver's inbox).
        """
        where: list[sql.Composable] = [sql.SQL("true")]
        parameters: dict[str, Any] = {"limit": page.limit + 1}
        if visible_to is not None:
            where.append(
                sql.SQL(
                    "(s.owner_id = %(user_id)s OR EXISTS (SELECT 1 FROM session_participants p"
                    " WHERE p.session_id = s.id AND p.user_id = %(user_id)s))"
                )
            )
            parameters["user_id"] = visible_to
        if wanted.status is not None:
            where.append(sql.SQL("a.status = %(status)s"))
            parameters["status"] = wanted.status.value
        if wanted.session_id is not None:
            where.append(sql.SQL("a.session_id = %(session_id)s"))
            parameters["session_id"] = wanted.session_id
        if page.after is not None:
            where.append(sql.SQL("(a.requested_at, a.id) < (%(after_at)s, %(after_id)s)"))
            parameters["after_at"], parameters["after_id"] = page.after
        query = sql.SQL(
            "SELECT a.*, s.event_seq_floor, s.event_seq_ceiling FROM approvals a JOIN sessions s ON s.id = a.session_id"
            " WHERE {} ORDER BY a.requested_at DESC, a.id DESC LIMIT %(limit)s"
        ).format(sql.SQL(" AND ").join(where))
        async with self._pool.connection() as connection:
            cursor = await connection.execute(query, parameters)
            return [_approval(row) for row in await cursor.fetchall()]

    async def decide(self, approval_id: str, decision: DecisionRecord, *, now: datetime) -> bool:
        """Record a decision; False when it was no longer pending or its time was over."""
        status = ApprovalStatus.APPROVED if decision.decision is Decision.APPROVE else ApprovalStatus.REJECTED
        parameters = {
            "approval_id": approval_id,
            "status": status.value,
            "user_id": decision.user_id,
            "comment": decision.comment,
            "decided_arguments": json(decision.arguments),
            "digest": decision.digest,
            "now": now,
        }
        async with self._pool.pipelined() as connection:
            # Turn before approval, as a cancel locks them; and only a statement that starts with the lock held sees
            # whether it decides the last of several.
            await connection.execute(_Q["lock_turn_of_approval"], parameters)
            cursor = await connection.execute(_Q["decide_approval"], parameters)
            return await cursor.fetchone() is not None

    async def undelivered(self, *, before: datetime, limit: int) -> list[tuple[str, str]]:
        """(approval id, instance id) of what was decided before then and never reached its orchestration."""
        rows = await self._pool.fetch_all(_Q["undelivered_approvals"], {"before": before, "limit": limit})
        return [(row["id"], row["instance_id"]) for row in rows]

    async def give_up_delivery(self, approval_id: str, *, now: datetime) -> None:
        """Its orchestration has ended; nobody is left to tell."""
        await self._pool.execute(_Q["give_up_delivery"], {"approval_id": approval_id, "now": now})


def _approval(row: Row) -> ApprovalRecord:
    return ApprovalRecord(
        id=row["id"],
        tool_call_id=row["tool_call_id"],
        session_id=row["session_id"],
        turn_id=row["turn_id"],
        tool=row["tool"],
        arguments=row["arguments"],
        arguments_digest=row["arguments_digest"],
        decided_arguments=row["decided_arguments"],
        status=ApprovalStatus(row["status"]),
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        expires_at=row["expires_at"],
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        comment=row["comment"],
        instance_id=row["instance_id"],
        target=event_target(row),
        owner_id=row.get("owner_id"),
        participates=bool(row.get("participates", False)),
    )
