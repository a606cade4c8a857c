"""Checks resource bodies against `infra/schemas`: property names, required properties, enums, types of literals.

Values that are only known at deployment are not checked. `infra/schemas/README.md` describes the notation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from devtools.infra.bicep import Either, Expression, Resource, Value

_KINDS: Mapping[str, type] = {"string": str, "int": int, "bool": bool}
_OF_BICEP = frozenset({"name", "parent", "scope", "dependsOn"})
"""Keys that are part of Bicep and not sent to Azure."""


def load(folder: Path) -> dict[str, Any]:
    """Every known type with its shape. Raises ValueError when a type is described twice."""
    known: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        for name, shape in json.loads(path.read_text("utf-8"))["types"].items():
            if name in known:
                raise ValueError(f"{name} is described twice, the second time in {path.name}")
            known[name] = shape
    return known


def problems(resource: Resource, known: Mapping[str, Any]) -> list[str]:
    """Each violation of the schema by this declaration, in one line."""
    if resource.existing:
        return []
    # `sites/config` is several types in one; the name selects which.
    shape = known.get(resource.type) or known.get(f"{resource.type}#{resource.body.get('name')}")
    where = f"{resource.file.name}:{resource.line} {resource.symbol}"
    if shape is None:
        return [f"{where}: no facts about {resource.type}"]
    return [f"{where}: {text}" for text in _object(resource.body, shape, "", lenient=_OF_BICEP)]


def _object(
    value: Mapping[str, Value], shape: Mapping[str, Any], path: str, *, lenient: frozenset[str] = frozenset()
) -> Iterator[str]:
    if "*" in shape:
        for name, child in value.items():
            yield from _check(child, shape["*"], f"{path}.{name}")
        return
    required = {name.removesuffix("!") for name in shape if name.endswith("!")}
    for name in sorted(required - value.keys()):
        yield f"{path}.{name} is missing"
    shapes = {name.removesuffix("!"): child for name, child in shape.items()}
    for name, child in value.items():
        if name in shapes:
            yield from _check(child, shapes[name], f"{path}.{name}")
        elif name not in lenient:
            yield f"{path}.{name} is no property of it"


def _check(value: Value, shape: Any, path: str) -> Iterator[str]:
    if isinstance(value, Either):
        yield from _check(value.first, shape, path)
        yield from _check(value.second, shape, path)
    elif shape == "any" or value is None or isinstance(value, Expression):
        return
    elif isinstance(shape, dict):
        if isinstance(value, dict):
            yield from _object(value, shape, path)
        else:
            yield f"{path} must be an object"
    elif isinstance(shape, list) and shape[:1] == ["[]"]:
        if not isinstance(value, list):
            yield f"{path} must be an array"
        else:
            for index, item in enumerate(value):
                yield from _check(item, shape[1], f"{path}[{index}]")
    elif isinstance(shape, list):
        if value not in shape:
            yield f"{path} must be one of {', '.join(shape)}, not {value!r}"
    elif type(value) is not _KINDS[shape]:
        yield f"{path} must be {shape}, not {value!r}"
