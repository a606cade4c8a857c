"""The queue whose messages fire triggers. It is registered only where the setting TRIGGER_QUEUE names one.

Invariant: one message, or one id that messages carry, begins at most one turn, however often it comes and wherever a
process is killed. The key of a fire is kept for a day (`_KEYS_KEPT` of the sweep), and a message is fired only while it
is younger than that.

What becomes of a message: where only time is missing (a store that is away, the owner's rate limit), the function fails
and the host lets the message come again. What no trigger can be told of goes to the poison queue at once, where whoever
sends finds it. What a trigger refuses (it is paused, its owner lost the right) is dropped: the trigger says so, as it
does of a webhook, and nothing that its owner stopped is fired later.
"""

from __future__ import annotations

import base64
import logging
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func
import orjson
from pydantic import ValidationError

from activities.binding import send, sends_events
from shared.composition.services import services
from shared.errors import BudgetExceeded, Conflict, ErrorCode, Gone, InvalidInput, NotFound
from shared.sessions.unattended.models import QueueFiring
from triggers.http.bodies import json_fault
from triggers.unattended.triggers import MAX_PAYLOAD_BYTES, payload_too_long, start

bp = df.Blueprint()

log = logging.getLogger("parley.trigger_queue")

QUEUE, CONNECTION = "%TRIGGER_QUEUE%", "AzureWebJobsStorage"
MAX_AGE = timedelta(hours=23)
POISON_LINE = "message to the poison queue:"
"""Beginning of the log line that the alert in infra/modules/observability/alerts.bicep counts."""


@bp.queue_trigger(arg_name="message", queue_name=QUEUE, connection=CONNECTION)
@bp.queue_output(arg_name="poison", queue_name=f"{QUEUE}-poison", connection=CONNECTION)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
async def fire_by_queue(
    message: func.QueueMessage, poison: func.Out[str], events: func.Out[str], client: df.DurableOrchestrationClient
) -> None:
    """Fire the trigger that a message names. Raises what passes: the message comes again."""
    app, now = services(), datetime.now(UTC)
    text = message.get_body().decode("utf-8", "replace")
    try:
        firing = firing_of(text)
        if message.insertion_time is None or now - message.insertion_time > MAX_AGE:
            raise InvalidInput(ErrorCode.INVALID_MESSAGE, "It is older than 23 hours.")
        record = await app.triggers.queued(firing.trigger)
    except (InvalidInput, NotFound) as exc:
        log.warning("%s %s: %s", POISON_LINE, message.id, exc.safe_message)
        poison.set(text)
        return
    (await app.limiter.admit(record.owner_id)).check()
    # With an id of its own it may come again as another message.
    firing_id = f"id:{firing.id}" if firing.id is not None else f"message:{message.id}"
    try:
        fired = await app.triggers.fire_queued(record, firing_id, firing.payload, now=now)
    except (NotFound, Gone, InvalidInput, Conflict, BudgetExceeded) as exc:
        log.info("message %s fires no turn, as trigger %s says: %s", message.id, record.uid, exc.safe_message)
        return
    send(events, await start(client, fired))


def firing_of(text: str) -> QueueFiring:
    """What a message says: JSON, as it is or in base64, as Azure's own senders write it.

    Raises InvalidInput for what is something else, or is understood in two ways.
    """
    try:
        body = text.encode() if text.lstrip().startswith("{") else base64.b64decode(text, validate=True)
        found = QueueFiring.model_validate(orjson.loads(body), strict=True)
        fault = json_fault(body.decode())
    except ValidationError as exc:
        where = ".".join(str(part) for part in exc.errors()[0]["loc"])
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, f"It has not the form of a message: {where}.") from None
    except ValueError:  # of base64, UTF-8 or JSON
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "It is not JSON.") from None
    if fault is not None:
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, f"It is not valid JSON: {fault.field} {fault.message}.")
    if len(orjson.dumps(found.payload)) > MAX_PAYLOAD_BYTES:
        raise payload_too_long()
    return found
