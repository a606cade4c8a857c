"""Bodies: what is cut off is refused, and so is JSON that two readers could read differently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from shared.errors import ErrorCode, InvalidInput
from triggers.http.bodies import JsonFault, body_chunks, json_fault, without_nulls

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_json_that_everybody_reads_alike_has_no_fault(value: object) -> None:
    assert json_fault(json.dumps(value)) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("NaN", JsonFault("", "must be a finite number")),
        ('{"a": [0, {"b": -Infinity}]}', JsonFault("a.1.b", "must be a finite number")),
        ('{"a": 1e400}', JsonFault("a", "must be a finite number")),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', JsonFault("a.b", "is given twice")),
        ('{"decision": "reject", "decision": "approve"}', JsonFault("decision", "is given twice")),
        ('{"a": 1, "\\u0061": 1}', JsonFault("a", "is given twice")),
        ('{"a": NaN, "a": 1}', JsonFault("a", "is given twice")),
    ],
)
def test_the_first_fault_is_named(text: str, fault: JsonFault) -> None:
    assert json_fault(text) == fault


def test_a_number_of_any_length_is_taken() -> None:
    assert json_fault("1" * 1_000_000) is None
    assert json_fault("0." + "1" * 1_000_000) is None


@pytest.mark.parametrize("pieces", [[], [b"{"], [b"{", b'"a": 1}']])
async def test_a_body_whose_caller_left_is_cut_off(pieces: list[bytes]) -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    left = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> dict[str, Any]:
        return next(left)

    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
    chunks = body_chunks(request)
    assert [await anext(chunks) for _ in pieces] == pieces
    with pytest.raises(InvalidInput) as refusal:
        await anext(chunks)

    assert (refusal.value.code, refusal.value.status) == (ErrorCode.INVALID_MESSAGE, 400)


def test_a_key_that_is_repeated_among_very_many_is_found_in_one_pass() -> None:
    text = "{" + ",".join(f'"k{number}":0' for number in range(100_000)) + ',"k99999":1}'
    fault = json_fault(text)
    assert fault is not None
    assert fault.field == "k99999"


@pytest.mark.parametrize(
    ("value", "places", "left"),
    [
        ({"a": None, "b": 1}, [("a",)], {"b": 1}),
        ({"a": {"b": None, "c": None}}, [("a", "b"), ("a", "c")], {"a": {}}),
        # A validator names the choice of a union, and each choice finds the same null.
        ({"a": [{"b": None}]}, [("a", 0, "SomeChoice", "b", "bool"), ("a", 0, "OtherChoice", "b")], {"a": [{}]}),
    ],
)
def test_null_fields_are_left_out_where_they_stand_for_absent_ones(
    value: object, places: list[tuple[int | str, ...]], left: object
) -> None:
    assert json.loads(without_nulls(json.dumps(value).encode(), places) or b"") == left


@pytest.mark.parametrize(
    ("data", "places"),
    [
        (b'{"a": [1, null]}', [("a", 1)]),  # an item is not absent
        (b"null", [()]),
        (b'{"a": 1}', [("a",)]),
        (b'{"a": null, "b": %b}' % (b"9" * 5_000), [("a",)]),
    ],
)
def test_a_null_that_is_no_field_of_an_object_stays_wrong(data: bytes, places: list[tuple[int | str, ...]]) -> None:
    assert without_nulls(data, places) is None
