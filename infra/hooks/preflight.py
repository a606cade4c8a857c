#!/usr/bin/env python3
"""What a deployment would be refused for, said before it begins.

    preflight.py provision     values and names, what Azure has or keeps of this environment, the model
    preflight.py deploy        that the package is for the durable backend that the resources were made for

Writes nothing. A refusal is one line that ends with what to do; a notice is one line on standard output.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from azure_cli import Refused, az, end, needed

NAME_LENGTH = 40
"""Of `environmentName` in infra/main.bicep; azd allows 64."""
REQUIRED = (
    "AZURE_SUBSCRIPTION_ID",
    "AZURE_LOCATION",
    "PARLEY_AUTH_CLIENT_ID",
    "PARLEY_PRINCIPAL_NAME",
    "PARLEY_ALERT_EMAIL",
)
"""Without a default in infra/main.parameters.json. azd would ask for them, `azd provision` only after this hook, and
keep the last three where no hook finds them."""
STORAGE_SKUS = {"dev": "Standard_LRS", "prod": "Standard_ZRS"}
"""Of the two sizes. Azure turns neither into the other (https://github.com/Azure/bicep/issues/10734)."""
OF_THE_NETWORK = (
    "microsoft.insights/privatelinkscopes",
    "microsoft.network/privatednszones",
    "microsoft.network/privateendpoints",
    "microsoft.network/virtualnetworks",
)
OF_THE_SCHEDULER = ("pe-scheduler-", "privatelink.durabletask.io")
"""Names of its private endpoint and zone (infra/modules/network/private-endpoints.bicep)."""
RETIRES_SOON_DAYS = 90


def main(arguments: list[str]) -> int:
    if arguments not in (["provision"], ["deploy"]):
        sys.exit((__doc__ or "").partition("\n\n")[2].partition("\n\nWrites")[0])
    try:
        refusal = next(_refusals(arguments[0], os.environ), None)
    except Refused as error:
        refusal = str(error)
    if refusal:
        end(refusal)
    return 0


def _refusals(before: str, given: Mapping[str, str]) -> Iterator[str]:
    if before == "deploy":
        yield from _package(given)
        return
    yield from _values(given)
    group, region = f"rg-parley-{given['AZURE_ENV_NAME']}", given["AZURE_LOCATION"]
    where = ("--subscription", given["AZURE_SUBSCRIPTION_ID"])
    yield from _kept(group, where)
    if az("group", "exists", "--name", group, *where):
        yield from _existing(az("resource", "list", "--resource-group", group, *where), given)
    yield from _model(az("cognitiveservices", "model", "list", "--location", region, *where), region, given)


def _package(given: Mapping[str, str]) -> Iterator[str]:
    wanted, made = given.get("PARLEY_DURABLE_BACKEND") or "scheduler", given.get("DURABLE_BACKEND", "")
    if made and made != wanted:
        yield (
            f"PARLEY_DURABLE_BACKEND is {wanted}, and the resources were made for {made}: `azd provision` first, "
            f"or `azd env set PARLEY_DURABLE_BACKEND {made}`"
        )


def _values(given: Mapping[str, str]) -> Iterator[str]:
    (name,) = needed("AZURE_ENV_NAME")
    if len(name) > NAME_LENGTH or name.endswith("."):
        why = "ends in a dot" if name.endswith(".") else f"has {len(name)} characters, {NAME_LENGTH} are allowed"
        yield f"the environment's name {why}, and it becomes the resource group's: `azd env new` another one"
    size = given.get("PARLEY_SIZE") or "dev"
    if size not in STORAGE_SKUS:
        yield f"PARLEY_SIZE is {size!r}: `azd env set PARLEY_SIZE dev` or `prod`"
    missing = [each for each in REQUIRED if not given.get(each)]
    if missing:
        yield f"not set: {', '.join(missing)}; infra/README.md says how to get them: `azd env set NAME VALUE`"
    if re.fullmatch(r"(\d{4}-\d{2}-01)?", given.get("PARLEY_BUDGET_START", "")) is None:
        yield "PARLEY_BUDGET_START is not the first day of a month, such as 2027-01-01"


def _kept(group: str, where: tuple[str, ...]) -> Iterator[str]:
    """What still holds the names of this environment after its deletion."""
    inside = f"/resourcegroups/{group}/".lower()
    for vault in az("keyvault", "list-deleted", "--resource-type", "vault", *where):
        told: dict[str, Any] = vault["properties"]
        if inside in told["vaultId"].lower():
            place = f"--name {vault['name']} --location {told['location']}"
            recover = f"`az group create -n {group} -l {told['location']} && az keyvault recover {place}` takes it back"
            purge = f"nobody can purge it before {told['scheduledPurgeDate'][:10]}; or deploy under another name"
            if not told.get("purgeProtectionEnabled"):
                purge = f"`az keyvault purge {place}` frees its name"
            yield f"the vault {vault['name']} of this environment was deleted and not purged: {recover}; {purge}"
    for account in az("cognitiveservices", "account", "list-deleted", *where):
        if inside in account["id"].lower():
            which = f"--name {account['name']} --resource-group {group} --location {account['location']}"
            yield (
                f"the model account {account['name']} of this environment was deleted and not purged: "
                f"`az cognitiveservices account purge {which}`; it holds nothing that a new one lacks"
            )


def _existing(resources: list[dict[str, Any]], given: Mapping[str, str]) -> Iterator[str]:
    size = given.get("PARLEY_SIZE") or "dev"
    kinds = [(str(each["type"]).lower(), each) for each in resources]
    for kind, account in kinds:
        sku = (account.get("sku") or {}).get("name")
        if kind == "microsoft.storage/storageaccounts" and sku != STORAGE_SKUS[size]:
            made = next((each for each, name in STORAGE_SKUS.items() if name == sku), "another size")
            yield (
                f"this environment is {made} ({account['name']} is {sku}), which Azure does not make {size} in place: "
                f"`azd env set PARLEY_SIZE {made}`, or make a second environment with `azd env new`"
            )
    # A deployment removes nothing that is no longer in its templates.
    private = (given.get("PARLEY_PRIVATE") or str(size == "prod")).lower() == "true"
    storage = given.get("PARLEY_DURABLE_BACKEND") == "storage"
    for kind, each in kinds:
        of_the_scheduler = kind == "microsoft.durabletask/schedulers" or each["name"].startswith(OF_THE_SCHEDULER)
        if (kind in OF_THE_NETWORK and not private) or (of_the_scheduler and storage):
            print(
                f"preflight: {each['name']} is no part of this deployment; it stays, and is billed if it has a price, "
                f"until you delete it, once nothing uses it: az resource delete --ids {each['id']}"
            )


def _model(offered: list[dict[str, Any]], region: str, given: Mapping[str, str]) -> Iterator[str]:
    name = given.get("PARLEY_MODEL_NAME") or "gpt-5.4"
    version = given.get("PARLEY_MODEL_VERSION") or "2026-03-05"
    sku = given.get("PARLEY_MODEL_SKU") or "GlobalStandard"
    found = [
        each["model"]
        for each in offered
        if each["kind"] == "OpenAI" and (each["model"]["name"], each["model"]["version"]) == (name, version)
    ]
    if not any(each["name"] == sku for model in found for each in model.get("skus") or []):
        yield (
            f"{region} does not offer {name} {version} as {sku}: `az cognitiveservices model list -l {region}` tells "
            "what it does; set PARLEY_MODEL_NAME, PARLEY_MODEL_VERSION, PARLEY_MODEL_SKU"
        )
    date = str((found[0].get("deprecation") or {}).get("inference") or "") if found else ""
    if date and (datetime.fromisoformat(date).astimezone(UTC) - datetime.now(UTC)).days < RETIRES_SOON_DAYS:
        print(f"preflight: {name} {version} retires on {date[:10]}: choose another one (docs/operations.md)")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
