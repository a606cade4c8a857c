"""Triggers: a prompt that is posted when somebody fires it, with what they send as data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import orjson
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from shared.errors import ErrorCode, InvalidInput
from shared.sessions.unattended.models import Firing, NewTrigger, Rotation, Trigger
from shared.sessions.unattended.triggers import FiredTrigger
from triggers.http.endpoints import Call, Operation, endpoint, no_content, ok, page_of_all
from triggers.http.parameters import IDEMPOTENCY_KEY, PAGING
from triggers.sessions.messages import PostedTurn

bp = df.Blueprint()

MAX_PAYLOAD_BYTES = 64 * 1024
_PATH = "/api/v1/triggers/{trigger_id}"


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/triggers",
        "list_triggers",
        "Your triggers",
        "Triggers",
        200,
        returns=list[Trigger],
        parameters=PAGING,
    ),
)
async def list_triggers(call: Call, _: None) -> Response:
    """By id. Secrets are not shown."""
    return page_of_all(call, await call.services.triggers.list_for(call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        _PATH,
        "get_trigger",
        "One trigger",
        "Triggers",
        200,
        returns=Trigger,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_trigger(call: Call, _: None) -> Response:
    """With when it was fired last, and why a fire was refused last."""
    return ok(await call.services.triggers.get(_trigger_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "PUT",
        _PATH,
        "put_trigger",
        "Make or replace a trigger",
        "Triggers",
        200,
        body=NewTrigger,
        returns=Trigger,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
        also={201: "The trigger is new: its secret is shown this once"},
    ),
)
async def put_trigger(call: Call, body: NewTrigger) -> Response:
    """Ids are your own: others may have triggers of the same id. Its address and secret stay what they are."""
    trigger, is_new = await call.services.triggers.put(_trigger_id(call), body, call.principal, now=datetime.now(UTC))
    return ok(trigger, 201 if is_new else 200)


@endpoint(
    bp,
    Operation(
        "DELETE",
        _PATH,
        "delete_trigger",
        "Delete a trigger",
        "Triggers",
        204,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def delete_trigger(call: Call, _: None) -> Response:
    """Its address takes nothing any more, also not when a trigger of the same id is made again."""
    await call.services.triggers.delete(_trigger_id(call), call.principal)
    return no_content()


@endpoint(
    bp,
    Operation(
        "POST",
        f"{_PATH}/rotate",
        "rotate_trigger",
        "Make a new secret",
        "Triggers",
        200,
        body=Rotation,
        returns=Trigger,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
        body_required=False,
    ),
)
async def rotate_trigger(call: Call, body: Rotation) -> Response:
    """The new secret is shown this once. The one before stays good for a day, or for as long as is said."""
    trigger = await call.services.triggers.rotate(
        _trigger_id(call), call.principal, keep_old=timedelta(seconds=body.keep_old_seconds), now=datetime.now(UTC)
    )
    return ok(trigger)


@endpoint(
    bp,
    Operation(
        "POST",
        f"{_PATH}/fire",
        "fire_trigger",
        "Fire a trigger yourself",
        "Triggers",
        202,
        headers=("Location",),
        body=Firing,
        returns=PostedTurn,
        parameters=(IDEMPOTENCY_KEY,),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.INVALID_MESSAGE,
            ErrorCode.MESSAGE_TOO_LONG,
            ErrorCode.CONFLICT,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.TOKEN_LIMIT,
        ),
        body_required=False,
    ),
    sends=True,
    durable=True,
)
async def fire_trigger(call: Call, body: Firing) -> Response:
    """The payload is read as data from outside, whoever sends it. Again with the same key: the same turn."""
    if len(orjson.dumps(body.payload)) > MAX_PAYLOAD_BYTES:
        raise payload_too_long()
    fired = await call.services.triggers.fire(
        _trigger_id(call),
        body.payload,
        call.principal,
        idempotency_key=call.request.headers.get("idempotency-key"),
        now=datetime.now(UTC),
    )
    await begin(call, fired)
    result = fired.posted.result
    location = f"/api/v1/sessions/{fired.session_id}/turns/{result.turn.id}"
    return ok(PostedTurn(message=result.message, turn=result.turn), 202, {"Location": location})


async def begin(call: Call, fired: FiredTrigger) -> None:
    """Start the turn if it is next."""
    call.events = await start(call.durable, fired)


async def start(client: df.DurableOrchestrationClient, fired: FiredTrigger) -> list[bytes]:
    """Start the turn if it is next. Returns the events to send."""
    result = fired.posted.result
    if result.interrupted is not None:
        await durable_client.interrupt(client, result.interrupted)
    if fired.posted.start:
        await durable_client.start_or_leave(client, result.turn.id)
    return [*fired.messages, *fired.posted.messages]


def payload_too_long() -> InvalidInput:
    return InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A payload may have at most {MAX_PAYLOAD_BYTES} bytes of JSON.")


def _trigger_id(call: Call) -> str:
    return call.id("trigger_id", ErrorCode.SESSION_NOT_FOUND)
