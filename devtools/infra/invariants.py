"""What holds for every deployment, whatever its size, backend, and name; checked on evaluated resources.

Not here: what the compiler and its linter say; how a deployment may be changed (`changes.py`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from devtools.infra.compiler import Resource

DOORS = {
    "Microsoft.Cache/redisEnterprise",
    "Microsoft.CognitiveServices/accounts",
    "Microsoft.DBforPostgreSQL/flexibleServers",
    "Microsoft.DurableTask/schedulers",
    "Microsoft.KeyVault/vaults",
    "Microsoft.SignalRService/signalR",
    "Microsoft.Storage/storageAccounts",
    "Microsoft.Web/sites",
}
"""What the internet reaches unless it says otherwise; inside the network each has a private endpoint."""
TELEMETRY = {"Microsoft.Insights/components", "Microsoft.OperationalInsights/workspaces"}
"""The same, but their endpoint is that of the private link scope."""
ENTRANCES = {"Microsoft.SignalRService/signalR", "Microsoft.Web/sites"}
"""Open with `publicApp` while the rest is private."""
ALWAYS_OPEN = "publicNetworkAccessForQuery"
"""Reading logs: with a role, by people and by the alerts themselves (modules/observability/logs.bicep)."""

# What each type must say: first that keys and passwords are off, then that TLS is on.
WANTED: Mapping[str, Mapping[str, Any]] = {
    "Microsoft.Cache/redisEnterprise": {"minimumTlsVersion": "1.2"},
    "Microsoft.Cache/redisEnterprise/databases": {
        "accessKeysAuthentication": "Disabled",
        "clientProtocol": "Encrypted",
    },
    "Microsoft.CognitiveServices/accounts": {"disableLocalAuth": True},
    "Microsoft.DBforPostgreSQL/flexibleServers": {
        "authConfig.passwordAuth": "Disabled",
        "authConfig.activeDirectoryAuth": "Enabled",
    },
    "Microsoft.Insights/components": {"DisableLocalAuth": True},
    "Microsoft.KeyVault/vaults": {"enableRbacAuthorization": True, "enableSoftDelete": True},
    "Microsoft.OperationalInsights/workspaces": {"features.disableLocalAuth": True},
    "Microsoft.SignalRService/signalR": {"disableLocalAuth": True, "disableAadAuth": False},
    "Microsoft.Storage/storageAccounts": {
        "allowSharedKeyAccess": False,
        "allowBlobPublicAccess": False,
        "isLocalUserEnabled": False,
        "minimumTlsVersion": "TLS1_2",
        "supportsHttpsTrafficOnly": True,
    },
    "Microsoft.Storage/storageAccounts/blobServices/containers": {"publicAccess": "None"},
    "Microsoft.Web/sites": {"httpsOnly": True, "siteConfig.minTlsVersion": "1.2", "siteConfig.ftpsState": "Disabled"},
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"allow": False},
}

# By the last part of a property's path. Source: the type descriptions in github.com/Azure/bicep-types-az.
VALUES: Mapping[str, str] = {
    "ingestionAccessMode|queryAccessMode": "Open|PrivateOnly",
    "allow": "ClientConnection|RESTAPI",
    "Application_Type": "web",
    "autoGrow|geoRedundantBackup|highAvailability|privateEndpointNetworkPolicies": "Enabled|Disabled",
    "bypass": "AzureServices|None",
    "clusteringPolicy": "EnterpriseCluster|NoCluster|OSSCluster",
    "criterionType": "StaticThresholdCriterion",
    "defaultAction": "Allow|Deny",
    "evictionPolicy": "NoEviction|(?:AllKeys|Volatile)(?:LFU|LRU|Random)|VolatileTTL",
    "flag": "EnableConnectivityLogs|EnableLiveTrace|EnableMessagingLogs|ServiceMode",
    "mode": "Disabled|SameZone|ZoneRedundant",
    "operator": "GreaterThan|GreaterThanOrEqualTo",
    "principalType": "Group|ServicePrincipal|User",
    "publicNetworkAccess|publicNetworkAccessForIngestion|publicNetworkAccessForQuery": "Enabled|Disabled",
    "thresholdType": "Actual|Forecasted",
    "tier": "Burstable|FlexConsumption|GeneralPurpose|MemoryOptimized",
    "timeAggregation": "Average|Count|Maximum|Minimum|Total",
    "timeGrain": "Annually|Monthly|Quarterly",
    "unauthenticatedClientAction": "RedirectToLoginPage|Return401|Return403",
    "versionUpgradeOption": "NoAutoUpgrade",
}
"""Lists that Azure calls open: the compiler takes any text for them."""

_WORDS = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
NAMES: Mapping[str, tuple[int, int, str]] = {
    "Microsoft.Cache/redisEnterprise": (1, 60, rf"(?!.*--){_WORDS}"),
    "Microsoft.CognitiveServices/accounts": (2, 64, _WORDS),
    "Microsoft.Consumption/budgets": (1, 63, r"[\w-]+"),
    "Microsoft.DBforPostgreSQL/flexibleServers": (3, 63, r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"),
    "Microsoft.DurableTask/schedulers": (3, 64, r"[A-Za-z0-9-]+"),
    "Microsoft.Insights/actionGroups": (1, 260, r"[^*#&+:<>?@%{}\\/|]*[^*#&+:<>?@%{}\\/| .]"),
    "Microsoft.Insights/components": (1, 260, r"[\w().-]*[\w()-]"),
    "Microsoft.Insights/metricAlerts": (1, 260, r"[^*#&+:<>?@%{}\\/|]*[^*#&+:<>?@%{}\\/| .]"),
    "Microsoft.Insights/scheduledQueryRules": (1, 260, r"[^*<>%{}&:\\?/#|]*[^*<>%{}&:\\?/#| .]"),
    "Microsoft.KeyVault/vaults": (3, 24, rf"(?!.*--)(?=[A-Za-z]){_WORDS}"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": (3, 128, r"[A-Za-z0-9][\w-]*"),
    # The suffix of storage is the cloud's own.
    "Microsoft.Network/privateDnsZones": (1, 253, rf"privatelink(?:\.{_WORDS})+|\[format\('privatelink\..+\)\]"),
    "Microsoft.Network/privateEndpoints": (2, 64, r"[A-Za-z0-9](?:[\w.-]*\w)?"),
    "Microsoft.Network/virtualNetworks": (2, 64, r"[A-Za-z0-9](?:[\w.-]*\w)?"),
    "Microsoft.OperationalInsights/workspaces": (4, 63, _WORDS),
    "Microsoft.Resources/resourceGroups": (1, 90, r"[\w().-]*[\w()-]"),
    "Microsoft.SignalRService/signalR": (3, 63, rf"(?=[A-Za-z]){_WORDS}"),
    "Microsoft.Storage/storageAccounts": (3, 24, r"[a-z0-9]+"),
    "Microsoft.Web/serverfarms": (1, 60, r"[A-Za-z0-9-]+"),
    "Microsoft.Web/sites": (2, 60, _WORDS),
    "Microsoft.Insights/privateLinkScopes": (1, 255, r"[\w().-]*[\w()-]"),
}
"""Shortest, longest, and form of the names that a deployment makes up. Source: Learn, "Naming rules and restrictions
for Azure resources"; the Scheduler's and the scope's from their API descriptions."""


