"""The timers that forget: sessions beyond their time, histories of turns that ended, users' days that no budget asks
about. Each run is bounded; what it leaves is the next one's."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from activities import durable_client, erasure
from activities.binding import send, sends_events
from shared.services import services
from shared.sessions.budgets import usage_day

bp = df.Blueprint()

log = logging.getLogger("parley.retention")

_IDLE_AT_ONCE = 200
_ERASED_AT_ONCE = 8
"""Side by side: an erasure waits for stores most of its time."""
_ERASING_SECONDS = 40
"""A run ends before the next one is due."""
_USAGE_KEPT = timedelta(days=90)
"""Only today counts; the rest is for looking at."""


@bp.timer_trigger(arg_name="timer", schedule="45 * * * * *")
@sends_events(bp)
@bp.durable_client_input(client_name="client")
async def retire_sessions(
    timer: func.TimerRequest, events: func.Out[str], client: df.DurableOrchestrationClient
) -> None:
    """End sessions that are idle and erase those that ended long ago, where SESSION_IDLE_DAYS and
    SESSION_RETENTION_DAYS say so."""
    everything = services()
    now = datetime.now(UTC)
    idle, messages = await everything.retention.end_idle(now=now, limit=_IDLE_AT_ONCE)
    if idle:
        log.info("ended %d idle sessions", idle)
    send(events, messages)
    erased = 0
    until = time.monotonic() + _ERASING_SECONDS
    while time.monotonic() < until:
        old = await everything.retention.claim_old(now=now, limit=_ERASED_AT_ONCE)
        if not old:
            break
        done = await asyncio.gather(
            *(erasure.erase(everything, client, session_id) for session_id in old), return_exceptions=True
        )
        for session_id, outcome in zip(old, done, strict=True):
            if isinstance(outcome, BaseException):
                # It is on record: the sweep goes on with it.
                log.error("session %s could not be erased now", session_id, exc_info=outcome)
        erased += sum(outcome is True for outcome in done)
    if erased:
        log.info("erased %d sessions that ended long ago", erased)


@bp.timer_trigger(arg_name="timer", schedule="0 7 * * * *")
@bp.durable_client_input(client_name="client")
async def purge_histories(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """Forget the durable histories of turns that ended long ago (what they said and did is in the database), and what
    users used on days that no budget asks about any more."""
    now = datetime.now(UTC)
    before = now - timedelta(days=services().settings.turn_history_days)
    purged = await durable_client.purge_ended(client, before=before)
    await services().session_rows.forget_token_usage(before=usage_day(now - _USAGE_KEPT))
    if purged:
        log.info("forgot the histories of %d ended instances", purged)
