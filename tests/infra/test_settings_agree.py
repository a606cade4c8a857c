"""`shared/settings.py`, `local.settings.sample.json` and `infra/` name exactly the same settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devhost.durable.settings import read_settings
from devhost.settings.host_json import load_host_json
from devtools.infra import bicep
from shared.adapters.azure.signalr import RELAY_ROUTE
from shared.principal import Role
from shared.settings import Settings
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


def _infra() -> dict[str, bicep.Value]:
    resources = bicep.read(ROOT / "infra/modules/app/app.bicep").resources
    found = next(resource.body["properties"] for resource in resources if resource.body["name"] == "appsettings")
    assert isinstance(found, dict)
    return found


def _code() -> set[str]:
    return {str(field.alias) for field in Settings.model_fields.values()} - OF_THE_PLATFORM


def test_the_sample_names_the_settings_of_the_code() -> None:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text("utf-8"))["Values"]

    assert set(sample) - {"FUNCTIONS_WORKER_RUNTIME"} == _code()


def test_infra_names_the_settings_of_the_code() -> None:
    named = {name for name in _infra() if not name.startswith(OF_THE_HOST)}

    assert named == _code() - BY_IDENTITY
    for name in BY_IDENTITY:
        assert any(other.startswith(f"{name}__") for other in _infra())


def test_the_host_takes_the_largest_upload_and_nothing_larger() -> None:
    infra = _infra()

    assert int(str(infra["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"])) == int(str(infra["ATTACHMENT_MAX_BYTES"])) + FORM_BYTES
    assert FORM_BYTES < MAX_BODY_BYTES < int(str(infra["ATTACHMENT_MAX_BYTES"]))


def test_every_literal_of_infra_is_a_value_the_code_takes() -> None:
    # What only the deployment knows is filled in as a deployment would.
    known = {
        "APPLICATIONINSIGHTS_CONNECTION_STRING": INSIGHTS,
        "APPROVAL_LINK_SECRET": "k1:" + "s" * 32,
        "APPROVAL_WEBHOOK_SECRET": "whsec_" + "c2VjcmV0" * 4,
        "APPROVAL_WEBHOOK_URL": "",
        "AZURE_OPENAI_DEPLOYMENT": "gpt-5.4",
        "AZURE_OPENAI_ENDPOINT": "https://oai.openai.azure.com/",
        "AUTH_TENANT_ID": "tenant",
        "AzureSignalRConnectionString__serviceUri": "https://sigr.service.signalr.net",
        "BLOBS_ENDPOINT": "https://st.blob.core.windows.net/",
        "POSTGRES_POOL_SIZE": "8",
        "POSTGRES_URL": "postgresql://id@psql.test:5432/parley?sslmode=verify-full&sslrootcert=system",
        "PUBLIC_BASE_URL": "https://func.azurewebsites.net",
        "REDIS_URL": "rediss://oid@redis.test:10000/0",
        "SESSION_IDLE_DAYS": "0",
        "SESSION_RETENTION_DAYS": "365",
        "TABLES_ENDPOINT": "https://st.table.core.windows.net/",
        "TOOLS_HTTP_ALLOW": "",
        "USER_DAILY_COST_USD": "20",
        "USER_DAILY_TOKENS": "2000000",
    }
    values = {"WEBSITE_AUTH_ENABLED": "true"}
    for name, value in _infra().items():
        if not name.startswith(OF_THE_HOST) or name == "AzureSignalRConnectionString__serviceUri":
            values[name] = value if isinstance(value, str) else known.get(name, "")

    Settings(**{name: value for name, value in values.items() if value})


@pytest.mark.parametrize(("backend", "splits_long_timers"), [("azureManaged", False), ("AzureStorage", True)])
def test_the_durable_backend_is_a_setting_of_the_host(backend: str, splits_long_timers: bool) -> None:
    prefix = "AzureFunctionsJobHost__extensions__durableTask__"
    names = {name for name in _infra() if name.startswith(prefix)}
    waits = {
        f"{prefix}storageProvider__maxQueuePollingInterval": "00:00:01",
        f"{prefix}storageProvider__workItemQueueVisibilityTimeout": "00:01:00",
        f"{prefix}storageProvider__controlQueueVisibilityTimeout": "00:01:00",
    }
    assert names == {
        *waits,
        *(f"{prefix}{name}" for name in ("hubName", "storageProvider__type", "storageProvider__connectionStringName")),
    }
    assert {name: _infra()[name] for name in waits} == waits
    types = _infra()[f"{prefix}storageProvider__type"]
    assert isinstance(types, bicep.Either)
    assert backend in {types.first, types.second}

    settings = {f"{prefix}storageProvider__type": backend, f"{prefix}hubName": "parley2", **waits}
    durable = read_settings(load_host_json(ROOT, settings), settings)

    assert durable.hub == "parley2"
    assert durable.splits_long_timers is splits_long_timers


def test_the_platform_lets_the_relay_through_and_little_else() -> None:
    """Without this the app's own calls to its relay would be sent to sign in."""
    auth = bicep.read(ROOT / "infra/modules/app/auth.bicep").resources[1].body["properties"]
    assert isinstance(auth, dict)
    validation = auth["globalValidation"]
    assert isinstance(validation, dict)

    assert validation["requireAuthentication"] is True
    assert validation["excludedPaths"] == ["/api/v1/health/live", f"/api/{RELAY_ROUTE}"]


def test_the_app_registration_offers_the_roles_of_the_code() -> None:
    offered = json.loads((ROOT / "infra/app-roles.json").read_text("utf-8"))

    assert {role["value"] for role in offered} == {role.value for role in Role}
    assert all(role["isEnabled"] and role["allowedMemberTypes"] for role in offered)
    assert len({role["id"] for role in offered}) == len(offered)
