"""What operators are woken for and no request would show: lines that the alerts in infra/ look for."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df
import azure.functions as func

from shared.composition.services import services

bp = df.Blueprint()

log = logging.getLogger("parley.watch")

EXPIRING_LINE = "approvals about to expire:"
"""How the line begins; infra/modules/alerts.bicep has the same words."""
SOON = timedelta(minutes=15)


@bp.timer_trigger(arg_name="timer", schedule="30 */5 * * * *")
async def watch(timer: func.TimerRequest) -> None:
    """Say how many approvals end undecided if nobody acts in the next minutes."""
    now = datetime.now(UTC)
    expiring = await services().approval_rows.expiring(now=now, before=now + SOON)
    if expiring:
        log.warning("%s %d within %d minutes", EXPIRING_LINE, expiring, SOON.total_seconds() // 60)
