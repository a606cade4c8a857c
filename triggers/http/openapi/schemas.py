"""Schemas of the document, in the shape that generators of clients read well.

Invariants: what a request may leave out has no `default`, since generators would send it; so a client that sets one
field changes one field. It may be null, which means absent (`triggers/http/bodies.py`). What an answer always has is
required. A model whose request and answer differ so has two schemas, `X` of answers and `XInput` of requests.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

type Json = dict[str, Any]

REF = "#/components/schemas/{model}"
_PREFIX = REF.format(model="")
_INPUT = "Input"
_NULL: Json = {"type": "null"}
_MAX_INT32 = 2**31 - 1


class _WireSchema(GenerateJsonSchema):
    """As pydantic's own, without titles, and with nulls and numbers as generators know them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = _without_title(super().model_schema(schema))
        # Some generators know no object of which nothing is said.
        return found if found.get("properties") else {"additionalProperties": True, **found}

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return _without_title(super().enum_schema(schema))

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return nullable(self.generate_inner(schema["schema"]))

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        return {**super().int_schema(schema), "format": "int32" if _is_small(schema) else "int64"}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {**super().float_schema(schema), "format": "double"}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if self.mode == "serialization":
            found.pop("default", None)
        return found

    def field_is_required(
        self, field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField, total: bool
    ) -> bool:
        if self.mode == "serialization":
            return field.get("serialization_exclude_if") is None
        return super().field_is_required(field, total)


def _without_title(schema: JsonSchemaValue) -> JsonSchemaValue:
    schema.pop("title", None)
    return schema


def _is_small(schema: core_schema.IntSchema) -> bool:
    most = schema.get("le", schema.get("lt"))
    return most is not None and most <= _MAX_INT32


def nullable(schema: Json) -> Json:
    """The schema, or null."""
    described = {name: schema[name] for name in ("description",) if name in schema}
    bare = {name: value for name, value in schema.items() if name not in described}
    if bare in ({}, _NULL):
        return schema
    if isinstance(bare.get("type"), str) and not bare.keys() & {"const", "enum"}:
        return {**schema, "type": [bare["type"], "null"]}
    for choice in ("oneOf", "anyOf"):
        if bare.keys() == {choice}:
            known = _NULL in bare[choice] or any("null" in option.get("type", ()) for option in bare[choice])
            return schema if known else {**schema, choice: [*bare[choice], _NULL]}
    return schema if "null" in bare.get("type", ()) else {"oneOf": [bare, _NULL], **described}


def schemas_of(requests: Collection[tuple[str, Any]], answers: Collection[tuple[str, Any]]) -> tuple[Json, Json, Json]:
    """Schemas of types: (components by name, schema by key of `requests`, schema by key of `answers`)."""
    asked, into = _generated(requests, "validation")
    told, out_of = _generated(answers, "serialization")
    only_told = {name for name in told if name not in asked}
    asked = {name: _request(schema) for name, schema in asked.items()}
    apart = {name for name in asked if name in told and asked[name] != told[name]}
    # What refers to a schema that differs, differs.
    while more := {name for name in asked.keys() & told.keys() - apart if _refers(asked[name], apart)}:
        apart |= more
    names = {name: f"{name}{_INPUT}" for name in apart}
    assert not set(names.values()) & (asked.keys() | only_told), "a model has the name of another's input"
    asked = {names.get(name, name): _renamed(schema, names) for name, schema in asked.items()}
    components = dict(sorted({**told, **asked}.items()))
    return components, {key: _renamed(schema, names) for key, schema in into.items()}, out_of


def _generated(kinds: Collection[tuple[str, Any]], mode: Literal["validation", "serialization"]) -> tuple[Json, Json]:
    inputs = [(key, mode, TypeAdapter(kind)) for key, kind in kinds]
    found, whole = TypeAdapter.json_schemas(inputs, ref_template=REF, schema_generator=_WireSchema)
    return _simple(whole.get("$defs", {})), {key: _simple(schema) for (key, _), schema in found.items()}


def _simple(schema: Any) -> Any:
    """With a number for `anyOf` whole and other numbers."""
    if isinstance(schema, list):
        return [_simple(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kinds = schema.get("anyOf")
    if kinds is not None and {kind.get("type") for kind in kinds} == {"integer", "number"}:
        return {"type": "number", **{name: value for name, value in schema.items() if name != "anyOf"}}
    return {name: _simple(value) for name, value in schema.items()}


def _request(schema: Json) -> Json:
    """Of a request: what may be left out may be null, and has no default but in words."""
    if "properties" not in schema:
        return schema
    required = schema.get("required", ())
    properties = {
        name: value if name in required else nullable(_told_default(value))
        for name, value in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _told_default(schema: Json) -> Json:
    if "default" not in schema:
        return schema
    bare = {name: value for name, value in schema.items() if name != "default"}
    default = schema["default"]
    if default is None or isinstance(default, list | dict):
        return bare
    words = [*([bare["description"]] if "description" in bare else []), f"default {json.dumps(default)}"]
    return {**bare, "description": "; ".join(words)}


def _refers(schema: Any, names: Collection[str]) -> bool:
    if isinstance(schema, list):
        return any(_refers(item, names) for item in schema)
    if not isinstance(schema, dict):
        return False
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.removeprefix(_PREFIX) in names:
        return True
    return any(_refers(value, names) for value in schema.values())


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, list):
        return [_renamed(item, names) for item in schema]
    if not isinstance(schema, dict):
        # Also the values of a discriminator's mapping.
        is_reference = isinstance(schema, str) and schema.startswith(_PREFIX)
        return f"{_PREFIX}{_name(schema, names)}" if is_reference else schema
    return {key: _renamed(value, names) for key, value in schema.items()}


def _name(reference: str, names: Mapping[str, str]) -> str:
    name = reference.removeprefix(_PREFIX)
    return names.get(name, name)
