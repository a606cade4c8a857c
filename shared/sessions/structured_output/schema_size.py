"""The size of a JSON Schema with its `$ref`s expanded, and the work to validate an answer against it.

A validator follows a `$ref` again at each place where it occurs. So a schema of 2 kB may take too long to validate
against, or even to compile: 30 definitions that each refer to the next one twice expand to a billion parts.

For a recursive `$ref`, the validator caches for each list and object of the answer whether it is valid. The target of
such a `$ref` is therefore counted once, as a start of its own. For numbers and strings it caches nothing, so the parts
that apply to them are counted at each recursive `$ref`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from shared.sessions.structured_output.answer_size import AnswerSize, weight_of
from shared.sessions.structured_output.pattern_size import places_of

MAX_PARTS = 20_000
MAX_PATTERNS = 200
MAX_PLACES = 2_000
"""Of all patterns together. Compiling one takes up to 50 microseconds per place."""

NUMBER_PARTS = 20
"""Parts of each number that answers are compared with, times its `weight_of`: 0.45 microseconds; a usual part is 30 ns.
"""
UNIQUE_PARTS = 4
"""Parts of uniqueItems per pair of an item and a value: numbers beyond 63 bits are all compared with each other."""
FRACTION_PARTS = 2_000
"""Parts of a multipleOf that is not an integer: 36 microseconds, since it is computed exactly."""


@dataclass(frozen=True, slots=True)
class SchemaSize:
    """parts: keywords, schemas and the values in them; slower ones count several times.
    loops: number of recursive `$ref`s. places: of its patterns. uniques: number of uniqueItems keywords.
    has_choices: whether it uses anyOf or oneOf.
    """

    parts: int
    loops: int
    places: int
    uniques: int
    has_choices: bool

    def work(self, answer: AnswerSize) -> int:
        """Upper bound of the work to validate an answer. One unit is about 30 nanoseconds.

        Each part is applied to each value at most once, and each place of a pattern to each byte.
        """
        parts = self.parts + self.uniques * UNIQUE_PARTS * answer.longest_list
        return parts * answer.values + self.places * answer.text_bytes


def size_of(schema: dict[str, Any]) -> SchemaSize:
    """Raises ValueError when the schema is too large, or uses keywords that cannot be counted."""
    _check_patterns(schema)
    walk = _Walk(schema)
    try:
        walk.everything()
    except RecursionError:
        raise ValueError("is too large: its $refs go too deep") from None
    return SchemaSize(walk.parts, walk.loops, walk.places, walk.uniques, walk.has_choices)


_SCHEMAS_HERE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
_BY_NAME_HERE = frozenset({"dependentSchemas", "dependencies"})
"""These and _SCHEMAS_HERE apply their schemas to the same value; other keywords apply them to parts of the value."""
_BY_NAME = frozenset({"properties", "patternProperties"}) | _BY_NAME_HERE
_DEFINITIONS = frozenset({"$defs", "definitions"})
"""Counted where a `$ref` refers to them."""
_COMPARED = frozenset({"enum", "const"})
_VALUES = frozenset({"default", "examples", "required", "type", "dependentRequired"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_UNFOLLOWED = ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef")
_UNBOUNDED = ("unevaluatedProperties", "unevaluatedItems")
"""They evaluate all nested schemas again at each level: 20 levels took 16 seconds."""


class _Walk:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._patterns = 0
        self._starts = ["#"]
        self.parts = 0
        self.loops = 0
        self.places = 0
        self.uniques = 0
        self.has_choices = False

    def everything(self) -> None:
        """Count the schema, then each target of a recursive `$ref`."""
        for start in self._starts:  # grows while the loop runs
            self._schema(self._target(start), frozenset({start}), frozenset({start}))

    def _add(self, parts: int) -> None:
        self.parts += parts
        if self.parts > MAX_PARTS:
            raise ValueError(f"is too large: it has more than {MAX_PARTS} parts when its $refs are followed")

    def _schema(self, value: Any, within: frozenset[str], here: frozenset[str], *, flat: bool = False) -> None:
        """within: the `$ref`s that led here. here: those of them that apply to the same value of an answer.
        flat: count only keywords for the value itself, not for its items, as for a number."""
        self._add(1)
        if isinstance(value, list):
            for item in value:
                self._schema(item, within, here, flat=flat)
        if not isinstance(value, dict):
            return
        self._refuse_uncounted(value)
        self._count_words(value)
        for word, part in value.items():
            if word in _DEFINITIONS or word in _VALUES or word in _COMPARED or not isinstance(part, (dict, list)):
                continue
            is_here = word in _SCHEMAS_HERE or word in _BY_NAME_HERE
            if flat and not is_here:
                continue
            inner = here if is_here else frozenset()
            for item in part.values() if word in _BY_NAME and isinstance(part, dict) else [part]:
                self._schema(item, within, inner, flat=flat)
        reference = value.get("$ref")
        if isinstance(reference, str):
            self._follow(reference, within, here, flat=flat)

    def _follow(self, reference: str, within: frozenset[str], here: frozenset[str], *, flat: bool) -> None:
        target = self._target(reference)
        if reference in here:
            raise ValueError(f"applies {reference[:100]!r} to a value that it applies to already, without end")
        if reference in within and not flat:
            self.loops += 1
            if reference not in self._starts:
                self._starts.append(reference)
            self._schema(target, within, frozenset({reference}), flat=True)
            return
        self._schema(target, within | {reference}, here | {reference}, flat=flat)

    def _target(self, reference: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            raise ValueError(f"refers to {reference[:100]!r}: only parts of the schema are allowed, as in #/$defs/name")
        target: Any = self._root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(name)] if isinstance(target, list) else target[name]
            except (KeyError, IndexError, TypeError, ValueError):
                raise ValueError(f"refers to {reference[:100]!r}, which is not there") from None
        return target

    def _refuse_uncounted(self, value: dict[str, Any]) -> None:
        for word in _UNFOLLOWED:
            if word in value:
                raise ValueError(f"uses {word}: refer to parts of the schema by path, as in #/$defs/name")
        for word in _UNBOUNDED:
            if word in value:
                raise ValueError(f"uses {word}, which takes too long to check: use additionalProperties or items")
        if value is not self._root and isinstance(value.get("$id"), str):
            raise ValueError("uses $id in a subschema: refer to parts of the schema by path, as in #/$defs/name")

    def _count_words(self, value: dict[str, Any]) -> None:
        self._add(len(value))
        self.has_choices |= "anyOf" in value or "oneOf" in value
        self._add(sum(_nodes(value[word]) for word in (_VALUES | _COMPARED | _NUMBERS) & value.keys()))
        self.uniques += value.get("uniqueItems") is True
        if isinstance(value.get("multipleOf"), float):
            self._add(FRACTION_PARTS)
        patterns = _patterns_in(value)
        self._patterns += len(patterns)
        self.places += sum(map(places_of, patterns))
        if self._patterns > MAX_PATTERNS or self.places > MAX_PLACES:
            raise ValueError(
                f"has more than {MAX_PATTERNS} patterns, or {MAX_PLACES} places in them, when its $refs are followed"
            )


def _check_patterns(schema: dict[str, Any]) -> None:
    """Count all patterns, since the library compiles even those in definitions that are never referred to."""
    found: set[str] = set()
    rest: list[Any] = [schema]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            found.update(_patterns_in(value))
            rest.extend(value.values())
        elif isinstance(value, list):
            rest.extend(value)
    if len(found) > MAX_PATTERNS or sum(map(places_of, found)) > MAX_PLACES:
        raise ValueError(f"has more than {MAX_PATTERNS} patterns, or {MAX_PLACES} places in them")


def _patterns_in(value: dict[str, Any]) -> list[str]:
    by_pattern = value.get("patternProperties")
    patterns = list(by_pattern) if isinstance(by_pattern, dict) else []
    pattern = value.get("pattern")
    return [*patterns, pattern] if isinstance(pattern, str) else patterns


def _nodes(value: Any) -> int:
    """Number of parts of a value in a schema, including itself and field names. The value's depth is bounded."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_nodes, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_nodes, value))
    return NUMBER_PARTS * weight_of(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 1
