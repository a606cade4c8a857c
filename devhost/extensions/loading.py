"""Find and load the binding extensions an app needs.

Invariant: an extension's package is imported only when it may be used. When a function needs one that is
not installed, the host names the function and does not start.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from devhost.extensions.contract import (
    HTTP_OUTPUT,
    HTTP_TRIGGER,
    TIMER_TRIGGER,
    Extension,
    Function,
    HostError,
    OffersSettings,
)


@dataclass(frozen=True, slots=True)
class Known:
    """An extension that this host ships with, and the binding types that need it."""

    module: str
    attribute: str
    types: frozenset[str]
    always: bool = False
    """Load it even when no function uses it, since it serves an endpoint that apps reach without bindings."""


KNOWN = (
    Known(
        "devhost.durable.extension",
        "DurableExtension",
        frozenset({"orchestrationTrigger", "activityTrigger", "entityTrigger", "durableClient", "orchestrationClient"}),
    ),
    Known(
        "devhost.signalr.extension",
        "SignalRExtension",
        frozenset({"signalRTrigger", "signalRConnectionInfo", "signalR"}),
        always=True,
    ),
    Known("devhost.queues.extension", "QueuesExtension", frozenset({"queueTrigger", "queue"})),
)


class ExtensionLoader:
    """Loads each extension at most once."""

    def __init__(self, known: Sequence[Known]) -> None:
        self._known = known
        self._loaded: dict[str, Extension] = {}

    def load_always(self) -> list[Extension]:
        """The installed extensions that serve an endpoint whatever the app's bindings are."""
        return [self._load(known) for known in self._known if known.always and _is_installed(known.module)]

    def load_for(self, functions: Sequence[Function]) -> list[Extension]:
        """Every extension that the functions need, and those already loaded.

        Raises HostError for a binding type nobody serves, or a needed extension that is not installed.
        """
        own_triggers = {HTTP_TRIGGER, TIMER_TRIGGER}
        for function in functions:
            for binding in (function.trigger, *function.inputs, *function.outputs):
                if binding.type in own_triggers and binding is function.trigger:
                    continue
                if binding.type == HTTP_OUTPUT and function.trigger.type == HTTP_TRIGGER:
                    continue
                self._load_for_binding(function.name, binding.type)
        extensions = list(self._loaded.values())
        for function in functions:
            kind = function.trigger.type
            if kind not in own_triggers and not any(kind in ext.trigger_types for ext in extensions):
                raise _unsupported(function.name, kind)
        return extensions

    def _load_for_binding(self, function_name: str, kind: str) -> None:
        known = next((known for known in self._known if kind in known.types), None)
        if known is None:
            raise _unsupported(function_name, kind)
        if not _is_installed(known.module):
            raise HostError(
                f"function '{function_name}' uses '{kind}', but {known.module} is not part of this installation"
            )
        self._load(known)

    def _load(self, known: Known) -> Extension:
        if known.module not in self._loaded:
            make = getattr(importlib.import_module(known.module), known.attribute)
            self._loaded[known.module] = cast(Extension, make())
        return self._loaded[known.module]


def offered_settings(extensions: Sequence[Extension], base_url: str) -> Mapping[str, str]:
    """The extensions' defaults for app settings, such as the address of an endpoint that they serve."""
    offered: dict[str, str] = {}
    for extension in extensions:
        if isinstance(extension, OffersSettings):
            offered.update(extension.default_settings(base_url))
    return offered


def _unsupported(function_name: str, kind: str) -> HostError:
    return HostError(f"function '{function_name}': binding type '{kind}' is not supported by devhost")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
