"""What a server says of a tool: read within limits, given a digest, and turned into what a model reads.

All of it is the word of a stranger. A definition is kept as it was said, since its digest is over that; what a model or
a person reads is made from it, without invisible characters.

Invariant: a definition that is accepted is bounded in size, depth and the work to validate arguments against it, refers
to nothing outside itself, and not to itself in a circle.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import unquote

import orjson
from pydantic import BeforeValidator, Field, JsonValue

from shared.canonical import canonical_json
from shared.sessions.mcp.servers import RemoteName
from shared.sessions.models import JsonObject, Value
from shared.sessions.structured_output.checks import checked_schema
from shared.sessions.structured_output.key_order import as_text, in_written_order
from shared.visible import revealed, visible_text

MAX_DEFINITION_BYTES = 16 * 1024
MAX_MODEL_SCHEMA_BYTES = 32 * 1024
"""Of a schema whose references stand for what they refer to."""
MAX_DESCRIPTION_CHARS = 4_096
MAX_DEPTH = 32
_MAX_SHOWN = 100
_PROSE = frozenset({"title", "description", "$comment"})
_VALUES = frozenset({"default", "const", "enum", "examples"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_HEADER = "x-mcp-header"
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")


class Definition(Value):
    """A tool as its server defines it, word for word."""

    name: RemoteName
    title: str | None = None
    description: str = ""
    input_schema: Annotated[JsonObject, BeforeValidator(in_written_order)]
    annotations: JsonObject = Field({}, description="Hints of the server. Nothing follows from them")

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of all fields, hex."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json"))).hexdigest()

    def stored(self) -> JsonObject:
        """As JSON for a store that reorders keys: a model reads the schema in the server's order."""
        return self.model_dump(mode="json") | {"input_schema": as_text(self.input_schema)}


@dataclass(frozen=True, slots=True)
class Offered:
    """What a server offers at one moment. refused: by name, why a tool cannot be used; names revealed and cut."""

    definitions: Mapping[str, Definition] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    protocol_version: str = ""


def read_offered(tools: Sequence[JsonValue], protocol_version: str) -> Offered:
    """Every tool of a list, each accepted or refused on its own; of tools with one name none is accepted."""
    found: dict[str, Definition] = {}
    refused: dict[str, str] = {}
    for raw in tools:
        name = raw.get("name") if isinstance(raw, dict) else None
        if not isinstance(name, str):
            refused["?"] = "has no name"
            continue
        if name in found or name in refused:
            found.pop(name, None)
            refused[_shown(name)] = "is offered more than once"
            continue
        try:
            assert isinstance(raw, dict)
            found[name] = read_definition(raw)
        except ValueError as exc:
            refused[_shown(name)] = str(exc)
    return Offered(found, refused, protocol_version)


def read_definition(raw: Mapping[str, JsonValue]) -> Definition:
    """A tool of `tools/list`. Raises ValueError, which completes "the tool ..."."""
    name, title, description = raw.get("name"), raw.get("title"), raw.get("description")
    schema, annotations = raw.get("inputSchema"), raw.get("annotations")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name):
        raise ValueError("has a name with other characters than letters, digits, _, . and -, or a long one")
    if not all(told is None or isinstance(told, str) for told in (title, description)):
        raise ValueError("has a title or description that is not text")
    if not isinstance(schema, dict) or not (annotations is None or isinstance(annotations, dict)):
        raise ValueError("has no schema of its arguments, or annotations that are not an object")
    if isinstance(description, str) and len(description) > MAX_DESCRIPTION_CHARS:
        raise ValueError(f"has a description of more than {MAX_DESCRIPTION_CHARS} characters")
    told = {"name": name, "title": title, "description": description or "", "annotations": annotations or {}}
    _check_size({**told, "input_schema": schema})
    definition = Definition.model_validate({**told, "input_schema": schema})
    try:
        checked_schema(argument_schema(definition))
    except ValueError as exc:
        raise ValueError(f"has a schema that {exc}") from None
    return definition


def argument_schema(definition: Definition) -> JsonObject:
    """The schema as models read it and as arguments are validated against it.

    References stand for what they refer to, since many servers of models take none. Prose is visible; what else is
    invisible refuses it. Raises ValueError, which completes "a schema that ...".
    """
    schema = definition.input_schema
    if not isinstance(schema.get("properties", {}), dict):
        raise ValueError("has properties that are not an object")
    headers_of(definition)
    room = _Room()
    plain = _plain(schema, schema, (), room)
    assert isinstance(plain, dict)
    for key in ("$schema", "$id", "$defs", "definitions"):
        plain.pop(key, None)
    plain.setdefault("type", "object")
    plain.setdefault("properties", {})
    return plain


