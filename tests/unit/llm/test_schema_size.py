"""What a schema counts for: that nothing in it is free, wherever it stands, and that counting itself ends."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.structured_output.answer_size import EXTREME_VALUES, AnswerSize, size_of_answer
from shared.sessions.structured_output.checks import MAX_ANSWER_BYTES, MAX_WORK, check_output, checked_schema
from shared.sessions.structured_output.pattern_size import places_of
from shared.sessions.structured_output.schema_size import (
    FRACTION_PARTS,
    MAX_PARTS,
    MAX_PLACES,
    NUMBER_PARTS,
    size_of,
)
from tests.unit.llm.test_output import chain

TOO_LONG = "The answer is too long to be checked against the schema."


@pytest.mark.parametrize(
    ("schema", "parts", "loops"),
    [
        # A schema, its words, and the values of type, required, enum and const.
        ({}, 1, 0),
        ({"type": "object"}, 3, 0),
        ({"title": "x", "required": ["a", "b"]}, 6, 0),
        ({"properties": {"enum": {}, "b": {}}}, 4, 0),
        ({"enum": ["a", None, {"b": ["c"]}]}, 2 + 1 + 2 + 2 + 2, 0),
        ({"const": [[1], 0.5]}, 2 + 2 + 2 * NUMBER_PARTS, 0),
        ({"maximum": 1e300}, 2 + EXTREME_VALUES * NUMBER_PARTS, 0),
        ({"multipleOf": 2}, 2 + NUMBER_PARTS, 0),
        ({"multipleOf": 0.5}, 2 + NUMBER_PARTS + FRACTION_PARTS, 0),
        ({"dependentRequired": {"a": ["b", "c"]}}, 2 + 2 + 3, 0),
        # Two words, a list, and twice a word that names what has a word itself.
        ({"allOf": [{"$ref": "#/$defs/a"}] * 2, "$defs": {"a": {"not": {}}}}, 3 + 1 + 2 * (2 + 3), 0),
        # What leads back counts as it is for a number: without what is asked of its fields.
        ({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}, 2 + 2 * (2 + 2), 2),
    ],
    ids=str,
)
def test_each_word_and_each_value_counts_wherever_it_is_named(schema: dict[str, Any], parts: int, loops: int) -> None:
    size = size_of(schema)

    assert (size.parts, size.loops) == (parts, loops)


def test_what_is_led_back_to_counts_as_a_start_of_its_own() -> None:
    inner = {"properties": {"x": {"$ref": "#/$defs/n"}}}
    once = size_of({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"properties": {"x": {}}}}})
    back = size_of({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": inner}})

    # Root 3, the name 2, and twice the definition 2 with 2 for its field and 2 for the way back.
    assert once.parts == 3 + 2 + 3
    assert back.parts == 3 + 2 + 2 * (2 + 2 + 2)


@pytest.mark.parametrize("length", [12, 30, 300, 3_000])
def test_a_schema_that_doubles_is_counted_no_further_than_the_limit(length: int) -> None:
    looked_at = 0

    class Counting(dict[str, Any]):
        def items(self) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().items()

    schema = chain(length)
    counted = Counting(schema, **{"$defs": {name: Counting(part) for name, part in schema["$defs"].items()}})

    with pytest.raises(ValueError, match="too large"):
        size_of(counted)

    assert 0 < looked_at <= MAX_PARTS


@pytest.mark.parametrize(
    ("pattern", "places"),
    [
        ("", 1),
        ("abc", 4),
        ("a{100}", 101),
        ("[ab]*a[ab]{100}c", 105),
        ("(ab){3}", 1 + 3 * 3),
        ("((a{10}){10}){10}", 1 + 10 * (1 + 10 * (1 + 10))),
        (r"\({9}", 10),
        (r"[\]({9]", 2),
        ("a{2}{3}{,4}{5,}", 1 + 2 * 3 * 4 * 5),
        (r"\p{L}", 14),
    ],
)
def test_places_of_a_pattern_are_those_of_it_written_out(pattern: str, places: int) -> None:
    assert places_of(pattern) == places


def _list_of(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"items": part}}}


def _all(part: dict[str, Any], times: int) -> dict[str, Any]:
    return _list_of({"allOf": [part] * times})


def _unevaluated(levels: int, word: str) -> dict[str, Any]:
    parts: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}], word: False} for n in range(levels)}
    return {"type": "object", "$ref": "#/$defs/d0", "$defs": {**parts, f"d{levels}": {}}}


ADVERSARIAL: list[tuple[dict[str, Any], Any]] = [
    (_unevaluated(20, "unevaluatedProperties"), {"x": 1}),
    (_unevaluated(20, "unevaluatedItems"), {"x": 1}),
    (chain(40), {}),
    (chain(40, "anyOf"), {}),
    (_list_of({"enum": [f"{n:07}" for n in range(6_000)]}), {"a": ["x000000"] * 40_000}),
    (_list_of({"enum": [[n] for n in range(8_000)]}), {"a": [[9999]] * 20_000}),
    (_list_of({"enum": [[n] for n in range(500)]}), {"a": [[9999]] * 20_000}),
    (_list_of({"const": [[[1] * 50] * 10]}), {"a": [[[[1] * 50] * 10]] * 80}),
    (_all({"minimum": 0.1}, 200), {"a": [1.7e300] * 2_000}),
    (_all({"multipleOf": 1e-300}, 9), {"a": [1.7e300] * 2_000}),
    (_all({"multipleOf": 1}, 200), {"a": [1.7e308] * 2_000}),
    ({"type": "object", "properties": {"a": {"uniqueItems": True}}}, {"a": [2**63 + n for n in range(20_000)]}),
    (_list_of({"pattern": "[ab]*a[ab]{900}c"}), {"a": ["ab" * 20_000]}),
    (_all({"pattern": "[ab]*a[ab]{20}c"}, 50), {"a": ["ab" * 20_000]}),
    (_list_of({"pattern": "([ab]{100}){100}"}), {}),
    ({"type": "object", "$defs": {str(n): {"pattern": f"^.{{1,97}}{n}$"} for n in range(60)}}, {}),
    (_all({"required": [f"p{n}" for n in range(400)]}, 40), {"a": [{}] * 10_000}),
    (_all({"propertyNames": {"minLength": 1}}, 900), {"a": [{"q": 1, "r": 2}] * 5_000}),
    (
        {
            "type": "object",
            "$ref": "#/$defs/d0",
            "$defs": {
                f"d{n}": {"properties": {f"p{m}": {"$ref": f"#/$defs/d{m}"} for m in range(9)}} for n in range(9)
            },
        },
        {},
    ),
]


@pytest.mark.parametrize(("schema", "answer"), ADVERSARIAL, ids=lambda value: str(value)[:50])
def test_what_could_take_long_is_refused_as_a_schema_or_too_long_as_an_answer(
    schema: dict[str, Any], answer: Any
) -> None:
    text = orjson.dumps(answer).decode()
    assert len(text) <= MAX_ANSWER_BYTES
    try:
        checked_schema(schema)
    except ValueError:
        return

    assert size_of(schema).work(size_of_answer(answer, len(text))) > MAX_WORK
    assert check_output(schema, text) == (None, TOO_LONG)


_LEAVES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"type": "integer"},
        {"enum": ["a", 1, [2]]},
        {"const": {"a": [1.5]}},
        {"required": ["a"]},
        {"uniqueItems": True},
        {"pattern": "^a{3}$"},
        {"multipleOf": 0.01},
        {"minimum": 0.5},
        {"unevaluatedItems": False},
        {"unevaluatedProperties": {}},
    ]
)
_NAMED = st.integers(0, 5).map(lambda n: {"$ref": f"#/$defs/d{n}"})


def _mixed(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
            **dict.fromkeys(("not", "if", "then", "items", "contains", "additionalProperties"), inner),
            **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), named),
            "$ref": _NAMED.map(lambda part: part["$ref"]),
        },
    )


_PARTS = st.recursive(_LEAVES | _NAMED, _mixed, max_leaves=6)
_ANSWERS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.sampled_from([None, 1, 1.5, 1e300, 2**63, "a", "aaa"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=8,
    ),
)


def _steps(root: dict[str, Any], schema: Any, value: Any, budget: int) -> int:
    """Schemas and words asked of a value, by plain recursion that remembers nothing; it stops above the budget."""
    if not isinstance(schema, dict):
        return 1
    taken = 1 + len(schema)
    todo: list[tuple[Any, Any]] = [
        (part, value) for word in ("allOf", "anyOf", "oneOf") for part in schema.get(word, ())
    ]
    todo += [(schema[word], value) for word in ("not", "if", "then") if word in schema]
    todo += [(part, value) for part in schema.get("dependentSchemas", {}).values()]
    if "$ref" in schema:
        todo.append((root["$defs"][schema["$ref"].rpartition("/")[2]], value))
    if isinstance(value, dict):
        for name, item in value.items():
            todo += [
                (schema[word][name], item)
                for word in ("properties", "patternProperties")
                if name in schema.get(word, ())
            ]
            todo += [(schema["additionalProperties"], item)] if "additionalProperties" in schema else []
    if isinstance(value, list):
        todo += list(zip(schema.get("prefixItems", ()), value, strict=False))
        todo += [(schema[word], item) for word in ("items", "contains") if word in schema for item in value]
    for part, item in todo:
        if taken > budget:
            break
        taken += _steps(root, part, item, budget - taken)
    return taken


@given(st.fixed_dictionaries({f"d{n}": _PARTS for n in range(6)}), _PARTS, _ANSWERS)
def test_any_mix_of_words_is_refused_or_asks_no_more_than_was_counted(
    parts: dict[str, Any], root: dict[str, Any], answer: dict[str, Any]
) -> None:
    schema = {**root, "type": "object", "$defs": parts}
    try:
        size = size_of(schema)
    except ValueError:
        return

    assert size.parts <= MAX_PARTS
    assert size.places <= MAX_PLACES
    assert not any(word in str(_reached(schema)) for word in ("unevaluatedItems", "unevaluatedProperties"))
    work = size.work(size_of_answer(answer, len(orjson.dumps(answer))))
    if size.loops == 0:  # otherwise the validator remembers, and this does not
        assert _steps(schema, schema, answer, work) <= work


def _reached(schema: dict[str, Any]) -> list[Any]:
    """The schema without its definitions, and those of them that are named from there on."""
    found = [{word: part for word, part in schema.items() if word != "$defs"}]
    names: set[str] = set()
    for part in found:
        for name, inner in schema["$defs"].items():
            if name not in names and f"'#/$defs/{name}'" in str(part):
                names.add(name)
                found.append(inner)
    return found


def test_work_is_parts_for_each_value_places_for_each_byte_and_pairs_of_items() -> None:
    size = size_of({"pattern": "ab", "uniqueItems": True})

    assert (size.parts, size.places, size.uniques) == (3, 3, 1)
    assert size.work(AnswerSize(values=10, text_bytes=100, longest_list=7)) == (3 + 4 * 7) * 10 + 3 * 100
    assert size_of_answer({"a": [1, 1e300, [0.0]], "b": True}, 9) == AnswerSize(
        1 + 1 + 1 + EXTREME_VALUES + 2 + 1, 9, 3
    )
