"""The JSON Schema of a tool's arguments, as models read it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON Schema without titles and with its `$ref`s inlined.

    Many chat-completion servers do not support `$ref`. Raises TypeError for a recursive model.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    small = _inlined(schema, definitions, depth=0)
    assert isinstance(small, dict)
    small.pop("description", None)  # the class docstring is for developers; the function docstring is for the model
    small.setdefault("properties", {})
    return small


def _inlined(node: Any, definitions: dict[str, Any], *, depth: int, is_schema: bool = True) -> Any:
    if depth > 32:
        raise TypeError("a tool's arguments model must not be recursive")
    if isinstance(node, list):
        return [_inlined(item, definitions, depth=depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    if is_schema and "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _inlined({**target, **rest}, definitions, depth=depth + 1)
    return {
        key: value
        if key in ("default", "const", "enum", "examples")
        # Keys below `properties` are the tool's own field names, so a field called `title` stays.
        else _inlined(value, definitions, depth=depth + 1, is_schema=key != "properties")
        for key, value in node.items()
        if not (is_schema and key == "title")
    }
