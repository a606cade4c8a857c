"""Answers in a JSON Schema: which schemas are taken, what is valid, and that neither can cost more than it may."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.llm import output
from shared.sessions.llm.output import (
    MAX_DEPTH,
    MAX_SCHEMA_BYTES,
    asked_in_words,
    check_output,
    checked_schema,
    is_strict,
    without_fence,
)
from shared.sessions.llm.schema_size import MAX_PARTS, MAX_PATTERNS, size_of

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def _nested(levels: int, value: object = 1, key: str = "x") -> Any:
    for _ in range(levels):
        value = {key: value}
    return value


def _chain(length: int, word: str = "allOf") -> dict[str, Any]:
    """Definitions that each name the next one twice."""
    parts: dict[str, Any] = {
        f"d{n}": {word: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(length)
    }
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": {**parts, f"d{length}": {"required": ["x"]}}}


# Schemas that are taken, and not. ----------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        PERSON,
        {"type": "object", "properties": {"$ref": {"type": "string"}, "$id": {}, "enum": {"type": "string"}}},
        {"type": "object", "properties": {"child": {"$ref": "#"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a~1b%20c"}}, "$defs": {"a/b c": {"type": "string"}}},
        {"type": "object", "properties": {"date": {"pattern": r"^\d{4}-\d{2}-\d{2}$"}}},
        _chain(8),
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://x.test/s", "type": "object"},
    ],
    ids=str,
)
def test_a_schema_of_an_object_is_taken_as_it_is(schema: dict[str, Any]) -> None:
    assert checked_schema(schema) is schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({}, '"type": "object"'),
        ({"type": "array"}, '"type": "object"'),
        ({"type": ["object"]}, '"type": "object"'),
        ({"anyOf": [{"type": "object"}]}, '"type": "object"'),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "not a JSON Schema"),
        ({"type": "object", "required": "a"}, "not a JSON Schema"),
        ({"type": "object", "maximum": 2**64}, "64 bits"),
        ({"type": "object", "properties": _nested(600, {})}, "too deeply"),
        ({"type": "object", "title": "\x00"}, "U+0000"),
        ({"type": "object", "title": "x" * MAX_SCHEMA_BYTES}, f"{MAX_SCHEMA_BYTES} bytes"),
        ({"type": "object", "not": _nested(MAX_DEPTH, {}, "not")}, f"{MAX_DEPTH} levels"),
        ({"type": "object", "pattern": "(?=a)b"}, "not a JSON Schema"),
        ({"type": "object", "pattern": r"(a)\1"}, "not a JSON Schema"),
        ({"type": "object", "pattern": "(a{1000}){1000}"}, "not a JSON Schema"),
        ({"type": "object", "$ref": "#/$defs/gone"}, "not there"),
        ({"type": "object", "$ref": "#here", "$defs": {"a": {"$anchor": "here"}}}, "#/$defs/name"),
        ({"type": "object", "$dynamicRef": "#a"}, "$dynamicRef"),
        ({"type": "object", "$defs": {"a": {"$anchor": "x"}}, "$ref": "#/$defs/a"}, "$anchor"),
        ({"type": "object", "not": {"$id": "https://x.test/"}}, "$id"),
        (_chain(12), "too large"),
        (_chain(40), "too large"),
        (_chain(400), "too large"),
        (_chain(40, "anyOf"), "too large"),
        ({**_chain(40), "unevaluatedProperties": False}, "too large"),
        (
            {"type": "object", "properties": {f"p{n}": {"pattern": "a"} for n in range(MAX_PATTERNS + 1)}},
            "patterns",
        ),
        ({"type": "object", "patternProperties": {f"a{n}": {} for n in range(MAX_PATTERNS + 1)}}, "patterns"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_any_other_is_refused_in_one_line_that_says_why(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError) as refused:
        checked_schema(schema)

    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_schema_is_nested_as_deeply_as_allowed_and_no_deeper() -> None:
    # The schema itself is the first level.
    assert checked_schema({"type": "object", **_nested(MAX_DEPTH - 1, {}, "not")})
    with pytest.raises(ValueError, match="levels"):
        checked_schema({"type": "object", **_nested(MAX_DEPTH, {}, "not")})


class _Asked:
    def __init__(self) -> None:
        self.addresses: list[Any] = []


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Asked]:
    """A server that nobody is to ask, on a port of its own."""
    asked = _Asked()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        asked.addresses.append(server.getsockname())
        yield asked
        with pytest.raises(BlockingIOError):
            server.accept()


def test_nothing_is_fetched_for_a_reference(network: _Asked, tmp_path: Path) -> None:
    host, port = network.addresses[0]
    (tmp_path / "s.json").write_text('{"type": "object"}')
    for address in (f"http://{host}:{port}/s.json", (tmp_path / "s.json").as_uri()):
        for schema in (
            {"type": "object", "$ref": address},
            {"type": "object", "properties": {"a": {"$ref": address}}},
            {"type": "object", "$id": address, "$ref": "other.json"},
            {"type": "object", "$ref": "#/$defs/a", "$defs": {"a": {"$ref": address}}},
        ):
            with pytest.raises(ValueError):
                checked_schema(schema)
        # Which dialect a schema is read in, we say, and not it.
        assert check_output(checked_schema({"type": "object", "$schema": address}), "{}") == ({}, None)


# How large a schema is. --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "parts", "loops"),
    [
        ({"type": "object"}, 1, 0),
        (PERSON, 3, 0),
        ({"type": "object", "properties": {"enum": {"type": "string"}, "b": {"enum": [{}, {}]}}}, 3, 0),
        # Root, and twice what the definition is.
        ({"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {}}}}, 8, 0),
        ({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}, 3, 2),
        # Each definition is itself, a list, and twice a schema with what it names: 1, 2 + 2 * (1 + 1) = 6, 16, 36.
        (_chain(3), 37, 0),
    ],
    ids=str,
)
def test_what_is_named_counts_wherever_it_is_named(schema: dict[str, Any], parts: int, loops: int) -> None:
    size = size_of(schema)

    assert (size.parts, size.loops) == (parts, loops)


@pytest.mark.parametrize("length", [12, 30, 300, 3_000])
def test_a_schema_that_doubles_is_counted_no_further_than_the_limit(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = 0

    class Counting(dict[str, Any]):
        def items(self) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().items()

    schema = _chain(length)
    counted = Counting(schema, **{"$defs": {name: Counting(part) for name, part in schema["$defs"].items()}})

    with pytest.raises(ValueError, match="too large"):
        size_of(counted)

    assert looked_at <= MAX_PARTS


# Answers. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ann"}',
        ' \n{"name": "Ann"}\n',
        '```json\n{"name": "Ann"}\n```',
        '```\n{"name": "Ann"}\n```',
        '  ```json {"name": "Ann"}```  ',
    ],
)
def test_an_answer_that_fits_is_read_also_out_of_a_fence(text: str) -> None:
    assert check_output(PERSON, text) == ({"name": "Ann"}, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("Ann", "not JSON"),
        ('{"name": "Ann"} and more', "not JSON"),
        ('Here it is:\n```json\n{"name": "Ann"}\n```', "not JSON"),
        ("```", "not JSON"),
        ("``````", "not JSON"),
        ('["Ann"]', "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", '"name" is a required property'),
        ('{"name": 1}', "name: "),
        ('{"name": "Ann", "age": -1}', "age: "),
        ('{"name": "Ann", "wings": 2}', "wings"),
        ('{"name": "a\\u0000"}', "U+0000"),
        ('{"name": "\\ud800"}', "not JSON"),
        ('{"name": NaN}', "not JSON"),
        ('{"age":' * 5_000 + "1" + "}" * 5_000, "not JSON"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_with_an_answer_is_one_line_for_the_model(text: str, why: str) -> None:
    value, error = check_output(PERSON, text)

    assert value is None
    assert error is not None
    assert why in error
    assert "\n" not in error
    assert len(error) < 500


def test_a_pattern_that_could_backtrack_forever_decides_at_once() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    text = "a" * 100_000

    assert check_output(schema, f'{{"a": "{text}"}}')[1] is None
    assert check_output(schema, f'{{"a": "{text}!"}}')[1] is not None


_TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "n": {"type": "integer"}},
    "additionalProperties": False,
}


def _expressions(branches: int) -> dict[str, Any]:
    """Each branch looks into the same inner value: why it is not valid takes `branches` to the power of its depth."""
    branch = {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["n"]}
    return {"type": "object", "anyOf": [branch] * branches}


class _Counted:
    """A validator that counts how it is used."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.decided, self.explained = inner, 0, 0

    def is_valid(self, value: object) -> bool:
        self.decided += 1
        return bool(self.inner.is_valid(value))

    def iter_errors(self, value: object) -> Iterator[Any]:
        self.explained += 1
        return iter(self.inner.iter_errors(value))


