from __future__ import annotations

import json
import subprocess
import sys
from enum import StrEnum

import pytest
from pydantic import BaseModel, Field

from shared.errors import ErrorCode, NotFound
from shared.sessions.tools.base import MAX_CONTENT_CHARS, MAX_DATA_BYTES, schema_of
from shared.sessions.tools.registry import (
    InvalidToolArguments,
    Tool,
    ToolApproval,
    ToolArguments,
    ToolContext,
    ToolOutput,
    ToolRisk,
    all_tools,
    find_tool,
    get_tool,
    tool,
    validate_arguments,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    title: str
    x: int = 0


class PaintArguments(ToolArguments):
    """Not for the model."""

    colour: Colour = Field(description="Which")
    at: list[Point] = Field(default=[], max_length=2)


@tool(approval=ToolApproval.MANUAL, idempotent=False, timeout_s=3)
async def paint(arguments: PaintArguments, call: ToolContext) -> ToolOutput:
    """Paint some points."""
    return ToolOutput(f"{arguments.colour} for {call.user_id}")


def test_the_shipped_tools_are_found_in_a_fixed_order_with_their_policies() -> None:
    found = [(t.name, t.approval.value, t.idempotent) for t in all_tools()]
    assert found == sorted(found)
    assert {
        ("calculate", "auto", True),
        ("current_time", "auto", True),
        ("fetch_url", "auto", True),
        ("generate_file", "auto", True),
        ("http_request", "manual", False),
        ("read_attachment", "auto", True),
        ("search_history", "auto", True),
    } <= set(found)


def test_a_missing_tool_is_none_or_tool_not_found() -> None:
    assert find_tool("nope") is None
    with pytest.raises(NotFound) as caught:
        get_tool("nope")
    assert caught.value.code is ErrorCode.TOOL_NOT_FOUND


async def test_one_decorated_function_makes_a_tool(call: ToolContext) -> None:
    assert isinstance(paint, Tool)
    assert (paint.name, paint.description, paint.timeout_s) == ("paint", "Paint some points.", 3)
    output = await paint.run(validate_arguments(paint, {"colour": "red"}), call)
    assert output.content == "red for alice"


async def _act(arguments: PaintArguments, call: ToolContext) -> ToolOutput:
    """Do something."""
    return ToolOutput("done")


def test_a_tool_that_says_nothing_of_its_risks_is_presumed_to_have_them() -> None:
    assert paint.risks == frozenset(ToolRisk), "it asks first and must not run twice"
    assert tool(idempotent=True)(_act).risks == {ToolRisk.READS_UNTRUSTED, ToolRisk.READS_PRIVATE}
    assert tool(idempotent=False)(_act).risks == frozenset(ToolRisk)
    assert tool(idempotent=False, risks=())(_act).risks == frozenset()


def test_only_an_argument_of_its_own_can_make_a_call_inward() -> None:
    with pytest.raises(TypeError, match="no argument 'address'"):
        tool(idempotent=True, outward_unless_quoted="address")(_act)
    with pytest.raises(TypeError, match="declare that it acts outward"):
        tool(idempotent=True, risks=(), outward_unless_quoted="colour")(_act)


def test_the_schema_is_flat_closed_and_encoded_once() -> None:
    assert paint.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["colour"],
        "properties": {
            "colour": {"type": "string", "enum": ["red", "blue"], "description": "Which"},
            "at": {
                "type": "array",
                "default": [],
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "required": ["title"],
                    "properties": {"title": {"type": "string"}, "x": {"type": "integer", "default": 0}},
                },
            },
        },
    }
    assert json.loads(paint.function_schema_json) == paint.function_schema
    assert paint.function_schema == {
        "name": "paint",
        "description": "Paint some points.",
        "parameters": paint.parameters,
    }


@pytest.mark.parametrize("shipped", all_tools(), ids=lambda t: t.name)
def test_every_tool_has_a_schema_any_server_can_read(shipped: Tool) -> None:
    text = shipped.function_schema_json.decode()
    assert "$ref" not in text
    assert shipped.parameters["additionalProperties"] is False
    assert all("description" in p or "enum" in p for p in shipped.parameters["properties"].values())
    assert 0 < shipped.timeout_s <= 600


def test_a_recursive_model_is_refused_at_registration() -> None:
    class Node(ToolArguments):
        child: Node | None = None

    Node.model_rebuild(_types_namespace={"Node": Node})
    with pytest.raises((TypeError, KeyError)):
        schema_of(Node)


def test_a_tool_without_a_docstring_is_refused() -> None:
    async def silent(arguments: PaintArguments, call: ToolContext) -> ToolOutput:
        return ToolOutput("")

    with pytest.raises(TypeError, match="needs a docstring"):
        tool(idempotent=True)(silent)


def test_invalid_arguments_name_the_field_and_never_the_value() -> None:
    with pytest.raises(InvalidToolArguments) as caught:
        validate_arguments(paint, {"colour": "s3cret", "at": [{"title": 1}], "extra": "s3cret"})
    error = caught.value
    assert error.code is ErrorCode.INVALID_TOOL_ARGS
    assert [e["field"] for e in error.errors] == ["colour", "at.0.title", "extra"]
    assert "s3cret" not in str(error) + json.dumps(error.errors)
    assert str(error).startswith("The arguments of paint are not valid. colour: ")


def test_output_is_cut_cleaned_and_bounded() -> None:
    output = ToolOutput("a\0b\ud800" + "x" * MAX_CONTENT_CHARS, {"k\0": ["\ud800", "y"]})
    assert output.content.startswith("a\ufffdb?")
    assert output.content.endswith("[cut: 4 more characters]")
    assert output.data == {"k\ufffd": ["?", "y"]}
    assert ToolOutput("", "z" * MAX_DATA_BYTES).data == {"left_out": True, "size_bytes": MAX_DATA_BYTES + 2}


def test_the_registry_imports_no_tool_before_it_is_asked() -> None:
    code = (
        "import sys; import shared.sessions.tools.registry as r;"
        "assert 'shared.sessions.tools.builtin.calculate' not in sys.modules;"
        "assert not any(m.startswith('azure') for m in sys.modules);"
        "assert r.find_tool('calculate') and 'shared.sessions.tools.builtin.calculate' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
