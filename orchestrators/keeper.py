"""Keeps the identity of the task hub that it is in, as its input, for as long as the hub exists.

It waits for what never comes, since whatever has ended is purged one day.
"""

from __future__ import annotations

import azure.durable_functions as df

from orchestrators.durable import Steps, listen
from shared.durable.names import KEEPER, KEEPER_EVENT

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration=KEEPER)
def keeper(context: df.DurableOrchestrationContext) -> Steps[None]:
    """Wait for ever. Its start is refused while it waits, so a hub has one identity."""
    yield listen(context, KEEPER_EVENT)
