"""What a deployment would be refused for is said before it begins, in one line that ends with what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.infra.hooks.cloud import MODEL, ROOT, SUBSCRIPTION, Cloud, lines_that_never_ran, refusal

HOOK = "preflight.py"
PROVIDERS = f"/subscriptions/{SUBSCRIPTION}/providers"
VAULT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG-parley-test/providers/Microsoft.KeyVault/vaults/kv-parley-x"


def passes(cloud: Cloud, **more: str) -> str:
    """What a run that refuses nothing prints."""
    done = cloud.run(HOOK, "provision", **more)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(cloud: Cloud, **more: str) -> str:
    return refusal(cloud.run(HOOK, "provision", **more))


def deleted_vault(*, protected: bool) -> dict[str, Any]:
    """By https://learn.microsoft.com/rest/api/keyvault/keyvault/vaults/list-deleted"""
    return {
        "id": f"{PROVIDERS}/Microsoft.KeyVault/locations/swedencentral/deletedVaults/kv-parley-x",
        "name": "kv-parley-x",
        "type": "Microsoft.KeyVault/deletedVaults",
        "properties": {
            "vaultId": VAULT,
            "location": "swedencentral",
            "deletionDate": "2026-11-01T00:00:00+00:00",
            "scheduledPurgeDate": "2027-01-30T00:00:00+00:00",
            "purgeProtectionEnabled": protected or None,
        },
    }


def test_the_first_and_the_second_deployment_pass(cloud: Cloud) -> None:
    assert passes(cloud) == ""
    cloud.resource("Microsoft.Storage/storageAccounts", "stparleyx", sku="Standard_LRS")
    cloud.resource("Microsoft.DurableTask/schedulers", "dts-parley-x")
    assert passes(cloud) == ""
    assert all(f"--subscription {SUBSCRIPTION}" in line for line in cloud.asked), "not whichever az has chosen"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"AZURE_ENV_NAME": "n" * 41}, "has 41 characters, 40 are allowed"),
        ({"AZURE_ENV_NAME": "test."}, "ends in a dot"),
        ({"PARLEY_SIZE": "large"}, "PARLEY_SIZE is 'large'"),
        (
            {"PARLEY_AUTH_CLIENT_ID": "", "PARLEY_ALERT_EMAIL": ""},
            "not set: PARLEY_AUTH_CLIENT_ID, PARLEY_ALERT_EMAIL;",
        ),
        ({"PARLEY_BUDGET_START": "2027-01-15"}, "not the first day of a month"),
        ({"AZURE_LOCATION": ""}, "not set: AZURE_LOCATION"),
        ({"AZURE_ENV_NAME": ""}, "not set: AZURE_ENV_NAME"),
    ],
)
def test_values_are_looked_at_without_asking_azure(cloud: Cloud, given: dict[str, str], told: str) -> None:
    assert told in refused(cloud, **given)
    assert cloud.asked == []


def test_the_longest_name_and_the_first_of_a_month_pass(cloud: Cloud) -> None:
    passes(cloud, AZURE_ENV_NAME="n" * 40, PARLEY_BUDGET_START="2027-01-01")
    main = (ROOT / "infra/main.bicep").read_text("utf-8")
    assert "@maxLength(40)\nparam environmentName" in main


def test_it_looks_for_the_names_that_the_templates_give(cloud: Cloud) -> None:
    passes(cloud)
    assert "group exists --name rg-parley-test" in " ".join(cloud.asked)
    assert "name: 'rg-parley-${environmentName}'" in (ROOT / "infra/main.bicep").read_text("utf-8")
    endpoints = (ROOT / "infra/modules/network/private-endpoints.bicep").read_text("utf-8")
    assert (
        "name: 'scheduler', target: schedulerId, part: 'scheduler', zones: ['privatelink.durabletask.io']" in endpoints
    )
    assert "name: 'pe-${entry.name}-${token}'" in endpoints


