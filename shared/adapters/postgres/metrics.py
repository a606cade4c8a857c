"""The gauges, counted in PostgreSQL over partial indexes when somebody asks.

Implements no port: `GET /metrics` reads it.
"""

from __future__ import annotations

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.sessions.measuring.catalogue import Gauges

_Q = load_queries("metrics")


class PostgresGauges:
    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def read(self) -> Gauges:
        """Raises Transient(DATABASE_ERROR)."""
        row = await self._pool.fetch_one(_Q["gauges"], {})
        assert row is not None  # counts are always one row
        return Gauges(
            row["active_sessions"], row["pending_approvals"], row["audit_outbox_lines"], row["audit_outbox_age"]
        )
