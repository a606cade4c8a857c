"""The `extensions.durableTask` section of host.json, as far as it changes an app's behaviour.

Invariant: an unknown setting is an error that names it, never a silent guess. Settings that only tune the
cloud's storage or telemetry are accepted and have no effect here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from devhost.durable.limits import SCHEDULER_LIMIT_BYTES
from devhost.extensions.contract import HostError
from devhost.settings.config import grace_s

_NO_EFFECT = frozenset(
    {
        "extendedsessionsenabled",
        "extendedsessionidletimeoutinseconds",
        "usegracefulshutdown",
        "tracing",
        "maxqueuepollinginterval",
        "rollbackentityoperationsonexceptions",
        "entitymessagereorderwindowinminutes",
        "maxentityoperationbatchsize",
        "localrpcendpointenabled",
        "useappleasing",
        "storeinputsinorchestrationhistory",
        "grpclistenmode",
    }
)
_HUB = re.compile(r"^[A-Za-z][A-Za-z0-9]{2,44}$")
_SCHEDULER = "azuremanaged"
_WITHOUT_LONG_TIMERS = frozenset({"mssql", _SCHEDULER})
_STORAGES = _WITHOUT_LONG_TIMERS | {"azurestorage", "netherite"}


@dataclass(frozen=True, slots=True)
class DurableSettings:
    """Limits are numbers of functions that run at the same time."""

    hub: str
    max_activities: int
    max_orchestrators: int
    max_entities: int
    max_actions: int
    splits_long_timers: bool
    max_payload_bytes: int | None
    """None: no limit."""
    replaces_live_instances: bool
    default_version: str
    http_poll_ms: int
    grace_s: float
    """How long activities that run when the host stops are given to end."""


def read_settings(host_json: Mapping[str, object], app_settings: Mapping[str, str]) -> DurableSettings:
    """Raises HostError naming the setting that is wrong or not supported."""
    extensions = _section(host_json, "extensions", "extensions")
    section = _section(extensions, "durabletask", "extensions.durableTask")
    known = {str(key).lower(): value for key, value in section.items()}
    default_limit = 10 * (os.cpu_count() or 1)
    storage = _section(known, "storageprovider", "extensions.durableTask.storageProvider")
    storage_type = str(_get(storage, "type") or "azureStorage").lower()
    if storage_type not in _STORAGES:
        raise HostError(f"host.json: extensions.durableTask.storageProvider.type '{storage_type}' is not known")
    overridable = str(known.get("overridableexistinginstancestates") or "NonRunningStates").lower()
    if overridable not in ("nonrunningstates", "anystate"):
        raise HostError(
            "host.json: extensions.durableTask.overridableExistingInstanceStates must be NonRunningStates or AnyState"
        )
    http = _section(known, "httpsettings", "extensions.durableTask.httpSettings")
    settings = DurableSettings(
        hub=_hub(known, app_settings),
        max_activities=_positive(known, "maxConcurrentActivityFunctions", default_limit),
        max_orchestrators=_positive(known, "maxConcurrentOrchestratorFunctions", default_limit),
        max_entities=_positive(known, "maxConcurrentEntityFunctions", default_limit),
        max_actions=_positive(known, "maxOrchestrationActions", 100_000),
        splits_long_timers=storage_type not in _WITHOUT_LONG_TIMERS,
        max_payload_bytes=SCHEDULER_LIMIT_BYTES if storage_type == _SCHEDULER else None,
        replaces_live_instances=overridable == "anystate",
        default_version=str(known.get("defaultversion") or ""),
        http_poll_ms=_positive(
            {key.lower(): value for key, value in http.items()},
            "defaultAsyncRequestSleepTimeMilliseconds",
            30_000,
        ),
        grace_s=grace_s(app_settings),
    )
    understood = {
        "hubname",
        "maxconcurrentactivityfunctions",
        "maxconcurrentorchestratorfunctions",
        "maxconcurrententityfunctions",
        "maxorchestrationactions",
        "storageprovider",
        "overridableexistinginstancestates",
        "defaultversion",
        "httpsettings",
    }
    for key, value in section.items():
        lowered = str(key).lower()
        if lowered in understood or lowered in _NO_EFFECT or value in (None, False, {}):
            continue
        raise HostError(
            f"host.json: extensions.durableTask.{key} is not supported by the dev host; remove it or override "
            f"it with AzureFunctionsJobHost__extensions__durableTask__{key}= for local runs"
        )
    return settings


def _hub(known: Mapping[str, object], app_settings: Mapping[str, str]) -> str:
    name = str(known.get("hubname") or "")
    if name.startswith("%") and name.endswith("%") and len(name) > 2:
        found = app_settings.get(name[1:-1])
        if not found:
            raise HostError(f"host.json: hubName is {name}, but the app setting {name[1:-1]} is not set")
        name = found
    if not name:
        site = re.sub(r"[^A-Za-z0-9]", "", app_settings.get("WEBSITE_SITE_NAME", ""))
        name = site[:45] if _HUB.match(site[:45]) else "TestHubName"
    if not _HUB.match(name):
        raise HostError(f"host.json: hubName '{name}' must be 3 to 45 letters and digits and start with a letter")
    return name


def _section(parent: Mapping[str, object], key: str, path: str) -> Mapping[str, object]:
    value = _get(parent, key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise HostError(f"host.json: {path} must be an object")
    return cast("Mapping[str, object]", value)


def _get(parent: Mapping[str, object], key: str) -> object:
    return next((value for name, value in parent.items() if str(name).lower() == key), None)


def _positive(known: Mapping[str, object], name: str, default: int) -> int:
    value = known.get(name.lower())
    if value is None:
        return default
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise HostError(f"host.json: extensions.durableTask.{name} must be a whole number of at least 1")
    return number