def faults(resources: list[Resource], *, private: bool, public_app: bool = False) -> list[str]:
    """Everything that is wrong with a deployment, one line each."""
    found = [
        f"{identity}: {count} resources of one id"
        for identity, count in Counter(str(resource["id"]).lower() for resource in resources).items()
        if count > 1
    ]
    for resource in resources:
        open_door = not private or (public_app and resource["type"] in ENTRANCES)
        rules = (
            _name(resource),
            _settings(resource),
            _values(resource),
            _texts(resource),
            _network(resource, open_door),
        )
        found += [f"{resource['type']} {resource['name']}: {line}" for rule in rules for line in rule]
    return found + list(_endpoints(resources, private=private))


def clocks(template: Mapping[str, Any]) -> list[str]:
    """Functions in a compiled template whose value differs from one deployment to the next."""
    return sorted(set(re.findall(r"\b(utcNow|newGuid)\(", json.dumps(template))))


def at(resource: Resource, path: str) -> Any:
    """A value below a resource's `properties`; None if there is none."""
    value: Any = resource.get("properties", {})
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _name(resource: Resource) -> Iterator[str]:
    kind, name = str(resource["type"]), str(resource["name"])
    if kind in NAMES:
        least, most, form = NAMES[kind]
        if not (least <= len(name) <= most and re.fullmatch(form, name)):
            yield f"no name for it: {least} to {most} characters of {form}"
    elif kind.count("/") == 1 and not kind.endswith(("/roleAssignments", "/diagnosticSettings")):
        yield "NAMES has no rule for its name"


