"""The sweep: repeats what a crash cut between two stores. Each thing it does is harmless when it was not needed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from activities import durable_client, erasure
from activities.binding import send, sends_events
from activities.turns import FAILED_LINE
from shared.durable_messages import explain_failure
from shared.errors import InvalidState, NotFound, Transient
from shared.principal import Principal
from shared.services import Services, services
from shared.sessions.models import SessionStatus, TurnError, TurnStatus

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
    """Start what was queued, deliver what was decided, close what has lost its orchestration, end what has expired,
    and go on erasing what was deleted."""
    everything = services()
    now = datetime.now(UTC)
    messages = await _turns(everything, client, now)
    await _decisions(everything, client, now)
    messages += await _expired(everything, client, now)
    await _erasures(everything, client, now)
    await _loose_blobs(everything, now)
    await everything.session_rows.forget_idempotency_keys(before=now - _KEYS_KEPT)
    send(events, messages)


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
            words = await durable_client.last_words(client, turn.turn_id)
            code, detail = explain_failure(words) if words else ("INTERNAL_ERROR", "The turn was lost.")
            why = words[:500] or f"its orchestration is {found}"
            log.error("%s %s with %s: %s", FAILED_LINE, turn.turn_id, code, why)
            error = TurnError(code=code, detail=detail)
            finished, sent = await everything.sessions.finish_turn(turn.turn_id, status=TurnStatus.FAILED, error=error)
            messages += sent
            if finished.next_turn_id is not None:
                await durable_client.start_or_leave(client, finished.next_turn_id)
    return messages


async def _expired(everything: Services, client: df.DurableOrchestrationClient, now: datetime) -> list[bytes]:
    messages: list[bytes] = []
    for session_id, owner_id in await everything.lifecycle.expired(now=now, limit=_LIMIT):
        try:
            changed = await everything.sessions.change_status(
                session_id, Principal(owner_id, frozenset()), SessionStatus.ENDED
            )
        except (NotFound, InvalidState):
            continue  # ended or erased in this very moment
        log.info("session %s has expired", session_id)
        messages += changed.messages
        await durable_client.release(client, changed.instances, changed.interruption)
    return messages


async def _erasures(everything: Services, client: df.DurableOrchestrationClient, now: datetime) -> None:
    for session_id in await everything.lifecycle.cut_erasures(now=now, limit=_LIMIT):
        try:
            if await erasure.erase(everything, client, session_id):
                log.info("session %s is erased", session_id)
        except Exception:
            # One that fails must not keep the others; it is tried again.
            log.exception("session %s could not be erased now", session_id)
    await everything.lifecycle.forget_erasures(before=now - _KEYS_KEPT)


async def _loose_blobs(everything: Services, now: datetime) -> None:
    try:
        swept = await everything.loose_blobs.sweep(now=now)
    except Transient as exc:
        log.warning("deleting the bytes of files that were cut or erased waits: %s", exc)
        return
    if swept:
        log.info("dealt with the bytes of %d files that were cut or erased", swept)


async def _decisions(everything: Services, client: df.DurableOrchestrationClient, now: datetime) -> None:
    rows = everything.approval_rows
    for approval_id, instance_id in await rows.undelivered(
        before=now - timedelta(seconds=DECIDED_SECONDS), limit=_LIMIT
    ):
        if not await durable_client.raise_decision(client, instance_id, approval_id) and not (
            await durable_client.is_live(client, instance_id)
        ):
            await rows.give_up_delivery(approval_id, now=now)
