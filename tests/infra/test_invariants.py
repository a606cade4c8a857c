"""What holds for every deployment, and that each rule fails for what it forbids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from devtools.infra.deployments import COMMITTED
from devtools.infra.invariants import DOORS, NAMES, TELEMETRY, VALUES, WANTED, at, clocks, faults
from tests.support.deployed import DEV, PROD, all_of, deployed

STORAGE, APP, POSTGRES = (
    "Microsoft.Storage/storageAccounts",
    "Microsoft.Web/sites",
    "Microsoft.DBforPostgreSQL/flexibleServers",
)
SCHEDULER, SIGNALR, VAULT = (
    "Microsoft.DurableTask/schedulers",
    "Microsoft.SignalRService/signalR",
    "Microsoft.KeyVault/vaults",
)


def _broken(name: str, kind: str, path: str, value: Any) -> list[str]:
    """The faults of a deployment after one change: `path` of the first resource of a type, from the resource's top."""
    resources = deepcopy(deployed(name))
    place: Any = next(resource for resource in resources if resource["type"] == kind)
    *way, last = path.split(".")
    for part in way:
        place = place.setdefault(part, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return faults(resources, private=COMMITTED[name].private)


@pytest.mark.parametrize("name", COMMITTED)
def test_nothing_is_wrong_with_what_is_in_git(name: str) -> None:
    assert faults(deployed(name), private=COMMITTED[name].private) == []


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, wanted in WANTED.items() for path in wanted], ids=lambda part: part
)
def test_a_key_that_is_on_and_a_door_without_tls_are_seen(kind: str, path: str) -> None:
    for name in COMMITTED:
        assert _broken(name, kind, f"properties.{path}", None) != [], "left out"
        assert _broken(name, kind, f"properties.{path}", "another") != []


@pytest.mark.parametrize("kind", sorted(DOORS | TELEMETRY))
def test_an_open_door_is_seen_when_private(kind: str) -> None:
    door = all_of(PROD, kind)[0]
    path = {POSTGRES: "network.publicNetworkAccess"}.get(kind, "publicNetworkAccess")
    path = f"{path}ForIngestion" if kind in TELEMETRY else path
    assert at(door, path) == "Disabled"

    assert any("is Enabled" in line for line in _broken(PROD, kind, f"properties.{path}", "Enabled"))
    assert any("is not said" in line for line in _broken(PROD, kind, f"properties.{path}", None))


def test_a_closed_door_without_a_private_endpoint_is_seen() -> None:
    ways_in = ("/privateEndpoints", "/scopedResources")
    found = faults([one for one in deployed(PROD) if not one["type"].endswith(ways_in)], private=True)

    assert {line.split()[0] for line in found} == DOORS | TELEMETRY | {"Microsoft.Insights/privateLinkScopes"}
    assert all("no private endpoint" in line for line in found)


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_a_name_that_azure_refuses_is_seen(kind: str) -> None:
    def is_refused(name: str) -> bool:
        return any("no name for it" in line for line in _broken(PROD, kind, "name", name))

    assert is_refused("x" * 300)
    assert is_refused("")
    assert any(is_refused(name) for name in ("-a-", "a b", "a%", "a."))


@pytest.mark.parametrize(
    ("name", "kind", "path", "value", "said"),
    [
        (
            DEV,
            STORAGE,
            "properties.networkAcls",
            {"ipRules": [{"value": "203.0.113.7"}]},
            "allows what it does not list",
        ),
        (DEV, VAULT, "properties.networkAcls.ipRules", [{"value": "203.0.113.7"}], "allows what it does not list"),
        (DEV, SIGNALR, "properties.networkACLs.defaultAction", "Allow", "allows what it does not list"),
        (PROD, VAULT, "properties.networkAcls.defaultAction", "Allow", "allows what it does not list"),
        (PROD, STORAGE, "properties.networkAcls", {}, "allows what it does not list"),
        (PROD, SCHEDULER, "properties.ipAllowlist", ["0.0.0.0/0"], "allows every address"),
        (DEV, f"{POSTGRES}/firewallRules", "properties.endIpAddress", "255.255.255.255", "allows all of 0.0.0.0"),
        (DEV, APP, "properties.siteConfig.cors.allowedOrigins", ["*"], "allows every site"),
        (DEV, APP, "type", "Microsoft.Network/virtualNetworks", "a network without `private`"),
        (PROD, APP, "type", f"{POSTGRES}/firewallRules", "a rule for public addresses"),
        (DEV, APP, "type", "Microsoft.New/things", "NAMES has no rule"),
        (DEV, f"{APP}/config", "properties.X", "[listKeys('GROUP/x', '2025-06-01').keys[0].value]", "holds a key"),
        (DEV, f"{APP}/config", "properties.X", "Endpoint=https://x;AccessKey=k", "holds a key"),
        (DEV, f"{APP}/config", "properties.REDIS_URL", "redis://x:10000", "goes without TLS"),
        (DEV, f"{APP}/config", "properties.POSTGRES_URL", "postgresql://x/y?sslmode=require", "goes without TLS"),
    ],
)
def test_what_is_forbidden_is_seen(name: str, kind: str, path: str, value: Any, said: str) -> None:
    found = _broken(name, kind, path, value)

    assert any(said in line for line in found), found


@pytest.mark.parametrize("keys", VALUES)
def test_a_value_that_azure_does_not_know_is_seen(keys: str) -> None:
    name, value = next(
        (name, value) for name in COMMITTED for resource in deployed(name) for value in _texts_of(resource, keys)
    )
    misspelt = json.loads(json.dumps(deployed(name)).replace(f'"{value}"', f'"{value}d"'))

    assert any(f"is '{value}d', not" in line for line in faults(misspelt, private=COMMITTED[name].private))


def _texts_of(value: Any, keys: str, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _texts_of(child, keys, name)
    elif isinstance(value, list):
        for child in value:
            yield from _texts_of(child, keys, key)
    elif isinstance(value, str) and re.fullmatch(keys, key):
        yield value


def test_two_resources_of_one_id_are_seen() -> None:
    twice = {**deployed(DEV)[5], "id": deployed(DEV)[5]["id"].upper()}

    assert any("2 resources of one id" in line for line in faults([*deployed(DEV), twice], private=False))


def test_with_a_public_app_only_the_app_and_its_live_events_are_open() -> None:
    resources = deepcopy(deployed(PROD))
    for resource in resources:
        for place in (resource.get("properties", {}), resource.get("properties", {}).get("network", {})):
            if "publicNetworkAccess" in place:
                place["publicNetworkAccess"] = "Enabled"

    closed = {line.split()[0] for line in faults(resources, private=True, public_app=True)}
    assert closed == DOORS - {APP, SIGNALR}


def test_a_clock_in_a_template_is_seen() -> None:
    assert clocks({"parameters": {"now": {"defaultValue": "[utcNow('yyyy-MM-01')]"}}}) == ["utcNow"]
    assert clocks({"resources": [{"name": "[newGuid()]"}]}) == ["newGuid"]
