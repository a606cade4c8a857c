"""Every setting of the app, typed, checked once at start.

Nothing else in the app reads `os.environ`, except the commands in `shared/adapters/sql/`, which read POSTGRES_URL.
`local.settings.sample.json` and `infra/` name exactly these settings. Beside them are the secrets of tools,
`TOOL_SECRET_<NAME>`, whose names the tools choose.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import ConfigError
from shared.principal import AuthMode
from shared.sessions.channels.mail_server import MailServer
from shared.sessions.llm.registry import ModelApi, ModelRegistry, parse_models
from shared.sessions.models import ReasoningEffort
from shared.sessions.tools.running.secrets import SETTING_PREFIX
from shared.signing import SigningKeys


class RateLimitFail(StrEnum):
    OPEN = "open"  # while Redis is down, requests are served and not counted
    CLOSED = "closed"  # while Redis is down, requests are refused


class RealtimeDelivery(StrEnum):
    BINDING = "binding"  # through the relay function's SignalR output binding
    REST = "rest"  # straight to the SignalR data plane


class StoreAuth(StrEnum):
    URL = "url"  # user and password as the URL says
    ENTRA = "entra"  # the app's managed identity: tokens replace the password


_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_QUEUE = re.compile(r"(?=.{3})[a-z0-9]+(-[a-z0-9]+)*")
_SCHEMES = {"postgres_url": ("postgresql", "postgres"), "redis_url": ("redis", "rediss")}


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class Settings(BaseSettings):
    """All settings, frozen. Field aliases are the environment variables."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=True, env_ignore_empty=True)

    # The model: either Azure OpenAI ...
    azure_openai_endpoint: str | None = Field(None, alias="AZURE_OPENAI_ENDPOINT")
    azure_openai_deployment: str | None = Field(None, alias="AZURE_OPENAI_DEPLOYMENT")
    azure_openai_api_key: str | None = Field(None, alias="AZURE_OPENAI_API_KEY", repr=False)
    """Absent: managed identity."""
    azure_openai_api_version: str | None = Field(
        None, alias="AZURE_OPENAI_API_VERSION", pattern=r"^\d{4}-\d{2}-\d{2}(-preview)?$"
    )
    """Only for the dated chat-completions paths; absent: the v1 API, which has no version."""
    # ... or any server that speaks OpenAI's APIs.
    openai_base_url: str | None = Field(None, alias="OPENAI_BASE_URL")
    openai_api_key: str | None = Field(None, alias="OPENAI_API_KEY", repr=False)
    openai_model: str | None = Field(None, alias="OPENAI_MODEL")
    model_api: ModelApi | None = Field(None, alias="MODEL_API")
    """Absent: `responses` for Azure OpenAI, `chat` for OPENAI_BASE_URL."""
    model_context_tokens: int | None = Field(None, alias="MODEL_CONTEXT_TOKENS", ge=256, le=100_000_000)
    """The default model's context window; absent: taken from models.json, else learned from the server."""
    model_reasoning_effort: ReasoningEffort | None = Field(None, alias="MODEL_REASONING_EFFORT")
    """Reasoning effort of the default model; absent: the model's own default."""
    models: str | None = Field(None, alias="MODELS")
    """JSON by deployment: adds to models.json or overrides it (`shared/sessions/llm/registry.py`)."""
    session_title_model: str | None = Field(None, alias="SESSION_TITLE_MODEL", max_length=128)
    """Deployment or model that makes titles of sessions (`shared/sessions/life/titling.py`); absent: the first line is
    the title."""
    llm_first_byte_seconds: float = Field(180, alias="LLM_FIRST_BYTE_SECONDS", gt=0, le=480)
    """How long a model may be silent before its answer begins; some reason for minutes and say nothing meanwhile."""
    llm_timeout_seconds: float = Field(120, alias="LLM_TIMEOUT_SECONDS", gt=0, le=600)
    """Longest gap between two chunks of the model's stream, from the first one on."""
    llm_step_seconds: float = Field(480, alias="LLM_STEP_SECONDS", gt=0, le=480)
    """For all that one step asks of its model, failed tries included (`shared/sessions/turns/patience.py`). Not more:
    one try may take as long, and the host ends what takes longer than `functionTimeout`."""
    llm_retry_tokens: int = Field(200_000, alias="LLM_RETRY_TOKENS", ge=0, le=10**9)
    """What failed tries of one step may use before there is no third. They count for all budgets, too."""

    # Lanes: what one process does at once (`shared/lanes.py`). Together they leave a part of
    # `maxConcurrentActivityFunctions` in host.json to what is short.
    model_lane: int = Field(128, alias="MODEL_LANE", ge=1, le=10_000)
    """Answers that are streamed."""
    model_lane_per_user: int = Field(80, alias="MODEL_LANE_PER_USER", ge=1, le=10_000)
    model_lane_per_model: int = Field(112, alias="MODEL_LANE_PER_MODEL", ge=1, le=10_000)
    """So that a model that hangs leaves places to the others."""
    tool_lane: int = Field(96, alias="TOOL_LANE", ge=1, le=10_000)
    """Tools that run."""
    tool_lane_per_user: int = Field(64, alias="TOOL_LANE_PER_USER", ge=1, le=10_000)
    tool_threads: int = Field(32, alias="TOOL_THREADS", ge=1, le=1_000)
    """Sync tools that run at once, two thirds of them for one user. One that never returns holds its thread."""
    lane_wait_seconds: float = Field(10, alias="LANE_WAIT_SECONDS", gt=0, le=3_600)
    """Who waits longer for a place is told so, and health says which lane is full."""

    # Stores.
    postgres_url: str = Field(alias="POSTGRES_URL", repr=False)
    postgres_pool_size: int = Field(10, alias="POSTGRES_POOL_SIZE", ge=1, le=100)
    """Connections per process; the sum over all instances must stay below the server's limit."""
    postgres_auth: StoreAuth = Field(StoreAuth.URL, alias="POSTGRES_AUTH")
    redis_url: str = Field(alias="REDIS_URL", repr=False)
    redis_auth: StoreAuth = Field(StoreAuth.URL, alias="REDIS_AUTH")
    redis_patience_seconds: float = Field(0.3, alias="REDIS_PATIENCE_SECONDS", gt=0, le=5)
    """For how long Redis may be silent before everything goes on without it. At most that is added to a request."""
    azure_web_jobs_storage: str | None = Field(None, alias="AzureWebJobsStorage", repr=False)
    tables_endpoint: str | None = Field(None, alias="TABLES_ENDPOINT")
    """Table storage of the audit trail, with managed identity instead of the connection string above."""
    blobs_endpoint: str | None = Field(None, alias="BLOBS_ENDPOINT")
    """Blob storage of files, in the same way."""
    attachment_max_bytes: int = Field(25 * 1024 * 1024, alias="ATTACHMENT_MAX_BYTES", ge=1, le=100 * 1024 * 1024)
    """Size limit of one file; analysing a larger one takes longer than a caller waits."""
    event_buffer_length: int = Field(10_000, alias="EVENT_BUFFER_LENGTH", ge=100)
    """Events kept per session for replay."""
    event_buffer_seconds: int = Field(86_400, alias="EVENT_BUFFER_SECONDS", ge=60)
    """A session's buffer expires this long after its last event."""

    turn_history_days: int = Field(7, alias="TURN_HISTORY_DAYS", ge=0)
    """How long the durable history of an ended turn is kept for inspection; it only takes space in the task hub."""
    turn_stalled_seconds: int = Field(120, alias="TURN_STALLED_SECONDS", ge=1, le=86_400)
    """A turn that is silent for this long beyond what its step may take is started again."""
    session_idle_days: int = Field(0, alias="SESSION_IDLE_DAYS", ge=0, le=36_500)
    """A session is ended after this long without activity, unless a turn is open; 0: never."""
    session_retention_days: int = Field(0, alias="SESSION_RETENTION_DAYS", ge=0, le=36_500)
    """A session is erased this long after it ended, as if its owner had deleted it; 0: never."""

    # Callers and links.
    auth_mode: AuthMode = Field(AuthMode.EASYAUTH, alias="AUTH_MODE")
    auth_tenant_id: str | None = Field(None, alias="AUTH_TENANT_ID")
    """With easyauth: only users of this Entra tenant are let in; absent: the platform's own check is enough."""
    auth_audiences: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field((), alias="AUTH_AUDIENCES")
    """With easyauth: a token's audience must be one of these; empty: the platform's own check is enough."""
    public_base_url: str = Field(alias="PUBLIC_BASE_URL")
    approval_link_secret: str = Field(alias="APPROVAL_LINK_SECRET", repr=False)
    """One secret, or `id:secret,id:secret`: the first signs; all except retired ones verify (see `SigningKeys`)."""
    approval_webhook_url: str | None = Field(None, alias="APPROVAL_WEBHOOK_URL")
    approval_webhook_secret: str | None = Field(None, alias="APPROVAL_WEBHOOK_SECRET", repr=False)
    """In Standard Webhooks format: `whsec_` and base64 of 24-64 bytes. Of several, separated by commas, each signs."""
    trigger_queue: str | None = Field(None, alias="TRIGGER_QUEUE")
    """The queue in the account of AzureWebJobsStorage whose messages fire triggers; empty: none, and nothing looks at
    one."""

    # Channels (docs/channels.md). The URLs are secrets: whoever has one can write there.
    webhook_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("public",), alias="WEBHOOK_HOSTS"
    )
    """Where webhooks of users may lead: `public` is every public host over https, `none` no host; beside it each
    `host[:port]`."""
    teams_webhook_url: str | None = Field(None, alias="TEAMS_WEBHOOK_URL", repr=False)
    slack_webhook_url: str | None = Field(None, alias="SLACK_WEBHOOK_URL", repr=False)
    smtp_url: str | None = Field(None, alias="SMTP_URL", repr=False)
    """`smtps://user:password@host[:port]`, or `smtp://...` for STARTTLS."""
    mail_from: str | None = Field(None, alias="MAIL_FROM")
    mail_to: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field((), alias="MAIL_TO")

    # Limits.
    rate_limit_per_minute: int = Field(600, alias="RATE_LIMIT_PER_MINUTE", ge=0, le=1_000_000)
    """Requests of one user, over all instances; 0: no limit."""
    rate_limit_burst: int = Field(100, alias="RATE_LIMIT_BURST", ge=1, le=1_000_000)
    """Requests that a user may send at once after a pause."""
    rate_limit_fail: RateLimitFail = Field(RateLimitFail.OPEN, alias="RATE_LIMIT_FAIL")
    streams_per_user: int = Field(20, alias="STREAMS_PER_USER", ge=0, le=100_000)
    """Event streams (SSE) that one user may have open on one instance: a fifth of the requests that an instance serves
    at a time (`perInstanceConcurrency`); 0: no limit."""
    user_daily_tokens: int = Field(0, alias="USER_DAILY_TOKENS", ge=0, le=10**15)
    """Input and output tokens of one user's turns per day (UTC); 0: no limit."""
    user_daily_cost_usd: float = Field(0, alias="USER_DAILY_COST_USD", ge=0, le=10**9)
    """Cost of one user's turns per day (UTC), by the prices in models.json and MODELS; 0: no limit."""

    # Realtime.
    signalr_connection_string: str | None = Field(None, alias="AzureSignalRConnectionString", repr=False)
    signalr_service_uri: str | None = Field(None, alias="AzureSignalRConnectionString__serviceUri")
    """With managed identity instead of the connection string; the host's binding reads the same name."""
    realtime_delivery: RealtimeDelivery = Field(RealtimeDelivery.BINDING, alias="REALTIME_DELIVERY")

    # Tools.
    tools_http_allow: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), alias="TOOLS_HTTP_ALLOW"
    )
    """Each `host[:port]` that the HTTP tools may reach; empty: none."""
    mcp_allow: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field((), alias="MCP_ALLOW")
    """Each `host[:port]` that agents may name as an MCP server, and behind it, separated by spaces, the credentials
    that it may be given: `secret:NAME` or `scope:SCOPE`. Empty: none. Apart from TOOLS_HTTP_ALLOW, since models choose
    what is sent there."""

    # What is not Parley's (docs/extend.md).
    agents_folder: str = Field("agents", alias="AGENTS_FOLDER", min_length=1)
    """Agents as files and tools; a path that is not absolute begins in the app's folder. Without the folder: none."""

    # Traces; see docs/decisions/0010. The SDK's other standard variables (OTEL_TRACES_SAMPLER, ...) apply as well.
    otel_exporter_otlp_endpoint: str | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Base URL of an OTLP/HTTP collector; used instead of Application Insights. Without either, nothing is traced."""
    otel_exporter_otlp_headers: str | None = Field(None, alias="OTEL_EXPORTER_OTLP_HEADERS", repr=False)
    """`name=value,...` sent with every export, such as the collector's key."""
    otel_service_name: str = Field("parley", alias="OTEL_SERVICE_NAME")
    applicationinsights_connection_string: str | None = Field(
        None, alias="APPLICATIONINSIGHTS_CONNECTION_STRING", repr=False
    )
    """Where spans go without a collector, using the app's managed identity; the host reads the same name."""

    # Set by the platform, not by operators.
    website_site_name: str = Field("", alias="WEBSITE_SITE_NAME")
    website_instance_id: str = Field("", alias="WEBSITE_INSTANCE_ID")
    region_name: str = Field("", alias="REGION_NAME")
    website_hostname: str = Field("localhost:7071", alias="WEBSITE_HOSTNAME")
    functions_environment: str = Field("Production", alias="AZURE_FUNCTIONS_ENVIRONMENT")
    website_auth_enabled: bool = Field(False, alias="WEBSITE_AUTH_ENABLED")
    website_sku: str = Field("", alias="WEBSITE_SKU")
    website_pod_name: str = Field("", alias="WEBSITE_POD_NAME")
    legion_service_host: str = Field("", alias="LEGION_SERVICE_HOST")

    @field_validator(
        "postgres_url",
        "redis_url",
        "public_base_url",
        "azure_openai_endpoint",
        "openai_base_url",
        "otel_exporter_otlp_endpoint",
        "signalr_service_uri",
    )
    @classmethod
    def _is_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = _SCHEMES.get(info.field_name or "", ("http", "https"))
        if value is not None and not _has_host(value, schemes):
            raise ValueError(f"must be a URL starting with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    @field_validator("trigger_queue")
    @classmethod
    def _is_queue(cls, value: str | None) -> str | None:
        # 63 with `-poison`, the queue of what could not be fired.
        if value is not None and (len(value) > 56 or _QUEUE.fullmatch(value) is None or value.endswith("-poison")):
            raise ValueError("must be a queue's name: 3 to 56 lower-case letters, digits and single dashes")
        return value

    @field_validator("teams_webhook_url", "slack_webhook_url")
    @classmethod
    def _is_chat(cls, value: str | None) -> str | None:
        # http only to this machine, for whoever tries it.
        if value is not None and not (_is_https(value) or urlsplit(value).hostname in ("localhost", "127.0.0.1")):
            raise ValueError("must be the URL that the chat shows, starting with https://")
        return value

    @field_validator("smtp_url")
    @classmethod
    def _is_mail_server(cls, value: str | None) -> str | None:
        if value is not None:
            MailServer.parse(value)
        return value

    @field_validator("mail_from", "mail_to")
    @classmethod
    def _are_addresses(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for address in (value,) if isinstance(value, str) else value or ():
            if _ADDRESS.fullmatch(address) is None:
                raise ValueError("must be mail addresses such as approvals@example.com, several with commas")
        return value

    @field_validator("azure_openai_endpoint", "openai_base_url")
    @classmethod
    def _is_without_secrets(cls, value: str | None, info: ValidationInfo) -> str | None:
        # A key in a URL would leak into logs, redirects and error messages.
        if value is not None and urlsplit(value).username is not None:
            raise ValueError("must not contain a user or a password: set the API key's own setting")
        # Azure endpoints are accepted as the portal shows them; their query is ignored.
        if value is not None and info.field_name == "openai_base_url" and set(value) & set("?#"):
            raise ValueError("must end with the path, such as https://models.example.com/v1: no ? and no #")
        return value

    @model_validator(mode="before")
    @classmethod
    def _is_resolved(cls, values: dict[str, object]) -> dict[str, object]:
        # The platform leaves the reference in place when it cannot read the vault. The reference is public, so anybody
        # could sign with such a "secret".
        for name, value in values.items():
            if isinstance(value, str) and value.startswith("@Microsoft.KeyVault("):
                raise ValueError(
                    f"{name} is a Key Vault reference that was not resolved; see the app's identity and role"
                )
        return values

    @field_validator("models")
    @classmethod
    def _are_models(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parse_models(value)
            except ConfigError as exc:
                raise ValueError(str(exc)) from None
        return value

    @field_validator("approval_link_secret")
    @classmethod
    def _is_key_ring(cls, value: str) -> str:
        SigningKeys.parse(value)
        return value

    @field_validator("approval_webhook_secret")
    @classmethod
    def _is_webhook_secret(cls, value: str | None) -> str | None:
        try:
            usable = value is None or all(
                len(b64decode(one.removeprefix("whsec_"), validate=True)) >= 24 for one in value.split(",")
            )
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be whsec_ and base64 of at least 24 bytes, or several of them with commas")
        return value

    @field_validator("applicationinsights_connection_string")
    @classmethod
    def _is_insights(cls, value: str | None) -> str | None:
        parts = dict(part.strip().partition("=")[::2] for part in (value or "").split(";"))
        endpoint = parts.get("IngestionEndpoint", "")
        if value is not None and not (_GUID.fullmatch(parts.get("InstrumentationKey", "")) and _is_https(endpoint)):
            raise ValueError("must be a connection string with InstrumentationKey=GUID;IngestionEndpoint=https://...")
        return value

    @field_validator("signalr_connection_string")
    @classmethod
    def _is_signalr(cls, value: str | None) -> str | None:
        if value is not None and not (value.startswith("Endpoint=") or ";Endpoint=" in value):
            raise ValueError("must be a connection string with Endpoint=...;AccessKey=...")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.auth_mode is AuthMode.DEV and self.functions_environment != "Development":
            raise ValueError(
                "AUTH_MODE=dev trusts a plain header and only starts in the local Development environment;"
                " set AUTH_MODE=easyauth"
            )
        if self.auth_mode is AuthMode.DEV and self.sign_of_azure is not None:
            raise ValueError(
                f"AUTH_MODE=dev trusts a plain header and never starts in Azure, of which {self.sign_of_azure} is a"
                " sign; set AUTH_MODE=easyauth"
            )
        if self.auth_mode is AuthMode.EASYAUTH and not self.website_auth_enabled:
            raise ValueError(
                "AUTH_MODE=easyauth needs App Service Authentication in front (WEBSITE_AUTH_ENABLED);"
                " enable it, or set AUTH_MODE=dev on your own machine"
            )
        if self.azure_openai_endpoint and not self.azure_openai_deployment:
            raise ValueError("AZURE_OPENAI_DEPLOYMENT is missing: the name of the deployment to call")
        if not self.azure_openai_endpoint and not (self.openai_base_url and self.openai_model):
            raise ValueError(
                "no model: set AZURE_OPENAI_ENDPOINT and AZURE_OPENAI_DEPLOYMENT, or OPENAI_BASE_URL and OPENAI_MODEL"
            )
        self._check_model()
        if self.llm_first_byte_seconds > self.llm_step_seconds:
            raise ValueError("LLM_FIRST_BYTE_SECONDS must not be more than LLM_STEP_SECONDS, which holds for the step")
        if self.approval_webhook_url and not self.approval_webhook_secret:
            raise ValueError("APPROVAL_WEBHOOK_SECRET is missing: webhooks are always signed")
        if self.smtp_url and not (self.mail_from and self.mail_to):
            raise ValueError("SMTP_URL needs MAIL_FROM and MAIL_TO: who sends, and who may decide")
        if self.realtime_delivery is RealtimeDelivery.REST and not (
            self.signalr_connection_string or self.signalr_service_uri
        ):
            raise ValueError("REALTIME_DELIVERY=rest needs AzureSignalRConnectionString or its __serviceUri")
        if self.postgres_auth is StoreAuth.ENTRA and "sslmode=verify-full" not in urlsplit(self.postgres_url).query:
            raise ValueError("POSTGRES_AUTH=entra sends a token as password: POSTGRES_URL needs sslmode=verify-full")
        if self.redis_auth is StoreAuth.ENTRA and not self.redis_url.startswith("rediss://"):
            raise ValueError("REDIS_AUTH=entra sends a token as password: REDIS_URL must start with rediss://")
        return self

    def _check_model(self) -> None:
        if self.azure_openai_api_version and not self.azure_openai_endpoint:
            raise ValueError("AZURE_OPENAI_API_VERSION goes with AZURE_OPENAI_ENDPOINT: take it out")
        if self.azure_openai_api_version and self.api_of(self.model_name) is not ModelApi.CHAT:
            raise ValueError("AZURE_OPENAI_API_VERSION is for chat completions: take it out, or set MODEL_API=chat")
        model = self.registry.find(self.model_name)
        effort = self.model_reasoning_effort
        if effort is not None and model.efforts is not None and effort not in model.efforts:
            takes = ", ".join(model.efforts) or "none: it does not reason"
            raise ValueError(f"MODEL_REASONING_EFFORT={effort}: the model {self.model_name} takes {takes}")
        if self.user_daily_cost_usd and not model.is_priced:
            raise ValueError(
                f"USER_DAILY_COST_USD needs the price of {self.model_name}:"
                ' MODELS={"' + self.model_name + '": {"input_usd": ..., "output_usd": ...}}, per million tokens'
            )
        titles = self.session_title_model
        if self.user_daily_cost_usd and titles is not None and not self.registry.find(titles).is_priced:
            raise ValueError(f"USER_DAILY_COST_USD needs the price of SESSION_TITLE_MODEL={titles}, too: see MODELS")

    @cached_property
    def registry(self) -> ModelRegistry:
        """The configured models. Raises ConfigError."""
        return ModelRegistry(parse_models(self.models) if self.models else None)

    def api_of(self, model: str) -> ModelApi:
        """The API a model is called over, unless its agent names one."""
        said = self.registry.api_of(model) or self.model_api
        if said is not None:
            return said
        if self.azure_openai_endpoint:
            return self.registry.find(model).api or ModelApi.RESPONSES
        return ModelApi.CHAT

    @property
    def sign_of_azure(self) -> str | None:
        """The variable by which this process seems to run in Azure; None on a laptop.

        AZURE_FUNCTIONS_ENVIRONMENT is no such sign, since anybody can set it as an app setting. These are set by the
        platform; the host reads the same ones (azure-functions-host, `EnvironmentSettingNames`): the site and its SKU
        everywhere, the instance on App Service, the pod and Legion's address on Flex Consumption. Not CONTAINER_NAME,
        which other containers have, too.
        """
        signs = {
            "WEBSITE_INSTANCE_ID": self.website_instance_id,
            "WEBSITE_SITE_NAME": self.website_site_name,
            "WEBSITE_SKU": self.website_sku,
            "WEBSITE_POD_NAME": self.website_pod_name,
            "LEGION_SERVICE_HOST": self.legion_service_host,
            "WEBSITE_HOSTNAME": ".azurewebsites." in self.website_hostname,
        }
        return next((name for name, value in signs.items() if value), None)

    @cached_property
    def internal_base_url(self) -> str:
        """Base URL of this app's own functions: `https`, except on localhost."""
        host = self.website_hostname
        scheme = "http" if host.split(":")[0] in {"localhost", "127.0.0.1"} else "https"
        return f"{scheme}://{host}"

    @property
    def model_name(self) -> str:
        """The default model or deployment of a turn."""
        return (self.azure_openai_deployment if self.azure_openai_endpoint else self.openai_model) or ""


def _has_host(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port, or of an IPv6 address
        return False


def _is_https(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" and bool(parts.netloc)


def without_user(url: str) -> str:
    """A URL without user and password, for clients that get their credentials separately."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def load_settings() -> Settings:
    """Read the environment. Raises ConfigError with one line naming the setting and the fix."""
    try:
        return Settings()
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ConfigError(f"{name} is not set (see local.settings.sample.json)") from None
        text = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name}: {text}" if name else text) from None


def load_tool_secrets() -> dict[str, str]:
    """The settings `TOOL_SECRET_...`, for `SettingSecrets`."""
    return {name: value for name, value in os.environ.items() if name.startswith(SETTING_PREFIX)}
