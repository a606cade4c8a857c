"""Binding expressions: `{headers.x-user}`, `{query.user}`, `{routeparam}` inside a binding's text.

Invariant: an expression that has no value fails the invocation. It never becomes an empty user id, which
would hand out a connection that belongs to nobody.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from devhost.extensions.contract import TriggerData

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_ROUTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def unsupported_expressions(text: str) -> list[str]:
    """The expressions in `text` that the dev host cannot evaluate, for a refusal at start."""
    return [name for name in _EXPRESSION.findall(text) if not _is_supported(name)]


def resolve_expressions(text: str, trigger: TriggerData) -> str:
    """`text` with every expression replaced. Raises ValueError naming the one that has no value."""
    return _EXPRESSION.sub(lambda match: _value(match.group(1), trigger), text)


def _is_supported(name: str) -> bool:
    source, dot, key = name.partition(".")
    if dot:
        return source.lower() in {"headers", "query"} and bool(key)
    return _ROUTE_NAME.fullmatch(name) is not None


def _value(name: str, trigger: TriggerData) -> str:
    source, dot, key = name.partition(".")
    if dot and source.lower() == "headers":
        value = _lookup(trigger.headers, key)
    elif dot and source.lower() == "query":
        value = _lookup(trigger.query, key)
    elif name.lower() == "rand-guid":
        value = str(uuid.uuid4())
    else:
        value = _lookup(trigger.route, name)
    if value is None:
        raise ValueError(f"binding expression {{{name}}}: the request has no such value")
    return value


def _lookup(values: Mapping[str, str], key: str) -> str | None:
    if key in values:
        return values[key]
    lowered = key.lower()
    return next((value for name, value in values.items() if name.lower() == lowered), None)
