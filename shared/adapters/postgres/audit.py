"""Audit lines in PostgreSQL: where the trails end, the outbox, and what their verification found.

Implements `AuditTrail`, `AuditAnchors`, `AuditOutbox` and `VerifiedTrails`.

Invariant: a trail's end moves and the line is stored in one transaction, under the lock of the session's row.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

import orjson
from psycopg import sql
from pydantic import TypeAdapter

from shared.adapters.postgres.listing import Listing
from shared.adapters.postgres.pool import Connection, PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.sessions.audit.chain import BEING_WRITTEN, Anchor, Problem, SealedLine
from shared.sessions.audit.forwarding import LATE_S, LEASE_S, REFUSED_S
from shared.sessions.audit.sealing import Sealer
from shared.sessions.audit.trail import FiledLine
from shared.sessions.audit.verification import Anchored, AuditFinding, ErasureAnchor
from shared.sessions.records.audit import AuditNote
from shared.sessions.records.pages import Page

log = logging.getLogger(__name__)

_Q = load_queries("audit")

_CLAIMS = TypeAdapter(dict[int, datetime])
_CLAIMS_KEPT = 2 * BEING_WRITTEN
"""Longer than a claim counts, since the clocks of two processes may differ."""
_CLAIMS_KEPT_LINES = 16
"""Older claims that are kept: a line that older code claimed and lost is repaired with when it was claimed."""
_IDS_AT_ONCE = 1_000


type Forward = Callable[[Sequence[FiledLine]], None]


class AuditedTransaction:
    """A transaction that may append lines to trails."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self.connection = connection
        self.lines: list[FiledLine] = []
        """What is forwarded once it is committed."""
        self._sealer = sealer

    async def append(self, head: Row | None, notes: Sequence[AuditNote]) -> None:
        """Number, seal and store lines after `head`: a row of one of the queries that lock it, in this transaction.
        Nothing when the session is gone."""
        if head is None or not notes:
            return
        session_id = head["id"]
        lines, now = self._sealer.after(session_id, Anchor(head["audit_lines"], head["audit_hash"]), notes)
        await self.connection.execute(
            _Q["append_audit_lines"],
            {
                "session_id": session_id,
                "number": lines[-1].number,
                "hash": lines[-1].hash,
                "now": now,
                "young": now - _CLAIMS_KEPT,
                "kept": _CLAIMS_KEPT_LINES,
                "claims": json({str(line.number): now for line in lines}),
                "lease_s": LEASE_S,
                "row_keys": [line.row_key for line in lines],
                "ats": [line.at for line in lines],
                "whos": [line.who for line in lines],
                "actions": [line.action for line in lines],
                "detailses": [line.details for line in lines],
                "previouses": [line.previous for line in lines],
                "hashes": [line.hash for line in lines],
            },
        )
        self.lines += [(session_id, line) for line in lines]


class PostgresAuditTrail:
    """`AuditTrail` over PostgreSQL, and the transactions of stores whose acts leave lines.

    forward: is given the lines that were committed.
    """

    def __init__(self, pool: PostgresPool, sealer: Sealer, forward: Forward) -> None:
        self._pool = pool
        self._sealer = sealer
        self._forward = forward

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AuditedTransaction]:
        """As `PostgresPool.pipelined`."""
        async with self._pool.pipelined() as connection:
            audited = AuditedTransaction(connection, self._sealer)
            yield audited
        if audited.lines:
            self._forward(audited.lines)

    async def record(self, session_id: str, note: AuditNote) -> None:
        async with self.transaction() as audited:
            head = await audited.connection.execute(_Q["lock_audit_head"], {"session_id": session_id})
            row = await head.fetchone()
            if row is None:
                log.info("no audit line %s: session %s is gone", note.action, session_id)
            await audited.append(row, [note])


class PostgresAuditAnchors:
    """`AuditAnchors` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def anchor(self, session_id: str) -> Anchor | None:
        row = await self._pool.fetch_one(_Q["audit_anchor"], {"session_id": session_id})
        return None if row is None else _anchor(row)

    async def waiting(self, session_id: str) -> list[SealedLine]:
        rows = await self._pool.fetch_all(_Q["audit_lines_waiting"], {"session_id": session_id})
        return [_line(row) for row in rows]


class PostgresAuditOutbox:
    """`AuditOutbox` over PostgreSQL. By the database's clock."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def lease(self, *, limit: int) -> list[FiledLine]:
        rows = await self._pool.fetch_all(_Q["lease_audit_lines"], {"limit": limit, "lease_s": LEASE_S})
        return [(row["session_id"], _line(row)) for row in rows]

    async def confirm(self, written: Sequence[FiledLine]) -> list[FiledLine]:
        hashes = [line.hash for _, line in written]
        rows = await self._pool.fetch_all(_Q["confirm_audit_lines"], {**_keys(written), "hashes": hashes})
        there = {(row["session_id"], row["row_key"]) for row in rows}
        gone = [filed for filed in written if (filed[0], filed[1].row_key) not in there]
        if not gone:
            return []
        ids = [session_id for session_id, _ in gone]
        erased = {row["session_id"] for row in await self._pool.fetch_all(_Q["erased_sessions"], {"ids": ids})}
        return [filed for filed in gone if filed[0] in erased and filed[1].number > 0]

    async def refuse(self, lines: Sequence[FiledLine]) -> None:
        await self._pool.execute(_Q["refuse_audit_lines"], {**_keys(lines), "refused_s": REFUSED_S})

    async def is_late(self) -> bool:
        row = await self._pool.fetch_one(_Q["audit_outbox_is_late"], {"late_s": LATE_S})
        return row is not None and bool(row["late"])


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

    async def waiting(self, after: str, up_to: str | None) -> Mapping[str, Sequence[SealedLine]]:
        rows = await self._pool.fetch_all(_Q["audit_lines_waiting_between"], {"after": after, "up_to": up_to})
        found: dict[str, list[SealedLine]] = {}
        for row in rows:
            found.setdefault(row["session_id"], []).append(_line(row))
        return found

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

    async def restore(self, session_id: str, lines: Sequence[SealedLine]) -> None:
        for line in lines:
            await self._pool.execute(_Q["restore_audit_line"], {"session_id": session_id, **asdict(line)})

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


def _line(row: Row) -> SealedLine:
    names = ("row_key", "at", "who", "action", "details", "previous", "hash")
    return SealedLine(**{name: row[name] for name in names})


def _keys(lines: Sequence[FiledLine]) -> dict[str, list[str]]:
    return {
        "session_ids": [session_id for session_id, _ in lines],
        "row_keys": [line.row_key for _, line in lines],
    }