def headers_of(definition: Definition) -> dict[str, tuple[str, ...]]:
    """Header names by which the server wants arguments repeated, each with the path to its argument.

    Raises ValueError, which completes "a schema that ...". Source: MCP 2026-07-28, "Custom Headers from Tool
    Parameters": the whole tool is refused when one of them is not valid.
    """
    found: dict[str, tuple[str, ...]] = {}
    reachable = 0
    for path, schema in _properties(definition.input_schema, ()):
        if _HEADER not in schema:
            continue
        reachable += 1
        name = schema[_HEADER]
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"asks for a header with {_HEADER} that is not a name")
        if schema.get("type") not in ("string", "integer", "boolean"):
            raise ValueError(f"asks for a header with {_HEADER} of what is no text, integer or boolean")
        if name.casefold() in {other.casefold() for other in found}:
            raise ValueError(f"asks twice for the header {name}")
        found[name] = path
    if _count(definition.input_schema) != reachable:
        raise ValueError(f"asks for a header with {_HEADER} where none can be")
    return found


def prose_of(definition: Definition) -> str:
    """What a model reads of the tool, without invisible characters."""
    return visible_text(definition.description) or visible_text(definition.title or "") or definition.name


def _shown(name: str) -> str:
    return revealed(name)[:_MAX_SHOWN]


def _check_size(told: JsonObject) -> None:
    """Raises ValueError."""
    try:
        text = orjson.dumps(told)
    except TypeError:
        raise ValueError("is nested too deeply, or holds a number beyond 64 bits") from None
    if len(text) > MAX_DEFINITION_BYTES:
        raise ValueError(f"has a definition of more than {MAX_DEFINITION_BYTES} bytes")
    if b"\\u0000" in text:
        raise ValueError("has a definition that holds U+0000")


class _Room:
    """What is left of the size of a schema with its references followed."""

    def __init__(self) -> None:
        self._left = MAX_MODEL_SCHEMA_BYTES

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"is larger than {MAX_MODEL_SCHEMA_BYTES} bytes with its references followed")


def _plain(node: Any, root: JsonObject, trail: tuple[str, ...], room: _Room, *, depth: int = 0, kind: str = "") -> Any:
    """trail: the references that are being followed. kind: the keyword that the node stands under."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    room.take(4)
    if isinstance(node, str):
        room.take(len(node.encode(errors="replace")))
        if kind in _PROSE:
            return visible_text(node)
        if visible_text(node) != node:
            raise ValueError("holds invisible characters outside descriptions")
        return node
    if isinstance(node, list):
        return [_plain(item, root, trail, room, depth=depth + 1, kind=kind) for item in node]
    if not isinstance(node, dict):
        return node
    if kind not in _MAPS and kind not in _VALUES and "$ref" in node:
        reference = node["$ref"]
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise ValueError("refers to another document or by an anchor")
        if reference in trail or reference == "#":
            raise ValueError("refers to itself in a circle")
        target = _target(root, reference)
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return _plain({**target, **rest}, root, (*trail, reference), room, depth=depth + 1, kind=kind)
    plain: JsonObject = {}
    for key, value in node.items():
        room.take(len(key.encode(errors="replace")))
        if visible_text(key) != key:
            raise ValueError("has a name with invisible characters")
        if kind in _MAPS:
            inner = "property"
        elif kind in _VALUES:
            inner = kind
        else:
            if key == "$dynamicRef" or key == "$recursiveRef":
                raise ValueError(f"uses {key}")
            if key == _HEADER or (key in ("$defs", "definitions") and not depth):
                continue
            inner = key
        plain[key] = _plain(value, root, trail, room, depth=depth + 1, kind=inner)
    return plain


def _target(root: JsonObject, reference: str) -> JsonObject:
    """Raises ValueError."""
    node: Any = root
    for part in unquote(reference[2:]).split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ValueError(f"refers to {reference[:80]!r}, which it does not have")
    return node


def _properties(schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], JsonObject]]:
    """Every property that is reached through `properties` alone, with its path."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(path) > MAX_DEPTH:
        return
    for name, inner in properties.items():
        if isinstance(inner, dict):
            yield (*path, name), inner
            yield from _properties(inner, (*path, name))


def _count(node: Any, *, is_names: bool = False, depth: int = 0) -> int:
    """How often it asks for a header anywhere."""
    if depth > 4 * MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, list):
        return sum(_count(item, depth=depth + 1) for item in node)
    if not isinstance(node, dict):
        return 0
    own = int(not is_names and _HEADER in node)
    return own + sum(
        _count(value, is_names=not is_names and key in _MAPS, depth=depth + 1)
        for key, value in node.items()
        if is_names or key not in _VALUES
    )
