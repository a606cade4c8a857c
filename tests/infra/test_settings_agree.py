"""`shared/settings.py`, `local.settings.sample.json` and `infra/` name exactly the same settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devhost.durable.settings import read_settings
from devhost.settings.host_json import load_host_json
from devtools.infra.deployments import COMMITTED
from shared.adapters.azure.signalr import RELAY_ROUTE
from shared.principal import Role
from shared.sessions.tools.running.secrets import SETTING_PREFIX
from shared.settings import Settings
from tests.support.deployed import DEV, PROD, app_settings, one
from triggers.http.endpoints import MAX_BODY_BYTES
from triggers.http.multipart import FORM_BYTES

ROOT = Path(__file__).parents[2]
OF_THE_PLATFORM = {
    "AZURE_FUNCTIONS_ENVIRONMENT",
    "LEGION_SERVICE_HOST",
    "REGION_NAME",
    "WEBSITE_AUTH_ENABLED",
    "WEBSITE_HOSTNAME",
    "WEBSITE_INSTANCE_ID",
    "WEBSITE_POD_NAME",
    "WEBSITE_SITE_NAME",
    "WEBSITE_SKU",
}
"""What Azure says of itself: nobody sets it."""
BY_IDENTITY = {"AzureWebJobsStorage", "AzureSignalRConnectionString"}
"""Connections that infra/ names in their identity form, `NAME__...`: the plain name would be a key."""
OF_THE_HOST = (
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "AZURE_CLIENT_ID",
    "AZURE_TOKEN_CREDENTIALS",
    "AzureFunctionsJobHost__",
    "AzureSignalRConnectionString__c",
    "AzureWebJobsStorage__",
    "DURABLE_TASK_SCHEDULER_CONNECTION_STRING",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT",
    "OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID",
)
"""Read by host, platform and Azure's libraries, never by the app."""


INSIGHTS = (
    "InstrumentationKey=0f3a4b5c-1111-2222-3333-444455556666;"
    "IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/;"
    "LiveEndpoint=https://westeurope.livediagnostics.monitor.azure.com/;ApplicationId=0f3a4b5c-7777-2222-3333-444455556666"
)


def _code() -> set[str]:
    return {str(field.alias) for field in Settings.model_fields.values()} - OF_THE_PLATFORM


def test_the_sample_names_the_settings_of_the_code() -> None:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text("utf-8"))["Values"]

    assert set(sample) - {"FUNCTIONS_WORKER_RUNTIME"} == _code()


@pytest.mark.parametrize("name", COMMITTED)
def test_infra_names_the_settings_of_the_code(name: str) -> None:
    settings = app_settings(name)

    ours = {each for each in settings if not each.startswith(OF_THE_HOST)}
    assert {each for each in ours if not each.startswith(SETTING_PREFIX)} == _code() - BY_IDENTITY
    for each in BY_IDENTITY:
        assert any(other.startswith(f"{each}__") for other in settings)


@pytest.mark.parametrize("name", COMMITTED)
def test_the_secrets_of_tools_are_references_to_the_vault(name: str) -> None:
    """Names as the operator gave them, with or without a space; a setting of the portal would be gone at the next
    provisioning."""
    settings = app_settings(name)
    found = {each: settings[each] for each in settings if each.startswith(SETTING_PREFIX)}

    assert set(found) == {"TOOL_SECRET_CRM_TOKEN", "TOOL_SECRET_ERP_KEY"}
    assert all("SecretName=tool-" in str(reference) for reference in found.values())
    assert "SecretName=tool-crm-token" in str(found["TOOL_SECRET_CRM_TOKEN"])


def test_the_host_takes_the_largest_upload_and_nothing_larger() -> None:
    settings = app_settings(DEV)

    assert int(settings["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"]) == int(settings["ATTACHMENT_MAX_BYTES"]) + FORM_BYTES
    assert FORM_BYTES < MAX_BODY_BYTES < int(settings["ATTACHMENT_MAX_BYTES"])


