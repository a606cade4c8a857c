"""Approval notifications by webhook, signed as Standard Webhooks define. Implements no port: an activity calls it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from datetime import UTC, datetime

import aiohttp
import orjson
from standardwebhooks import Webhook

from shared import tracing
from shared.errors import ErrorCode, Transient
from shared.sessions.approvals.notices import webhook_id
from shared.sessions.approvals.voting import public_approval
from shared.sessions.audit.notes import notified
from shared.sessions.models import ApprovalStatus
from shared.sessions.records.approval_policy import NoticeKind
from shared.sessions.repository import ApprovalRepository
from shared.signing import ApprovalLinks

_TIMEOUT = aiohttp.ClientTimeout(total=15)
"""The specification asks receivers to answer within 15 seconds."""


class ApprovalNotifier:
    """Sends an approval's notices to a configured receiver, as events `approval.requested`, `approval.reminder`, ..."""

    def __init__(self, approvals: ApprovalRepository, links: ApprovalLinks, *, url: str, secret: str) -> None:
        self._approvals = approvals
        self._links = links
        self._url = url
        self._webhooks = [Webhook(one) for one in secret.split(",")]

    async def notify(self, approval_id: str, kind: NoticeKind, number: int) -> None:
        """Send a notice, unless it is outdated: no requests and reminders for a decided approval.

        Then the notice is settled. number: of a reminder. Raises Transient unless the receiver answers 2xx.
        """
        record = await self._approvals.get(approval_id, "")
        now = datetime.now(UTC)
        if record is None:
            return
        tracing.join_turn(record.turn_id, record.session_id, record)
        waits = record.status is ApprovalStatus.PENDING and now < record.expires_at
        if waits is (kind is NoticeKind.DECIDED):
            await self._approvals.settle_notice(approval_id, kind)
            return
        data = public_approval(record).model_dump(mode="json")
        if waits:
            data["link"] = self._links.url(record.id, expires_at=record.expires_at)
        body = orjson.dumps({"type": f"approval.{kind}", "timestamp": now.isoformat(), "data": data})
        message_id = webhook_id(record.id, kind, number)
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            # One signature per secret: during a rotation the receiver may know only the old or the new one.
            "webhook-signature": " ".join(one.sign(message_id, now, body.decode()) for one in self._webhooks),
            **tracing.outgoing(),
        }
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                if not 200 <= response.status < 300:
                    raise Transient(ErrorCode.INTERNAL_ERROR, f"The webhook receiver answered {response.status}.")
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise Transient(ErrorCode.INTERNAL_ERROR, "The webhook receiver cannot be reached.") from exc
        await self._approvals.settle_notice(approval_id, kind, notified(record.id, kind, message_id))
