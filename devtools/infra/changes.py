"""What a change of parameters, or of `infra/`, asks of resources that exist: what Azure refuses, what stays behind.

A deployment changes and adds; it deletes nothing. infra/README.md holds the lists of the switches, and a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from devtools.infra.compiler import Resource
from devtools.infra.invariants import at


def _any(_old: Any, _new: Any) -> bool:
    return True


FIXED: Mapping[tuple[str, str], Callable[[Any, Any], bool]] = {
    # azurerm_managed_redis: "changing this forces a new Managed Redis instance".
    ("Microsoft.Cache/redisEnterprise", "highAvailability"): _any,
    # Only at creation (Learn, "Backup and restore in Azure Database for PostgreSQL").
    ("Microsoft.DBforPostgreSQL/flexibleServers", "backup.geoRedundantBackup"): _any,
    # A disk never shrinks (the same, "Storage options"; Altinn/dialogporten 4127).
    ("Microsoft.DBforPostgreSQL/flexibleServers", "storage.storageSizeGB"): lambda old, new: new < old,
    # Azure/bicep 7149.
    ("Microsoft.Consumption/budgets", "timePeriod.startDate"): _any,
    # "Once set, the retention policy interval cannot be changed"; nor protection switched off (Learn, "Soft-delete").
    ("Microsoft.KeyVault/vaults", "softDeleteRetentionInDays"): _any,
    ("Microsoft.KeyVault/vaults", "enablePurgeProtection"): lambda old, _new: bool(old),
    # Azure/bicep 10734; Learn, "Change how a storage account is replicated": a conversion is a request of its own.
    ("Microsoft.Storage/storageAccounts", "sku.name"): lambda old, new: (
        old.rpartition("_")[2] != new.rpartition("_")[2]
    ),
}
"""Properties that Azure does not change on a resource that exists, and the changes that it refuses."""


def refused(before: list[Resource], after: list[Resource]) -> set[str]:
    """Each `type property` that is different and cannot be changed in place. A name that is another is no change."""
    old = {_key(resource): resource for resource in before}
    return {
        f"{kind} {path}"
        for resource in after
        for (kind, path), refuses in FIXED.items()
        if resource["type"] == kind and _key(resource) in old
        for was, now in [(_value(old[_key(resource)], path), _value(resource, path))]
        if was != now and refuses(was, now)
    }


def left(before: list[Resource], after: list[Resource]) -> set[str]:
    """The types of the resources that a deployment no longer has, and that stay, billed or not."""
    kept = {_key(resource) for resource in after}
    return {str(resource["type"]) for resource in before if _key(resource) not in kept}


def _key(resource: Resource) -> str:
    return str(resource["id"]).lower()


def _value(resource: Resource, path: str) -> Any:
    return resource["sku"]["name"] if path == "sku.name" else at(resource, path)
