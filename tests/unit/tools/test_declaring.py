"""What may be decorated with `@tool`, and what becomes of what it returns."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from parley.tools import ToolApproval, ToolArguments, ToolContext, ToolOutput, ToolRisk, tool
from shared.sessions.tools.base import InvalidToolArguments, Tool, validate_arguments
from shared.sessions.tools.output import MAX_CONTENT_CHARS, MAX_FILES, ToolFile, output_of


class Order(BaseModel):
    number: int
    at: date


@dataclass
class Part:
    price: Decimal
    tags: set[str]


async def said(declared: Tool, call: ToolContext, **arguments: Any) -> ToolOutput:
    return await declared.run(validate_arguments(declared, arguments), call)


@tool
def order_status(
    order_id: Annotated[str, Field(max_length=8, description="Its number")], verbose: bool = False
) -> dict[str, Any]:
    """Look up where an order is."""
    return {"order": order_id, "verbose": verbose, "thread": threading.current_thread() is threading.main_thread()}


@tool
async def whoami(call: ToolContext) -> str:
    """Say who asks."""
    return call.caller.user_id


async def test_plain_parameters_are_the_arguments_and_a_sync_function_runs_in_a_thread(call: ToolContext) -> None:
    assert order_status.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["order_id"],
        "properties": {
            "order_id": {"type": "string", "maxLength": 8, "description": "Its number"},
            "verbose": {"type": "boolean", "default": False},
        },
    }
    output = await said(order_status, call, order_id="A-1")

    assert output.data == {"order": "A-1", "verbose": False, "thread": False}
    assert output.content == '{"order": "A-1", "verbose": false, "thread": false}'
    with pytest.raises(InvalidToolArguments, match="order_id"):
        validate_arguments(order_status, {"order_id": "much too long", "else": 1})


async def test_the_context_is_taken_wherever_it_is_wanted(call: ToolContext) -> None:
    assert whoami.parameters["properties"] == {}
    assert (await said(whoami, call)).content == "alice"


def test_a_tool_that_says_nothing_of_itself_waits_for_a_person_and_is_not_repeated() -> None:
    assert (order_status.approval, order_status.idempotent, order_status.risks) == (
        ToolApproval.MANUAL,
        False,
        frozenset(ToolRisk),
    )

    @tool(idempotent=True)
    def reads() -> str:
        """Read."""
        return ""

    @tool(risks={ToolRisk.ACTS_OUTWARD}, approval=ToolApproval.AUTO)
    def acts() -> str:
        """Act."""
        return ""

    assert (reads.approval, acts.approval) == (ToolApproval.AUTO, ToolApproval.AUTO)


def positional(order: str, /) -> str:
    """Doc."""
    return order


def starred(*orders: str) -> str:
    """Doc."""
    return ""


def untyped(order) -> str:  # type: ignore[no-untyped-def]  # the point of the test
    """Doc."""
    return str(order)


def twice(call: ToolContext, other: ToolContext) -> str:
    """Doc."""
    return ""


def hidden(_order: str) -> str:
    """Doc."""
    return ""


def of_the_model(model_fields: str) -> str:
    """Doc."""
    return ""


def strange(order: threading.Thread) -> str:
    """Doc."""
    return ""


def unknown(order: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821  # the point of the test
    """Doc."""
    return ""


def yields() -> Any:
    """Doc."""
    yield 1


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (positional, "must name its parameters"),
        (starred, "must name its parameters"),
        (untyped, "'order' of the tool 'untyped' needs a type"),
        (twice, "takes its ToolContext twice"),
        (hidden, "'_order' of the tool 'hidden' needs another name"),
        (of_the_model, "needs another name"),
        (strange, "cannot be JSON"),
        (unknown, "is not known where it is defined"),
        (yields, "must return its result"),
        (lambda: "", "needs a name"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_where_it_is_declared(
    function: Callable[..., object], why: str
) -> None:
    with pytest.raises(TypeError, match=why):
        tool(function)


def test_a_secret_is_named_as_its_setting_is() -> None:
    def reads() -> str:
        """Doc."""
        return ""

    assert tool(secrets="CRM_TOKEN")(reads).secrets == ("CRM_TOKEN",)
    with pytest.raises(TypeError, match="'reads' names the secret 'crm-token'"):
        tool(secrets=["crm-token"])(reads)


@pytest.mark.parametrize(
    ("value", "content", "data"),
    [
        ("text", "text", None),
        (None, "Done.", None),
        (17, "17", 17),
        (["a", 1.5], '["a", 1.5]', ["a", 1.5]),
        (
            Order(number=1, at=date(2026, 11, 30)),
            '{"number": 1, "at": "2026-11-30"}',
            {"number": 1, "at": "2026-11-30"},
        ),
        (Part(Decimal("9.90"), {"x"}), '{"price": "9.90", "tags": ["x"]}', {"price": "9.90", "tags": ["x"]}),
        ({"nan": float("nan")}, '{"nan": null}', {"nan": None}),
        ({"big": 2**200}, f'{{"big": "{2**200}"}}', {"big": str(2**200)}),
        ("a\0b\ud800", "a\ufffdb?", None),
        ({"a\0": ["\ud800"]}, '{"a\ufffd": ["?"]}', {"a\ufffd": ["?"]}),
    ],
)
def test_what_a_function_returns_is_text_for_the_model_and_json_for_programs(
    value: object, content: str, data: object
) -> None:
    output = output_of(value)
    assert (output.content, output.data) == (content, data)


@pytest.mark.parametrize("value", [object(), {"a": object()}, [threading.Lock()], {("a", "b"): [print]}])
def test_what_is_not_json_is_named(value: object) -> None:
    with pytest.raises(ValueError, match="which is not JSON"):
        output_of(value)


@pytest.mark.parametrize("data", [object(), float("inf")])
def test_data_that_is_not_json_is_named(data: Any) -> None:
    with pytest.raises(ValueError, match="must be JSON"):
        ToolOutput("", data)


class TestVeryLargeResults:
    """Bounded before they are copied."""

    def test_of_text(self) -> None:
        text = "x" * 100_000_000
        assert len(output_of(text).content) < MAX_CONTENT_CHARS + 100

    @pytest.mark.parametrize(
        "value",
        [
            {"rows": ["x" * 1000] * 100_000},
            ["x"] * 5_000_000,
            {"one": "x" * 100_000_000},
            {str(n): n for n in range(200_000)},
        ],
        ids=["rows", "many", "one", "keys"],
    )
    def test_of_json(self, value: Any) -> None:
        tracemalloc.start()
        output, explicit = output_of(value), ToolOutput("", value)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert "was left out" in output.content
        for each in (output, explicit):
            assert isinstance(each.data, dict)
            assert each.data["left_out"] is True
        assert peak < 40_000_000

    def test_of_files(self) -> None:
        with pytest.raises(ValueError, match="at most 10 files"):
            ToolOutput("", files=[ToolFile("a", "b")] * (MAX_FILES + 1))


def test_a_model_of_arguments_is_taken_as_it_is() -> None:
    class Arguments(ToolArguments):
        text: str

    async def echo(arguments: Any, call: ToolContext) -> str:
        """Doc."""
        return str(arguments.text)

    echo.__annotations__["arguments"] = Arguments
    assert tool(echo).arguments_model is Arguments
