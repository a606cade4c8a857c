"""Parses Bicep files for checks: their declarations, and the literal part of every body.

Not a compiler: expressions stay text (`Expression`), and both branches of a condition `a ? b : c` are kept (`Either`).
Invariant: a file that the grammar cannot parse completely is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser


class BicepError(Exception):
    """A file that the grammar cannot parse; the message says where."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A value that is only known at deployment."""

    text: str


@dataclass(frozen=True, slots=True)
class Either:
    """The two branches of a condition."""

    first: Value
    second: Value


type Value = str | int | bool | list[Value] | dict[str, Value] | Expression | Either | None


@dataclass(frozen=True, slots=True)
class Resource:
    """One `resource` declaration. For a loop, `body` is the body of every copy."""

    file: Path
    line: int
    symbol: str
    type: str
    """Type and API version: `Microsoft.Web/sites@2025-03-01`."""
    existing: bool
    body: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Module:
    """One `module` declaration."""

    file: Path
    line: int
    symbol: str
    target: Path
    params: frozenset[str]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    has_default: bool
    secure: bool


@dataclass(frozen=True, slots=True)
class Document:
    """All declarations of a file."""

    file: Path
    text: str
    resources: list[Resource]
    modules: list[Module]
    parameters: list[Parameter]
    outputs: list[str]


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bicep.language()))


def read(file: Path) -> Document:
    """Parse one file. Raises BicepError naming the first place that the grammar does not accept."""
    source = file.read_bytes()
    root = _parser().parse(source).root_node
    wrong = next((node for node in _walk(root) if node.is_error or node.is_missing), None)
    if wrong is not None:
        row, column = wrong.start_point
        raise BicepError(f"{file}:{row + 1}:{column + 1}: not Bicep: {_text(wrong)[:60]!r}")
    document = Document(file, source.decode(), [], [], [], [])
    for node in root.named_children:
        _declare(document, node)
    return document


def _declare(document: Document, node: Node, decorators: str = "") -> None:
    if node.type == "decorators":
        return
    if node.type == "resource_declaration":
        target = _only(node, "string")
        document.resources.append(
            Resource(
                document.file,
                node.start_point[0] + 1,
                _text(_only(node, "identifier")),
                _string(target),
                any(child.type == "existing" or _text(child) == "existing" for child in node.children),
                _body(node),
            )
        )
    elif node.type == "module_declaration":
        params = _body(node).get("params")
        document.modules.append(
            Module(
                document.file,
                node.start_point[0] + 1,
                _text(_only(node, "identifier")),
                (document.file.parent / _string(_only(node, "string"))).resolve(),
                frozenset(params if isinstance(params, dict) else ()),
            )
        )
    elif node.type == "parameter_declaration":
        before = node.prev_named_sibling
        marks = _text(before) if before is not None and before.type == "decorators" else ""
        document.parameters.append(
            Parameter(_text(_only(node, "identifier")), "=" in [_text(c) for c in node.children], "@secure" in marks)
        )
    elif node.type == "output_declaration":
        document.outputs.append(_text(_only(node, "identifier")))


def _body(node: Node) -> dict[str, Value]:
    """The object of a declaration, also inside a loop or a condition."""
    found = next((child for child in _walk(node) if child.type == "object"), None)
    value = _value(found) if found is not None else {}
    return value if isinstance(value, dict) else {}


def _value(node: Node) -> Value:
    kind = node.type
    if kind == "object":
        return dict(_property(child) for child in node.named_children if child.type == "object_property")
    if kind == "array":
        return [_value(child) for child in node.named_children if child.type != "comment"]
    if kind == "string":
        if any(child.type == "interpolation" for child in node.named_children):
            return Expression(_text(node))
        return _string(node)
    if kind == "number":
        return int(_text(node))
    if kind == "boolean":
        return _text(node) == "true"
    if kind == "null":
        return None
    if kind == "ternary_expression":
        first, second = node.child_by_field_name("consequence"), node.child_by_field_name("alternative")
        if first is not None and second is not None:
            return Either(_value(first), _value(second))
    return Expression(_text(node))


def _property(node: Node) -> tuple[str, Value]:
    name, value = node.named_children[0], node.named_children[-1]
    return (_string(name) if name.type == "string" else _text(name)), _value(value)


def _only(node: Node, kind: str) -> Node:
    return next(child for child in node.named_children if child.type == kind)


def _string(node: Node) -> str:
    return _text(node).strip("'")


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)
