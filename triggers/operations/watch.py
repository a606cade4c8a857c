"""Log lines for alerts in infra/ on conditions that no request would show: approvals about to expire, turns in a
task hub that nobody serves, audit lines that wait for their storage, damaged audit trails."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from activities import hub
from shared.composition.services import Services, services
from shared.sessions.audit.forwarding import LATE_LINE, AuditOutboxLate

bp = df.Blueprint()

log = logging.getLogger("parley.watch")

EXPIRING_LINE = "approvals about to expire:"
"""Beginning of the log line; the alert in `infra/` looks for the same words."""
SOON = timedelta(minutes=15)
LEFT_LINE = "turns of no served hub:"
"""The same for turns that wait in a task hub on which no app works."""

_VERIFYING_SECONDS = 120
"""Time limit of verifying audit trails in one run, which costs as much as the timer's instance does."""


@bp.timer_trigger(arg_name="timer", schedule="30 */5 * * * *")
@bp.durable_client_input(client_name="client")
async def watch(timer: func.TimerRequest, client: df.DurableOrchestrationClient) -> None:
    """Log how many approvals will time out within minutes if nobody decides, that audit lines wait, and what waits in
    task hubs that nobody serves; every hour, verify the audit trails."""
    now = datetime.now(UTC)
    try:
        expiring = await services().approval_rows.expiring(now=now, before=now + SOON)
        if expiring:
            log.warning("%s %d within %d minutes", EXPIRING_LINE, expiring, SOON.total_seconds() // 60)
        try:
            await services().audit_forwarder.check_age()
        except AuditOutboxLate as exc:
            log.error("%s %s", LATE_LINE, exc)
        await hub.know(services(), client, now=now)
        await tell_of_left_hubs(services(), now)
    finally:
        until = time.monotonic() + _VERIFYING_SECONDS
        await services().audit_verification.run(lambda: time.monotonic() < until)


async def tell_of_left_hubs(app: Services, now: datetime) -> None:
    """Log what waits in task hubs that nobody serves. This process serves its own, though its sweep may not have run
    again yet: after a stop, or while the database was away."""
    if app.task_hub.id is None:
        return
    for one in await app.hubs.all(now=now):
        if one.is_left and one.id != app.task_hub.id:
            log.error("%s %d in %s, and %d erasures", LEFT_LINE, one.open_turns, one.id, one.open_erasures)
