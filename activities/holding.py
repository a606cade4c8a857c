"""Suspends and resumes the orchestrations of a session as its row says.

Invariant: the last command that a session's instances received agrees with its row, also after concurrent changes and
crashes. A version is settled only after all instances accepted it, and the sweep finds sessions that are not settled.
"""

from __future__ import annotations

import logging

import azure.durable_functions as df

from activities import durable_client
from shared.composition.services import Services

log = logging.getLogger(__name__)

_ROUNDS = 5
"""Concurrent changes of one session that are handled here; after that the sweep goes on."""


async def follow(services: Services, client: df.DurableOrchestrationClient, session_id: str) -> None:
    """Suspend or resume a session's instances. Idempotent; does nothing when nothing has changed."""
    rows = services.session_rows
    for round_number in range(_ROUNDS):
        hold = await rows.hold(session_id)
        # In a later round another caller may have settled it after we sent an older command: send the new one as well.
        if hold is None or (hold.is_settled and round_number == 0):
            return
        tell = durable_client.suspend if hold.is_held else durable_client.resume
        if not all([await tell(client, instance_id) for instance_id in hold.instances]):
            log.info("not everything of session %s could be told; the sweep will", session_id)
            return
        if await rows.settle_hold(session_id, hold.version):
            return
