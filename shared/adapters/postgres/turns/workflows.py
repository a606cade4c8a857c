"""Workflows that answer calls, in PostgreSQL. Implements `WorkflowRepository`.

Invariant: of all starts of a workflow one begins.
"""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.durable.hub import TaskHub, only_hub
from shared.sessions.models import WaitStatus
from shared.sessions.records.waits import WorkflowBegun, WorkflowLook

_Q = load_queries("turns/workflows")


class PostgresWorkflows:
    """`WorkflowRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, hub: TaskHub | None = None) -> None:
        """hub: of this process; None: the only one there is."""
        self._pool = pool
        self._hub = hub or only_hub()

    async def begin(self, tool_call_id: str, start: str) -> WorkflowBegun:
        row = await self._pool.fetch_one(_Q["begin_workflow"], {"tool_call_id": tool_call_id, "start": start})
        if row is None:
            return WorkflowBegun.NEVER
        if row["held"]:
            return WorkflowBegun.HELD
        return WorkflowBegun.NOW if row["begun"] else WorkflowBegun.NEVER

    async def to_look_at(
        self, *, pending_before: datetime, over_before: datetime, now: datetime, limit: int
    ) -> list[WorkflowLook]:
        parameters = {
            "pending_before": pending_before,
            "over_before": over_before,
            "now": now,
            "limit": limit,
            "hub": self._hub.id,
            "is_only": self._hub.is_only,
        }
        return [
            WorkflowLook(
                wait_id=row["id"],
                tool_call_id=row["tool_call_id"],
                name=row["workflow"],
                instance_id=row["workflow_id"],
                is_awaited=row["status"] == WaitStatus.PENDING,
                is_begun=row["begun_by"] is not None,
            )
            for row in await self._pool.fetch_all(_Q["workflows_to_look_at"], parameters)
        ]

    async def is_over(self, wait_id: str, *, now: datetime) -> None:
        await self._pool.execute(_Q["workflow_is_over"], {"wait_id": wait_id, "now": now})
