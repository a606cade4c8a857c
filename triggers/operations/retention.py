"""Retention timers: end and erase old sessions, purge durable histories of ended turns, delete old daily usage.
Each run is bounded; the next run does the rest."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from activities import durable_client, erasure
from shared.composition.services import Services, services
from shared.sessions.life.retention import IdleEnded
from shared.sessions.limits.budgets import usage_day
from shared.sessions.live.realtime import DeliveryFailed

bp = df.Blueprint()

log = logging.getLogger("parley.retention")

_IDLE_AT_ONCE = 50
_ERASED_AT_ONCE = 8
"""Erased in parallel, since an erasure mostly waits for stores."""
_RETIRING_SECONDS = 8 * 60
"""Time limit of one run: the host ends a function after ten minutes, and the next run is due then."""
_USAGE_KEPT = timedelta(days=90)
"""Only today's usage counts for budgets; older days are kept for inspection."""


@bp.timer_trigger(arg_name="timer", schedule="20 */10 * * * *")
@bp.durable_client_input(client_name="client")
async def retire_sessions(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """End idle sessions (SESSION_IDLE_DAYS) and erase sessions that ended long ago (SESSION_RETENTION_DAYS)."""
    everything = services()
    now = datetime.now(UTC)
    idle = erased = 0
    until = time.monotonic() + _RETIRING_SECONDS
    while time.monotonic() < until:
        found = await _end_idle(everything, now)
        claimed, done = await _erase_old(everything, client, now)
        idle += found.ended
        erased += done
        if found.looked < _IDLE_AT_ONCE and not claimed:
            break
    if idle or erased:
        log.info("ended %d idle sessions, erased %d that ended long ago", idle, erased)


async def _end_idle(everything: Services, now: datetime) -> IdleEnded:
    found = await everything.retention.end_idle(now=now, limit=_IDLE_AT_ONCE)
    if found.messages:
        try:
            # Not through an output binding, which would hold all events until the end of the run.
            await everything.sender.send(found.messages)
        except DeliveryFailed as exc:
            log.warning("live delivery failed for %d idle sessions: %s", found.ended, exc)
    return found


async def _erase_old(everything: Services, client: df.DurableOrchestrationClient, now: datetime) -> tuple[int, int]:
    """How many sessions were claimed, and how many of them are completely erased; the sweep continues the others."""
    claimed = await everything.retention.claim_old(now=now, limit=_ERASED_AT_ONCE)
    outcomes = await asyncio.gather(
        *(erasure.erase(everything, client, session_id) for session_id in claimed), return_exceptions=True
    )
    for session_id, outcome in zip(claimed, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            log.error("session %s could not be erased now", session_id, exc_info=outcome)
    return len(claimed), sum(outcome is True for outcome in outcomes)


@bp.timer_trigger(arg_name="timer", schedule="0 7 * * * *")
@bp.durable_client_input(client_name="client")
async def purge_histories(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """Purge the durable histories of turns that ended long ago (their results are in the database), and delete the
    users' daily usage of old days."""
    now = datetime.now(UTC)
    before = now - timedelta(days=services().settings.turn_history_days)
    purged = await durable_client.purge_ended(client, before=before)
    await services().session_rows.forget_token_usage(before=usage_day(now - _USAGE_KEPT))
    if purged:
        log.info("forgot the histories of %d ended instances", purged)
