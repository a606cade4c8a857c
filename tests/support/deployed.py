"""The resources of the two deployments in `infra/snapshots`, and how to find one of them.

Invariant: they are read as they are in git; whether they are what the sources say is `tests/infra/test_compiled.py`.
"""

from __future__ import annotations

from functools import cache

from devtools.infra.compiler import Resource
from devtools.infra.deployments import COMMITTED, FOLDER, stored

DEV, PROD = COMMITTED
"""The names of the small public one, on storage, and of the large private one, on the Scheduler."""


@cache
def deployed(name: str) -> list[Resource]:
    """To be read, not changed."""
    return stored(name)


def all_of(deployment: str | list[Resource], kind: str) -> list[Resource]:
    resources = deployed(deployment) if isinstance(deployment, str) else deployment
    return [resource for resource in resources if resource["type"] == kind]


def one(deployment: str | list[Resource], kind: str, end: str = "") -> Resource:
    """The one resource of this type whose name ends so."""
    [found] = [resource for resource in all_of(deployment, kind) if resource["name"].endswith(end)]
    return found


def app_settings(deployment: str | list[Resource]) -> dict[str, str]:
    settings: dict[str, str] = one(deployment, "Microsoft.Web/sites/config", "/appsettings")["properties"]
    return settings


USER_CONNECTIONS = {"Standard_B1ms": 35, "Standard_B2s": 414, "Standard_D4ds_v5": 1_703}
"""What a server lets users open: Learn, "Limits in Azure Database for PostgreSQL flexible server"."""


FOR_PEOPLE = 2
"""Connections left for a migration, or somebody who looks."""


def spare_connections(deployment: str | list[Resource]) -> int:
    """What the database has left when every instance there can be has filled its pool."""
    scale = one(deployment, "Microsoft.Web/sites")["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    triggers = "".join(path.read_text("utf-8") for path in (FOLDER.parent / "triggers").rglob("*.py"))
    # Flex Consumption counts the maximum for each group that scales by itself, beside what is always ready: HTTP,
    # durable, and each timer, which runs once at a time. A pool is a process's, and an instance has one process.
    ready = sum(group["instanceCount"] for group in scale["alwaysReady"])
    instances = 2 * scale["maximumInstanceCount"] + ready + triggers.count(".timer_trigger(")
    sku = one(deployment, "Microsoft.DBforPostgreSQL/flexibleServers")["sku"]["name"]
    return USER_CONNECTIONS[sku] - instances * int(app_settings(deployment)["POSTGRES_POOL_SIZE"])
