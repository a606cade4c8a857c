"""The resources of the two deployments in `infra/snapshots`, and how to find one of them.

Invariant: they are read as they are in git; whether they are what the sources say is `tests/infra/test_compiled.py`.
"""

from __future__ import annotations

from functools import cache

from devtools.infra.compiler import Resource
from devtools.infra.deployments import COMMITTED, stored

DEV, PROD = COMMITTED
"""The names of the small public one, on storage, and of the large private one, on the Scheduler."""


@cache
def deployed(name: str) -> list[Resource]:
    """To be read, not changed."""
    return stored(name)


def all_of(name: str, kind: str) -> list[Resource]:
    return [resource for resource in deployed(name) if resource["type"] == kind]


def one(name: str, kind: str, end: str = "") -> Resource:
    """The one resource of this type whose name ends so."""
    [found] = [resource for resource in all_of(name, kind) if resource["name"].endswith(end)]
    return found


def app_settings(name: str) -> dict[str, str]:
    settings: dict[str, str] = one(name, "Microsoft.Web/sites/config", "/appsettings")["properties"]
    return settings
