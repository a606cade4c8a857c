"""Webhooks and their deliveries in PostgreSQL. Implements `WebhookRepository` and `DeliveryRepository`.

Who locks a webhook and its deliveries, locks the webhook first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.adapters.postgres.pool import Connection, PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.sessions.channels.delivering import Answered, Due
from shared.sessions.channels.models import Delivery, DeliveryStatus, Webhook
from shared.sessions.channels.secrets import SecretMark

_Q = load_queries("channels/webhooks")


class PostgresWebhooks:
    """`WebhookRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def own(self, user_id: str, *, limit: int) -> list[Webhook]:
        rows = await self._pool.fetch_all(_Q["own_webhooks"], {"user_id": user_id, "limit": limit})
        return [_webhook(row) for row in rows]

    async def get(self, webhook_id: str, user_id: str) -> Webhook | None:
        row = await self._pool.fetch_one(_Q["own_webhook"], {"webhook_id": webhook_id, "user_id": user_id})
        return None if row is None else _webhook(row)

    async def add(self, webhook: Webhook, mark: SecretMark, user_id: str, *, limit: int) -> bool:
        parameters = {
            "id": webhook.id,
            "user_id": user_id,
            "url": webhook.url,
            "description": webhook.description,
            "events": list(webhook.events),
            "salt": mark.salt,
            "digest": mark.digest,
            "now": webhook.created_at,
            "limit": limit,
        }
        return await self._pool.fetch_one(_Q["insert_webhook"], parameters) is not None

    async def change(
        self, webhook_id: str, user_id: str, changes: Mapping[str, Any], *, now: datetime
    ) -> Webhook | None:
        events = changes.get("events")
        parameters = {
            "webhook_id": webhook_id,
            "user_id": user_id,
            "url": changes.get("url"),
            "events": None if events is None else list(events),
            "describes": "description" in changes,
            "description": changes.get("description"),
            "switches": "off_reason" in changes,
            "off_reason": changes.get("off_reason"),
            "now": now,
        }
        async with self._pool.transaction() as connection:
            row = await (await connection.execute(_Q["change_webhook"], parameters)).fetchone()
            if row is not None and changes.get("off_reason") is not None:
                await connection.execute(_Q["fail_waiting_deliveries"], parameters)
        return None if row is None else _webhook(row)

    async def renew_secret(
        self, webhook_id: str, user_id: str, mark: SecretMark, *, now: datetime, both_until: datetime
    ) -> Webhook | None:
        parameters = {
            "webhook_id": webhook_id,
            "user_id": user_id,
            "salt": mark.salt,
            "digest": mark.digest,
            "both_until": both_until,
            "now": now,
        }
        row = await self._pool.fetch_one(_Q["renew_webhook_secret"], parameters)
        return None if row is None else _webhook(row)

    async def delete(self, webhook_id: str, user_id: str) -> bool:
        return bool(await self._pool.execute(_Q["delete_webhook"], {"webhook_id": webhook_id, "user_id": user_id}))

    async def deliveries(self, webhook_id: str, user_id: str, *, limit: int) -> list[Delivery]:
        parameters = {"webhook_id": webhook_id, "user_id": user_id, "limit": limit}
        return [_delivery(row) for row in await self._pool.fetch_all(_Q["deliveries"], parameters)]

    async def send_again(
        self, delivery_id: str, webhook_id: str, user_id: str, *, now: datetime
    ) -> tuple[Delivery, bool] | None:
        key = {"delivery_id": delivery_id, "webhook_id": webhook_id, "user_id": user_id, "now": now}
        async with self._pool.transaction() as connection:
            webhook = await (await connection.execute(_Q["lock_own_webhook"], key)).fetchone()
            if webhook is None:
                return None
            is_on = bool(webhook["is_on"])
            query = _Q["send_delivery_again"] if is_on else _Q["delivery"]
            row = await (await connection.execute(query, key)).fetchone()
        return None if row is None else (_delivery(row), is_on)


class PostgresDeliveries:
    """`DeliveryRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def claim(self, *, now: datetime, until: datetime, limit: int, each: int) -> list[Due]:
        parameters = {"now": now, "until": until, "limit": limit, "each": each}
        return [_due(row) for row in await self._pool.fetch_all(_Q["claim_deliveries"], parameters)]

    async def taken(self, due: Due, answered: Answered) -> None:
        async with self._pool.transaction() as connection:
            await connection.execute(_Q["mark_webhook_taken"], {"webhook_id": due.webhook_id})
            await _settle(connection, due, answered, DeliveryStatus.DELIVERED)

    async def failed(
        self, due: Due, answered: Answered, *, now: datetime, again_at: datetime | None
    ) -> datetime | None:
        async with self._pool.transaction() as connection:
            parameters = {"webhook_id": due.webhook_id, "now": now}
            row = await (await connection.execute(_Q["mark_webhook_failing"], parameters)).fetchone()
            status = DeliveryStatus.FAILED if again_at is None else DeliveryStatus.PENDING
            await _settle(connection, due, answered, status, again_at)
        return None if row is None else row["failing_since"]

    async def switch_off(self, webhook_id: str, reason: str, *, now: datetime) -> bool:
        parameters = {"webhook_id": webhook_id, "reason": reason, "now": now}
        async with self._pool.transaction() as connection:
            switched = (await connection.execute(_Q["switch_webhook_off"], parameters)).rowcount
            await connection.execute(_Q["fail_waiting_deliveries"], parameters)
        return bool(switched)

    async def forget(self, *, before: datetime, limit: int) -> int:
        return await self._pool.execute(_Q["forget_deliveries"], {"before": before, "limit": limit})


async def _settle(
    connection: Connection, due: Due, answered: Answered, status: DeliveryStatus, again_at: datetime | None = None
) -> None:
    parameters = {
        "id": due.id,
        "tries": due.tries,
        "status": status,
        "again_at": again_at,
        "answer_code": answered.answer_code,
        "error": answered.error,
        "took_ms": answered.took_ms,
    }
    await connection.execute(_Q["settle_delivery"], parameters)
    await connection.execute(_Q["forget_delivery_of_erased"], {"id": due.id})


def _webhook(row: Row) -> Webhook:
    return Webhook(
        id=row["id"],
        url=row["url"],
        events=row["events"],
        description=row["description"],
        enabled=row["off_at"] is None,
        off_at=row["off_at"],
        off_reason=row["off_reason"],
        failing_since=row["failing_since"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _delivery(row: Row) -> Delivery:
    is_pending = row["status"] == DeliveryStatus.PENDING
    return Delivery.of_store(
        {
            "id": row["id"],
            "webhook_id": row["webhook_id"],
            "event": row["event"],
            "occurred_at": row["occurred_at"],
            "data": row["data"],
            "status": row["status"],
            "tries": row["tries"],
            "tried_at": row["tried_at"],
            "next_try_at": row["due_at"] if is_pending else None,
            "answer_code": row["answer_code"],
            "error": row["error"],
            "took_ms": row["took_ms"],
        }
    )


def _due(row: Row) -> Due:
    marks = [SecretMark(row["salt"], row["digest"])]
    if row["previous_salt"] is not None:
        marks.append(SecretMark(row["previous_salt"], row["previous_digest"]))
    return Due(
        row["id"], row["webhook_id"], row["url"], row["event"], row["data"], row["occurred_at"], row["tries"], marks
    )
