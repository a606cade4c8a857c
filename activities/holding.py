"""Makes the orchestrations of a session follow its row: held while it is suspended, else not.

Invariant: what a session's instances were told last is what its row says, whoever changed it in between and wherever
this was cut: a version is settled only after all of them took it, and the sweep finds those that are not.
"""

from __future__ import annotations

import logging

import azure.durable_functions as df

from activities import durable_client
from shared.composition.services import Services

log = logging.getLogger(__name__)

_ROUNDS = 5
"""Changes of one session that may overtake each other here; beyond, the sweep goes on."""


async def follow(services: Services, client: df.DurableOrchestrationClient, session_id: str) -> None:
    """Suspend or resume what belongs to a session; harmless to repeat, nothing when nothing has changed."""
    rows = services.session_rows
    for round_number in range(_ROUNDS):
        hold = await rows.hold(session_id)
        # Settled by another, after we told something older: only telling it again makes it true.
        if hold is None or (hold.is_settled and round_number == 0):
            return
        tell = durable_client.suspend if hold.is_held else durable_client.resume
        if not all([await tell(client, instance_id) for instance_id in hold.instances]):
            log.info("not everything of session %s could be told; the sweep will", session_id)
            return
        if await rows.settle_hold(session_id, hold.version):
            return
