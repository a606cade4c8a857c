"""How large a JSON Schema is once each `$ref` stands for what it names.

A validator follows the same `$ref` again from each place it stands in, so a schema of 2 kB may take longer to check, or
only to compile, than anybody waits: 30 definitions that each name the next one twice are a billion parts. What leads
back into itself is no such danger: a validator knows that it has been there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

MAX_PARTS = 5_000
MAX_PATTERNS = 200
"""Each is compiled, wherever it stands."""


@dataclass(frozen=True, slots=True)
class SchemaSize:
    """parts: schemas and lists of them; loops: how many `$ref`s lead back into what they stand in."""

    parts: int
    loops: int


def size_of(schema: dict[str, Any]) -> SchemaSize:
    """Raises ValueError when it is too large, or names its parts in a way that cannot be followed here."""
    walk = _Walk(schema)
    try:
        walk.schema(schema, frozenset({"#"}))
    except RecursionError:
        raise ValueError("is too large: its $refs go too deep") from None
    return SchemaSize(walk.parts, walk.loops)


_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
_DEFINITIONS = frozenset({"$defs", "definitions"})
"""They count where they are named."""
_VALUES = frozenset({"enum", "const", "default", "examples", "required", "type"})
_UNFOLLOWED = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef")


class _Walk:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._patterns = 0
        self.parts = 0
        self.loops = 0

    def schema(self, value: Any, within: frozenset[str]) -> None:
        """within: the `$ref`s that led here."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise ValueError(f"is too large: it has more than {MAX_PARTS} parts when its $refs are followed")
        if isinstance(value, list):
            for item in value:
                self.schema(item, within)
        if not isinstance(value, dict):
            return
        for word in _UNFOLLOWED:
            if word in value:
                raise ValueError(f"holds {word}: name parts of it by their path, as in #/$defs/name")
        if value is not self._root and isinstance(value.get("$id"), str):
            raise ValueError("holds $id inside: name parts of it by their path, as in #/$defs/name")
        self._count_patterns(value)
        for word, part in value.items():
            if word in _BY_NAME and isinstance(part, dict):
                for item in part.values():
                    self.schema(item, within)
            elif isinstance(part, (dict, list)) and word not in _DEFINITIONS and word not in _VALUES:
                self.schema(part, within)
        reference = value.get("$ref")
        if isinstance(reference, str):
            self._follow(reference, within)

    def _follow(self, reference: str, within: frozenset[str]) -> None:
        if reference in within:
            self.loops += 1
            return
        if reference != "#" and not reference.startswith("#/"):
            raise ValueError(f"refers to {reference[:100]!r}: only its own parts can be named, as in #/$defs/name")
        target: Any = self._root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(name)] if isinstance(target, list) else target[name]
            except (KeyError, IndexError, TypeError, ValueError):
                raise ValueError(f"refers to {reference[:100]!r}, which is not there") from None
        self.schema(target, within | {reference})

    def _count_patterns(self, value: dict[str, Any]) -> None:
        by_pattern = value.get("patternProperties")
        self._patterns += len(by_pattern) if isinstance(by_pattern, dict) else 0
        self._patterns += isinstance(value.get("pattern"), str)
        if self._patterns > MAX_PATTERNS:
            raise ValueError(f"has more than {MAX_PATTERNS} patterns when its $refs are followed")
