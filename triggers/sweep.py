"""The sweep: repeats what a crash cut between two stores. Each thing it does is harmless when it was not needed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from activities import durable_client
from activities.binding import send, sends_events
from shared.services import Services, services
from shared.sessions.models import TurnError, TurnStatus

bp = df.Blueprint()

log = logging.getLogger("parley.sweep")

QUEUED_SECONDS = 10
"""A queued turn is started again when nothing came of it for this long."""
RUNNING_SECONDS = 600
"""How often the orchestration of a long turn is looked at."""
DECIDED_SECONDS = 5
_LIMIT = 100
_KEYS_KEPT = timedelta(days=1)


@bp.timer_trigger(arg_name="timer", schedule="*/15 * * * * *")
@sends_events(bp)
@bp.durable_client_input(client_name="client")
async def sweep(timer: func.TimerRequest, events: func.Out[str], client: df.DurableOrchestrationClient) -> None:
    """Start what was queued, deliver what was decided, close what has lost its orchestration."""
    everything = services()
    now = datetime.now(UTC)
    messages = await _turns(everything, client, now)
    await _decisions(everything, client, now)
    await everything.session_rows.forget_idempotency_keys(before=now - _KEYS_KEPT)
    send(events, messages)


@bp.timer_trigger(arg_name="timer", schedule="0 7 * * * *")
@bp.durable_client_input(client_name="client")
async def purge_histories(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """Forget the durable histories of turns that ended long ago; what they said and did is in the database."""
    before = datetime.now(UTC) - timedelta(days=services().settings.turn_history_days)
    purged = await durable_client.purge_ended(client, before=before)
    if purged:
        log.info("forgot the histories of %d ended instances", purged)


async def _turns(everything: Services, client: df.DurableOrchestrationClient, now: datetime) -> list[bytes]:
    rows = everything.turn_rows
    for session_id in await rows.sessions_with_idle_queue(before=now - timedelta(seconds=QUEUED_SECONDS), limit=_LIMIT):
        turn_id = await rows.claim_next(session_id, now=now)
        if turn_id is not None:
            log.info("handing over to turn %s", turn_id)
            await durable_client.start_or_leave(client, turn_id)
    messages: list[bytes] = []
    stuck = await rows.stuck(
        queued_before=now - timedelta(seconds=QUEUED_SECONDS),
        running_before=now - timedelta(seconds=RUNNING_SECONDS),
        limit=_LIMIT,
    )
    for turn in stuck:
        found = await durable_client.look(client, turn.turn_id)
        if found is durable_client.Found.LIVE:
            await rows.touch_dispatch(turn.turn_id, now=now)
        elif found is durable_client.Found.NOWHERE and turn.status is TurnStatus.QUEUED:
            log.warning("turn %s had no orchestration; starting it", turn.turn_id)
            await rows.touch_dispatch(turn.turn_id, now=now)
            await durable_client.start_or_leave(client, turn.turn_id)
        else:
            # Its orchestration ended without closing it, or is gone: starting it again could go on for ever.
            log.error("turn %s lost its orchestration; closing it", turn.turn_id)
            error = TurnError(code="INTERNAL_ERROR", detail="The turn was lost.")
            finished, sent = await everything.sessions.finish_turn(turn.turn_id, status=TurnStatus.FAILED, error=error)
            messages += sent
            if finished.next_turn_id is not None:
                await durable_client.start_or_leave(client, finished.next_turn_id)
    return messages


async def _decisions(everything: Services, client: df.DurableOrchestrationClient, now: datetime) -> None:
    rows = everything.approval_rows
    for approval_id, instance_id in await rows.undelivered(
        before=now - timedelta(seconds=DECIDED_SECONDS), limit=_LIMIT
    ):
        if not await durable_client.raise_decision(client, instance_id, approval_id) and not (
            await durable_client.is_live(client, instance_id)
        ):
            await rows.give_up_delivery(approval_id, now=now)
