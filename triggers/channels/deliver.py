"""Empties the outboxes of webhooks and of cards, as a part of the sweep's timer: a timer of its own would be one more
instance with connections to the database. Every part of a run may be cut and run again."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from shared.composition.services import Services
from shared.errors import Transient

log = logging.getLogger("parley.deliver")

BEGIN_SECONDS = 4
"""No batch begins later in a run. It and the longest try together stay below the time between two sweeps."""


async def empty_outboxes(app: Services) -> None:
    """Send the webhooks and cards that are due, and forget deliveries of long ago. Logs what fails, raises nothing."""
    until = time.monotonic() + BEGIN_SECONDS
    await _empty("cards", app.cards.deliver, until)
    await _empty("webhooks", app.webhook_deliverer.deliver, until)
    if datetime.now(UTC).minute == 0:
        await _empty("old deliveries", app.webhook_deliverer.forget, until)


async def _empty(name: str, batch: Callable[..., Awaitable[int]], until: float) -> None:
    try:
        while time.monotonic() < until and await batch(now=datetime.now(UTC)):
            pass
    except Transient as exc:
        log.warning("%s wait for the next run: %s", name, exc)
    except Exception:
        log.exception("%s wait for the next run", name)
