"""Structured output: accepts or refuses a JSON Schema, and validates answers against one.

Invariant: the cost of validation is bounded, whatever the schema and the answer. Nothing is fetched for a `$ref`, and
patterns run on an engine without backtracking. A schema is refused if it is too large once its `$ref`s are followed, or
if it uses keywords whose cost cannot be bounded (`schema_size.py`). An answer that would take too much work to validate
is refused unchecked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from shared.sessions.structured_output.answer_size import size_of_answer
from shared.sessions.structured_output.schema_size import SchemaSize, size_of

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

MAX_SCHEMA_BYTES = 64 * 1024
MAX_DEPTH = 32
MAX_PATTERN_BYTES = 128 * 1024
"""Of one compiled pattern; the engine's own limit is 10 MB each."""
MAX_ANSWER_BYTES = 512 * 1024
"""Of an answer's text in UTF-8; about the length of 128,000 tokens."""
MAX_ANSWER_VALUES = 50_000
"""As `AnswerSize` counts them."""
MAX_WORK = 5_000_000
"""Most work to validate an answer, as `SchemaSize.work` counts it: about 0.15 seconds at worst."""
_EXPLAINED_WORK = 20_000
"""Most work to name the error in an answer if the schema has choices: the library then builds all errors of each one.
It uses no cache for this, so with a recursive schema the time is exponential in the answer's depth (80 s at 18
levels)."""
_MAX_INT = 2**64 - 1
_MIN_INT = -(2**63)
_MAX_INT_DIGITS = 20
_SHOWN_CHARS = 300
_FENCE = "```"


def checked_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema unchanged. Raises ValueError if answers cannot be validated against it."""
    _checker_of(schema)
    return schema


def check_output(schema: dict[str, Any], text: str, what: str = "answer") -> tuple[Any, str | None]:
    """The answer, or what else it is, as JSON and None, or None and an error message for the model that wrote it.

    A schema that `checked_schema` would refuse gives an error too: it may have been stored under other limits.
    """
    try:
        checker = _checker_of(schema)
    except ValueError as exc:
        return None, f"The JSON Schema for the {what} cannot be used: it {exc}"
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_ANSWER_BYTES:
        return None, f"The {what} is longer than {MAX_ANSWER_BYTES} bytes."
    bare = without_fence(text)
    try:
        value = orjson.loads(bare)
    except orjson.JSONDecodeError as exc:
        return None, f"The {what} is not JSON: {exc}"
    depth = _depth(value)
    if not isinstance(value, dict) or depth > MAX_DEPTH * 2:
        return None, f"The {what} is not a JSON object, or is nested too deeply."
    if "\\u0000" in text:
        return None, f"The {what} holds U+0000."
    if _holds_long_int(bare, value):
        return None, f"The {what} holds a whole number beyond 64 bits."
    answer = size_of_answer(value, size)
    work = checker.size.work(answer)
    if answer.values > MAX_ANSWER_VALUES or work > MAX_WORK:
        return None, f"The {what} is too long to be checked against the schema."
    if checker.validator.is_valid(value):
        return value, None
    explained = work * max(1, checker.size.loops) ** depth
    if explained <= (_EXPLAINED_WORK if checker.size.has_choices else MAX_WORK):
        return None, _first_error(checker.validator, value, what)
    return None, f"The {what} does not match the schema."


def asked_in_words(schema: dict[str, Any]) -> str:
    """The schema as an instruction, for a model whose API has no parameter for it."""
    return (
        "The final answer is one JSON object and nothing else. It has to be valid against this JSON Schema:\n"
        + orjson.dumps(schema).decode()
    )


def without_fence(text: str) -> str:
    """JSON without the Markdown fence and white space that some models write around it."""
    bare = text.strip()
    if bare.startswith(_FENCE) and bare.endswith(_FENCE) and len(bare) > 2 * len(_FENCE):
        bare = bare[len(_FENCE) : -len(_FENCE)].removeprefix("json").strip()
    return bare


@dataclass(frozen=True, slots=True)
class _Checker:
    validator: Draft202012Validator
    size: SchemaSize


def _checker_of(schema: dict[str, Any]) -> _Checker:
    """Raises ValueError."""
    try:
        text = orjson.dumps(schema)
    except TypeError:
        raise ValueError("holds a whole number beyond 64 bits, or is nested too deeply") from None
    if len(text) > MAX_SCHEMA_BYTES:
        raise ValueError(f"must not be longer than {MAX_SCHEMA_BYTES} bytes of JSON")
    if b"\\u0000" in text:
        raise ValueError("holds U+0000")
    if _depth(schema) > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if schema.get("type") != "object":
        raise ValueError('must have "type": "object": models answer with an object')
    return _checker(text)


@lru_cache(maxsize=64)
def _checker(text: bytes) -> _Checker:
    """Raises ValueError."""
    from jsonschema_rs import Draft202012Validator, RegexOptions

    schema = orjson.loads(text)
    size = size_of(schema)  # before it is compiled, which can take as long as validation
    try:
        options = RegexOptions(size_limit=MAX_PATTERN_BYTES)
        return _Checker(Draft202012Validator(schema, offline=True, pattern_options=options), size)
    except Exception as exc:
        # The library raises several classes, all of them about the schema.
        raise ValueError(f"is not a JSON Schema: {_line(exc)}") from None


def _first_error(validator: Draft202012Validator, value: object, what: str) -> str:
    from jsonschema_rs import ValidationError

    try:
        validator.validate(value)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.instance_path) or f"the {what}"
        return f"{where[:_SHOWN_CHARS]}: {_line(error.message)}"
    return f"The {what} does not match the schema."


def _holds_long_int(text: str, value: object) -> bool:
    """Whether an integer beyond 64 bits was parsed as a float, which loses digits."""
    if not _holds_large_float(value):
        return False
    found = False

    def whole(digits: str) -> int:
        nonlocal found
        is_long = len(digits.lstrip("-")) > _MAX_INT_DIGITS or not _MIN_INT <= int(digits) <= _MAX_INT
        found |= is_long
        return 0

    json.loads(text, parse_int=whole)
    return found


def _holds_large_float(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_large_float, value.values()))
    if isinstance(value, list):
        return any(map(_holds_large_float, value))
    return isinstance(value, float) and abs(value) >= -_MIN_INT


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
