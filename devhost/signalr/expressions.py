"""Binding expressions: `{headers.x-user}`, `{query.user}`, `{routeparam}` inside a binding's text.

Invariant: an expression without a value fails the invocation. It never becomes an empty user id, which
would issue a connection without an owner.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping

from devhost.extensions.contract import TriggerData

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def unsupported_expressions(text: str) -> list[str]:
    """The expressions in `text` that the dev host cannot evaluate, for a refusal at start."""
    return [name for name in _EXPRESSION.findall(text) if not _is_supported(name)]


def resolve_expressions(text: str, trigger: TriggerData) -> str:
    """`text` with every expression replaced. Raises ValueError naming the one that has no value."""
    return _EXPRESSION.sub(lambda match: _value(match.group(1), trigger), text)


def _is_supported(name: str) -> bool:
    parts = name.split(".")
    return parts[0].lower() != "sys" and all(_NAME.fullmatch(part) for part in parts)


def _value(name: str, trigger: TriggerData) -> str:
    if name.lower() == "rand-guid":
        return str(uuid.uuid4())
    value: object = _binding_data(trigger)
    for key in name.split("."):
        value = _lookup(value, key) if isinstance(value, Mapping) else None
    if value is None or isinstance(value, (Mapping, list)):
        raise ValueError(f"binding expression {{{name}}}: the request has no such value")
    return value if isinstance(value, str) else json.dumps(value)


def _binding_data(trigger: TriggerData) -> Mapping[str, object]:
    """What expressions read, in the order in which Azure fills it: a JSON body, the query and the route, each over the
    one before. `headers` and `query` are added only where nothing has that name, so a caller can put others there.

    Source: HttpTriggerAttributeBindingProvider.GetRequestBindingDataAsync of the Http extension 3.2.0; the real host.
    """
    data: dict[str, object] = {}
    for part in (trigger.body, trigger.query, trigger.route):
        data |= {name.lower(): value for name, value in part.items()}
    data.setdefault("query", trigger.query)
    data.setdefault("headers", trigger.headers)
    return data


def _lookup(values: Mapping[str, object], key: str) -> object:
    if key in values:
        return values[key]
    lowered = key.lower()
    return next((value for name, value in values.items() if name.lower() == lowered), None)