def test_the_lanes_leave_activities_to_what_is_short() -> None:
    settings = app_settings(DEV)
    at_once = read_settings(load_host_json(ROOT, {}), {}).max_activities
    lanes = sum(int(settings[name]) for name in ("MODEL_LANE", "TOOL_LANE"))

    assert lanes == sum(Settings.model_fields[name].default for name in ("model_lane", "tool_lane"))
    assert at_once - lanes >= 32
    for name in ("MODEL_LANE_PER_USER", "MODEL_LANE_PER_MODEL", "TOOL_LANE_PER_USER"):
        assert int(settings[name]) < int(settings[name.partition("_PER")[0]])


@pytest.mark.parametrize("name", COMMITTED)
def test_every_value_of_infra_is_one_the_code_takes(name: str) -> None:
    # What only Azure knows is filled in as Azure would.
    known = {
        "APPLICATIONINSIGHTS_CONNECTION_STRING": INSIGHTS,
        "APPROVAL_LINK_SECRET": "k1:" + "s" * 32,
        "APPROVAL_WEBHOOK_SECRET": "whsec_" + "c2VjcmV0" * 4,
        "AZURE_OPENAI_ENDPOINT": "https://oai.openai.azure.com/",
        "AzureSignalRConnectionString__serviceUri": "https://sigr.service.signalr.net",
        "BLOBS_ENDPOINT": "https://st.blob.core.windows.net/",
        "POSTGRES_URL": "postgresql://id@psql.test:5432/parley?sslmode=verify-full&sslrootcert=system",
        "PUBLIC_BASE_URL": "https://func.azurewebsites.net",
        "REDIS_URL": "rediss://oid@redis.test:10000/0",
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
        "SMTP_URL": "smtps://parley:secret@mail.example.com",
        "TEAMS_WEBHOOK_URL": "https://prod-1.westeurope.logic.azure.com/workflows/x",
        "TABLES_ENDPOINT": "https://st.table.core.windows.net/",
    }
    of_the_app = {
        each: value
        for each, value in app_settings(name).items()
        if not each.startswith((*OF_THE_HOST, SETTING_PREFIX)) or each == "AzureSignalRConnectionString__serviceUri"
    }
    assert {each for each, value in of_the_app.items() if value.startswith(("[", "@"))} == known.keys()

    Settings(
        **{"WEBSITE_AUTH_ENABLED": "true"} | {each: value for each, value in (of_the_app | known).items() if value}
    )


@pytest.mark.parametrize(
    ("name", "backend", "connection", "splits_long_timers"),
    [
        (PROD, "azureManaged", "DURABLE_TASK_SCHEDULER_CONNECTION_STRING", False),
        (DEV, "AzureStorage", "AzureWebJobsStorage", True),
    ],
)
def test_the_durable_backend_is_a_setting_of_the_host(
    name: str, backend: str, connection: str, splits_long_timers: bool
) -> None:
    prefix = "AzureFunctionsJobHost__extensions__durableTask__"
    settings = {each: value for each, value in app_settings(name).items() if each.startswith(prefix)}
    assert {each.removeprefix(prefix): value for each, value in settings.items()} == {
        "hubName": "parley",
        "storageProvider__type": backend,
        "storageProvider__connectionStringName": connection,
        "storageProvider__maxQueuePollingInterval": "00:00:01",
        "storageProvider__workItemQueueVisibilityTimeout": "00:01:00",
        "storageProvider__controlQueueVisibilityTimeout": "00:01:00",
    }

    durable = read_settings(load_host_json(ROOT, settings), settings)

    assert durable.hub == "parley"
    assert durable.splits_long_timers is splits_long_timers


def test_the_platform_lets_the_relay_through_and_little_else() -> None:
    """Without this the app's own calls to its relay would be sent to sign in."""
    auth = one(PROD, "Microsoft.Web/sites/config", "/authsettingsV2")["properties"]

    assert auth["httpSettings"]["requireHttps"] is True
    assert auth["globalValidation"]["requireAuthentication"] is True
    assert auth["globalValidation"]["excludedPaths"] == ["/api/v1/health/live", f"/api/{RELAY_ROUTE}", "/api/hooks"]


def test_the_app_registration_offers_the_roles_of_the_code() -> None:
    offered = json.loads((ROOT / "infra/app-roles.json").read_text("utf-8"))

    assert {role["value"] for role in offered} == {role.value for role in Role}
    assert all(role["isEnabled"] and role["allowedMemberTypes"] for role in offered)
    assert len({role["id"] for role in offered}) == len(offered)
