"""What a server asks of the user in the middle of a call (`input_required`, MCP 2026-07-28), read within limits.

Invariant: a form has one level of plain fields with known keywords only, so that whoever answers sees all that is
asked, and checking an answer is cheap. What is not a form for the user (a model's answer, a folder, a link) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shared.sessions.models import JsonObject, Question
from shared.sessions.structured_output.checks import checked_schema
from shared.storable import storable_text
from shared.visible import visible_text

MAX_QUESTIONS = 5
"""At once."""
MAX_MESSAGE_CHARS = 4_000
MAX_FIELDS = 30
MAX_FORM_BYTES = 16 * 1024
MAX_STATE_CHARS = 64 * 1024
_MAX_ID_CHARS = 200
_MAX_NAME_CHARS = 100

_TITLES = frozenset({"title", "description"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "string": _TITLES | {"enum", "enumNames", "oneOf", "format", "minLength", "maxLength", "default"},
    "number": _TITLES | {"minimum", "maximum", "default"},
    "integer": _TITLES | {"minimum", "maximum", "default"},
    "boolean": _TITLES | {"default"},
    "array": _TITLES | {"items", "minItems", "maxItems", "default"},
}
"""Keywords of a field by its type. Source: MCP 2026-07-28, Elicitation, "Requested Schema"."""
_CHOICES = frozenset({"type", "enum", "anyOf", "oneOf"})


@dataclass(frozen=True, slots=True)
class Asked:
    """questions: empty when the server only wants to be called again. state: to be sent back unread."""

    questions: tuple[Question, ...]
    state: str | None


def read_asked(raw: Mapping[str, Any]) -> Asked:
    """A result whose `resultType` is `input_required`. Raises ValueError, which completes "the server's answer ..."."""
    requests, state = raw.get("inputRequests"), raw.get("requestState")
    if state is not None and (
        not isinstance(state, str) or len(state) > MAX_STATE_CHARS or storable_text(state) != state
    ):
        raise ValueError(f"has a state that is not text of at most {MAX_STATE_CHARS} characters")
    if requests is not None and not isinstance(requests, Mapping):
        raise ValueError("asks for input in a form that is not known")
    if not requests and state is None:
        raise ValueError("asks for input and does not say for which")
    if requests and len(requests) > MAX_QUESTIONS:
        raise ValueError(f"asks for more than {MAX_QUESTIONS} things at once")
    return Asked(tuple(_question(key, request) for key, request in (requests or {}).items()), state)


def _question(key: str, request: object) -> Question:
    if len(key) > _MAX_ID_CHARS or storable_text(key) != key:
        raise ValueError("names a question in a way that is not accepted")
    method = request.get("method") if isinstance(request, Mapping) else None
    params = request.get("params") if isinstance(request, Mapping) else None
    if not isinstance(params, Mapping):
        raise ValueError("asks for input in a form that is not known")
    said = _shown(params.get("message"), MAX_MESSAGE_CHARS)
    if method != "elicitation/create" or params.get("mode", "form") != "form":
        what = f"{_shown(method, 60)} {_shown(params.get('mode'), 20)}".strip()
        raise ValueError(f"asks for input: {said or 'nothing that it names'} ({what}). That is not supported")
    try:
        form = _form(params.get("requestedSchema"))
    except ValueError as exc:
        raise ValueError(f"asks for input: {said}. Its form is not accepted: {exc}") from None
    return Question(id=key, message=said, requested_schema=form)


def _form(schema: object) -> JsonObject:
    """The schema of the fields, without what is not known. Raises ValueError."""
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise ValueError("it is not the schema of an object")
    told, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(told, Mapping) or len(told) > MAX_FIELDS:
        raise ValueError(f"it has no list of at most {MAX_FIELDS} fields")
    if not isinstance(required, list) or not all(isinstance(name, str) and name in told for name in required):
        raise ValueError("it requires fields that it does not name")
    properties = {_named(name): _field(name, field) for name, field in told.items()}
    form: JsonObject = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if len(orjson.dumps(form)) > MAX_FORM_BYTES:
        raise ValueError(f"it is longer than {MAX_FORM_BYTES} bytes")
    return checked_schema(form)


def _named(name: str) -> str:
    if not name or len(name) > _MAX_NAME_CHARS or _shown(name, _MAX_NAME_CHARS) != name:
        raise ValueError("the name of a field is empty, too long, or has characters that nobody sees")
    return name


def _field(name: str, field: object) -> JsonObject:
    kind = field.get("type") if isinstance(field, Mapping) else None
    if not isinstance(field, Mapping) or not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"the field {name} is not text, a number, a yes or no, or a choice")
    known: JsonObject = {"type": kind}
    for keyword, value in field.items():
        if keyword in _TITLES:
            known[keyword] = _shown(value, MAX_MESSAGE_CHARS)
        elif keyword == "items":
            known[keyword] = _choices(name, value)
        elif keyword == "oneOf":
            known[keyword] = _options(name, value)
        elif keyword in _FIELDS[kind]:
            known[keyword] = value
    if kind == "array" and "items" not in known:
        raise ValueError(f"the field {name} is a list of anything")
    return known


def _choices(name: str, items: object) -> JsonObject:
    """Of a list: what can be chosen."""
    if (
        not isinstance(items, Mapping)
        or items.get("type", "string") != "string"
        or not items.keys() & {"enum", "anyOf", "oneOf"}
    ):
        raise ValueError(f"the field {name} is a list of something else than choices")
    known = {keyword: value for keyword, value in items.items() if keyword in _CHOICES}
    return {
        keyword: _options(name, value) if keyword in {"anyOf", "oneOf"} else value for keyword, value in known.items()
    }


def _options(name: str, options: object) -> list[JsonObject]:
    """`{"const": ..., "title": ...}` each."""
    if not isinstance(options, list) or not all(
        isinstance(one, Mapping) and isinstance(one.get("const"), str) for one in options
    ):
        raise ValueError(f"the field {name} has choices that are not constants")
    return [{"const": one["const"], "title": _shown(one.get("title", one["const"]), _MAX_ID_CHARS)} for one in options]


def _shown(value: object, limit: int) -> str:
    return visible_text(storable_text(str(value or ""))).strip()[:limit]
