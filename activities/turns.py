"""finish_turn: close a turn that its last step has not closed, and start the session's next one."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import azure.durable_functions as df
import azure.functions as func

from activities import hub
from activities.binding import deliver, sends_events
from activities.durable_client import start_turn, tell_caller
from activities.results import tell_result
from shared import tracing
from shared.composition.services import services
from shared.durable.messages import FinishTurnInput
from shared.durable.names import FINISH_TURN
from shared.sessions.models import TurnError, TurnStatus

bp = df.Blueprint()

log = logging.getLogger("parley.turns")

FAILED_LINE = "turn failed:"
"""Beginning of the log line that the alert in infra/modules/observability/alerts.bicep counts."""


@bp.activity_trigger(input_name="payload", activity=FINISH_TURN)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
@tracing.activity(FINISH_TURN)
async def finish_turn(payload: object, events: func.Out[str], client: df.DurableOrchestrationClient) -> None:
    """Close the turn once and start the next; after a crash in between, the sweep starts it."""
    request = FinishTurnInput.load(payload)
    await hub.know(services(), client, now=datetime.now(UTC))
    error = TurnError(code=request.code, detail=request.detail) if request.code else None
    finished, messages = await services().sessions.finish_turn(
        request.turn_id, status=TurnStatus(request.status), error=error, tries=request.again
    )
    if error is not None and request.status == TurnStatus.FAILED:
        log.error("%s %s with %s", FAILED_LINE, request.turn_id, error.code)
    messages = [*messages, *await tell_result(client, finished)]
    await deliver(events, messages, is_repeat=not finished.closed_now or request.again > 0)
    await tell_caller(client, finished)
    if finished.next_turn_id is not None:
        await start_turn(client, finished.next_turn_id)
