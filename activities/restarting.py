"""Starts a turn again whose orchestration was lost, from what is stored of it.

What is stored decides: steps that have ended are said again, calls that have ended are not run again, and those who
were asked are not asked twice. So a turn loses nothing with its orchestration but the time until that is noticed.

Invariant: no orchestration of the turn is live when it is started again. The number of restarts is bounded.
"""

from __future__ import annotations

import logging
from datetime import datetime

import azure.durable_functions as df

from activities import durable_client
from shared.composition.services import Services
from shared.durable.names import call_instance

log = logging.getLogger("parley.turns")

RESTARTED_LINE = "turn restarted:"
"""Beginning of the log line that the alert in infra/modules/observability/alerts.bicep counts."""
MOST_RESTARTS = 5
"""A turn that loses its orchestration this often would lose it again."""
_REASON = "the turn is started again"


async def restart(
    services: Services, client: df.DurableOrchestrationClient, turn_id: str, *, why: str, now: datetime
) -> bool:
    """End what is left of a turn's orchestrations and start it again. False when it was restarted too often.

    Returns True without a start while something has not ended yet: the sweep comes again. now: aware UTC.
    Raises Exception (the SDK's own) when the durable backend takes no start; that is not counted.
    """
    rows = services.turn_rows
    calls = await rows.calls_that_wait(turn_id)
    instances = [turn_id, *(call_instance(turn_id, call) for call in calls)]
    ended = [await durable_client.end(client, instance_id, _REASON) for instance_id in instances]
    if not all(ended):
        log.warning("turn %s is started again once its orchestrations have ended: %s", turn_id, why)
        return True
    count = await rows.note_restart(turn_id, most=MOST_RESTARTS, now=now)
    if count is None:
        return False
    try:
        await durable_client.start_turn(client, turn_id)
    except Exception:
        # A backend that takes no starts says nothing of the turn.
        await rows.forget_restart(turn_id)
        raise
    log.error("%s %s, for the %d. time: %s", RESTARTED_LINE, turn_id, count, why)
    return True