def test_it_asks_for_what_has_no_default(cloud: Cloud) -> None:
    needed = set(re.findall(r"\$\{((?:PARLEY|AZURE_L)\w+)\}", (ROOT / "infra/main.parameters.json").read_text("utf-8")))
    told = refused(cloud, **dict.fromkeys(needed, ""))
    assert {name for name in needed if name in told} == needed


@pytest.mark.parametrize(("made", "wanted"), [("dev", "prod"), ("prod", "dev")])
def test_a_size_does_not_change_in_place(cloud: Cloud, made: str, wanted: str) -> None:
    cloud.resource(
        "Microsoft.Storage/storageAccounts", "stx", sku={"dev": "Standard_LRS", "prod": "Standard_ZRS"}[made]
    )
    told = refused(cloud, PARLEY_SIZE=wanted)
    assert f"this environment is {made}" in told
    assert f"`azd env set PARLEY_SIZE {made}`, or make a second environment" in told
    passes(cloud, PARLEY_SIZE=made)
    main = (ROOT / "infra/main.bicep").read_text("utf-8")
    assert f"storageSku: '{'Standard_LRS' if made == 'dev' else 'Standard_ZRS'}'" in main.split(f"\n  {made}: {{")[1]


def test_an_account_of_neither_size_is_named(cloud: Cloud) -> None:
    cloud.resource("Microsoft.Storage/storageAccounts", "stx", sku="Standard_GRS")
    assert "this environment is another size (stx is Standard_GRS)" in refused(cloud)


@pytest.mark.parametrize("protected", [False, True])
def test_a_vault_that_was_deleted_and_not_purged_is_taken_back_or_purged(cloud: Cloud, protected: bool) -> None:
    cloud.state["deleted_vaults"] = [deleted_vault(protected=protected)]
    told = refused(cloud)
    assert "az keyvault recover --name kv-parley-x --location swedencentral` takes it back" in told
    assert ("az keyvault purge --name kv-parley-x --location swedencentral" in told) is not protected
    assert ("nobody can purge it before 2027-01-30; or deploy under another name" in told) is protected
    assert "az resource" not in " ".join(cloud.asked), "nothing else was looked at"


def test_a_model_account_that_was_deleted_and_not_purged_is_purged(cloud: Cloud) -> None:
    where = f"{PROVIDERS}/Microsoft.CognitiveServices/locations/swedencentral"
    account = f"{where}/resourceGroups/rg-parley-test/deletedAccounts/oai-parley-x"
    cloud.state["deleted_accounts"] = [{"id": account, "name": "oai-parley-x", "location": "swedencentral"}]
    which = "--name oai-parley-x --resource-group rg-parley-test --location swedencentral"
    assert f"`az cognitiveservices account purge {which}`" in refused(cloud)


def test_what_another_environment_deleted_is_no_matter(cloud: Cloud) -> None:
    vault = deleted_vault(protected=True)
    vault["properties"]["vaultId"] = VAULT.replace("parley-test", "parley-test2")
    cloud.state["deleted_vaults"] = [vault]
    account = f"{PROVIDERS}/Microsoft.CognitiveServices/locations/l/resourceGroups/other/deletedAccounts/x"
    cloud.state["deleted_accounts"] = [{"id": account, "name": "x", "location": "l"}]
    passes(cloud)


