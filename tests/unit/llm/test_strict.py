"""Which schemas providers take as strict ones."""

from __future__ import annotations

from typing import Any

import pytest

from shared.sessions.structured_output.checks import checked_schema
from shared.sessions.structured_output.strict import is_strict

_CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def _with(**part: Any) -> dict[str, Any]:
    """A closed object with one property that is so."""
    return {**_CLOSED, "properties": {"a": part}}


@pytest.mark.parametrize(
    "schema",
    [
        _CLOSED,
        {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        {"type": "object", "additionalProperties": False},
        _with(**_CLOSED),
        _with(type=["string", "null"]),
        _with(type="array", items=_CLOSED, minItems=1, maxItems=9),
        _with(anyOf=[_CLOSED, {"type": "null"}]),
        _with(enum=["x", {"type": "object"}]),
        _with(const={"properties": {"b": {}}}),
        _with(type="string", format="date", pattern="^2"),
        _with(type="number", minimum=0, exclusiveMaximum=1, multipleOf=0.1),
        {**_CLOSED, "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": _CLOSED}},
        {
            "type": "object",
            "properties": {"not": {"type": "string"}, "allOf": {"type": "string"}},
            "required": ["allOf", "not"],
            "additionalProperties": False,
            "title": "names that are words elsewhere",
        },
    ],
    ids=str,
)
def test_closed_objects_that_require_all_they_have_are_strict(schema: dict[str, Any]) -> None:
    assert is_strict(checked_schema(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**_CLOSED, "required": []},
        {**_CLOSED, "required": ["a", "b"]},
        {name: value for name, value in _CLOSED.items() if name != "required"},
        {**_CLOSED, "additionalProperties": True},
        {**_CLOSED, "additionalProperties": {}},
        _with(type="object", properties={"b": {}}, required=["b"]),
        _with(type=["object", "null"]),
        _with(properties={"b": {"type": "string"}}),
        _with(type="array", items={"type": "object"}),
        _with(type="array", items=True),
        _with(anyOf=[{"type": "object"}, {"type": "null"}]),
        _with(allOf=[_CLOSED]),
        _with(oneOf=[_CLOSED]),
        {**_CLOSED, "not": {}},
        {**_CLOSED, "if": _CLOSED, "then": _CLOSED},
        {**_CLOSED, "dependentRequired": {"a": ["a"]}},
        {**_CLOSED, "patternProperties": {"^x": {}}},
        {**_CLOSED, "anyOf": [_CLOSED]},
        {**_CLOSED, "$defs": {"b": {"type": "object"}}},
        {**_CLOSED, "properties": {"a": True}},
        _with(type="string", default="x"),
        _with(type="string", minLength=1),
        _with(type="array", items={"type": "string"}, uniqueItems=True),
        _with(type="string", format="iri"),
    ],
    ids=str,
)
def test_what_providers_refuse_in_a_strict_schema_makes_it_none(schema: dict[str, Any]) -> None:
    assert not is_strict(checked_schema(schema))