@pytest.mark.parametrize(
    ("schema", "levels", "is_explained"),
    [
        (PERSON, 0, True),
        (_TREE, 2, True),
        (_expressions(2), 4, True),
        (_expressions(2), 14, False),  # 2 to the 14th, times 5 parts
        (_expressions(2), 60, False),
        (_expressions(40), 3, False),  # 40 to the third
        (_chain(9), 0, True),
    ],
    ids=["flat", "tree", "shallow", "deep", "deepest", "wide", "chain"],
)
def test_an_answer_is_decided_once_and_explained_only_where_that_is_cheap(
    schema: dict[str, Any], levels: int, is_explained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked_schema(schema)
    checker = output._checker(orjson.dumps(schema))
    counted = _Counted(checker.validator)
    swapped = output._Checker(counted, checker.size)  # type: ignore[arg-type]
    monkeypatch.setattr(output, "_checker", lambda _: swapped)

    value, error = check_output(schema, orjson.dumps(_nested(levels, {"n": "no"})).decode())

    assert value is None
    assert (counted.decided, counted.explained) == (1, int(is_explained))
    assert (error == "The answer does not match the schema.") is not is_explained


def test_a_recursive_schema_takes_and_refuses_deep_answers() -> None:
    def tree(leaf: object) -> str:
        value: Any = leaf
        for _ in range(60):
            value = {"left": value, "n": 1}
        return orjson.dumps(value).decode()

    assert check_output(_TREE, tree({"n": 1}))[1] is None
    assert check_output(_TREE, tree({"n": "one"}))[1] == "The answer does not match the schema."


def test_an_answer_that_would_take_too_long_to_check_is_not() -> None:
    part = {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(100)}}
    every = {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/part"}] * 40}}
    schema = checked_schema({"type": "object", "properties": {"all": every}, "$defs": {"part": part}})

    few = check_output(schema, orjson.dumps({"all": [{"p1": 1}] * 100}).decode())
    many = check_output(schema, orjson.dumps({"all": [{"p1": 1}] * 10_000}).decode())

    assert few[1] is None
    assert many == (None, "The answer is too long to be checked against the schema.")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
        max_size=4,
    ),
    st.sampled_from(["{}", "```json\n{}\n```", "\n {} \n", "```{}```"]),
)
def test_an_answer_without_nul_comes_out_as_it_went_in(value: dict[str, Any], form: str) -> None:
    text = orjson.dumps(value).decode()

    found, error = check_output({"type": "object"}, form.replace("{}", text))

    if "\\u0000" in text:
        assert (found, error) == (None, "The answer holds U+0000.")
    else:
        assert (found, error) == (value, None)


@given(st.text(max_size=60))
def test_no_text_at_all_breaks_the_check(text: str) -> None:
    value, error = check_output(PERSON, text)

    assert (value is None) == (error is not None)


@pytest.mark.parametrize(
    ("text", "bare"),
    [("```json\n{}\n```", "{}"), ("{}", "{}"), ("```", "```"), ("```js\n{}```", "js\n{}"), ("a ``` b", "a ``` b")],
)
def test_only_a_fence_around_everything_is_taken_off(text: str, bare: str) -> None:
    assert without_fence(text) == bare


def test_a_schema_in_words_holds_it_as_it_is() -> None:
    assert orjson.loads(asked_in_words(PERSON).partition("\n")[2]) == PERSON


# Strictness. -------------------------------------------------------------------------------------

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