def _settings(resource: Resource) -> Iterator[str]:
    for path, wanted in WANTED.get(resource["type"], {}).items():
        if at(resource, path) != wanted:
            yield f"{path} is {at(resource, path)!r}, not {wanted!r}"


def _values(resource: Resource) -> Iterator[str]:
    for path, value in _walk(resource):
        key = re.sub(r"\[\d+\]$", "", path).rpartition(".")[2]
        for keys, values in VALUES.items() if isinstance(value, str) else ():
            if re.fullmatch(keys, key) and not re.fullmatch(values, value):
                yield f"{path} is {value!r}, not {values}"


def _texts(resource: Resource) -> Iterator[str]:
    """Keys that are read at deployment, and addresses without TLS, wherever they stand."""
    for path, value in _walk(resource):
        if isinstance(value, str):
            if re.search(r"\blist[A-Z]\w*\(|(?:Account|Access|Shared)Key=", value):
                yield f"{path} holds a key"
            if re.search(r"\b(?:http|redis|ws|amqp)://|sslmode=(?!verify-full)", value):
                yield f"{path} goes without TLS"


def _network(resource: Resource, open_door: bool) -> Iterator[str]:
    said = False
    for path, value in _walk(resource.get("properties", {})):
        key = path.rpartition(".")[2]
        if key.startswith("publicNetworkAccess") and key != ALWAYS_OPEN:
            said = True
            if not open_door and value != "Disabled":
                yield f"{path} is {value}"
        elif isinstance(value, dict) and ("defaultAction" in value or key.lower() == "networkacls"):
            lists = [each for _, each in _walk(value) if isinstance(each, list) and each]
            if value.get("defaultAction") != "Deny" and (lists or not open_door):
                yield f"{path} allows what it does not list"
        elif key == "allowedOrigins" and "*" in value:
            yield f"{path} allows every site"
        elif key == "ipAllowlist" and not open_door and any(each.endswith("/0") for each in value):
            yield f"{path} allows every address"
    kind = resource["type"]
    if kind in DOORS | TELEMETRY and not said:
        yield "publicNetworkAccess is not said, so it is open"
    if kind.endswith("/firewallRules"):
        first, last = at(resource, "startIpAddress"), at(resource, "endIpAddress")
        if first != last:
            yield f"allows all of {first} to {last}"
        if not open_door:
            yield "a rule for public addresses"
    if kind.startswith("Microsoft.Network/") and open_door:
        yield "a network without `private`"


def _endpoints(resources: list[Resource], *, private: bool) -> Iterator[str]:
    """With `private`, everything that is closed has its way in from the network."""
    reached = {
        str(value).lower()
        for resource in resources
        for path, value in _walk(resource.get("properties", {}))
        if path.endswith(("privateLinkServiceId", "linkedResourceId"))
    }
    doors = DOORS | TELEMETRY | {"Microsoft.Insights/privateLinkScopes"}
    for resource in resources if private else ():
        if resource["type"] in doors and resource["id"].lower() not in reached:
            yield f"{resource['type']} {resource['name']}: no private endpoint leads to it"


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside, with its path."""
    yield path, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _walk(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _walk(child, f"{path}[{index}]")
