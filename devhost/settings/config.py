"""The settings of an app: local.settings.json, the environment, and `%NAME%` in bindings.

Invariant: a variable of the real environment always wins over local.settings.json, and the
`os.environ` of workers equals the `HostContext.settings` of extensions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devhost.extensions.contract import HostError
from devhost.settings.host_json import lookup, parse_timespan, read_json_object, section

DEFAULT_PORT = 7071
# The plan-independent default of Core Tools and of every plan but Consumption.
DEFAULT_FUNCTION_TIMEOUT_S = 30 * 60.0
DEFAULT_BODY_LIMIT_BYTES = 104_857_600
GRACE_SETTING = "DEVHOST_GRACE_SECONDS"
DEFAULT_GRACE_S = 5.0
"""Azure's host has 30 s. Who has pressed Ctrl-C waits for it."""
LONGEST_GRACE_S = 20.0
"""`./dev up` kills a host that has not ended after 30 s."""

_PERCENT_NAME = re.compile(r"%([^%\s{}]+)%")


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """local.settings.json. All parts may be empty; the file is optional."""

    values: Mapping[str, str] = field(default_factory=dict)
    http_port: int | None = None
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = False


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """`extensions.http` of host.json."""

    route_prefix: str = "api"
    """Without slashes at its ends; may be empty."""
    max_outstanding: int | None = None
    """More concurrent requests than this are answered with 429; None = no limit."""
    max_concurrent: int | None = None
    """HTTP functions that run concurrently; further ones wait. None = no limit."""
    custom_headers: Mapping[str, str] = field(default_factory=dict)


def load_local_settings(app_dir: Path) -> LocalSettings:
    """Read local.settings.json of `app_dir`. Raises HostError when it is malformed or encrypted."""
    path = app_dir / "local.settings.json"
    if not path.is_file():
        return LocalSettings()
    raw = read_json_object(path)
    if lookup(raw, "IsEncrypted") is True:
        raise HostError(f"{path} is encrypted: run `func settings decrypt` or set IsEncrypted to false")
    values: dict[str, str] = {}
    for name, value in section(raw, "Values").items():
        values[name] = _setting_text(path, f"Values.{name}", value)
    for name, value in section(raw, "ConnectionStrings").items():
        text = lookup(value, "ConnectionString") if isinstance(value, Mapping) else value
        values[f"ConnectionStrings:{name}"] = _setting_text(path, f"ConnectionStrings.{name}", text)
    host = section(raw, "Host")
    origins = tuple(part.strip().rstrip("/") for part in str(lookup(host, "CORS") or "").split(",") if part.strip())
    credentials = str(lookup(host, "CORSCredentials") or "").lower() == "true"
    if credentials and "*" in origins:
        raise HostError(f'{path}: CORS "*" cannot be combined with CORSCredentials; list the origins')
    return LocalSettings(values, _port(path, lookup(host, "LocalHttpPort")), origins, credentials)


def http_options(host_json: Mapping[str, Any]) -> HttpOptions:
    """`extensions.http` with Core Tools' defaults."""
    http = section(host_json, "extensions", "http")
    prefix = lookup(http, "routePrefix")
    return HttpOptions(
        route_prefix="api" if prefix is None else str(prefix).strip("/"),
        max_outstanding=_limit(lookup(http, "maxOutstandingRequests"), "maxOutstandingRequests"),
        max_concurrent=_limit(lookup(http, "maxConcurrentRequests"), "maxConcurrentRequests"),
        custom_headers={name: str(value) for name, value in section(http, "customHeaders").items()},
    )


def function_timeout_s(host_json: Mapping[str, Any]) -> float | None:
    """`functionTimeout` in seconds; None = unbounded."""
    text = lookup(host_json, "functionTimeout")
    if text is None:
        return DEFAULT_FUNCTION_TIMEOUT_S
    return parse_timespan(str(text), "host.json: functionTimeout")


def body_limit_bytes(settings: Mapping[str, str]) -> int:
    """`FUNCTIONS_REQUEST_BODY_SIZE_LIMIT`, default 100 MB."""
    text = settings.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT")
    if text is None:
        return DEFAULT_BODY_LIMIT_BYTES
    if not text.isdigit():
        raise HostError(f"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT must be a number of bytes, not {text!r}")
    return int(text)


def grace_s(settings: Mapping[str, str]) -> float:
    """`DEVHOST_GRACE_SECONDS`: how long what runs when the host stops is given to end."""
    text = settings.get(GRACE_SETTING) or str(DEFAULT_GRACE_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_GRACE_S:
        raise HostError(f"app setting {GRACE_SETTING} must be a number of seconds from 0 to {LONGEST_GRACE_S:g}")
    return seconds


def is_disabled(function_name: str, settings: Mapping[str, str]) -> bool:
    """Whether `AzureWebJobs.<name>.Disabled` (or its `__` spelling) is on."""
    spellings = (f"AzureWebJobs.{function_name}.Disabled", f"AzureWebJobs__{function_name}__Disabled")
    return any((_ignoring_case(settings, name) or "").strip().lower() in {"true", "1"} for name in spellings)


def replace_names(raw: Mapping[str, Any], settings: Mapping[str, str], where: str) -> dict[str, Any]:
    """A binding with every `%NAME%` in its strings replaced by that app setting.

    Raises HostError naming the function (`where`), the key and the missing setting.
    """
    return {key: _replace(value, settings, f"{where}: {key}") for key, value in raw.items()}


def app_environment(settings: Mapping[str, str], offered: Mapping[str, str]) -> dict[str, str]:
    """The environment of the app's workers, and of nobody else.

    The real environment wins over a setting, even with an empty value. A default offered by the host also replaces an
    empty value, since a settings file copied from a sample names every setting, most of them empty.
    """
    chosen = {**settings, **os.environ}
    return chosen | {name: value for name, value in offered.items() if not chosen.get(name)}


def _replace(value: Any, settings: Mapping[str, str], where: str) -> Any:
    if isinstance(value, list):
        return [_replace(item, settings, where) for item in value]
    if not isinstance(value, str) or "%" not in value:
        return value

    def setting(match: re.Match[str]) -> str:
        text = _ignoring_case(settings, match[1])
        if text is None:
            raise HostError(f"{where}: %{match[1]}% is not an app setting; add {match[1]} to local.settings.json")
        return text

    return _PERCENT_NAME.sub(setting, value)


def _ignoring_case(settings: Mapping[str, str], name: str) -> str | None:
    if name in settings:
        return settings[name]
    wanted = name.lower()
    return next((value for key, value in settings.items() if key.lower() == wanted), None)


def _setting_text(path: Path, name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise HostError(f"{path}: {name} must be a string")


def _port(path: Path, value: Any) -> int | None:
    if value is None:
        return None
    if not str(value).isdigit() or not 0 <= int(value) <= 65535:
        raise HostError(f"{path}: Host.LocalHttpPort must be a port number, not {value!r}")
    return int(value)


def _limit(value: Any, name: str) -> int | None:
    if value is None or value == -1:
        return None
    if not isinstance(value, int) or value < 1:
        raise HostError(f"host.json: extensions.http.{name} must be a positive number or -1")
    return value
