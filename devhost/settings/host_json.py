"""host.json: read, override, check.

Invariant: an unknown section or key that would change behaviour in Azure is refused by name. Keys that only tune
Azure's own machinery (health monitor, extension bundle, telemetry) are accepted and ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devhost.extensions.contract import HostError

OVERRIDE_PREFIX = "AzureFunctionsJobHost__"

KNOWN_TOP_LEVEL = frozenset(
    {
        "version",
        "functiontimeout",
        "functions",
        "logging",
        "extensions",
        "extensionbundle",
        "aggregator",
        "concurrency",
        "healthmonitor",
        "manageddependency",
        "singleton",
        "telemetrymode",
        "tracing",
        "watchdirectories",
        "watchfiles",
        "isdefaulthostconfig",
    }
)
SERVED_EXTENSIONS = frozenset({"http", "durabletask", "signalr", "queues"})
# Sections of extensions whose triggers and bindings this host does not support. Without a function that uses them
# they have no effect, so an app may have them.
INERT_EXTENSIONS = frozenset(
    {
        "blobs",
        "cosmosdb",
        "eventgrid",
        "eventhubs",
        "kafka",
        "mcp",
        "rabbitmq",
        "sendgrid",
        "servicebus",
        "sql",
        "tables",
        "twilio",
        "warmup",
    }
)
KNOWN_HTTP_KEYS = frozenset(
    {
        "routeprefix",
        "maxoutstandingrequests",
        "maxconcurrentrequests",
        "dynamicthrottlesenabled",
        "customheaders",
        "hsts",
    }
)

_TIMESPAN = re.compile(r"(?:(?P<d>\d+)\.)?(?P<h>\d{1,2}):(?P<m>\d{1,2}):(?P<s>\d{1,2})(?:\.\d+)?")


def load_host_json(app_dir: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """host.json of `app_dir` with the overrides from `AzureFunctionsJobHost__a__b` settings.

    Raises HostError when it is missing, is not JSON, or holds something unsupported.
    """
    path = app_dir / "host.json"
    if not path.is_file():
        raise HostError(f"{app_dir} holds no host.json: start devhost in the folder of a Functions app")
    config = read_json_object(path)
    for name, value in settings.items():
        if name.lower().startswith(OVERRIDE_PREFIX.lower()):
            _override(config, name, value)
    _check(config)
    return config


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, with comments and trailing commas if there are any, as in Azure.

    Raises HostError with line and column otherwise.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise HostError(f"{path} cannot be read: {exc}") from exc
    try:
        value = json.loads(text)
    except json.JSONDecodeError as exc:
        value = _lenient(text)
        if value is None:
            raise HostError(f"{path} is not valid JSON (line {exc.lineno}, column {exc.colno}): {exc.msg}") from exc
    if not isinstance(value, dict):
        raise HostError(f"{path} must hold a JSON object")
    return value


def _lenient(text: str) -> Any:
    """What Newtonsoft.Json, Azure's reader, takes beyond JSON; None when it is not that either."""
    import json5  # rarely needed, and slow to load

    try:
        return json5.loads(text)
    except ValueError:
        return None


def section(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A nested object of host.json, {} when absent. Names are case-insensitive, as in .NET."""
    current: Mapping[str, Any] = config
    for name in names:
        value = lookup(current, name)
        current = value if isinstance(value, Mapping) else {}
    return current


def lookup(config: Mapping[str, Any], name: str) -> Any:
    """The value of a key, ignoring case; None when absent."""
    if name in config:
        return config[name]
    wanted = name.lower()
    return next((value for key, value in config.items() if key.lower() == wanted), None)


def parse_timespan(text: str, what: str) -> float | None:
    """Seconds in a .NET `[d.]hh:mm:ss` text; None for "-1" (unbounded). Raises HostError naming `what`."""
    if text.strip() in {"-1", "-00:00:00.001"}:
        return None
    match = _TIMESPAN.fullmatch(text.strip())
    if match is None:
        raise HostError(f'{what} must look like "hh:mm:ss" (or "-1" for no limit), not "{text}"')
    days, hours, minutes, seconds = (int(match[part] or 0) for part in ("d", "h", "m", "s"))
    return days * 86400.0 + hours * 3600 + minutes * 60 + seconds


def _override(config: dict[str, Any], name: str, text: str) -> None:
    parts = [part for part in name[len(OVERRIDE_PREFIX) :].replace(":", "__").split("__") if part]
    if not parts:
        raise HostError(f"app setting {name} names no host.json key")
    current: dict[str, Any] = config
    for part in parts[:-1]:
        key = _existing_key(current, part)
        child = current.get(key)
        if not isinstance(child, dict):
            child = {}
            current[key] = child
        current = child
    current[_existing_key(current, parts[-1])] = _parse_value(text)


def _existing_key(config: Mapping[str, Any], name: str) -> str:
    return next((key for key in config if key.lower() == name.lower()), name)


def _parse_value(text: str) -> Any:
    """Convert the text of a setting to the number or boolean that host.json would contain."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    return text


def _check(config: Mapping[str, Any]) -> None:
    version = lookup(config, "version")
    if str(version) != "2.0":
        raise HostError(f'host.json: "version" must be "2.0", not {json.dumps(version)}')
    for key in config:
        if key.startswith("$") or key.lower() in KNOWN_TOP_LEVEL:
            continue
        raise HostError(f'host.json: "{key}" is not supported by devhost; remove it or fix its name')
    for name in section(config, "extensions"):
        if name.lower() not in SERVED_EXTENSIONS | INERT_EXTENSIONS:
            raise HostError(f'host.json: extension section "extensions.{name}" is not supported by devhost')
    for name in section(config, "extensions", "http"):
        if name.lower() not in KNOWN_HTTP_KEYS:
            raise HostError(f'host.json: "extensions.http.{name}" is not supported by devhost')
