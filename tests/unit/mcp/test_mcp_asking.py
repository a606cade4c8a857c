"""What a server may ask of the user: forms of plain fields, rebuilt; everything else is refused and said."""

from __future__ import annotations

from typing import Any

import pytest

from shared.sessions.mcp.asking import MAX_FIELDS, MAX_QUESTIONS, MAX_STATE_CHARS, read_asked
from shared.sessions.mcp.results import McpResult, read_result


def asking(field: Any = None, *, message: str = "Who?", **changes: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"f": {"type": "string"} if field is None else field}}
    params = {"message": message, "requestedSchema": schema, **changes}
    return {"inputRequests": {"q": {"method": "elicitation/create", "params": params}}}


def fields(field: Any) -> Any:
    (question,) = read_asked(asking(field)).questions
    return question.requested_schema["properties"]["f"]


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "title": "Name", "description": "Yours", "format": "email", "minLength": 1, "maxLength": 9},
        {"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"], "default": "a"},
        {"type": "string", "oneOf": [{"const": "a", "title": "A"}]},
        {"type": "number", "minimum": 0, "maximum": 1.5},
        {"type": "integer", "default": 3},
        {"type": "boolean", "default": True},
        {"type": "array", "items": {"type": "string", "enum": ["a"]}, "minItems": 1, "maxItems": 2},
        {"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}},
    ],
)
def test_the_fields_of_the_protocol_are_kept_as_they_are(field: dict[str, Any]) -> None:
    assert fields(field) == field


def test_what_is_not_known_is_left_out_and_nothing_beside_the_fields_is_taken() -> None:
    (question,) = read_asked(asking({"type": "string", "pattern": "(a+)+$", "$ref": "#/x", "x-hidden": 1})).questions

    assert question.requested_schema["properties"] == {"f": {"type": "string"}}
    assert question.requested_schema["additionalProperties"] is False


def test_a_message_is_shown_without_characters_that_nobody_sees() -> None:
    (question,) = read_asked(asking(message="Pay\u202e\u200b\x00 now")).questions

    assert question.message == "Pay\N{REPLACEMENT CHARACTER} now"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({}, "does not say for which"),
        ({"inputRequests": 7}, "not known"),
        ({"inputRequests": {"q": 7}}, "not known"),
        ({"inputRequests": {f"q{n}": {} for n in range(MAX_QUESTIONS + 1)}}, "more than 5 things"),
        ({"inputRequests": {"q" * 201: {}}}, "names a question"),
        ({"requestState": "s" * (MAX_STATE_CHARS + 1)}, "has a state"),
        ({"requestState": "a\x00b"}, "has a state"),
        ({"requestState": {"a": 1}}, "has a state"),
        ({"inputRequests": {"q": {"method": "sampling/createMessage", "params": {"messages": []}}}}, "sampling"),
        ({"inputRequests": {"q": {"method": "roots/list", "params": {}}}}, "roots/list"),
        (asking(mode="url", url="https://phish.example.com"), r"Who\? \(elicitation/create url\)"),
        (asking(requestedSchema={"type": "string"}), "not the schema of an object"),
        (asking(requestedSchema={"type": "object", "properties": [], "required": []}), "no list of at most"),
        (
            asking(requestedSchema={"type": "object", "properties": {f"f{n}": {} for n in range(MAX_FIELDS + 1)}}),
            "no list of at most",
        ),
        (asking(requestedSchema={"type": "object", "properties": {}, "required": ["x"]}), "requires fields"),
        (asking({"type": "object", "properties": {}}), "the field f is not text"),
        (asking({"type": ["string", "null"]}), "the field f is not text"),
        (asking({"type": "array"}), "list of anything"),
        (asking({"type": "array", "items": {"type": "object"}}), "something else than choices"),
        (asking({"type": "string", "oneOf": [{"const": 1}]}), "not constants"),
        (asking({"type": "string", "maxLength": "long"}), "is not a JSON Schema"),
        (asking({"type": "string", "description": "d" * 4_000, "enum": ["e" * 17_000]}), "longer than"),
        (
            asking(requestedSchema={"type": "object", "properties": {"a\u200bb": {"type": "string"}}}),
            "the name of a field",
        ),
    ],
)
def test_everything_else_is_refused_and_said(raw: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_asked(raw)


def test_a_state_alone_asks_nothing() -> None:
    asked = read_result({"resultType": "input_required", "requestState": "s"})

    assert not isinstance(asked, McpResult)
    assert (asked.questions, asked.state) == ((), "s")
