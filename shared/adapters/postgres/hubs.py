"""The task hubs that work on this database, in PostgreSQL. Implements `HubRepository`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries
from shared.durable.hub import SERVED, HubFound

HUBS = load_queries("hubs")


class PostgresHubs:
    """`HubRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def seen(self, hub_id: str, *, name: str, address: str, now: datetime) -> bool:
        """Note that an app works on a hub now. Whether the database knows no other."""
        parameters = {"hub": hub_id, "name": name, "address": address, "now": now}
        row = await self._pool.fetch_one(HUBS["note_hub"], parameters)
        assert row is not None
        return bool(row["is_only"])

    async def all(self, *, now: datetime) -> list[HubFound]:
        """By when they were seen, newest first."""
        return [HubFound(**row) for row in await self._pool.fetch_all(HUBS["hubs"], at(now))]


def at(now: datetime) -> dict[str, Any]:
    """The parameters of the query `hubs`."""
    return {"served_since": now - SERVED, "known_since": now - 5 * SERVED}
