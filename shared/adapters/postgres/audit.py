"""Where the audit trails end, and what their verification found, in PostgreSQL. Implements `AuditAnchors` and
`VerifiedTrails`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

import orjson
from psycopg import sql
from pydantic import TypeAdapter

from shared.adapters.postgres.listing import Listing
from shared.adapters.postgres.pool import PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.sessions.audit.chain import BEING_WRITTEN, Anchor, Problem, SealedLine
from shared.sessions.audit.verification import Anchored, AuditFinding, ErasureAnchor
from shared.sessions.records.pages import Page

_Q = load_queries("audit")

_CLAIMS = TypeAdapter(dict[int, datetime])
_CLAIMS_KEPT = 2 * BEING_WRITTEN
"""Longer than a claim counts, since the clocks of two processes may differ."""
_IDS_AT_ONCE = 1_000


class PostgresAuditAnchors:
    """One statement each; no lock is held while a line is written."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def anchor(self, session_id: str) -> Anchor | None:
        """None when there is no such session."""
        row = await self._pool.fetch_one(_Q["audit_anchor"], {"session_id": session_id})
        return None if row is None else _anchor(row)

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
                "young": now - _CLAIMS_KEPT,
            },
        )
        return row is not None


class PostgresVerifiedTrails:
    """`VerifiedTrails` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def begin(self, *, now: datetime, every: timedelta) -> str | None:
        row = await self._pool.fetch_one(_Q["begin_audit_verification"], {"now": now, "due": now - every})
        return None if row is None else str(row["position"])

    async def ids_after(self, after: str, *, limit: int) -> list[str]:
        rows = await self._pool.fetch_all(_Q["audited_ids_after"], {"after": after, "limit": limit})
        return [row["id"] for row in rows]

    async def anchored(self, ids: Sequence[str], *, since: datetime) -> Mapping[str, Anchored]:
        found: dict[str, Anchored] = {}
        for some in batched(ids, _IDS_AT_ONCE, strict=False):
            named: dict[str, Any] = {"ids": list(some)}
            trails = {row["id"]: _anchor(row) for row in await self._pool.fetch_all(_Q["audit_anchors"], named)}
            erasures: dict[str, list[ErasureAnchor]] = {}
            for row in await self._pool.fetch_all(_Q["erasure_anchors"], named):
                kept = erasures.setdefault(row["session_id"], [])
                kept.append(ErasureAnchor(row["id"], row["hash"], row["erased_at"]))
            rows = await self._pool.fetch_all(_Q["erased_since"], {**named, "since": since})
            erased = {row["session_id"] for row in rows}
            for name in some:
                found[name] = Anchored(trails.get(name), erasures.get(name, []), name in erased)
        return found

    async def note(
        self, after: str, up_to: str | None, damaged: Mapping[str, Sequence[Problem]], *, now: datetime
    ) -> list[str]:
        texts = [
            orjson.dumps([{"line": problem.line, "message": problem.message} for problem in problems]).decode()
            for problems in damaged.values()
        ]
        area = {"after": after, "up_to": up_to, "ids": list(damaged), "now": now}
        async with self._pool.transaction() as connection:
            await connection.execute(_Q["drop_audit_findings"], area)
            cursor = await connection.execute(_Q["note_audit_findings"], {**area, "problems": texts})
            new = [row["session_id"] for row in await cursor.fetchall()]
            await connection.execute(_Q["move_audit_verification"], area)
        return new

    async def completed_at(self) -> datetime | None:
        row = await self._pool.fetch_one(_Q["audit_verification_completed"], {})
        return None if row is None else row["completed_at"]

    async def findings(self, page: Page) -> list[AuditFinding]:
        listing = Listing(page, ("f", "found_at"), ("f", "session_id"), descending=True)
        async with self._pool.connection() as connection:
            query = _FINDINGS_SQL.format(conditions=listing.conditions, order=listing.order)
            cursor = await connection.execute(query, listing.parameters)
            return [AuditFinding.model_validate(row) for row in await cursor.fetchall()]


_FINDINGS_SQL = sql.SQL("SELECT f.* FROM audit_findings f WHERE true{conditions}{order}")


def _anchor(row: Row) -> Anchor:
    claims = _CLAIMS.validate_python(row["audit_claims"])
    return Anchor(row["audit_lines"], row["audit_hash"], row["audit_at"], claims)
