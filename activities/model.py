"""call_model: one answer of the model, streamed and stored."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import azure.durable_functions as df
import azure.functions as func

from activities import hub
from activities.binding import deliver, sends_events
from activities.durable_client import start_or_leave, tell_caller
from activities.results import tell_result
from shared import tracing
from shared.composition.services import services
from shared.durable.messages import CallModelInput, CallModelResult
from shared.durable.names import CALL_MODEL
from shared.errors import ErrorCode, Transient
from shared.sessions.records.steps import StepOutcome
from shared.sessions.turns.patience import Spent
from shared.sessions.turns.queueing import Waited
from shared.sessions.turns.retry import held_delay_s

bp = df.Blueprint()

log = logging.getLogger(__name__)


@bp.activity_trigger(input_name="payload", activity=CALL_MODEL)
@sends_events(bp)
@bp.durable_client_input(client_name="client")
@tracing.activity(CALL_MODEL)
async def call_model(payload: object, events: func.Out[str], client: df.DurableOrchestrationClient) -> object:
    """Run one model step; start the session's next turn when the step closed its own. A model's failure is a result,
    and so is a database that is away."""
    request = CallModelInput.load(payload)
    await hub.know(services(), client, now=datetime.now(UTC))
    waited = Waited(request.looks, _seconds_since(request.waits_since), request.is_told)
    spent = Spent(request.tries, request.spent_s, request.spent_tokens)
    try:
        report = await services().bridge.run_step(request.turn_id, request.step, spent, waited)
    except Transient as exc:
        if exc.code is not ErrorCode.DATABASE_ERROR:
            raise
        log.warning("step %s/%d waits: %s", request.turn_id, request.step, exc)
        return CallModelResult(outcome=StepOutcome.RETRY, held=True, delay_s=held_delay_s(1)).dump()
    messages = report.messages
    if report.finished is not None:
        messages = [*messages, *await tell_result(client, report.finished)]
    await deliver(events, messages, is_repeat=report.is_repeated or request.again > 0)
    if report.finished is not None:
        await tell_caller(client, report.finished)
        if report.finished.next_turn_id is not None:
            await start_or_leave(client, report.finished.next_turn_id)
    return CallModelResult(
        outcome=report.outcome,
        calls=tuple(report.calls),
        closed=report.finished is not None,
        delay_s=report.delay_s,
        held=report.is_held,
        is_queued=report.is_queued,
        is_told=report.is_told,
        spent_s=(report.spent or spent).seconds,
        spent_tokens=(report.spent or spent).tokens,
        code=report.code,
        detail=report.detail,
    ).dump()


def _seconds_since(then: datetime | None) -> float:
    return 0.0 if then is None else max(0.0, (datetime.now(UTC) - then).total_seconds())
