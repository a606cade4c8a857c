"""Which JSON Schemas providers accept in strict mode."""

from __future__ import annotations

from typing import Any


def is_strict(schema: dict[str, Any]) -> bool:
    """Whether providers accept the schema in strict mode: all objects are closed, all properties required, and no
    keyword is unknown to them, since they refuse a strict schema with one.

    Source: OpenAI's guide "Structured outputs", supported schemas.
    """
    return "anyOf" not in schema and _is_strict(schema)


def _is_strict(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema:
        names = schema.get("properties") or {}
        if schema.get("additionalProperties") is not False or set(schema.get("required") or ()) != set(names):
            return False
    if not schema.keys() <= _STRICT or schema.get("format", "date") not in _STRICT_FORMATS:
        return False
    parts = [part for word in _BY_NAME for part in (schema.get(word) or {}).values()]
    parts += schema.get("anyOf") or ()
    parts += [schema["items"]] if "items" in schema else ()
    return all(map(_is_strict, parts))


_BY_NAME = ("properties", "$defs", "definitions")
_STRICT = frozenset(
    {
        *_BY_NAME,
        *(
            "type",
            "required",
            "additionalProperties",
            "items",
            "anyOf",
            "$ref",
            "enum",
            "const",
            "title",
            "description",
        ),
        *("pattern", "format", "minItems", "maxItems"),
        *("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
)
_STRICT_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
