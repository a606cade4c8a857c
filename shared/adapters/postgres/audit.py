"""Where the audit trail of a session ends, in the session's row in PostgreSQL. Implements `AuditAnchors`."""

from __future__ import annotations

from datetime import datetime

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.sessions.audit.chain import Anchor, SealedLine

_Q = load_queries("audit")


class PostgresAuditAnchors:
    """One statement each; no lock is held while a line is written."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def anchor(self, session_id: str) -> Anchor | None:
        """None when there is no such session."""
        row = await self._pool.fetch_one(_Q["audit_anchor"], {"session_id": session_id})
        return None if row is None else Anchor(row["audit_lines"], row["audit_hash"], row["audit_at"])

    async def advance(self, session_id: str, line: SealedLine, *, now: datetime) -> bool:
        """Claim the line's number. False when the trail does not end where the line begins, or the session is gone."""
        row = await self._pool.fetch_one(
            _Q["advance_audit"],
            {
                "session_id": session_id,
                "number": line.number,
                "hash": line.hash,
                "previous": line.previous,
                "now": now,
            },
        )
        return row is not None
