"""After a restore to an earlier instant: `python -m shared.adapters.sql.restored`, with POSTGRES_URL set.

Implements no port: a command.

Event numbers given since that instant are known to clients and to Redis, and the rows do not know of them any more. So
every session goes on far above: clients see a hole, and read the session again. Run it once, before the app starts.
"""

from __future__ import annotations

import os
import sys

import psycopg

JUMP = 1_000_000
"""More numbers than a session can have been given since a backup that is worth restoring."""


def move_numbers(url: str) -> int:
    """Let every session's next event be numbered JUMP above what its row says; how many sessions there are."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "UPDATE sessions SET event_seq_floor = event_seq_ceiling + %(jump)s,"
            " event_seq_ceiling = event_seq_ceiling + %(jump)s",
            {"jump": JUMP},
        ).rowcount


def main() -> int:
    url = os.environ.get("POSTGRES_URL", "")
    if not url:
        print("POSTGRES_URL is not set: the connection URL of the restored database", file=sys.stderr)  # noqa: T201 - a command
        return 2
    try:
        moved = move_numbers(url)
    except psycopg.Error as exc:
        print(f"nothing was changed: {exc}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(f"the events of {moved} sessions go on above all that were given")  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
