"""Sends what waits in the outbox of webhooks.

A delivery is claimed for a time before it is sent, so a process that is killed leaves it to the next run: it is sent at
least once, with the same id each time. Nothing of a receiver's answer is kept but its status.

Invariant: the outcome of a try is stored only if no other try began meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import orjson

from shared.sessions.channels.patience import next_try, why_off
from shared.sessions.channels.secrets import SecretMark, WebhookSecrets

log = logging.getLogger(__name__)

OFF_LINE = "webhook switched off:"
LEASE = timedelta(seconds=60)
"""Longer than a try takes."""
KEPT = timedelta(days=30)
"""How long a delivery that is over is listed."""
_AT_ONCE = 32
_AT_ONCE_EACH = 4
"""To one webhook, so that one that hangs leaves places to the others."""
_UNSIGNED = "The deployment's secret that this webhook's came from is gone: make a new secret, then switch it on."


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that was claimed. tries: with the one that begins. marks: of the secrets that sign."""

    id: str
    webhook_id: str
    url: str = field(repr=False)
    event: str
    data: Any = field(repr=False)
    occurred_at: datetime
    tries: int
    marks: Sequence[SecretMark] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a try. error: None when it was taken. retry_after_s: as the receiver asked."""

    answer_code: int | None
    error: str | None
    took_ms: int
    retry_after_s: float | None = None


class DeliveryRepository(Protocol):
    async def claim(self, *, now: datetime, until: datetime, limit: int, each: int) -> list[Due]:
        """Deliveries that are due, at most `each` of one webhook; they are nobody else's until then."""
        ...

    async def taken(self, due: Due, answered: Answered) -> None: ...

    async def failed(
        self, due: Due, answered: Answered, *, now: datetime, again_at: datetime | None
    ) -> datetime | None:
        """again_at: None: given up. Returns since when the webhook fails; None when it is gone."""
        ...

    async def switch_off(self, webhook_id: str, reason: str, *, now: datetime) -> bool:
        """What waited for it has failed. False when it was off."""
        ...

    async def forget(self, *, before: datetime, limit: int) -> int:
        """Delete deliveries that were over before then."""
        ...


class WebhookSender(Protocol):
    async def send(self, url: str, message_id: str, body: bytes, secrets: Sequence[str], *, now: datetime) -> Answered:
        """Sign and send it. Never raises for what the receiver or the network does."""
        ...


class WebhookDeliverer:
    """One batch per call; the sweep calls until there is nothing left."""

    def __init__(self, rows: DeliveryRepository, secrets: WebhookSecrets, sender: WebhookSender) -> None:
        self._rows = rows
        self._secrets = secrets
        self._sender = sender

    async def deliver(self, *, now: datetime) -> int:
        """Send what is due, once each; returns how many were tried."""
        claimed = await self._rows.claim(now=now, until=now + LEASE, limit=_AT_ONCE, each=_AT_ONCE_EACH)
        outcomes = await asyncio.gather(*(self._one(due) for due in claimed), return_exceptions=True)
        for due, outcome in zip(claimed, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                log.error("delivery %s could not be made now", due.id, exc_info=outcome)
        return len(claimed)

    async def _one(self, due: Due) -> None:
        secrets = [secret for mark in due.marks if (secret := self._secrets.of(mark)) is not None]
        now = datetime.now(UTC)
        if not secrets:
            await self._switch_off(due.webhook_id, _UNSIGNED, now=now)
            return
        body = orjson.dumps({"type": due.event, "timestamp": due.occurred_at.isoformat(), "data": due.data})
        answered = await self._sender.send(due.url, due.id, body, secrets, now=now)
        now = datetime.now(UTC)
        if answered.error is None:
            await self._rows.taken(due, answered)
            return
        again_at = next_try(due.tries, now=now, asked_s=answered.retry_after_s)
        failing_since = await self._rows.failed(due, answered, now=now, again_at=again_at)
        if failing_since is not None:
            reason = why_off(answered.answer_code, failing_since=failing_since, now=now)
            if reason is not None:
                await self._switch_off(due.webhook_id, reason, now=now)

    async def _switch_off(self, webhook_id: str, reason: str, *, now: datetime) -> None:
        if await self._rows.switch_off(webhook_id, reason, now=now):
            log.warning("%s %s: %s", OFF_LINE, webhook_id, reason)

    async def forget(self, *, now: datetime) -> int:
        """Delete deliveries that were over long ago; returns how many."""
        return await self._rows.forget(before=now - KEPT, limit=1_000)
