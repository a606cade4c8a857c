"""Webhooks as somebody else sends them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from standardwebhooks import Webhook


def signed_webhook(
    secret: str, body: bytes, *, webhook_id: str | None = None, at: datetime | None = None
) -> dict[str, Any]:
    """The options of a request that Standard Webhooks signs. at: aware; now by default."""
    webhook_id, at = webhook_id or str(uuid4()), at or datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, at, body.decode()),
    }
    return {"content": body, "headers": headers}
