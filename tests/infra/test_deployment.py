"""What a deployment makes for Parley: roles, logs, containers, room in the database; and what a second one may do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devtools.infra.deployments import COMMITTED, FOLDER
from devtools.local.stack import TRIGGER_QUEUE
from shared.adapters.azure.blobs import CONTAINER
from tests.support.deployed import DEV, FOR_PEOPLE, PROD, all_of, app_settings, deployed, one, spare_connections

ROLE_ASSIGNMENTS = "Microsoft.Authorization/roleAssignments"
CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
BLOB_OWNER = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"
ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "76199698-9eea-4c19-bc75-cec21354c6b6": "Storage Table Data Reader",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": "Cognitive Services OpenAI User",
    "7e4f1700-ea5a-4f59-8f37-079cfe29dce3": "SignalR Service Owner",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "0ad04412-c4d5-4796-b79c-f76d14c8d402": "Durable Task Data Contributor",
}
"""All roles there are to give: none of them manages anything."""


def _roles() -> dict[str, set[str]]:
    """Each role that is given, with the types of the resources on which it is."""
    given: dict[str, set[str]] = {}
    for name in COMMITTED:
        for assignment in all_of(name, ROLE_ASSIGNMENTS):
            role = assignment["properties"]["roleDefinitionId"].rpartition("/")[2]
            scope = re.match(
                rf"(?:\[extensionResourceId\(')?([^']+?)(?:'|/providers/{ROLE_ASSIGNMENTS})", assignment["id"]
            )
            assert scope
            [on] = [resource["type"] for resource in deployed(name) if resource["id"] == scope[1]]
            given.setdefault(role, set()).add(on)
    return given


def test_roles_are_data_roles_given_on_a_resource() -> None:
    given = _roles()

    assert given.keys() == ROLES.keys()
    assert "Microsoft.Resources/resourceGroups" not in set().union(*given.values())


def test_the_app_may_use_named_containers_and_not_the_account() -> None:
    assert _roles()[BLOB_OWNER] == {CONTAINERS}
    made = {name: {each["name"].rpartition("/")[2] for each in all_of(name, CONTAINERS)} for name in COMMITTED}
    assert made[PROD] == {"packages", CONTAINER, "azure-webjobs-hosts", "azure-webjobs-secrets"}
    # What the Durable extension makes of a hub's name in Azure Storage.
    hub = app_settings(DEV)["AzureFunctionsJobHost__extensions__durableTask__hubName"]
    assert made[DEV] - made[PROD] == {f"{hub}-{part}" for part in ("applease", "leases", "largemessages")}


def test_a_deployer_may_read_the_histories_and_nothing_else_of_the_account() -> None:
    """What hooks/upgrade.py needs; with the Scheduler there is none of it."""
    read = [
        assignment["id"]
        for name in COMMITTED
        for assignment in all_of(name, ROLE_ASSIGNMENTS)
        if ROLES[assignment["properties"]["roleDefinitionId"].rpartition("/")[2]].endswith("Data Reader")
    ]
    places = ["tableServices/default/tables/parleyInstances", "tableServices/default/tables/parleyHistory"]
    assert len(read) == 3
    for place in (*places, "blobServices/default/containers/parley-largemessages"):
        assert any(f"/{place}" in where.partition(ROLE_ASSIGNMENTS)[0] for where in read), place


def test_the_queue_that_fires_triggers_is_there_where_it_is_asked_for_and_nowhere_else() -> None:
    kind = "Microsoft.Storage/storageAccounts/queueServices/queues"
    made = {name: {each["id"].rpartition("/")[2] for each in all_of(name, kind)} for name in COMMITTED}

    assert made == {DEV: set(), PROD: {TRIGGER_QUEUE, f"{TRIGGER_QUEUE}-poison"}}
    assert {name: app_settings(name)["TRIGGER_QUEUE"] for name in COMMITTED} == {DEV: "", PROD: TRIGGER_QUEUE}


LOGGED = {
    "Microsoft.CognitiveServices/accounts",
    "Microsoft.Cache/redisEnterprise/databases",
    "Microsoft.DBforPostgreSQL/flexibleServers",
    "Microsoft.KeyVault/vaults",
    "Microsoft.OperationalInsights/workspaces",
    "Microsoft.SignalRService/signalR",
    "Microsoft.Storage/storageAccounts/blobServices",
    "Microsoft.Storage/storageAccounts/queueServices",
    "Microsoft.Storage/storageAccounts/tableServices",
    "Microsoft.Web/sites",
}
"""All resources here that have resource logs (Learn, "Supported resource log categories for Azure Monitor")."""

NOT_LOGGED = {
    "Microsoft.Authorization/roleAssignments": "the activity log has them",
    "Microsoft.Cache/redisEnterprise": "its database has the log",
    "Microsoft.Cache/redisEnterprise/databases/accessPolicyAssignments": "the activity log",
    "Microsoft.CognitiveServices/accounts/deployments": "its account has the log",
    "Microsoft.Consumption/budgets": "the activity log",
    "Microsoft.DBforPostgreSQL/flexibleServers/administrators": "the activity log",
    "Microsoft.DBforPostgreSQL/flexibleServers/databases": "its server has the log",
    "Microsoft.DBforPostgreSQL/flexibleServers/firewallRules": "the activity log",
    "Microsoft.DurableTask/schedulers": "no category is documented",
    "Microsoft.DurableTask/schedulers/retentionPolicies": "the activity log",
    "Microsoft.DurableTask/schedulers/taskHubs": "no category is documented",
    "Microsoft.Insights/actionGroups": "the activity log",
    "Microsoft.Insights/components": "its rows are in the workspace already",
    "Microsoft.Insights/diagnosticSettings": "it is the log",
    "Microsoft.Insights/metricAlerts": "the activity log",
    "Microsoft.Insights/privateLinkScopes/scopedResources": "the activity log",
    "Microsoft.Insights/scheduledQueryRules": "the activity log",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "Entra logs its sign-ins",
    "Microsoft.Network/privateDnsZones": "no category",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": "no category",
    "Microsoft.Network/privateEndpoints": "no category",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": "no category",
    "Microsoft.Network/virtualNetworks": "only alerts of a DDoS plan, which is not bought",
    "Microsoft.Resources/resourceGroups": "the activity log",
    "Microsoft.Storage/storageAccounts": "its services have the logs",
    "Microsoft.Storage/storageAccounts/blobServices/containers": "the account's blob service has the log",
    "Microsoft.Storage/storageAccounts/queueServices/queues": "the account's queue service has the log",
    "Microsoft.Storage/storageAccounts/tableServices/tables": "the account's table service has the log",
    "Microsoft.Web/serverfarms": "no category",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": "the activity log",
    "Microsoft.Web/sites/config": "the activity log",
    "Microsoft.Insights/privateLinkScopes": "the activity log",
}


def test_every_resource_that_has_logs_sends_them_to_the_workspace() -> None:
    kinds = set()
    for name in COMMITTED:
        workspace = one(name, "Microsoft.OperationalInsights/workspaces")["id"]
        settings = all_of(name, "Microsoft.Insights/diagnosticSettings")
        assert {each["properties"]["workspaceId"] for each in settings} == {workspace}
        logged = {each["id"].rpartition("/providers/")[0] for each in settings}
        for resource in deployed(name):
            kinds.add(resource["type"])
            assert (resource["type"] in LOGGED) == (resource["id"] in logged), resource["id"]
    assert kinds == LOGGED | NOT_LOGGED.keys(), "each kind has a log, or a reason why not"


@pytest.mark.parametrize("name", COMMITTED)
def test_all_instances_of_a_size_find_room_in_its_database(name: str) -> None:
    assert spare_connections(name) >= FOR_PEOPLE


@pytest.mark.parametrize("name", COMMITTED)
def test_a_second_deployment_is_refused_nothing(name: str) -> None:
    """Nothing that Azure changes by itself is set, and nothing is asked for at once that is taken one by one."""
    server = one(name, "Microsoft.DBforPostgreSQL/flexibleServers")["properties"]
    assert server["storage"]["autoGrow"] == "Disabled", "a disk that grew would be shrunk"
    assert int(server["version"]) >= 17, "the schema's collation pg_c_utf8 is not in older ones"
    model = one(name, "Microsoft.CognitiveServices/accounts/deployments")["properties"]
    assert model["versionUpgradeOption"] == "NoAutoUpgrade"
    vault = one(name, "Microsoft.KeyVault/vaults")["properties"]
    assert vault.get("enablePurgeProtection") is (True if name == PROD else None), (
        "a protected name is taken for 90 days"
    )
    rules = all_of(name, "Microsoft.Insights/scheduledQueryRules")
    assert all(rule["properties"]["skipQueryValidation"] for rule in rules), "tables come with their first row"


def test_browsers_call_from_the_console_and_from_named_sites() -> None:
    app, live = one(DEV, "Microsoft.Web/sites"), one(DEV, "Microsoft.SignalRService/signalR")
    named = ["https://chat.example.com"]

    assert app["properties"]["siteConfig"]["cors"] == {"allowedOrigins": named, "supportCredentials": False}
    assert live["properties"]["cors"]["allowedOrigins"] == [*named, f"https://{app['name']}.azurewebsites.net"]


def test_redis_memory_is_asked_for_as_redis_reports_it() -> None:
    [criterion] = [
        criterion
        for alert in all_of(DEV, "Microsoft.Insights/metricAlerts")
        if "redis" in alert["name"].partition("parley-")[2]
        for criterion in alert["properties"]["criteria"]["allOf"]
    ]

    assert (criterion["metricName"], criterion["timeAggregation"]) == ("usedmemorypercentage", "Maximum")


def test_durable_work_on_storage_never_waits_for_an_instance() -> None:
    ready = one(DEV, "Microsoft.Web/sites")["properties"]["functionAppConfig"]["scaleAndConcurrency"]["alwaysReady"]

    assert ready == [{"name": "durable", "instanceCount": 1}]


def test_reading_logs_is_open_when_private_and_the_page_says_so() -> None:
    for kind in ("Microsoft.Insights/components", "Microsoft.OperationalInsights/workspaces"):
        assert one(PROD, kind)["properties"]["publicNetworkAccessForQuery"] == "Enabled"
    assert "but for reading logs" in (FOLDER / "main.bicep").read_text("utf-8")


def test_an_empty_switch_leaves_the_templates_default() -> None:
    """`private` and `publicApp` follow `size`: both are empty in the snapshots (azd, `armParameterFileValue`)."""
    doors = ("Microsoft.Web/sites", "Microsoft.SignalRService/signalR", "Microsoft.KeyVault/vaults")
    said = {name: {one(name, kind)["properties"]["publicNetworkAccess"] for kind in doors} for name in COMMITTED}

    assert said == {DEV: {"Enabled"}, PROD: {"Disabled"}}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("modules/**/*.bicep")), ids=lambda file: file.stem)
def test_a_module_begins_by_saying_what_it_is_for(file: Path) -> None:
    assert file.read_text("utf-8").startswith("// ")
