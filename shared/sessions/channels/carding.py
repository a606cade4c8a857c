"""Sends the cards of approvals that wait in their outbox.

A card is queued by the activity that tells of the approval, which durable retries bring to its end; a repeat queues
nothing. It is claimed for a time before it is sent, so a process that is killed leaves it to the next run: it is sent
at least once. One that is decided meanwhile is not sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from shared.errors import Transient
from shared.sessions.approvals.notices import webhook_id
from shared.sessions.audit.notes import carded
from shared.sessions.channels.cards import CardChannels, card_of
from shared.sessions.channels.delivering import LEASE
from shared.sessions.channels.patience import next_try
from shared.sessions.models import ApprovalStatus
from shared.sessions.records.approval_policy import Channel, NoticeKind
from shared.sessions.records.audit import AuditNote
from shared.sessions.repository import ApprovalRepository
from shared.sessions.tools.registry import ready
from shared.signing import ApprovalLinks

log = logging.getLogger(__name__)

NOT_TAKEN_LINE = "card not taken:"
"""Beginning of the log line that the alert in infra/modules/observability/alerts.bicep counts."""
_AT_ONCE = 16


class CardStatus(StrEnum):
    PENDING = "pending"
    SENT = "sent"
    OUTDATED = "outdated"  # decided before it was sent, or its channel is gone
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class DueCard:
    """A card that was claimed. tries: with the one that begins."""

    approval_id: str
    channel: Channel
    kind: NoticeKind
    number: int
    tries: int


class CardRepository(Protocol):
    async def queue(
        self, approval_id: str, kind: NoticeKind, number: int, channels: Collection[Channel], *, now: datetime
    ) -> None:
        """One card for each of the channels that the approval's policy names; what is queued stays as it is."""
        ...

    async def claim(self, *, now: datetime, until: datetime, limit: int) -> list[DueCard]:
        """Cards that are due; they are nobody else's until then."""
        ...

    async def settle(
        self, card: DueCard, status: CardStatus, *, error: str | None, again_at: datetime | None, note: AuditNote | None
    ) -> None:
        """Store the outcome of this try. again_at: of one that is pending. note: stored in the same transaction."""
        ...


class CardDeliverer:
    """One batch per call; the sweep calls until there is nothing left."""

    def __init__(
        self, rows: CardRepository, approvals: ApprovalRepository, links: ApprovalLinks, channels: CardChannels
    ) -> None:
        self._rows = rows
        self._approvals = approvals
        self._links = links
        self._channels = channels

    async def queue(self, approval_id: str, kind: NoticeKind, number: int) -> None:
        """Does nothing where the deployment has no channels."""
        if self._channels:
            await self._rows.queue(approval_id, kind, number, self._channels.keys(), now=datetime.now(UTC))

    async def deliver(self, *, now: datetime) -> int:
        """Send what is due, once each; returns how many were tried."""
        if not self._channels:
            return 0
        claimed = await self._rows.claim(now=now, until=now + LEASE, limit=_AT_ONCE)
        outcomes = await asyncio.gather(*(self._one(card) for card in claimed), return_exceptions=True)
        for card, outcome in zip(claimed, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                log.error("the card of %s could not be sent now", card.approval_id, exc_info=outcome)
        return len(claimed)

    async def _one(self, due: DueCard) -> None:
        record = await self._approvals.get(due.approval_id, "")
        now = datetime.now(UTC)
        channel = self._channels.get(due.channel)
        if record is None or record.status is not ApprovalStatus.PENDING or record.expires_at <= now or channel is None:
            await self._rows.settle(due, CardStatus.OUTDATED, error=None, again_at=None, note=None)
            return
        message_id = webhook_id(record.id, due.kind, due.number)
        await ready()
        context = await self._approvals.context(record.id)
        link = self._links.url(record.id, expires_at=record.expires_at)
        try:
            await channel.send(card_of(record, due.kind, context, message_id=message_id, link=link))
        except Transient as exc:
            again_at = next_try(due.tries, now=datetime.now(UTC))
            status = CardStatus.GIVEN_UP if again_at is None else CardStatus.PENDING
            log.warning("%s: %s of approval %s: %s", due.channel, due.kind, due.approval_id, exc.safe_message)
            if again_at is None:
                log.error("%s %s of approval %s", NOT_TAKEN_LINE, due.channel, due.approval_id)
            await self._rows.settle(due, status, error=exc.safe_message, again_at=again_at, note=None)
            return
        note = carded(record.id, due.kind, due.channel, message_id)
        await self._rows.settle(due, CardStatus.SENT, error=None, again_at=None, note=note)
