"""Applies the numbered migrations: `python -m shared.adapters.sql.migrate`, with POSTGRES_URL set.

Implements no port: a command.

Forward-only, each file once, each in its own transaction, under one advisory lock so that two deployments cannot
interleave. Never called by a request.

Files run by number. One that arrives late, below a number that a database has already (two branches were merged), is
applied there too, so that every database ends with the same files. Files written side by side must therefore not
depend on each other; one that builds on another takes a higher number, and then always runs after it. So numbers were
given out before files were written, and some (0011 to 0016) were not needed: a gap means nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import errors

_LOCK = 0x7061726C6579  # "parley" as a number: the advisory lock every migration run takes
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"
_LOCK_TRIES = 60
_LOCK_PAUSE_S = 1.0
_NAME = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class MigrationError(Exception):
    """The database does not match the files; the message says which one."""


def migrations() -> list[Migration]:
    """The files of `migrations/`, by number."""
    return in_order(
        {
            entry.name: entry.read_text("utf-8")
            for entry in (files(__package__) / "migrations").iterdir()
            if entry.name.endswith(".sql")
        }
    )


def in_order(found: Mapping[str, str]) -> list[Migration]:
    """Files (name to SQL) by number. Raises MigrationError for a name without one, or a number given twice."""
    by_number: dict[int, Migration] = {}
    for name, text in sorted(found.items()):
        match = _NAME.fullmatch(name)
        if match is None:
            raise MigrationError(f"{name} is no name for a migration: it must be like 0007_what_it_does.sql")
        number = int(match[1])
        if number in by_number:
            raise MigrationError(f"{by_number[number].name} and {name} have the same number: give one another")
        by_number[number] = Migration(number, name, text)
    return list(by_number.values())


def migrate(url: str, known: Sequence[Migration] | None = None) -> list[str]:
    """Bring the database at `url` up to date; returns the names of what was applied now, in that order.

    known: all there are, by number; those of `migrations/` by default.
    Raises MigrationError when an applied file has since been changed, the database has one that is not known, or a
    table is held by somebody for minutes.
    """
    known = migrations() if known is None else known
    applied_now: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied: dict[int, str] = dict(connection.execute("SELECT number, digest FROM schema_migrations"))
        unknown = set(applied) - {migration.number for migration in known}
        if unknown:
            raise MigrationError(
                f"the database has migration {max(unknown)}, which this code does not know: deploy the newer code"
            )
        for migration in known:
            if migration.number in applied:
                if applied[migration.number] != migration.digest:
                    raise MigrationError(
                        f"{migration.name} was changed after it had been applied: add a new file instead"
                    )
                continue
            _apply(connection, migration)
            applied_now.append(migration.name)
    return applied_now


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    """In one transaction. A table that somebody reads for long is waited for in short turns: whoever comes after a
    migration that waits for a table waits, too."""
    for tries_left in reversed(range(_LOCK_TRIES)):
        try:
            with connection.transaction():
                connection.execute(_LOCK_TIMEOUT)
                connection.execute(migration.sql.encode())
                connection.execute(
                    "INSERT INTO schema_migrations (number, name, digest) VALUES (%s, %s, %s)",
                    [migration.number, migration.name, migration.digest],
                )
            return
        except errors.LockNotAvailable:
            if tries_left == 0:
                raise MigrationError(
                    f"{migration.name} waits for a table that a long transaction holds: end that, and run this again"
                ) from None
            time.sleep(_LOCK_PAUSE_S)


def main() -> int:
    """Command line: prints what was applied, or one line saying what is wrong."""
    url = os.environ.get("POSTGRES_URL", "")
    if not url:
        print("POSTGRES_URL is not set: the connection URL of the database to migrate", file=sys.stderr)  # noqa: T201 - a command
        return 2
    try:
        applied = migrate(url)
    except (MigrationError, psycopg.Error) as exc:
        print(f"migration failed: {exc}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print("\n".join(f"applied {name}" for name in applied) or "database is up to date")  # noqa: T201 - a command
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
