"""Answering what a tool call asks of its user, and posting the result that one waits for."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.models import NewInput, NewToolResult, ToolWait
from triggers.http.endpoints import Call, Operation, endpoint, ok

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/tool-calls/{tool_call_id}/input",
        "answer_tool_call",
        "Answer what a tool call asks",
        "Turns",
        200,
        actions=(Action.ANSWER,),
        body=NewInput,
        returns=ToolWait,
        errors=(ErrorCode.TOOL_NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.APPROVAL_TIMEOUT),
    ),
    sends=True,
    durable=True,
)
async def answer_tool_call(call: Call, body: NewInput) -> Response:
    """For the user whose message began the turn. A question is accepted with content as its form says, or declined, or
    cancelled. The same answer again changes nothing; another one is a CONFLICT.

    Content is passed on to whoever asked and then dropped; nobody reads it here.
    """
    tool_call_id = call.id("tool_call_id", ErrorCode.TOOL_NOT_FOUND)
    answered = await call.services.waits.answer(tool_call_id, body, call.principal)
    call.events = answered.messages
    await durable_client.raise_answer(call.durable, answered.instance_id, answered.wait.id)
    return ok(answered.wait)


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/tool-calls/{tool_call_id}/result",
        "complete_tool_call",
        "Post the result of a tool call",
        "Turns",
        200,
        body=NewToolResult,
        returns=ToolWait,
        errors=(ErrorCode.TOOL_NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.APPROVAL_TIMEOUT),
    ),
    sends=True,
    durable=True,
)
async def complete_tool_call(call: Call, body: NewToolResult) -> Response:
    """Of a client tool, for the user whose message declared it, without a token. Of another tool, for whoever holds the
    completion token of the call, with any account that may sign in.

    A result or an error ends the wait, once: the same again changes nothing, another one is a CONFLICT. Progress is
    told to the people of the session.
    """
    tool_call_id = call.id("tool_call_id", ErrorCode.TOOL_NOT_FOUND)
    completed = await call.services.waits.complete(tool_call_id, body, call.principal)
    call.events = completed.messages
    if body.progress is None:
        await durable_client.raise_answer(call.durable, completed.instance_id, completed.wait.id)
    return ok(completed.wait)
