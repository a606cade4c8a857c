"""The task hubs of a database: `python -m shared.adapters.sql.hubs [adopt HUB [BY]]`, with POSTGRES_URL set.

Implements no port: a command.

Without arguments it lists them. `adopt` gives the open turns of a hub that nobody serves any more to another one, whose
sweep starts them again from what is stored of them. docs/operations.md says when.

Invariant: a hub that is served is never given up, and no turn changes its hub by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
from psycopg.rows import class_row

from shared.adapters.postgres.hubs import HUBS, at
from shared.durable.hub import HubFound

_USAGE = "usage: hubs [adopt HUB [BY]]"


def overview(connection: psycopg.Connection) -> list[HubFound]:
    """All hubs, the one that was seen last first."""
    with connection.cursor(row_factory=class_row(HubFound)) as cursor:
        return cursor.execute(HUBS["hubs"], at(datetime.now(UTC))).fetchall()


def adopt(url: str, hub: str, *, by: str | None = None) -> tuple[str, int]:
    """Give the open turns of `hub` to the hub `by`, and give `hub` up: what it still holds counts as gone.

    by: None for the only one that is served. Returns it, and how many turns there were. Raises ValueError, with a
    sentence for the operator.
    """
    with psycopg.connect(url) as connection:
        hubs = {one.id: one for one in overview(connection)}
        served = [one.id for one in hubs.values() if one.is_served]
        if hub not in hubs:
            raise ValueError(f"no turn and no row names the hub {hub}")
        if hub in served:
            raise ValueError(f"the hub {hub} is served by {hubs[hub].address}: stop that, and wait for two minutes")
        if by is None and len(served) != 1:
            raise ValueError(f"{len(served)} hubs are served: name the one that is to have the turns")
        new = by or served[0]
        if new not in hubs or hubs[new].seen_at is None or new == hub:
            raise ValueError(f"{new} is no other hub that an app has worked on")
        turns = connection.execute(HUBS["adopt_turns"], {"hub": hub, "by": new}).rowcount
        connection.execute(HUBS["give_up_hub"], {"hub": hub})
    return new, turns


def main(arguments: Sequence[str]) -> int:
    url = os.environ.get("POSTGRES_URL", "")
    if not url:
        print("POSTGRES_URL is not set: the connection URL of the database", file=sys.stderr)  # noqa: T201 - a command
        return 2
    try:
        match arguments:
            case []:
                with psycopg.connect(url) as connection:
                    said = "\n".join(map(told, overview(connection))) or "no app has worked on this database"
            case ["adopt", hub, *by] if len(by) <= 1:
                new, turns = adopt(url, hub, by=by[0] if by else None)
                said = f"{turns} turns are the hub {new}'s now; its sweep starts them again"
            case _:
                print(_USAGE, file=sys.stderr)  # noqa: T201 - a command
                return 2
    except (psycopg.Error, ValueError) as exc:
        print(f"nothing was changed: {exc}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(said)  # noqa: T201 - a command
    return 0


def told(hub: HubFound) -> str:
    """One line about a hub."""
    state = "served" if hub.is_served else "NOT SERVED" if hub.is_left else "not served"
    seen = f", seen {hub.seen_at:%Y-%m-%d %H:%M:%S} UTC" if hub.seen_at else ""
    left = f"{hub.open_turns} open turns, {hub.open_erasures} erasures"
    return f"{hub.id} {hub.name} {hub.address}: {state}{seen}; {left}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