def test_what_a_switch_leaves_behind_is_listed_and_not_refused(cloud: Cloud) -> None:
    cloud.resource("Microsoft.Storage/storageAccounts", "stx", sku="Standard_LRS")
    scheduler = cloud.resource("Microsoft.DurableTask/schedulers", "dts-parley-x")
    network = cloud.resource("Microsoft.Network/virtualNetworks", "vnet-parley-x")
    cloud.resource("Microsoft.Network/privateDnsZones", "privatelink.vaultcore.azure.net")
    endpoint = cloud.resource("Microsoft.Network/privateEndpoints", "pe-scheduler-x")

    assert passes(cloud, PARLEY_PRIVATE="true") == ""
    told = passes(cloud, PARLEY_PRIVATE="true", PARLEY_DURABLE_BACKEND="storage").splitlines()
    assert len(told) == 2
    assert f"az resource delete --ids {scheduler['id']}" in told[0]
    assert f"az resource delete --ids {endpoint['id']}" in told[1]
    told = passes(cloud).splitlines()
    assert len(told) == 3
    assert f"az resource delete --ids {network['id']}" in told[0]


def test_prod_is_private_unless_it_is_opened(cloud: Cloud) -> None:
    cloud.resource("Microsoft.Storage/storageAccounts", "stx", sku="Standard_ZRS")
    cloud.resource("Microsoft.Network/virtualNetworks", "vnet-parley-x")
    assert passes(cloud, PARLEY_SIZE="prod") == ""
    assert "vnet-parley-x" in passes(cloud, PARLEY_SIZE="prod", PARLEY_PRIVATE="false")


@pytest.mark.parametrize(
    "given", [{"PARLEY_MODEL_VERSION": "2025-01-01"}, {"PARLEY_MODEL_NAME": "gpt-x"}, {"PARLEY_MODEL_SKU": "Standard"}]
)
def test_a_model_that_the_region_does_not_offer_is_named(cloud: Cloud, given: dict[str, str]) -> None:
    assert "swedencentral does not offer gpt-" in refused(cloud, **given)


def test_a_model_that_retires_soon_is_told(cloud: Cloud) -> None:
    soon = datetime.now(UTC) + timedelta(days=80)
    model = {**MODEL["model"], "deprecation": {"inference": f"{soon:%Y-%m-%d}T00:00:00Z"}}  # type: ignore[dict-item]
    cloud.state["models"] = [{**MODEL, "kind": "AIServices"}, {**MODEL, "model": model}]
    assert f"preflight: gpt-5.4 2026-03-05 retires on {soon:%Y-%m-%d}" in passes(cloud)


def test_the_models_it_asks_for_are_those_of_the_template(cloud: Cloud) -> None:
    given = (ROOT / "infra/main.parameters.json").read_text("utf-8")
    model = MODEL["model"]
    assert isinstance(model, dict)
    assert f"PARLEY_MODEL_NAME={model['name']}}}" in given
    assert f"PARLEY_MODEL_VERSION={model['version']}}}" in given
    assert f"PARLEY_MODEL_SKU={model['skus'][0]['name']}}}" in given
    passes(cloud)


def test_what_az_refuses_is_told_in_one_line(cloud: Cloud) -> None:
    cloud.state["refuse"] = {"keyvault list-deleted": "Please run 'az login' to setup account."}
    assert refused(cloud) == "preflight.py: ERROR: Please run 'az login' to setup account."


def test_a_package_for_another_backend_than_was_made_is_not_deployed(cloud: Cloud) -> None:
    told = refusal(cloud.run(HOOK, "deploy", PARLEY_DURABLE_BACKEND="storage", DURABLE_BACKEND="scheduler"))
    assert "the resources were made for scheduler: `azd provision` first" in told
    for given in (
        {"DURABLE_BACKEND": "scheduler"},
        {"DURABLE_BACKEND": "storage", "PARLEY_DURABLE_BACKEND": "storage"},
    ):
        assert cloud.run(HOOK, "deploy", **given).returncode == 0
    assert cloud.asked == []


def test_a_command_it_does_not_know_is_refused(cloud: Cloud) -> None:
    done = cloud.run(HOOK, "everything")
    assert done.returncode == 1
    assert "preflight.py provision" in done.stderr


@pytest.mark.usefixtures("whole_module")
def test_every_line_of_the_hook_ran(trace: Path) -> None:
    assert lines_that_never_ran(trace, HOOK) == []
