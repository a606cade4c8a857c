"""Real servers for development, started from Python packages: PostgreSQL, Valkey (Redis), Azurite.

`async with Postgres(folder) as pg: pg.url`; likewise Valkey and Azurite. See README.md beside this file.
Invariant: a server never outlives the program that started it, whatever happens to that program.

Not here: the local stack of them (`devtools/local/`).
"""

from __future__ import annotations

from devhost.servers.azurite import Azurite, AzuriteMissing
from devhost.servers.folder import owned_folder
from devhost.servers.postgres import Postgres
from devhost.servers.process import Child, Command, ServerError
from devhost.servers.supervise import Report, Server, enter_all, together
from devhost.servers.valkey import Valkey

__all__ = [
    "Azurite",
    "AzuriteMissing",
    "Child",
    "Command",
    "Postgres",
    "Report",
    "Server",
    "ServerError",
    "Valkey",
    "enter_all",
    "owned_folder",
    "together",
]
