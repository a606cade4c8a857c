"""JSON Schemas in a store whose JSON has an order of keys of its own.

Models write the fields of an answer in the order of their schema, so that an explanation asked for before a verdict has
to come before it.
"""

from __future__ import annotations

from typing import Any

import orjson

_TEXT = "$text"


def kept_in_order(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a row, with that of `output_schema` as text."""
    schema = values.get("output_schema")
    return values if schema is None else values | {"output_schema": {_TEXT: orjson.dumps(schema).decode()}}


def in_written_order(value: Any) -> Any:
    """The way back from `kept_in_order`; anything else as it is. Raises ValueError."""
    if isinstance(value, dict) and value.keys() == {_TEXT} and isinstance(value[_TEXT], str):
        return orjson.loads(value[_TEXT])
    return value
