"""What users' tools import: the package `parley`."""

from __future__ import annotations

import pickle

import pytest

import parley.testing
import parley.tools
from parley.testing import InvalidToolArguments, call_tool
from parley.tools import ToolArguments, ToolContext, ToolFailed, ToolOutput, ToolRefused, tool
from shared.errors import ErrorCode
from shared.sessions.tools.base import Tool


class EchoArguments(ToolArguments):
    text: str


def test_a_tool_is_written_with_public_names_alone() -> None:
    @tool(idempotent=True, risks=())
    async def echo(arguments: EchoArguments, call: ToolContext) -> ToolOutput:
        """Say it again."""
        return ToolOutput(arguments.text)

    assert isinstance(echo, Tool)


def test_what_is_listed_is_what_is_there() -> None:
    assert sorted(parley.tools.__all__) == parley.tools.__all__
    assert [name for name in parley.tools.__all__ if not hasattr(parley.tools, name)] == []


@pytest.mark.parametrize("kind", [ToolFailed, ToolRefused])
def test_a_failed_tool_says_why_and_crosses_process_borders(kind: type[ToolFailed]) -> None:
    failed = kind("No such order.")
    again = pickle.loads(pickle.dumps(kind("Too late.", code=ErrorCode.TOOL_TIMEOUT, retry_after_s=2)))

    assert (failed.code, failed.safe_message) == (ErrorCode.TOOL_EXECUTION_FAILED, "No such order.")
    assert type(again) is kind
    assert (again.code, again.safe_message, again.retry_after_s) == (ErrorCode.TOOL_TIMEOUT, "Too late.", 2)


@tool(idempotent=True, secrets=["CRM_TOKEN"])
def crm(number: int, call: ToolContext) -> dict[str, object]:
    """Look up a customer."""
    call.progress("asking", 0.5)
    if not call.caller.roles >= {"approver"}:
        raise ToolRefused("Only approvers may look up customers.")
    return {"number": number, "token": call.secret("CRM_TOKEN")}


async def test_a_test_of_a_tool_calls_it_as_a_turn_does() -> None:
    secrets, told = {"CRM_TOKEN": "tok-1234"}, list[str]()

    output = await call_tool(crm, {"number": 7}, roles=["user", "approver"], secrets=secrets, progress=told)

    assert (output.data, told) == ({"number": 7, "token": "[secret CRM_TOKEN]"}, ["asking"])
    with pytest.raises(ToolRefused, match="Only approvers"):
        await call_tool(crm, {"number": 7})
    with pytest.raises(InvalidToolArguments):
        await call_tool(crm, {"number": "x"})
    with pytest.raises(ToolFailed, match="TOOL_SECRET_CRM_TOKEN is not set"):
        await call_tool(crm, {"number": 7}, roles=["approver"])
