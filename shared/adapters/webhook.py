"""Approval notifications by webhook, signed as Standard Webhooks define.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from datetime import UTC, datetime

import aiohttp
import orjson
from standardwebhooks import Webhook

from shared.errors import ErrorCode, Transient
from shared.sessions.audit import AuditTrail
from shared.sessions.repository import ApprovalRepository
from shared.sessions.voting import public_approval
from shared.signing import ApprovalLinks

_TIMEOUT = aiohttp.ClientTimeout(total=15)
"""The specification asks receivers to answer within 15 seconds."""


class ApprovalNotifier:
    """Tells a configured receiver that an approval waits."""

    def __init__(
        self, approvals: ApprovalRepository, links: ApprovalLinks, audit: AuditTrail, *, url: str, secret: str
    ) -> None:
        self._approvals = approvals
        self._links = links
        self._audit = audit
        self._url = url
        self._webhooks = [Webhook(one) for one in secret.split(",")]

    async def notify(self, approval_id: str) -> None:
        """Send `approval.requested` while it is still pending. Raises Transient until the receiver answers 2xx."""
        record = await self._approvals.get(approval_id, "")
        now = datetime.now(UTC)
        if record is None or record.status != "pending" or record.expires_at <= now:
            return
        approval = public_approval(record).model_dump(mode="json")
        link = self._links.url(record.id, expires_at=record.expires_at)
        body = orjson.dumps(
            {"type": "approval.requested", "timestamp": now.isoformat(), "data": {**approval, "link": link}}
        )
        # The same id on every try: that is how a receiver knows a repeat.
        headers = {
            "content-type": "application/json",
            "webhook-id": record.id,
            "webhook-timestamp": str(int(now.timestamp())),
            # One signature per secret: while secrets change, the receiver may know only the old one or the new one.
            "webhook-signature": " ".join(one.sign(record.id, now, body.decode()) for one in self._webhooks),
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
        await self._audit.record(
            record.session_id, "approval.notified", {"approval_id": record.id, "channel": "webhook"}
        )
