"""Suspends and resumes the orchestrations of a session as its row says.

A command is a message: the backend accepts it, and it arrives later. A resume that overtakes an earlier suspend is
refused, because the instance still runs, and then the suspend arrives. So only the state that is seen counts.

Invariant: an instance that is not as its session wants is told again, until it is seen to follow. Nobody tells what was
read longer than `TELLING_S` ago. A version is settled only when every instance follows, and when all commands of
whoever read an older one have had the time to arrive: also of one who told the same instance at the same time, and died
before it could see that it was wrong. The sweep looks at the sessions that are not settled.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import azure.durable_functions as df

from activities import durable_client
from shared.composition.services import Services

log = logging.getLogger(__name__)

ARRIVED = timedelta(seconds=60)
"""After this a command has arrived: Azure Storage's queues are polled every 30 s at least."""
TELLING_S = 20.0
"""From reading what a session wants until its instances were told; what takes longer is left to the sweep."""
_ROUNDS = 5
"""Concurrent changes of one session that are handled here; after that the sweep goes on."""


async def follow(
    services: Services, client: df.DurableOrchestrationClient, session_id: str, *, now: datetime | None = None
) -> None:
    """Suspend or resume a session's instances where they are not as it wants. Idempotent. now: aware UTC."""
    now = now or datetime.now(UTC)
    try:
        for round_number in range(_ROUNDS):
            async with asyncio.timeout(TELLING_S):
                if await _is_done(services, client, session_id, now, is_first=round_number == 0):
                    return
    except TimeoutError:
        log.warning("session %s: its orchestrations could not be told in time; the sweep will", session_id)


async def _is_done(
    services: Services, client: df.DurableOrchestrationClient, session_id: str, now: datetime, *, is_first: bool
) -> bool:
    """Read what the session wants and do it. False when it wanted something else by the end."""
    rows = services.session_rows
    hold = await rows.hold(session_id)
    # In a later round another caller may have settled it after we sent an older command: send the new one as well.
    if hold is None or (hold.is_settled and is_first):
        return True
    instances = [each for one in hold.instances for each in (one, *await durable_client.below_workflow_of(client, one))]
    if hold.told_at is not None and is_first:
        seen = [await durable_client.follows(client, instance, is_held=hold.is_held) for instance in instances]
        if all(seen):
            if now - hold.told_at >= ARRIVED + timedelta(seconds=TELLING_S):
                await rows.settle_hold(session_id, hold.version)
            return True
        log.info("session %s: %d instances are told again", session_id, seen.count(False))
    tell = durable_client.suspend if hold.is_held else durable_client.resume
    if not all([await tell(client, instance_id) for instance_id in instances]):
        log.info("not everything of session %s could be told; the sweep will", session_id)
        return True
    return await rows.told_hold(session_id, hold.version, now=now)
