"""WebhookService: what a user does with their own webhooks.

Invariant: each statement names the user whose webhook it is, and a secret is in no answer but the one that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from shared.errors import AppError, ErrorCode, InvalidInput, InvalidState, NotFound
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.channels.models import Delivery, NewWebhook, Webhook, WebhookPatch, WebhookWithSecret
from shared.sessions.channels.secrets import SecretMark, WebhookSecrets

MAX_OWN_WEBHOOKS = 20
LISTED_DELIVERIES = 200
"""The last ones of a webhook."""
BOTH_SIGN = timedelta(hours=24)
"""How long after a rotation the secret before signs, too."""
OFF_BY_OWNER = "Its owner switched it off."


class WebhookAddresses(Protocol):
    def check(self, url: str) -> None:
        """Raises ValueError, whose text says why nothing is sent there."""
        ...


class WebhookRepository(Protocol):
    async def own(self, user_id: str, *, limit: int) -> list[Webhook]:
        """Oldest first."""
        ...

    async def get(self, webhook_id: str, user_id: str) -> Webhook | None: ...

    async def add(self, webhook: Webhook, mark: SecretMark, user_id: str, *, limit: int) -> bool:
        """False when the user has `limit` already."""
        ...

    async def change(
        self, webhook_id: str, user_id: str, changes: Mapping[str, Any], *, now: datetime
    ) -> Webhook | None:
        """changes: of `url`, `events`, `description`, and `off_reason`: None switches it on, a text off.

        Switched off, what waited for it has failed.
        """
        ...

    async def renew_secret(
        self, webhook_id: str, user_id: str, mark: SecretMark, *, now: datetime, both_until: datetime
    ) -> Webhook | None: ...

    async def delete(self, webhook_id: str, user_id: str) -> bool: ...

    async def deliveries(self, webhook_id: str, user_id: str, *, limit: int) -> list[Delivery]:
        """Newest first."""
        ...

    async def send_again(
        self, delivery_id: str, webhook_id: str, user_id: str, *, now: datetime
    ) -> tuple[Delivery, bool] | None:
        """The delivery, due now as if it had never been tried; False: its webhook is off, and nothing was changed."""
        ...


class WebhookService:
    """A caller's webhooks."""

    def __init__(self, rows: WebhookRepository, secrets: WebhookSecrets, addresses: WebhookAddresses) -> None:
        self._rows = rows
        self._secrets = secrets
        self._addresses = addresses

    async def list_for(self, principal: Principal) -> list[Webhook]:
        return await self._rows.own(principal.user_id, limit=MAX_OWN_WEBHOOKS)

    async def get(self, webhook_id: str, principal: Principal) -> Webhook:
        """Raises NotFound."""
        return _found(await self._rows.get(webhook_id, principal.user_id))

    async def create(self, body: NewWebhook, principal: Principal) -> WebhookWithSecret:
        """Raises InvalidInput: an address that nothing is sent to; at the limit."""
        self._check(body.url)
        now = datetime.now(UTC)
        secret, mark = self._secrets.new()
        webhook = Webhook(
            id=new_id(),
            url=body.url,
            events=body.events,
            description=body.description,
            enabled=True,
            off_at=None,
            off_reason=None,
            failing_since=None,
            created_at=now,
            updated_at=now,
        )
        if not await self._rows.add(webhook, mark, principal.user_id, limit=MAX_OWN_WEBHOOKS):
            message = f"You can have at most {MAX_OWN_WEBHOOKS} webhooks; delete one first."
            raise InvalidInput(ErrorCode.VALIDATION_ERROR, message)
        return _with(webhook, secret)

    async def change(self, webhook_id: str, body: WebhookPatch, principal: Principal) -> Webhook:
        """Only the fields that were sent change. Raises NotFound, InvalidInput."""
        changes = {name: getattr(body, name) for name in body.model_fields_set}
        for name in ("url", "events", "enabled"):
            if name in changes and changes[name] is None:
                raise _invalid(name, "must not be null")
        if "url" in changes:
            self._check(changes["url"])
        if "enabled" in changes:
            changes["off_reason"] = None if changes.pop("enabled") else OFF_BY_OWNER
        now = datetime.now(UTC)
        return _found(await self._rows.change(webhook_id, principal.user_id, changes, now=now))

    async def renew_secret(self, webhook_id: str, principal: Principal) -> WebhookWithSecret:
        """A new secret; the one before signs beside it for a day. Raises NotFound."""
        now = datetime.now(UTC)
        secret, mark = self._secrets.new()
        changed = await self._rows.renew_secret(
            webhook_id, principal.user_id, mark, now=now, both_until=now + BOTH_SIGN
        )
        return _with(_found(changed), secret)

    async def delete(self, webhook_id: str, principal: Principal) -> None:
        """With its deliveries. Raises NotFound."""
        if not await self._rows.delete(webhook_id, principal.user_id):
            raise _no_such_webhook()

    async def deliveries(self, webhook_id: str, principal: Principal) -> list[Delivery]:
        """The last ones, newest first. Raises NotFound."""
        await self.get(webhook_id, principal)
        return await self._rows.deliveries(webhook_id, principal.user_id, limit=LISTED_DELIVERIES)

    async def send_again(self, delivery_id: str, webhook_id: str, principal: Principal) -> Delivery:
        """Raises NotFound, InvalidState while the webhook is off."""
        sent = await self._rows.send_again(delivery_id, webhook_id, principal.user_id, now=datetime.now(UTC))
        if sent is None:
            raise NotFound(ErrorCode.SESSION_NOT_FOUND, "No such delivery.")
        delivery, is_on = sent
        if not is_on:
            raise InvalidState("The webhook is switched off: switch it on first.")
        return delivery

    def _check(self, url: str) -> None:
        try:
            self._addresses.check(url)
        except ValueError as exc:
            raise _invalid("url", str(exc)) from None


def _with(webhook: Webhook, secret: str) -> WebhookWithSecret:
    return WebhookWithSecret(**webhook.model_dump(), secret=secret)


def _found(webhook: Webhook | None) -> Webhook:
    if webhook is None:
        raise _no_such_webhook()
    return webhook


def _no_such_webhook() -> NotFound:
    return NotFound(ErrorCode.SESSION_NOT_FOUND, "No such webhook.")


def _invalid(field: str, message: str) -> AppError:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR, f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
