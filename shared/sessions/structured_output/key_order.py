"""Preserves the key order of JSON Schemas in a store that reorders JSON keys.

Models write the fields of an answer in the schema's order. The order matters: an explanation before a verdict must stay
before it.
"""

from __future__ import annotations

from typing import Any

import orjson

_TEXT = "$text"


def kept_in_order(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a row, with `output_schema` encoded as text."""
    schema = values.get("output_schema")
    return values if schema is None else values | {"output_schema": as_text(schema)}


def as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as `in_written_order` reads it."""
    return {_TEXT: orjson.dumps(schema).decode()}


def in_written_order(value: Any) -> Any:
    """The inverse of `kept_in_order` for the schema; other values stay unchanged. Raises ValueError."""
    if isinstance(value, dict) and value.keys() == {_TEXT} and isinstance(value[_TEXT], str):
        return orjson.loads(value[_TEXT])
    return value
