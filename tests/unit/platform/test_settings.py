"""Settings: every refusal is one line that names the setting and shows no secret."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import ConfigError
from shared.principal import AuthMode
from shared.sessions.llm.registry import ModelApi
from shared.settings import RealtimeDelivery, Settings, StoreAuth, load_settings, without_user

_INSIGHTS, _KEY = "APPLICATIONINSIGHTS_CONNECTION_STRING", "0f3a4b5c-1111-2222-3333-444455556666"
_SECRET = "a-secret-of-enough-characters-to-sign"
_AZURE = {"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com", "AZURE_OPENAI_DEPLOYMENT": "gpt-5.4"}
_GOOD = {
    "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    "OPENAI_MODEL": "m",
    "POSTGRES_URL": "postgresql://user:pg-password@host/db",
    "REDIS_URL": "redis://:redis-password@host/0",
    "PUBLIC_BASE_URL": "http://localhost:7071",
    "APPROVAL_LINK_SECRET": _SECRET,
    "AUTH_MODE": "dev",
    "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    known = [str(field.alias) for field in Settings.model_fields.values()]
    for name in {*known, *(name for name in os.environ if name.upper() in {alias.upper() for alias in known})}:
        monkeypatch.delenv(name, raising=False)
    for name, value in _GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_complete_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TOOLS_HTTP_ALLOW", " example.test:8080, ,other.test ")
    environment.setenv("REALTIME_DELIVERY", "")  # empty is as if it were not there

    settings = load_settings()

    assert settings.auth_mode is AuthMode.DEV
    assert settings.realtime_delivery is RealtimeDelivery.BINDING
    assert settings.tools_http_allow == ("example.test:8080", "other.test")
    assert settings.model_name == "m"
    assert settings.internal_base_url == "http://localhost:7071"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:7072", "http://127.0.0.1:7072"),
        ("app.azurewebsites.net", "https://app.azurewebsites.net"),
        ("localhost.evil.test", "https://localhost.evil.test"),
    ],
)
def test_only_a_laptop_speaks_plain_http_to_itself(environment: pytest.MonkeyPatch, host: str, url: str) -> None:
    environment.setenv("AUTH_MODE", "easyauth")
    environment.setenv("WEBSITE_AUTH_ENABLED", "True")
    environment.setenv("WEBSITE_HOSTNAME", host)

    assert load_settings().internal_base_url == url


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"POSTGRES_URL": None}, "POSTGRES_URL"),
        ({"POSTGRES_URL": ""}, "POSTGRES_URL"),
        ({"POSTGRES_URL": "mysql://host/db"}, "POSTGRES_URL"),
        ({"REDIS_URL": "host:6379"}, "REDIS_URL"),
        ({"PUBLIC_BASE_URL": "parley.example"}, "PUBLIC_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://:8000/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://host:port/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://host:99999/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://[::1/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://short-secret@host/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://user:short-secret@host/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://host/v1?key=short-secret"}, "OPENAI_BASE_URL"),
        ({"OPENAI_BASE_URL": "http://host/v1#models"}, "OPENAI_BASE_URL"),
        ({**_AZURE, "AZURE_OPENAI_ENDPOINT": "https://user:short-secret@x.openai.azure.com"}, "AZURE_OPENAI_ENDPOINT"),
        ({"AZURE_OPENAI_API_VERSION": "2024-10-21"}, "AZURE_OPENAI_API_VERSION"),  # goes with Azure alone
        ({"APPROVAL_WEBHOOK_SECRET": "whsec_short"}, "APPROVAL_WEBHOOK_SECRET"),
        ({"APPROVAL_WEBHOOK_SECRET": "whsec_" + "c2VjcmV0" * 2}, "APPROVAL_WEBHOOK_SECRET"),
        ({"TEAMS_WEBHOOK_URL": "http://teams.test/short-secret"}, "TEAMS_WEBHOOK_URL"),
        ({"SLACK_WEBHOOK_URL": "short-secret"}, "SLACK_WEBHOOK_URL"),
        ({"SLACK_WEBHOOK_URL": "http://localhost.evil.test/short-secret"}, "SLACK_WEBHOOK_URL"),
        ({"TEAMS_WEBHOOK_URL": "@Microsoft.KeyVault(SecretUri=https://v.test/x)"}, "TEAMS_WEBHOOK_URL"),
        ({"SMTP_URL": "smtp://ann:short-secret@"}, "SMTP_URL"),
        ({"SMTP_URL": "smtps://ann:short-secret@mail.test"}, "MAIL_FROM"),
        ({"MAIL_FROM": "Parley <parley@mail.test>"}, "MAIL_FROM"),
        ({"MAIL_TO": "ann@mail.test, bob"}, "MAIL_TO"),
        ({"AzureSignalRConnectionString": "http://localhost"}, "AzureSignalRConnectionString"),
        ({"REDIS_URL": None}, "REDIS_URL"),
        ({"PUBLIC_BASE_URL": None}, "PUBLIC_BASE_URL"),
        ({"APPROVAL_LINK_SECRET": None}, "APPROVAL_LINK_SECRET"),
        ({"APPROVAL_LINK_SECRET": "short-secret"}, "APPROVAL_LINK_SECRET"),
        ({"AUTH_MODE": "none"}, "AUTH_MODE"),
        ({"AUTH_MODE": "DEV"}, "AUTH_MODE"),
        ({"AUTH_MODE": "easyauth"}, "AUTH_MODE"),
        ({"AUTH_MODE": None}, "AUTH_MODE"),
        ({"AZURE_FUNCTIONS_ENVIRONMENT": None}, "AUTH_MODE"),
        ({"AZURE_FUNCTIONS_ENVIRONMENT": "Production"}, "AUTH_MODE"),
        ({"OPENAI_MODEL": None}, "OPENAI_MODEL"),
        ({"OPENAI_BASE_URL": None}, "OPENAI_BASE_URL"),
        ({"AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com"}, "AZURE_OPENAI_DEPLOYMENT"),
        ({"APPROVAL_WEBHOOK_URL": "https://hook.test"}, "APPROVAL_WEBHOOK_SECRET"),
        ({"REALTIME_DELIVERY": "rest"}, "AzureSignalRConnectionString"),
        ({"AzureSignalRConnectionString__serviceUri": "host"}, "serviceUri"),
        ({_INSIGHTS: "InstrumentationKey=1;IngestionEndpoint=https://in.test/"}, _INSIGHTS),
        ({_INSIGHTS: f"InstrumentationKey={_KEY}"}, _INSIGHTS),
        ({_INSIGHTS: f"InstrumentationKey={_KEY};IngestionEndpoint=http://in.test/"}, _INSIGHTS),
        ({"APPROVAL_LINK_SECRET": "@Microsoft.KeyVault(SecretUri=https://v.test/secrets/s)"}, "APPROVAL_LINK_SECRET"),
        ({"APPROVAL_WEBHOOK_SECRET": "@Microsoft.KeyVault(SecretUri=https://v.test/x)"}, "APPROVAL_WEBHOOK_SECRET"),
        ({"APPROVAL_LINK_SECRET": f"k1:{_SECRET},k1:{_SECRET}"}, "APPROVAL_LINK_SECRET"),
        ({"APPROVAL_LINK_SECRET": f"k2:short-secret,k1:{_SECRET}"}, "APPROVAL_LINK_SECRET"),
        ({"APPROVAL_LINK_SECRET": f"no spaces:{_SECRET}"}, "APPROVAL_LINK_SECRET"),
        ({"APPROVAL_LINK_SECRET": f"k1:{_SECRET},"}, "APPROVAL_LINK_SECRET"),
        ({"APPROVAL_WEBHOOK_SECRET": "whsec_" + "c2VjcmV0" * 4 + ",whsec_short"}, "APPROVAL_WEBHOOK_SECRET"),
        ({"POSTGRES_AUTH": "entra"}, "POSTGRES_AUTH"),
        ({"POSTGRES_AUTH": "entra", "POSTGRES_URL": "postgresql://app@h/db?sslmode=require"}, "POSTGRES_AUTH"),
        ({"POSTGRES_AUTH": "key"}, "POSTGRES_AUTH"),
        ({"REDIS_AUTH": "entra"}, "REDIS_AUTH"),
        ({"REALTIME_DELIVERY": "pigeon"}, "REALTIME_DELIVERY"),
        ({"LLM_TIMEOUT_SECONDS": "soon"}, "LLM_TIMEOUT_SECONDS"),
        ({"LLM_TIMEOUT_SECONDS": "0"}, "LLM_TIMEOUT_SECONDS"),
        ({"LLM_STEP_SECONDS": "481"}, "LLM_STEP_SECONDS"),  # the host ends what takes longer
        ({"LLM_FIRST_BYTE_SECONDS": "61", "LLM_STEP_SECONDS": "60"}, "LLM_FIRST_BYTE_SECONDS"),
        ({"MODEL_LANE": "0"}, "MODEL_LANE"),
        ({"POSTGRES_POOL_SIZE": "0"}, "POSTGRES_POOL_SIZE"),
        ({"POSTGRES_POOL_SIZE": "1.5"}, "POSTGRES_POOL_SIZE"),
        ({"EVENT_BUFFER_LENGTH": "99"}, "EVENT_BUFFER_LENGTH"),
        ({"EVENT_BUFFER_SECONDS": "-1"}, "EVENT_BUFFER_SECONDS"),
        ({"RATE_LIMIT_PER_MINUTE": "-1"}, "RATE_LIMIT_PER_MINUTE"),
        ({"RATE_LIMIT_BURST": "0"}, "RATE_LIMIT_BURST"),
        ({"RATE_LIMIT_FAIL": "maybe"}, "RATE_LIMIT_FAIL"),
        ({"USER_DAILY_TOKENS": "many"}, "USER_DAILY_TOKENS"),
        ({"USER_DAILY_COST_USD": "much"}, "USER_DAILY_COST_USD"),
        ({"USER_DAILY_COST_USD": "-1"}, "USER_DAILY_COST_USD"),
        ({"USER_DAILY_COST_USD": "5"}, "USER_DAILY_COST_USD"),  # and the model's price is not known
        ({"USER_DAILY_COST_USD": "5", "MODELS": '{"m": {"input_usd": 1}}'}, "USER_DAILY_COST_USD"),
        ({"MODEL_API": "completions"}, "MODEL_API"),
        ({"MODEL_CONTEXT_TOKENS": "255"}, "MODEL_CONTEXT_TOKENS"),
        ({"MODEL_CONTEXT_TOKENS": "4k"}, "MODEL_CONTEXT_TOKENS"),
        ({"MODEL_REASONING_EFFORT": "enormous"}, "MODEL_REASONING_EFFORT"),
        ({"MODEL_REASONING_EFFORT": "none", "OPENAI_MODEL": "o3"}, "MODEL_REASONING_EFFORT"),
        ({"MODEL_REASONING_EFFORT": "low", "OPENAI_MODEL": "gpt-4o"}, "MODEL_REASONING_EFFORT"),
        ({"MODEL_REASONING_EFFORT": "low", "MODELS": '{"m": {"efforts": ["high"]}}'}, "MODEL_REASONING_EFFORT"),
        ({"MODELS": "{"}, "MODELS"),
        ({"MODELS": '["gpt-5.4"]'}, "MODELS"),
        ({"MODELS": '{"my-chat": {"model": "gpt-99"}}'}, "MODELS: my-chat"),
        ({"MODELS": '{"my-chat": {"price": 3}}'}, "MODELS: my-chat.price"),
        ({"AZURE_OPENAI_API_VERSION": "v1"}, "AZURE_OPENAI_API_VERSION"),
        ({"AZURE_OPENAI_API_VERSION": "2024-10-21-beta"}, "AZURE_OPENAI_API_VERSION"),
        ({**_AZURE, "AZURE_OPENAI_API_VERSION": "2024-10-21"}, "AZURE_OPENAI_API_VERSION"),  # responses has none
        (
            {**_AZURE, "AZURE_OPENAI_API_VERSION": "2024-10-21", "MODEL_API": "responses"},
            "MODEL_API=chat",
        ),
        ({"WEBSITE_AUTH_ENABLED": "perhaps"}, "WEBSITE_AUTH_ENABLED"),
    ],
    ids=str,
)
def test_a_refusal_is_one_line_naming_the_setting(
    environment: pytest.MonkeyPatch, changes: dict[str, str | None], named: str
) -> None:
    for name, value in changes.items():
        if value is None:
            environment.delenv(name)
        else:
            environment.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        load_settings()

    text = str(caught.value)
    assert named in text
    assert "\n" not in text
    for secret in (_SECRET, "short-secret", "pg-password", "redis-password"):
        assert secret not in text


def test_azure_with_its_platform_in_front_starts(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AUTH_MODE", "easyauth")
    environment.setenv("WEBSITE_AUTH_ENABLED", "True")
    environment.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Production")
    environment.setenv("AZURE_OPENAI_ENDPOINT", "https://x.openai.azure.com")
    environment.setenv("AZURE_OPENAI_DEPLOYMENT", "gpt")

    assert load_settings().model_name == "gpt"


@pytest.mark.parametrize(
    "changes",
    [
        {**_AZURE, "AZURE_OPENAI_API_VERSION": "2024-10-21", "MODEL_API": "chat"},
        {**_AZURE, "AZURE_OPENAI_API_VERSION": "2025-04-01-preview", "MODELS": '{"gpt-5.4": {"api": "chat"}}'},
        {**_AZURE, "AZURE_OPENAI_DEPLOYMENT": "deepseek-v4-pro", "AZURE_OPENAI_API_VERSION": "2024-10-21"},
        {**_AZURE, "MODEL_REASONING_EFFORT": "xhigh"},
        {"OPENAI_MODEL": "somebodys", "MODEL_REASONING_EFFORT": "minimal"},  # nobody knows what it takes
        {"USER_DAILY_COST_USD": "0"},
        {"USER_DAILY_COST_USD": "2.5", "MODELS": '{"m": {"input_usd": 1, "output_usd": 0}}'},
        {**_AZURE, "USER_DAILY_COST_USD": "2.5"},
        {"MODEL_API": "", "MODEL_CONTEXT_TOKENS": "", "MODEL_REASONING_EFFORT": "", "MODELS": ""},
    ],
    ids=str,
)
def test_what_fits_the_model_starts(environment: pytest.MonkeyPatch, changes: dict[str, str]) -> None:
    for name, value in changes.items():
        environment.setenv(name, value)

    assert load_settings().model_name


@pytest.mark.parametrize(
    ("changes", "model", "api"),
    [
        # Azure: as the model's tools go, and responses where nobody knows.
        (_AZURE, "gpt-5.4", ModelApi.RESPONSES),
        (_AZURE, "GPT-4o", ModelApi.RESPONSES),
        (_AZURE, "deepseek-v4-pro", ModelApi.CHAT),
        (_AZURE, "my-deployment", ModelApi.RESPONSES),
        # Another server: chat, which they all have.
        ({}, "gpt-5.4", ModelApi.CHAT),
        ({}, "qwen3:8b", ModelApi.CHAT),
        # MODEL_API goes before both ...
        ({**_AZURE, "MODEL_API": "chat"}, "gpt-5.4", ModelApi.CHAT),
        ({**_AZURE, "MODEL_API": "responses"}, "deepseek-v4-pro", ModelApi.RESPONSES),
        ({"MODEL_API": "responses"}, "m", ModelApi.RESPONSES),
        # ... and what MODELS says of one model before MODEL_API.
        ({"MODEL_API": "responses", "MODELS": '{"m": {"api": "chat"}}'}, "m", ModelApi.CHAT),
        ({"MODEL_API": "responses", "MODELS": '{"m": {"api": "chat"}}'}, "n", ModelApi.RESPONSES),
        ({"MODELS": '{"m": {"api": "responses"}}'}, "m", ModelApi.RESPONSES),
        # An entry that is about something else says nothing of the API, whatever model it is of.
        ({"MODELS": '{"m": {"model": "gpt-5.4", "input_usd": 1}}'}, "m", ModelApi.CHAT),
        ({**_AZURE, "MODEL_API": "chat", "MODELS": '{"m": {"model": "gpt-5.4"}}'}, "m", ModelApi.CHAT),
        ({**_AZURE, "MODELS": '{"m": {"model": "deepseek-v4-pro"}}'}, "m", ModelApi.CHAT),
    ],
    ids=str,
)
def test_over_which_api_a_model_is_asked(
    environment: pytest.MonkeyPatch, changes: dict[str, str], model: str, api: ModelApi
) -> None:
    for name, value in changes.items():
        environment.setenv(name, value)

    assert load_settings().api_of(model) is api


def test_azure_with_identities_and_keys_in_rotation_starts(environment: pytest.MonkeyPatch) -> None:
    for name, value in {
        "POSTGRES_URL": "postgresql://app@h.test/db?sslmode=verify-full&sslrootcert=system",
        "POSTGRES_AUTH": "entra",
        "REDIS_URL": "rediss://oid@h.test:10000/0",
        "REDIS_AUTH": "entra",
        "AzureSignalRConnectionString__serviceUri": "https://s.test",
        "REALTIME_DELIVERY": "rest",
        "APPROVAL_LINK_SECRET": f"k2:{_SECRET}2,k1:{_SECRET}1",
        "APPROVAL_WEBHOOK_SECRET": ",".join(["whsec_" + "c2VjcmV0" * 4] * 2),
        "AUTH_AUDIENCES": "app, api://app",
    }.items():
        environment.setenv(name, value)

    settings = load_settings()

    assert settings.postgres_auth is settings.redis_auth is StoreAuth.ENTRA
    assert settings.auth_audiences == ("app", "api://app")
    assert without_user(settings.redis_url) == "rediss://h.test:10000/0"
    assert _SECRET not in repr(settings)


def test_settings_show_no_secret_and_do_not_change(environment: pytest.MonkeyPatch) -> None:
    settings = load_settings()

    for secret in (_SECRET, "pg-password", "redis-password"):
        assert secret not in repr(settings)
    field: Any = "auth_mode"
    with pytest.raises(ValidationError):
        setattr(settings, field, AuthMode.EASYAUTH)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBSITE_INSTANCE_ID", "6b1c"),
        ("WEBSITE_SITE_NAME", "func-parley"),
        ("WEBSITE_SKU", "FlexConsumption"),
        ("WEBSITE_POD_NAME", "0--4f"),
        ("LEGION_SERVICE_HOST", "10.0.0.1"),
        ("WEBSITE_HOSTNAME", "func-parley.azurewebsites.net"),
    ],
)
def test_the_development_header_is_trusted_nowhere_in_azure_whatever_the_environment_is_called(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(ConfigError, match=f"AUTH_MODE=dev .* never starts in Azure, of which {name} is a sign"):
        load_settings()

    environment.setenv("AUTH_MODE", "easyauth")
    environment.setenv("WEBSITE_AUTH_ENABLED", "True")
    assert load_settings().auth_mode is AuthMode.EASYAUTH


def test_the_sample_names_exactly_the_settings_an_operator_makes() -> None:
    sample = json.loads((Path(__file__).parents[3] / "local.settings.sample.json").read_text("utf-8"))["Values"]
    of_the_platform = {
        "WEBSITE_HOSTNAME",
        "WEBSITE_AUTH_ENABLED",
        "AZURE_FUNCTIONS_ENVIRONMENT",
        "WEBSITE_SITE_NAME",
        "WEBSITE_INSTANCE_ID",
        "WEBSITE_SKU",
        "WEBSITE_POD_NAME",
        "LEGION_SERVICE_HOST",
        "REGION_NAME",
    }
    known = {str(field.alias) for field in Settings.model_fields.values()} - of_the_platform

    assert set(sample) == known | {"FUNCTIONS_WORKER_RUNTIME"}
