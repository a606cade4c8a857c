"""A caller's webhooks: list, create, change and delete them; their last deliveries, and sending one again."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.sessions.channels.models import Delivery, NewWebhook, Webhook, WebhookPatch, WebhookWithSecret
from triggers.http.endpoints import Call, Operation, endpoint, no_content, ok, page_of_all
from triggers.http.parameters import PAGING

bp = df.Blueprint()

_LIST = "/api/v1/webhooks"
_ONE = f"{_LIST}/{{webhook_id}}"
_MISSING = ErrorCode.SESSION_NOT_FOUND


@endpoint(
    bp,
    Operation(
        "GET",
        _LIST,
        "list_webhooks",
        "One's webhooks",
        "Webhooks",
        200,
        returns=list[Webhook],
        parameters=PAGING,
    ),
)
async def list_webhooks(call: Call, _: None) -> Response:
    """Oldest first."""
    return page_of_all(call, await call.services.webhooks.list_for(call.principal))


@endpoint(
    bp,
    Operation(
        "POST",
        _LIST,
        "create_webhook",
        "Be told of one's sessions",
        "Webhooks",
        201,
        headers=("Location",),
        body=NewWebhook,
        returns=WebhookWithSecret,
    ),
)
async def create_webhook(call: Call, body: NewWebhook) -> Response:
    """Events of all sessions that the caller owns are sent there, signed as Standard Webhooks define, until the
    receiver answers 2xx. No other answer holds the secret."""
    made = await call.services.webhooks.create(body, call.principal)
    return ok(made, 201, headers={"Location": f"{_LIST}/{made.id}"})


@endpoint(
    bp, Operation("GET", _ONE, "get_webhook", "One webhook", "Webhooks", 200, returns=Webhook, errors=(_MISSING,))
)
async def get_webhook(call: Call, _: None) -> Response:
    return ok(await call.services.webhooks.get(_webhook_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "PATCH",
        _ONE,
        "update_webhook",
        "Change a webhook, or switch it on or off",
        "Webhooks",
        200,
        body=WebhookPatch,
        returns=Webhook,
        errors=(_MISSING,),
    ),
)
async def update_webhook(call: Call, body: WebhookPatch) -> Response:
    """What waits for a webhook that is switched off has failed, and can be sent again."""
    return ok(await call.services.webhooks.change(_webhook_id(call), body, call.principal))


@endpoint(bp, Operation("DELETE", _ONE, "delete_webhook", "Delete a webhook", "Webhooks", 204, errors=(_MISSING,)))
async def delete_webhook(call: Call, _: None) -> Response:
    """With its deliveries; what is being sent at this moment may still arrive."""
    await call.services.webhooks.delete(_webhook_id(call), call.principal)
    return no_content()


@endpoint(
    bp,
    Operation(
        "POST",
        f"{_ONE}/secret",
        "renew_webhook_secret",
        "A new secret for a webhook",
        "Webhooks",
        200,
        returns=WebhookWithSecret,
        errors=(_MISSING,),
    ),
)
async def renew_webhook_secret(call: Call, _: None) -> Response:
    """For 24 hours the secret before signs beside it. No other answer holds the new one."""
    return ok(await call.services.webhooks.renew_secret(_webhook_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        f"{_ONE}/deliveries",
        "list_webhook_deliveries",
        "The last deliveries to a webhook",
        "Webhooks",
        200,
        returns=list[Delivery],
        parameters=PAGING,
        errors=(_MISSING,),
    ),
)
async def list_webhook_deliveries(call: Call, _: None) -> Response:
    """Newest first; kept for 30 days, and the last 200 of them are listed."""
    return page_of_all(call, await call.services.webhooks.deliveries(_webhook_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "POST",
        f"{_ONE}/deliveries/{{delivery_id}}/send",
        "send_webhook_again",
        "Send a delivery again",
        "Webhooks",
        202,
        returns=Delivery,
        errors=(_MISSING, ErrorCode.INVALID_STATE),
    ),
)
async def send_webhook_again(call: Call, _: None) -> Response:
    """With the same id and a new signature, within seconds."""
    delivery_id = call.id("delivery_id", _MISSING)
    return ok(await call.services.webhooks.send_again(delivery_id, _webhook_id(call), call.principal), 202)


def _webhook_id(call: Call) -> str:
    return call.id("webhook_id", _MISSING)
