"""Messages: post one (which queues a turn) and read the history."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import BaseModel

from activities import durable_client
from shared.errors import ErrorCode
from shared.sessions.models import Message, MessageRole, NewMessage, Turn
from shared.sessions.pages import MessageFilter
from triggers.http import Call, Operation, endpoint, invalid_parameter, ok, page_of
from triggers.parameters import IDEMPOTENCY_KEY, PAGING, SINCE_UNTIL, Parameter, text

bp = df.Blueprint()


class PostedTurn(BaseModel):
    """What a posted message began."""

    message: Message
    turn: Turn


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/sessions/{session_id}/messages",
        "post_message",
        "Post a message and start its turn",
        "Messages",
        202,
        body=NewMessage,
        returns=PostedTurn,
        parameters=(IDEMPOTENCY_KEY,),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.INVALID_MESSAGE,
            ErrorCode.MESSAGE_TOO_LONG,
            ErrorCode.CONFLICT,
        ),
    ),
    sends=True,
    durable=True,
)
async def post_message(call: Call, body: NewMessage) -> Response:
    """202 once it is stored; the answer streams (`Location` names the turn)."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    posted = await call.services.sessions.post_message(
        session_id, body, call.principal, idempotency_key=call.request.headers.get("idempotency-key")
    )
    call.events = posted.messages
    result = posted.result
    if result.interrupted is not None:
        await durable_client.interrupt(call.durable, result.interrupted)
    if posted.start:
        await durable_client.start_or_leave(call.durable, result.turn.id)
    location = f"/api/v1/sessions/{session_id}/turns/{result.turn.id}"
    return ok(PostedTurn(message=result.message, turn=result.turn), 202, {"Location": location})


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/messages",
        "list_messages",
        "The history of a session",
        "Messages",
        200,
        returns=list[Message],
        parameters=(
            Parameter("role", "Only of this role", {"type": "string", "enum": [*MessageRole]}),
            *SINCE_UNTIL,
            Parameter("q", "Only with this in the text", text(200)),
            Parameter("order", "Oldest first by default", {"type": "string", "enum": ["asc", "desc"]}),
            *PAGING,
        ),
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_messages(call: Call, _: None) -> Response:
    """In order of arrival; a page stays valid while messages arrive."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    order = call.query("order") or "asc"
    if order not in {"asc", "desc"}:
        raise invalid_parameter("order", "must be asc or desc")
    wanted = MessageFilter(
        role=call.query_as("role", MessageRole),
        since=call.instant("from"),
        until=call.instant("to"),
        q=call.query("q"),
        descending=order == "desc",
    )
    items, cursor = await call.services.sessions.list_messages(session_id, call.principal, wanted, call.page(int))
    return page_of(items, cursor)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/messages/{message_id}",
        "get_message",
        "One message",
        "Messages",
        200,
        returns=Message,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND),
    ),
)
async def get_message(call: Call, _: None) -> Response:
    """With its tool calls."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    message_id = call.id("message_id", ErrorCode.MESSAGE_NOT_FOUND)
    return ok(await call.services.sessions.get_message(session_id, message_id, call.principal))
