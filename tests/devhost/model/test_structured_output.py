"""JSON answers: what a schema asks for is made, what strict mode does not take is refused, in either API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from devhost.model.demo.forms import check_strict, instance_of
from devhost.model.errors import RequestRefused

type Make = Callable[..., str]


class Place(BaseModel):
    name: str
    inside: Place | None


class Plan(BaseModel):
    title: str
    kind: Literal["short", "long"]
    days: int = Field(ge=3, le=10)
    cost: float | None
    places: list[Place] = Field(min_length=2)
    is_done: bool


PLAN: Any = {"type": "json_schema", "name": "plan", "schema": {"type": "object", "properties": {}}}

numbers = st.integers(-50, 50)
leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"type": "string"}]),
    st.builds(lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span}, numbers, st.integers(0, 9)),
    st.builds(lambda low: {"type": "integer", "exclusiveMinimum": low}, numbers),
    st.builds(lambda high: {"type": "number", "exclusiveMaximum": high}, numbers),
    st.builds(lambda low: {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + 1}, numbers),
    st.builds(lambda low, step: {"type": "integer", "minimum": low, "multipleOf": step}, numbers, st.integers(1, 7)),
    st.builds(lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more}, st.integers(0, 99),
              st.integers(0, 5)),
    st.builds(lambda values: {"enum": values}, st.lists(st.one_of(st.text(), numbers), min_size=1)),
    st.builds(lambda value: {"const": value}, st.one_of(st.text(), numbers, st.none())),
)  # fmt: skip
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda least, item: {"type": "array", "minItems": least, "items": item}, st.integers(0, 3), inner),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)},
            st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
        ),
    ),
    max_leaves=8,
)


@given(schemas, st.text())
def test_an_instance_satisfies_its_schema(schema: dict[str, Any], words: str) -> None:
    jsonschema.validate(instance_of(schema, words), schema)


def test_a_recursive_schema_ends() -> None:
    schema = Plan.model_json_schema()
    made = Plan.model_validate(instance_of(schema, "a trip"))
    assert (made.title, made.kind, len(made.places)) == ("a trip", "short", 2)
    endless: Any = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    with pytest.raises(RequestRefused, match="without end"):
        instance_of(endless, "x")


@pytest.mark.parametrize("text", ["plan a trip", "think of a trip"])
async def test_the_clients_own_models_are_filled_in_both_apis(client: openai.AsyncOpenAI, text: str) -> None:
    parsed = await client.responses.parse(model="m", input=text, text_format=Plan)
    assert parsed.output_parsed is not None
    assert parsed.output_parsed.title == text
    completion = await client.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": text}], response_format=Plan
    )
    assert completion.choices[0].message.parsed == parsed.output_parsed
    async with client.responses.stream(model="m", input=text, text_format=Plan) as stream:
        assert (await stream.get_final_response()).output_parsed == parsed.output_parsed


async def test_a_json_object_is_given_when_the_messages_speak_of_json(client: openai.AsyncOpenAI) -> None:
    form: Any = {"type": "json_object"}
    answer = await client.responses.create(model="m", input="as JSON, please", text={"format": form})
    assert json.loads(answer.output_text) == {"said": "as JSON, please", "written_by": "offline demo model"}
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        await client.responses.create(model="m", input="please", text={"format": form})
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "please"}], response_format=form
        )


async def test_scripts_send_their_own_content_for_a_schema(client: openai.AsyncOpenAI, script: Make) -> None:
    answer = await client.responses.create(model="m", input=script(content='{"a": 1}'), text={"format": PLAN})
    assert answer.output_text == '{"a": 1}'


TEXT = {"type": "string"}
OPEN: Any = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
CLOSED: Any = {**OPEN, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (OPEN, "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        (
            {**CLOSED, "properties": {"a": TEXT, "b": TEXT}},
            "In context=(), 'required' is required to be supplied and to be an array including every key in properties."
            " Missing 'b'.",
        ),
        ({**CLOSED, "properties": {"a": OPEN}}, "In context=('properties', 'a'), 'additionalProperties' is required"),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": OPEN}}}, "In context=('properties', 'a', 'items')"),
        ({**CLOSED, "$defs": {"d": OPEN}}, "In context=('$defs', 'd')"),
        ({**CLOSED, "properties": {"a": {"anyOf": [TEXT, OPEN]}}}, "In context=('properties', 'a', 'anyOf', '1')"),
        ({**CLOSED, "properties": {"a": {"oneOf": [TEXT]}}}, "'oneOf' is not permitted."),
        ({**CLOSED, "properties": {"a": {}}}, "In context=('properties', 'a'), schema must have a 'type' key."),
        ({"type": "array", "items": TEXT}, "got 'type: \"array\"'."),
    ],
)
async def test_strict_mode_takes_only_closed_schemas(client: openai.AsyncOpenAI, schema: Any, fault: str) -> None:
    form: Any = {"type": "json_schema", "name": "plan", "schema": schema, "strict": True}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="m", input="x", text={"format": form})
    assert str(refused.value.body["message"]).startswith("Invalid schema for response_format 'plan': ")  # type: ignore[index]
    assert fault in refused.value.body["message"]  # type: ignore[index]
    assert refused.value.param == "text.format.schema"
    chat: Any = {"type": "json_schema", "json_schema": {"name": "plan", "schema": schema, "strict": True}}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "x"}], response_format=chat
        )
    assert refused.value.param == "response_format"
    lax: Any = {**form, "strict": False}
    assert (await client.responses.create(model="m", input="x", text={"format": lax})).output_text


def test_a_closed_schema_passes() -> None:
    check_strict(CLOSED, "response_format 'x'", param="p", code=None)


async def test_a_strict_tool_is_checked_in_chat_as_well(client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": OPEN, "strict": True}}
    with pytest.raises(openai.BadRequestError, match="Invalid schema for function 'f'"):
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], tools=[tool])
