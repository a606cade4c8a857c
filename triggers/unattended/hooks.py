"""The address that signed webhooks are sent to. Nobody signs in: the signature says for which trigger they are."""

from __future__ import annotations

from datetime import UTC, datetime

import azure.durable_functions as df
import orjson
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.models import JsonObject
from shared.sessions.unattended.models import MAX_FIRING_ID_CHARS, Fired
from triggers.http.bodies import body_chunks, json_fault
from triggers.http.endpoints import Call, Operation, endpoint, ok
from triggers.http.parameters import Parameter, text
from triggers.unattended.triggers import MAX_PAYLOAD_BYTES, begin, payload_too_long

bp = df.Blueprint()

_ANY_JSON: JsonObject = {"description": "Any JSON: the payload"}


@endpoint(
    bp,
    Operation(
        "POST",
        # Without an id in it: the platform is told which paths need no sign-in, and knows no patterns.
        "/api/hooks",
        "fire_by_webhook",
        "Fire a trigger by a signed webhook",
        "Triggers",
        202,
        returns=Fired,
        parameters=(
            Parameter("trigger", "Which one: as in the trigger's `url`", text(64), required=True),
            Parameter(
                "webhook-id", "One id for one event, also when it is sent again", text(MAX_FIRING_ID_CHARS), "header"
            ),
            Parameter("webhook-timestamp", "Unix seconds, at most five minutes ago", text(32), "header"),
            Parameter(
                "webhook-signature", "`v1,` and the signature; several with a space between", text(4_096), "header"
            ),
        ),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.INVALID_MESSAGE,
            ErrorCode.MESSAGE_TOO_LONG,
            ErrorCode.VALIDATION_ERROR,
            ErrorCode.CONFLICT,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.RATE_LIMITED,
            ErrorCode.TOKEN_LIMIT,
            ErrorCode.DATABASE_ERROR,
            ErrorCode.CACHE_ERROR,
        ),
        form=_ANY_JSON,
        form_type="application/json",
        public=True,
    ),
    sends=True,
    durable=True,
)
async def fire_by_webhook(call: Call, _: None) -> Response:
    """Standard Webhooks. The same `webhook-id` again posts nothing new; it counts as a request of the owner."""
    body = bytearray()
    async for chunk in body_chunks(call.request):
        body += chunk
        if len(body) > MAX_PAYLOAD_BYTES:
            raise payload_too_long()
    now = datetime.now(UTC)
    record = await call.services.triggers.signed(
        call.query("trigger") or "", bytes(body), call.request.headers, now=now
    )
    (await call.services.limiter.admit(record.owner_id)).check()
    webhook_id = call.request.headers["webhook-id"]
    fired = await call.services.triggers.fire_signed(record, webhook_id, _payload(bytes(body)), now=now)
    await begin(call, fired)
    return ok(Fired(webhook_id=webhook_id), 202)


def _payload(body: bytes) -> object:
    """Raises InvalidInput for what is no JSON, or is understood in two ways."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "The body is not JSON.") from None
    fault = json_fault(body.decode())
    if fault is not None:
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            "The body is not valid JSON.",
            errors=[{"field": fault.field or "body", "message": fault.message}],
        )
    return value
