"""Finds out which task hub this process works on, and keeps its row in the database.

Invariant: whatever concludes something from an instance that the hub does not know is of a turn of this very hub.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime

import azure.durable_functions as df

from activities import durable_client
from shared.composition.services import Services
from shared.ids import new_id

log = logging.getLogger("parley.hub")

_LIMIT_S = 2.0
"""Nobody waits longer for it; a turn goes without."""
_PAUSE_S = 1.0
"""Between two times that one process asks in vain."""
_LOOK_SECONDS = 0.1


async def know(app: Services, client: df.DurableOrchestrationClient, *, now: datetime) -> None:
    """Find out the hub of this process, unless it is known; a new hub is made known by the sweep. Never raises.

    now: aware UTC.
    """
    hub = app.task_hub
    if hub.id is not None:
        return
    async with hub.finding:
        if hub.id is not None or time.monotonic() - hub.asked_at < _PAUSE_S:
            return
        try:
            async with asyncio.timeout(_LIMIT_S):
                await _note(app, client, await durable_client.find_hub(client), now)
        except Exception as exc:
            log.warning("the task hub of this process is not known yet: %s: %s", type(exc).__name__, exc)
        hub.asked_at = time.monotonic()


async def serve(app: Services, client: df.DurableOrchestrationClient, *, patience_s: float, now: datetime) -> bool:
    """Look after the keeper of the hub, and note that the hub is served. False while it is not known.

    patience_s: how long a new hub may take to start its keeper.
    Raises Exception (the SDK's own) when the durable backend does not answer, and Transient.
    """
    hub = app.task_hub
    until, found, is_cut = time.monotonic() + patience_s, None, False
    while True:
        may_wait = hub.id is None and time.monotonic() < until
        try:
            found = await durable_client.find_hub(client, otherwise=hub.id or new_id(), is_cut=is_cut)
        except Exception:
            if not may_wait:
                raise
            is_cut = True
        if found is not None or not may_wait:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    await _note(app, client, found or hub.id, now)
    return hub.id is not None


async def _note(app: Services, client: df.DurableOrchestrationClient, found: str | None, now: datetime) -> None:
    if found is None:
        return
    hub = app.task_hub
    if hub.id not in {None, found}:
        log.error("the task hub of this process was %s and is %s now", hub.id, found)
    is_new = hub.id is None
    hub.is_only = await app.hubs.seen(
        found, name=durable_client.hub_name(client), address=app.settings.public_base_url, now=now
    )
    hub.id = found
    if is_new and not hub.is_only:
        await _tell_of_others(app, now)


async def _tell_of_others(app: Services, now: datetime) -> None:
    """Say to whoever starts a second stack what the first one will do, and what it has left."""
    for other in await app.hubs.all(now=now):
        if other.is_left:
            turns = f"{other.open_turns} turns and {other.open_erasures} erasures"
            log.warning("%s wait in the task hub %s of %s, which nobody serves", turns, other.id, other.address)
        elif other.is_served and other.id != app.task_hub.id:
            said = "the task hub %s of %s works on this database, too: each goes on with its own turns"
            log.warning(said, other.id, other.address)
