"""What a worker indexed, as the host's `Function`s.

Invariant: a function that Azure's host would not run is refused here. A binding that no extension of this host serves
is refused by name before anything starts (`../extensions/loading.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devhost.extensions.contract import Binding, Direction, Function, HostError
from devhost.settings.config import is_disabled, replace_names


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`@app.retry` of a function, in seconds."""

    max_retries: int
    first_delay_s: float
    longest_delay_s: float
    """Equal to `first_delay_s` for a fixed delay."""

    def delay_s(self, attempt: int) -> float:
        """Wait before retry number `attempt` (from 1): doubling, capped."""
        return float(min(self.first_delay_s * 2 ** (attempt - 1), self.longest_delay_s))


@dataclass(frozen=True, slots=True)
class IndexedApp:
    """What indexing found. The same for every worker of an app."""

    functions: tuple[Function, ...]
    retries: Mapping[str, RetryPolicy]
    """By function id."""
    streaming_http: bool
    """The app's HTTP functions take starlette requests (`azurefunctions.extensions.http.fastapi`)."""


FUNCTION_NAME = re.compile(r"(?!host$)[a-z][a-z0-9_-]{0,127}", re.IGNORECASE)
"""Names that Azure's host takes. Source: azure-functions-ux issue 504; on host 4.1037 a function with another name is
disabled."""


def describe_functions(
    indexed: Sequence[Sequence[Any]], settings: Mapping[str, str], only: Sequence[str] | None
) -> tuple[tuple[Function, ...], dict[str, RetryPolicy]]:
    """Functions and retry policies of what a worker indexed, with `%NAME%` replaced.

    indexed: see `Indexed` in `../worker/indexing.py`. only: names listed under `functions` of host.json; None = all.
    Raises HostError for a missing setting, a function without a trigger, or a name that Azure does not take.
    """
    functions, retries = [], {}
    for name, function_id, texts, retry in indexed:
        if not FUNCTION_NAME.fullmatch(name):
            raise HostError(
                f"function '{name}': Azure disables a function with such a name; it takes a letter, then up to 127 "
                "letters, digits, - and _, and not 'host'"
            )
        if only is not None and name.lower() not in {wanted.lower() for wanted in only}:
            continue
        bindings = [_binding(json.loads(text), settings, f"function '{name}'") for text in texts]
        triggers = [binding for binding in bindings if binding.type.lower().endswith("trigger")]
        if len(triggers) != 1:
            raise HostError(f"function '{name}' has {len(triggers)} triggers; it needs exactly one")
        others = [binding for binding in bindings if binding is not triggers[0]]
        functions.append(
            Function(
                name=name,
                function_id=function_id,
                trigger=triggers[0],
                inputs=tuple(binding for binding in others if binding.direction is Direction.IN),
                outputs=tuple(binding for binding in others if binding.direction is not Direction.IN),
                disabled=is_disabled(name, settings),
            )
        )
        if retry is not None:
            retries[function_id] = RetryPolicy(*retry)
    return tuple(functions), retries


def _binding(raw: dict[str, Any], settings: Mapping[str, str], where: str) -> Binding:
    resolved = replace_names(raw, settings, f"{where}, binding '{raw.get('name')}'")
    direction = Direction(str(resolved.get("direction", "IN")).upper())
    return Binding(str(resolved["type"]), str(resolved["name"]), direction, resolved)
