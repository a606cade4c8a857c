"""What became of a subagent in the background, told when its turn ends."""

from __future__ import annotations

import logging

import azure.durable_functions as df

from activities.durable_client import start_or_leave
from shared.composition.services import services
from shared.errors import Transient
from shared.sessions.records.turns import FinishedTurn

log = logging.getLogger(__name__)


async def tell_result(client: df.DurableOrchestrationClient, finished: FinishedTurn) -> list[bytes]:
    """The events to send. Nothing, for a turn that a call waits for or that a person began; left to the sweep where it
    fails."""
    if finished.answers is not None or not finished.target.is_of_subagent:
        return []
    session_id = finished.target.session_id
    try:
        told = await services().background.of_session(session_id)
    except Transient as exc:
        log.warning("the result of session %s waits for the sweep: %s", session_id, exc)
        return []
    if told.start_turn_id is not None:
        await start_or_leave(client, told.start_turn_id)
    return told.messages
