"""Log lines for alerts in infra/ on conditions that no request would show."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from shared.composition.services import services

bp = df.Blueprint()

log = logging.getLogger("parley.watch")

EXPIRING_LINE = "approvals about to expire:"
"""Beginning of the log line; the alert in `infra/` looks for the same words."""
SOON = timedelta(minutes=15)


@bp.timer_trigger(arg_name="timer", schedule="30 */5 * * * *")
async def watch(timer: func.TimerRequest) -> None:
    """Log how many approvals will time out within minutes if nobody decides."""
    now = datetime.now(UTC)
    expiring = await services().approval_rows.expiring(now=now, before=now + SOON)
    if expiring:
        log.warning("%s %d within %d minutes", EXPIRING_LINE, expiring, SOON.total_seconds() // 60)
