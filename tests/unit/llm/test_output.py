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

from shared.sessions.structured_output import checks
from shared.sessions.structured_output.checks import (
    MAX_DEPTH,
    MAX_SCHEMA_BYTES,
    asked_in_words,
    check_output,
    checked_schema,
    without_fence,
)
from shared.sessions.structured_output.schema_size import MAX_PATTERNS

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


def chain(length: int, word: str = "allOf") -> dict[str, Any]:
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
        chain(8),
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
        ({"type": "object", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "object", "pattern": r"(a)\1"}, "not a JSON Schema"),
        ({"type": "object", "pattern": "(a{1000}){1000}"}, "places"),
        ({"type": "object", "$ref": "#/$defs/gone"}, "not there"),
        ({"type": "object", "$ref": "#here", "$defs": {"a": {"$anchor": "here"}}}, "#/$defs/name"),
        ({"type": "object", "$dynamicRef": "#a"}, "$dynamicRef"),
        ({"type": "object", "$defs": {"a": {"$anchor": "x"}}, "$ref": "#/$defs/a"}, "$anchor"),
        ({"type": "object", "not": {"$id": "https://x.test/"}}, "$id"),
        (chain(12), "too large"),
        (chain(40), "too large"),
        (chain(400), "too large"),
        (chain(40, "anyOf"), "too large"),
        ({**chain(2), "unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"type": "object", "not": {"unevaluatedItems": {}}}, "unevaluatedItems"),
        ({"type": "object", "allOf": [{"$ref": "#"}]}, "already"),
        ({"type": "object", "pattern": "[a[b]]"}, "in a class"),
        ({"type": "object", "pattern": "(?x)a"}, "flags"),
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
        ('{"age": Infinity}', "not JSON"),
        ('{"age": 1e999}', "not JSON"),
        ('{"age": 12345678901234567890123}', "beyond 64 bits"),
        ('{"age": -9223372036854775809}', "beyond 64 bits"),
        ('{"age": 1e300, "id": [18446744073709551616]}', "beyond 64 bits"),
        ('```json\n{"age": ' + "9" * 300 + "}\n```", "beyond 64 bits"),
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

    def validate(self, value: object) -> None:
        self.explained += 1
        self.inner.validate(value)


@pytest.mark.parametrize(
    ("schema", "levels", "is_explained"),
    [
        (PERSON, 0, True),
        (_TREE, 2, True),
        (_expressions(2), 4, True),
        (_expressions(2), 14, False),  # 2 to the 14th, times 5 parts
        (_expressions(2), 60, False),
        (_expressions(40), 3, False),  # 40 to the third
        (chain(9), 0, True),
    ],
    ids=["flat", "tree", "shallow", "deep", "deepest", "wide", "chain"],
)
def test_an_answer_is_decided_once_and_explained_only_where_that_is_cheap(
    schema: dict[str, Any], levels: int, is_explained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked_schema(schema)
    checker = checks._checker(orjson.dumps(schema))
    counted = _Counted(checker.validator)
    swapped = checks._Checker(counted, checker.size)  # type: ignore[arg-type]
    monkeypatch.setattr(checks, "_checker", lambda _: swapped)

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


@pytest.mark.parametrize("number", ["18446744073709551615", "-9223372036854775808", "1e+30", "-1.5E+300", "1E+22"])
def test_numbers_that_are_read_as_they_are_written_are_taken(number: str) -> None:
    value, error = check_output({"type": "object"}, f'{{"a": {number}}}')

    assert error is None
    assert str(value["a"]).lower() == number.lower()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"type": "object", "properties": {"a": {"type": "text"}}},
        {"type": "object", "unevaluatedProperties": False},
        {"type": "object", "maximum": 2**64},
        {"type": "object", "$ref": "#/$defs/gone"},
        chain(40),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_stored_schema_that_is_refused_by_now_is_an_error_and_not_raised(schema: dict[str, Any]) -> None:
    value, error = check_output(schema, "{}")

    assert value is None
    assert error is not None
    assert error.startswith("The JSON Schema for the answer cannot be used: it ")


def test_an_answer_has_a_largest_size_for_any_schema() -> None:
    longest = '{"a":"' + "x" * (checks.MAX_ANSWER_BYTES - 8) + '"}'
    most = orjson.dumps({"a": [1] * (checks.MAX_ANSWER_VALUES - 2)}).decode()

    for text in (longest, most):
        assert check_output({"type": "object"}, text)[1] is None
    assert check_output({"type": "object"}, longest + " ")[1] == "The answer is longer than 524288 bytes."
    assert check_output({"type": "object"}, most.replace("[", "[1,", 1))[1] == (
        "The answer is too long to be checked against the schema."
    )
