"""The shop's database: one pool per process, opened by the first call that needs it."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool

from parley.tools import Setup, per_process

SECRET = "SHOP_DATABASE_URL"  # noqa: S105  # its name, not its value
"""The setting is TOOL_SECRET_SHOP_DATABASE_URL."""

type Shop = ConnectionPool[Connection[DictRow]]


@per_process(secrets=[SECRET])
def shop(setup: Setup) -> Iterator[Shop]:
    """The pool that all calls share. Raises ToolFailed when the secret is not set."""
    # Small: every instance of the app has one. The limits end what hangs before the call's own limit does.
    with ConnectionPool(
        setup.secret(SECRET),
        min_size=0,
        max_size=4,
        timeout=5,
        open=True,
        connection_class=Connection[DictRow],
        kwargs={"row_factory": dict_row, "connect_timeout": 5, "options": "-c statement_timeout=5000"},
    ) as pool:
        yield pool
