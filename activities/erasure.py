"""Erasing a session: the database, the other stores, then the durable histories of its turns. Safe to repeat."""

from __future__ import annotations

import logging

import azure.durable_functions as df

from activities import durable_client
from shared.composition.services import Services

log = logging.getLogger(__name__)

_INSTANCES_AT_ONCE = 200
"""Instances purged by one caller; the sweep does the rest of a very long session."""


async def erase(everything: Services, client: df.DurableOrchestrationClient, session_id: str) -> bool:
    """Do all that is left of an erasure on record. False when something must wait; the sweep then goes on."""
    lifecycle = everything.lifecycle
    found = await lifecycle.erase_stores(session_id)
    if found is None:
        return True
    erasure, stores_forgot = found
    gone = await durable_client.erase(client, erasure.instances[:_INSTANCES_AT_ONCE])
    finished = await lifecycle.finish_erasure(erasure, gone, stores_forgot=stores_forgot)
    if not finished:
        left = len(erasure.instances) - len(gone)
        log.info("session %s is not erased everywhere yet; %d durable instances are left", session_id, left)
    return finished
