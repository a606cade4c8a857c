"""The audit trail as processes have it: writers and forwarders over the real stores, and code that had no outbox."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from shared.adapters.azure.audit_tables import TablesAuditLines
from shared.adapters.postgres.audit import PostgresAuditAnchors, PostgresAuditOutbox, PostgresAuditTrail
from shared.adapters.postgres.sessions.erasure import PostgresErasures
from shared.principal import Principal, Role
from shared.sessions.audit.chain import Anchor, SealedLine
from shared.sessions.audit.forwarding import AuditForwarder
from shared.sessions.audit.sealing import Sealer
from shared.sessions.audit.trail import AuditLines, AuditPage, ChainedAudit
from shared.sessions.records.audit import SYSTEM, AuditNote
from shared.sessions.records.pages import Page
from tests.integration.domain import AUDIT_KEY, OWNER, Stores, utc_now

ANN = Principal(OWNER, frozenset({Role.USER}))
ACCOUNT_KEY = "bm90IGEgcmVhbCBrZXk="

_CLAIM = b"""
UPDATE sessions SET audit_lines = %(number)s, audit_hash = %(hash)s, audit_at = %(now)s,
    audit_claims = (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(audit_claims)
                    WHERE (value #>> '{}')::timestamptz > %(young)s)
                   || jsonb_build_object(%(number)s::text, %(now)s::timestamptz)
WHERE id = %(session_id)s AND audit_lines = %(number)s - 1 AND audit_hash = %(previous)s
"""


class AuditProcess:
    """Nothing in common with others but the stores.

    ahead: of the clock of the others. dies: after each commit, before anything is written to the table.
    """

    def __init__(
        self, stores: Stores, lines: AuditLines, *, ahead: timedelta = timedelta(), dies: bool = False
    ) -> None:
        self._clock = lambda: utc_now() + ahead
        self._stores = stores
        self.lines = lines
        self.outbox = PostgresAuditOutbox(stores.pool)
        self.anchors = PostgresAuditAnchors(stores.pool)
        self.forwarder = AuditForwarder(self.outbox, lines, keys=[AUDIT_KEY])
        self.sealer = Sealer([AUDIT_KEY], clock=self._clock)
        self.trail = PostgresAuditTrail(stores.pool, self.sealer, _nothing if dies else self.forwarder.committed)
        self.audit = ChainedAudit(self.anchors, lines, stores.sessions.get, keys=[AUDIT_KEY], clock=self._clock)
        self.erasures = PostgresErasures(stores.pool, _nothing if dies else self.forwarder.committed)

    async def record(
        self, session_id: str, action: str, details: dict[str, Any] | None = None, *, who: str = SYSTEM
    ) -> None:
        """Record a line, and wait until it is written or left to the sweep."""
        await self.trail.record(session_id, AuditNote(action, details or {}, who))
        await self.forwarder.idle()

    async def written(self, count: int = 4) -> str:
        """A session with so many lines."""
        session = await self._stores.session()
        for n in range(count):
            await self.record(session.id, f"action.{n}", {"n": n, "text": "žluť\x00"}, who="ann")
        return session.id

    async def report(self, session_id: str, page: Page | None = None) -> AuditPage:
        return await self.audit.report(session_id, ANN, page or Page())

    async def claimed_as_before(self, session_id: str, action: str, *, is_written: bool) -> SealedLine:
        """As code did that had no outbox: claim a line, then write it, unless the process died in between."""
        head = await self.anchors.anchor(session_id)
        assert head is not None
        [line], now = self.sealer.after(session_id, Anchor(head.number, head.hash), [AuditNote(action, {"old": True})])
        claimed = await self._stores.sql(
            _CLAIM,
            session_id=session_id,
            number=line.number,
            hash=line.hash,
            previous=line.previous,
            now=now,
            young=now - timedelta(seconds=20),
        )
        assert claimed == 1
        if is_written:
            assert await self.lines.append(session_id, [line]) == []
        return line


def _nothing(_lines: object) -> None:
    pass


async def in_outbox(stores: Stores, session_id: str) -> list[str]:
    """Row keys."""
    found = await stores.rows(
        b"SELECT row_key FROM audit_outbox WHERE session_id = %(id)s ORDER BY row_key", id=session_id
    )
    return [row["row_key"] for row in found]


async def is_due(stores: Stores) -> None:
    """The leases of everybody have run out."""
    await stores.sql(b"UPDATE audit_outbox SET due_at = now()")


def tables_at(port: int) -> TablesAuditLines:
    """A table service of that port of this machine."""
    return TablesAuditLines(connection_string=storage_at(port), endpoint=None)


def storage_at(port: int) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={ACCOUNT_KEY};TableEndpoint=http://127.0.0.1:{port}/a;"
    )


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]
