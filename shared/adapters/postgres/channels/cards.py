"""The cards of approvals in PostgreSQL. Implements `CardRepository`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from shared.adapters.postgres.audit import PostgresAuditTrail
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.sessions.channels.carding import CardStatus, DueCard
from shared.sessions.records.approval_policy import Channel, NoticeKind
from shared.sessions.records.audit import AuditNote

_Q = load_queries("channels/cards")
_A = load_queries("audit")


class PostgresCards:
    """`CardRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool, trail: PostgresAuditTrail) -> None:
        self._pool = pool
        self._trail = trail

    async def queue(
        self, approval_id: str, kind: NoticeKind, number: int, channels: Collection[Channel], *, now: datetime
    ) -> None:
        parameters = {
            "approval_id": approval_id,
            "kind": kind,
            "number": number,
            "channels": list(channels),
            "now": now,
        }
        await self._pool.execute(_Q["queue_cards"], parameters)

    async def claim(self, *, now: datetime, until: datetime, limit: int) -> list[DueCard]:
        rows = await self._pool.fetch_all(_Q["claim_cards"], {"now": now, "until": until, "limit": limit})
        return [
            DueCard(row["approval_id"], Channel(row["channel"]), NoticeKind(row["kind"]), row["number"], row["tries"])
            for row in rows
        ]

    async def settle(
        self, card: DueCard, status: CardStatus, *, error: str | None, again_at: datetime | None, note: AuditNote | None
    ) -> None:
        parameters = {
            "approval_id": card.approval_id,
            "channel": card.channel,
            "kind": card.kind,
            "number": card.number,
            "tries": card.tries,
            "status": status,
            "error": error,
            "again_at": again_at,
        }
        if note is None:
            await self._pool.execute(_Q["settle_card"], parameters)
            return
        async with self._trail.transaction() as audited:
            head = await audited.connection.execute(_A["lock_audit_head_of_approval"], parameters)
            settled = await audited.connection.execute(_Q["settle_card"], parameters)
            if await settled.fetchone() is not None:
                await audited.append(await head.fetchone(), [note])
