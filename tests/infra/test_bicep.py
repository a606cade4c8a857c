"""Every Bicep file: whole for the grammar, true to the resource schemas, complete between modules, and without keys."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from devtools.infra import bicep
from devtools.infra import schema as bicep_schema
from shared.adapters.azure.blobs import CONTAINER

INFRA = Path(__file__).parents[2] / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
SCHEMAS = bicep_schema.load(INFRA / "schemas")
ROLE = re.compile(r"^var (\w+) = '([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'$", re.MULTILINE)
ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": "Cognitive Services OpenAI User",
    "7e4f1700-ea5a-4f59-8f37-079cfe29dce3": "SignalR Service Owner",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "0ad04412-c4d5-4796-b79c-f76d14c8d402": "Durable Task Data Contributor",
}
"""All roles there are to give: none of them manages anything."""


def _name(path: Path) -> str:
    return str(path.relative_to(INFRA))


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_a_file_is_whole_and_fits_the_schemas(file: Path) -> None:
    document = bicep.read(file)

    assert [line for resource in document.resources for line in bicep_schema.problems(resource, SCHEMAS)] == []


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_a_module_is_given_what_it_asks_for_and_nothing_else(file: Path) -> None:
    for module in bicep.read(file).modules:
        asked = bicep.read(module.target).parameters
        known = {parameter.name for parameter in asked}
        needed = {parameter.name for parameter in asked if not parameter.has_default}
        assert needed <= module.params <= known, f"{file.name}:{module.line} {module.symbol}"


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_what_is_declared_is_used(file: Path) -> None:
    document = bicep.read(file)
    for parameter in document.parameters:
        assert len(re.findall(rf"\b{parameter.name}\b", document.text)) > 1, f"{file.name}: {parameter.name}"


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "main.bicep"], ids=_name)
def test_a_module_begins_by_saying_what_it_is_for(file: Path) -> None:
    assert file.read_text("utf-8").startswith("// ")


def test_every_reference_to_a_module_output_exists() -> None:
    main = bicep.read(INFRA / "main.bicep")
    targets = {module.symbol: module.target for module in main.modules}
    used = re.findall(r"\b(\w+)!?\.outputs\.(\w+)", main.text)

    assert used
    for symbol, output in used:
        assert output in bicep.read(targets[symbol]).outputs, f"{symbol}.outputs.{output}"


def test_every_module_file_is_reached_from_main() -> None:
    reached, waiting = set(), [INFRA / "main.bicep"]
    while waiting:
        file = waiting.pop()
        reached.add(file)
        waiting += [module.target for module in bicep.read(file).modules if module.target not in reached]

    assert reached == set(FILES)


def test_the_parameter_file_sets_only_what_main_asks_for_and_all_it_must() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]
    asked = bicep.read(INFRA / "main.bicep").parameters

    assert given.keys() <= {parameter.name for parameter in asked}
    assert {parameter.name for parameter in asked if not parameter.has_default} <= given.keys()


def test_nothing_reads_or_hands_out_a_key() -> None:
    for file in FILES:
        text = file.read_text("utf-8")
        assert not re.search(r"listKeys|listConnectionStrings|AccountKey=|AccessKey=|primaryKey", text), file.name
        for output in re.findall(r"^output (\w+) string = (.+)$", text, re.MULTILINE):
            assert not re.search(r"(?i)secret|password|\bkey\b", " ".join(output)), f"{file.name}: {output}"


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("data/storage", {"allowSharedKeyAccess": False, "allowBlobPublicAccess": False}),
        ("services/signalr", {"disableLocalAuth": True, "disableAadAuth": False}),
        ("services/openai", {"disableLocalAuth": True}),
        ("observability/insights", {"DisableLocalAuth": True}),
        ("data/vault", {"enableRbacAuthorization": True, "enableSoftDelete": True}),
        ("app/app", {"httpsOnly": True}),
    ],
)
def test_local_authentication_is_off(module: str, settings: dict[str, bool]) -> None:
    properties = bicep.read(INFRA / "modules" / f"{module}.bicep").resources[0].body["properties"]

    assert isinstance(properties, dict)
    assert settings.items() <= {name: value for name, value in properties.items() if isinstance(value, bool)}.items()


def test_database_and_cache_take_entra_tokens_only() -> None:
    postgres = bicep.read(INFRA / "modules/data/postgres.bicep").resources[0].body["properties"]
    redis = bicep.read(INFRA / "modules/data/redis.bicep").resources[1].body["properties"]

    assert isinstance(postgres, dict)
    assert isinstance(redis, dict)
    assert postgres["authConfig"] == {
        "activeDirectoryAuth": "Enabled",
        "passwordAuth": "Disabled",
        "tenantId": bicep.Expression("tenant().tenantId"),
    }
    assert int(str(postgres["version"])) >= 17, "the schema's collation pg_c_utf8 is not in older ones"
    assert redis["accessKeysAuthentication"] == "Disabled"
    assert redis["clientProtocol"] == "Encrypted"


def test_roles_are_data_roles_given_on_a_resource() -> None:
    given = []
    for file in FILES:
        document = bicep.read(file)
        for name, role in ROLE.findall(document.text):
            assert role in ROLES, f"{file.name}: {name}"
            given.append(role)
        for resource in document.resources:
            if resource.type.startswith("Microsoft.Authorization/roleAssignments@"):
                symbols = {other.symbol for other in document.resources}
                scope = resource.body["scope"]
                assert isinstance(scope, bicep.Expression)
                assert scope.text in symbols, f"{file.name}: narrower than the group"
    assert sorted(given) == sorted(ROLES)


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
    "Microsoft.Insights/privateLinkScopes": "the activity log",
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
    "Microsoft.Web/serverfarms": "no category",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": "the activity log",
    "Microsoft.Web/sites/config": "the activity log",
}


def test_every_resource_that_has_logs_sends_them_to_the_workspace() -> None:
    kinds = set()
    for file in FILES:
        resources = [resource for resource in bicep.read(file).resources if not resource.existing]
        logged = {
            str(getattr(resource.body["scope"], "text", ""))
            for resource in resources
            if resource.type.startswith("Microsoft.Insights/diagnosticSettings@")
        }
        for resource in resources:
            kind = resource.type.partition("@")[0]
            kinds.add(kind)
            assert (kind in LOGGED) == (resource.symbol in logged), f"{file.name}: {resource.symbol}"
    assert kinds == LOGGED | NOT_LOGGED.keys(), "each kind has a log, or a reason why not"


def test_the_app_may_use_named_containers_and_not_the_account() -> None:
    storage = (INFRA / "modules/data/storage.bicep").read_text("utf-8")
    container = bicep.read(INFRA / "modules/data/container.bicep")
    blob_owner = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"

    assert blob_owner not in storage
    [role] = [one for one in container.resources if one.type.startswith("Microsoft.Authorization/roleAssignments@")]
    assert role.body["scope"] == bicep.Expression("container")
    made = storage.split("var always = ")[1].split("var containers")[0]
    for name in (CONTAINER, "azure-webjobs-hosts", "azure-webjobs-secrets", "${durableHub}-leases"):
        assert f"'{name}'" in made


def test_the_models_version_never_changes_by_itself() -> None:
    [deployment] = [
        resource
        for resource in bicep.read(INFRA / "modules/services/openai.bicep").resources
        if resource.type.startswith("Microsoft.CognitiveServices/accounts/deployments@")
    ]
    properties = deployment.body["properties"]

    assert isinstance(properties, dict)
    assert properties["versionUpgradeOption"] == "NoAutoUpgrade"


def test_prod_is_private_unless_somebody_says_otherwise() -> None:
    main = (INFRA / "main.bicep").read_text("utf-8")
    given = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]

    assert "\nparam private bool = size == 'prod'\n" in main
    assert "\nparam publicApp bool = !private\n" in main
    # An empty value of a bool leaves it to the template's default (azd, `armParameterFileValue`).
    assert (given["private"]["value"], given["publicApp"]["value"]) == ("${PARLEY_PRIVATE=}", "${PARLEY_PUBLIC_APP=}")
    modules = re.split(r"(?m)^module ", main)[1:]
    entrances = {module.split()[0] for module in modules if "\n    private: !publicApp\n" in module}
    assert entrances == {"signalr", "app"}, "only these two can be open while the rest is private"


def test_each_is_closed_to_the_open_network_when_private() -> None:
    closed: dict[str, list[str]] = {name: [] for name in ("publicNetworkAccess", "publicNetworkAccessForIngestion")}
    for file in FILES:
        for name in re.findall(r"\b(\w+): private \? 'Disabled' : 'Enabled'", file.read_text("utf-8")):
            closed[name].append(file.stem)

    services = {"storage", "postgres", "redis", "signalr", "openai", "vault", "app", "scheduler"}
    assert set(closed["publicNetworkAccess"]) == services
    # The two that telemetry goes to share one way in.
    assert closed["publicNetworkAccessForIngestion"] == ["insights", "logs"]
    scope = bicep.read(INFRA / "modules/network/monitor-scope.bicep").resources
    assert {str(resource.body["name"]) for resource in scope[1:]} == {"insights", "logs"}
    entries = (INFRA / "modules/network/private-endpoints.bicep").read_text("utf-8")
    targets = set(re.findall(r"target: (\w+)Id", entries))
    assert targets == services | {"monitor"}


def _text(module: str) -> str:
    return (INFRA / "modules" / f"{module}.bicep").read_text("utf-8")


def test_a_second_deployment_is_refused_nothing() -> None:
    """Nothing depends on the clock, and nothing that Azure changes by itself is set."""
    assert "utcNow" not in "".join(file.read_text("utf-8") for file in FILES)
    assert "autoGrow: 'Disabled'" in _text("data/postgres"), "a disk that grew would be shrunk"
    assert "enablePurgeProtection: protected ? true : null" in _text("data/vault"), (
        "a protected name is taken for 90 days"
    )
    assert "dependsOn: [database, azureAddresses]" in _text("data/postgres"), "the server refuses two rules at once"
    assert "skipQueryValidation: true" in _text("observability/alerts"), "tables come with their first row"


def test_a_network_rule_denies_what_it_does_not_list() -> None:
    assert "defaultAction: 'Deny'" in _text("services/signalr")


def test_redis_memory_is_asked_for_as_redis_reports_it() -> None:
    gauges = _text("observability/alerts")
    assert re.search(r"metric: 'usedmemorypercentage'[^}]*by: 'Maximum'", gauges)
    assert "timeAggregation: gauge.by" in gauges


def test_durable_work_on_storage_never_waits_for_an_instance() -> None:
    assert "max(alwaysReady, durableBackend == 'storage' ? 1 : 0)" in _text("app/app")


def test_only_reading_logs_is_open_when_private() -> None:
    """The exception that README and main.bicep name; whatever else is open does not come from forgetting it."""
    takes = {
        file.stem
        for file in FILES
        for resource in bicep.read(file).resources
        if "publicNetworkAccess" in str(SCHEMAS.get(resource.type, "")) and not resource.existing
    }
    says = {file.stem for file in FILES if "publicNetworkAccess" in file.read_text("utf-8")}
    always_open = {
        file.stem: re.findall(r"(publicNetworkAccess\w*): 'Enabled'", file.read_text("utf-8"))
        for file in FILES
        if re.search(r"publicNetworkAccess\w*: 'Enabled'", file.read_text("utf-8"))
    }

    assert takes == says
    assert always_open == {name: ["publicNetworkAccessForQuery"] for name in ("insights", "logs")}
    assert "but for reading logs" in (INFRA / "main.bicep").read_text("utf-8")


USER_CONNECTIONS = {"Standard_B1ms": 35, "Standard_B2s": 414, "Standard_D4ds_v5": 1_703}
"""What a server lets users open: Learn, "Limits in Azure Database for PostgreSQL flexible server"."""

FOR_PEOPLE = 2
"""Connections left for a migration, or somebody who looks."""


@pytest.mark.parametrize("size", ["dev", "prod"])
def test_all_instances_of_a_size_find_room_in_its_database(size: str) -> None:
    main = (INFRA / "main.bicep").read_text("utf-8")
    table = main.split(f"\n  {size}: {{")[1].split("\n  }")[0]
    bought = dict(re.findall(r"^    (\w+): '?(\w+)'?$", table, re.MULTILINE))
    triggers = "".join(path.read_text("utf-8") for path in (INFRA.parent / "triggers").rglob("*.py"))
    # Flex Consumption counts the maximum for each group that scales by itself, beside what is always ready: HTTP,
    # durable, and each timer, which runs once at a time. A pool is a process's, and an instance has one process.
    instances = 2 * (int(bought["maximumInstances"]) + int(bought["alwaysReady"])) + triggers.count(".timer_trigger(")

    taken = instances * int(bought["postgresPoolSize"])

    assert taken + FOR_PEOPLE <= USER_CONNECTIONS[bought["postgresSku"]]


def test_what_the_grammar_does_not_know_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.bicep"
    file.write_text("resource a 'X/y@1' = {\n  name 'x'\n}\n")

    with pytest.raises(bicep.BicepError, match=r"wrong\.bicep:\d+:\d+: not Bicep"):
        bicep.read(file)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{ location: 'x', properties: { properties: {} } }", ".name is missing"),
        ("{ name: 'x', location: 'x', propertis: {} }", ".propertis is no property"),
        ("{ name: 'x', location: 'x', properties: { disableLocalAuth: 'true' } }", "must be bool"),
        ("{ name: 'x', location: 'x', properties: { publicNetworkAccess: p ? 'Off' : 'Enabled' } }", "must be one of"),
        ("{ name: 'x', location: 'x', properties: { features: { flag: 'ServiceMode' } } }", "must be an array"),
        ("{ name: 'x', location: 'x', properties: { features: [{ flag: 'ServiceMode' }] } }", "[0].value is missing"),
    ],
)
def test_the_schema_check_sees_each_kind_of_mistake(tmp_path: Path, body: str, said: str) -> None:
    file = tmp_path / "a.bicep"
    file.write_text(f"resource a 'Microsoft.SignalRService/signalR@2024-03-01' = {body}\n")

    found = bicep_schema.problems(bicep.read(file).resources[0], SCHEMAS)

    assert any(said in line for line in found), found
