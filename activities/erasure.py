"""Erasing a session: the database, the other stores, then the durable histories of its turns. Safe to repeat."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import azure.durable_functions as df

from activities import durable_client
from activities.suspending import ARRIVED
from shared.composition.services import Services
from shared.principal import Principal

log = logging.getLogger(__name__)

_CHILDREN_AT_ONCE = 50
_INSTANCES_AT_ONCE = 200
"""Instances purged per call; for a very long session the sweep does the rest."""


async def _erase_children(everything: Services, client: df.DurableOrchestrationClient, session_id: str) -> None:
    """Those of its subagents, each an erasure of its own. Found by the session's id also when its rows are gone."""
    while children := await everything.child_rows.of_session(session_id, limit=_CHILDREN_AT_ONCE):
        for child_id, owner_id in children:
            mark, _ = await everything.erasure.mark(child_id, Principal(owner_id, frozenset()), if_match=None)
            if mark is not None:
                await durable_client.interrupt(client, mark.interruption)
            await erase(everything, client, child_id)


async def erase(everything: Services, client: df.DurableOrchestrationClient, session_id: str) -> bool:
    """Do the remaining steps of a stored erasure. False when some are left, which the sweep then does."""
    erasing = everything.erasure
    await _erase_children(everything, client, session_id)
    found = await erasing.erase_stores(session_id)
    if found is None:
        return True
    erasure, stores_forgot = found
    now = datetime.now(UTC)
    may_arrive = erasure.told_at is not None and now - erasure.told_at < ARRIVED
    gone, was_told = await durable_client.erase(client, erasure.instances[:_INSTANCES_AT_ONCE], may_arrive=may_arrive)
    if was_told:
        await erasing.told(session_id, now=now)
    finished = await erasing.finish(erasure, gone, stores_forgot=stores_forgot)
    if not finished:
        left = len(erasure.instances) - len(gone)
        log.info("session %s is not erased everywhere yet; %d durable instances are left", session_id, left)
    return finished
