"""The task hub of this process, and all hubs that work on its database.

A hub's name does not tell it apart: another storage account, another Scheduler or another laptop has one of the same
name. So a hub keeps an identity in itself, as the input of an instance that waits for ever (`orchestrators/keeper.py`),
and whoever works on the hub reads it there (`activities/hub.py`).

Invariant: a process knows its hub's id only once the database has a row for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

SERVED = timedelta(minutes=2)
"""A hub that was not seen for so long is not served: the sweep that says so runs every 15 seconds."""
UNKNOWN = "unknown"
"""Stands for the hub of turns that name none and that no sweep has found."""


@dataclass(slots=True)
class TaskHub:
    """What this process knows of its hub."""

    id: str | None = None
    """None: not known yet. Turns that are dispatched then name no hub, and belong to whose sweep finds them."""
    is_only: bool = False
    """The database knows no other: what names no hub is this one's."""
    finding: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked_at: float = 0.0
    """When the durable backend was last asked for it, by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class HubFound:
    """A hub that works, or worked, on the database."""

    id: str
    name: str
    address: str
    """Where the app on it is, or was."""
    seen_at: datetime | None
    is_served: bool
    open_turns: int
    """Dispatched and not ended."""
    open_erasures: int
    """Sessions whose histories it has still to forget."""

    @property
    def is_left(self) -> bool:
        """Something waits in it, and nobody serves it."""
        return not self.is_served and self.open_turns + self.open_erasures > 0


class HubRepository(Protocol):
    async def seen(self, hub_id: str, *, name: str, address: str, now: datetime) -> bool:
        """An app works on a hub now. Whether the database knows no other."""
        ...

    async def all(self, *, now: datetime) -> list[HubFound]:
        """By when they were seen, newest first; `UNKNOWN` and hubs that were given up only where turns are left."""
        ...


def only_hub() -> TaskHub:
    """A hub without an id, of which is everything that names no hub. For stores outside the app."""
    return TaskHub(is_only=True)
