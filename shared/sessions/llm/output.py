"""Answers in a JSON Schema: whether a schema may be asked for, and whether an answer is what it says.

Invariant: checking is bounded whatever a schema or an answer says. Nothing is fetched for a `$ref`, patterns run on an
engine without backtracking, and a schema that is large once its `$ref`s are followed is refused (`schema_size.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from shared.sessions.llm.schema_size import SchemaSize, size_of

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

_TEXT = "$text"
MAX_SCHEMA_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_PATTERN_BYTES = 128 * 1024
"""Of one compiled pattern; the engine's own limit is 10 MB each."""
MAX_WORK = 20_000_000
"""Parts of a schema times values of an answer: about half a second."""
_EXPLAINED_WORK = 5_000
"""Whether a value is valid is decided in linear time. Why not is found in time exponential in its depth when the schema
is recursive (measured: 80 s at 18 levels), and costs about a thousand times as much."""
_SHOWN_CHARS = 300
_FENCE = "```"


def checked_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema. Raises ValueError when it is none that an answer can be held to."""
    try:
        text = orjson.dumps(schema)
    except TypeError:
        raise ValueError("holds a whole number beyond 64 bits, or is nested too deeply") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise ValueError(f"may hold {MAX_SCHEMA_BYTES} bytes of JSON")
    if b"\\u0000" in text:
        raise ValueError("holds U+0000")
    if _depth(schema) > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if schema.get("type") != "object":
        raise ValueError('must have "type": "object": models answer with an object')
    size_of(schema)  # before it is compiled, which may take as long as checking
    try:
        _checker(text)
    except Exception as exc:
        # The library raises several kinds, all of them about the schema.
        raise ValueError(f"is not a JSON Schema: {_line(exc)}") from None
    return schema


def kept_in_order(values: dict[str, Any]) -> dict[str, Any]:
    """For a store whose JSON has an order of keys of its own: the value of `output_schema` as text.

    Models write the fields of an answer in the order of their schema, so that an explanation asked for before a verdict
    has to come before it.
    """
    schema = values.get("output_schema")
    return values if schema is None else values | {"output_schema": {_TEXT: orjson.dumps(schema).decode()}}


def in_written_order(value: Any) -> Any:
    """The way back from `kept_in_order`; anything else as it is. Raises ValueError."""
    if isinstance(value, dict) and value.keys() == {_TEXT} and isinstance(value[_TEXT], str):
        return orjson.loads(value[_TEXT])
    return value


def check_output(schema: dict[str, Any], text: str) -> tuple[Any, str | None]:
    """The answer as JSON, or None and what is wrong with it, in words for the model that wrote it."""
    try:
        value = orjson.loads(without_fence(text))
    except orjson.JSONDecodeError as exc:
        return None, f"The answer is not JSON: {exc}"
    if not isinstance(value, dict) or _depth(value) > MAX_DEPTH * 2:
        return None, "The answer is not a JSON object, or is nested too deeply."
    if "\\u0000" in text:
        return None, "The answer holds U+0000."
    checker = _checker(orjson.dumps(schema))
    if checker.size.parts * _count(value) > MAX_WORK:
        return None, "The answer is too long to be checked against the schema."
    if checker.validator.is_valid(value):
        return value, None
    if checker.size.parts * max(1, checker.size.loops) ** _depth(value) <= _EXPLAINED_WORK:
        for error in checker.validator.iter_errors(value):
            where = ".".join(str(part) for part in error.instance_path) or "the answer"
            return None, f"{where}: {_line(error.message)}"
    return None, "The answer does not match the schema."


def asked_in_words(schema: dict[str, Any]) -> str:
    """For a model whose API takes no schema."""
    return (
        "The final answer is one JSON object and nothing else. It has to be valid against this JSON Schema:\n"
        + orjson.dumps(schema).decode()
    )


def without_fence(text: str) -> str:
    """JSON as some models write it, in a Markdown block or behind white space."""
    bare = text.strip()
    if bare.startswith(_FENCE) and bare.endswith(_FENCE) and len(bare) > 2 * len(_FENCE):
        bare = bare[len(_FENCE) : -len(_FENCE)].removeprefix("json").strip()
    return bare


def is_strict(schema: dict[str, Any]) -> bool:
    """Whether providers take it as a strict one: each object closed and each of its properties required, and no word
    that they may not know, since a strict schema with one is refused.

    Source: OpenAI's guide "Structured outputs", supported schemas.
    """
    return "anyOf" not in schema and _is_strict(schema)


def _is_strict(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema:
        names = schema.get("properties") or {}
        if schema.get("additionalProperties") is not False or set(schema.get("required") or ()) != set(names):
            return False
    if not schema.keys() <= _STRICT or schema.get("format", "date") not in _STRICT_FORMATS:
        return False
    parts = [part for word in _BY_NAME for part in (schema.get(word) or {}).values()]
    parts += schema.get("anyOf") or ()
    parts += [schema["items"]] if "items" in schema else ()
    return all(map(_is_strict, parts))


_BY_NAME = ("properties", "$defs", "definitions")
_STRICT = frozenset(
    {
        *_BY_NAME,
        *(
            "type",
            "required",
            "additionalProperties",
            "items",
            "anyOf",
            "$ref",
            "enum",
            "const",
            "title",
            "description",
        ),
        *("pattern", "format", "minItems", "maxItems"),
        *("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
)
_STRICT_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


@dataclass(frozen=True, slots=True)
class _Checker:
    validator: Draft202012Validator
    size: SchemaSize


@lru_cache(maxsize=64)
def _checker(text: bytes) -> _Checker:
    from jsonschema_rs import Draft202012Validator, RegexOptions

    schema = orjson.loads(text)
    options = RegexOptions(size_limit=MAX_PATTERN_BYTES)
    return _Checker(Draft202012Validator(schema, offline=True, pattern_options=options), size_of(schema))


def _count(value: object) -> int:
    """Values in it, itself among them; it is not nested deeply."""
    if isinstance(value, dict):
        return 1 + sum(map(_count, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(_count, value))
    return 1


def _depth(value: object) -> int:
    """Levels of lists and objects, without recursion: the value may be hostile."""
    deepest = 0
    level: list[object] = [value]
    while level:
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        if not any(isinstance(item, (dict, list)) for item in level):
            break
        deepest += 1
        if deepest > 4 * MAX_DEPTH:
            break
        level = inner
    return deepest


def _line(error: object) -> str:
    return " ".join(str(error).split("\n\n", 1)[0].split())[:_SHOWN_CHARS]
