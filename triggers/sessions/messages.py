"""Messages: post one (which queues a turn) and read the history."""

from __future__ import annotations

import logging
import re
from typing import Literal

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from activities import durable_client
from shared.errors import ErrorCode, NotFound
from shared.rights import Action
from shared.sessions.live.realtime import DeliveryFailed
from shared.sessions.models import Message, MessageRole, NewMessage, Regeneration, Turn, TurnStatus
from shared.sessions.posting.models import Posted
from shared.sessions.records.pages import MessageFilter, Order
from shared.sessions.records.turns import PostedMessage
from triggers.http.endpoints import Call, Operation, endpoint, ok, page_of
from triggers.http.parameters import IDEMPOTENCY_KEY, PAGING, SINCE_UNTIL, Parameter, text

bp = df.Blueprint()


log = logging.getLogger("parley.messages")

MAX_WAIT_SECONDS = 60
"""Well below the request timeout of the platform's front end."""

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)

PREFER = Parameter(
    "Prefer",
    f"`wait=SECONDS`, at most {MAX_WAIT_SECONDS}: respond when the turn has ended or waits for an approval",
    {"type": "string"},
    place="header",
)


class PostedTurn(BaseModel):
    """A posted message and the turn that it began, or joined."""

    message: Message
    turn: Turn
    code: Literal[ErrorCode.APPROVAL_REQUIRED] | SkipJsonSchema[None] = Field(
        None,
        exclude_if=lambda code: code is None,
        description="`APPROVAL_REQUIRED` for a caller who waited: the turn waits until a tool call is approved or"
        " rejected. Else absent",
    )


_REFUSALS = (
    ErrorCode.SESSION_NOT_FOUND,
    ErrorCode.INVALID_STATE,
    ErrorCode.INVALID_MESSAGE,
    ErrorCode.CONFLICT,
    ErrorCode.SESSION_EXPIRED,
    ErrorCode.TOKEN_LIMIT,
)


def _posting(
    path: str, name: str, summary: str, body: type[BaseModel], *also_refused: ErrorCode, body_required: bool = True
) -> Operation:
    """A route that begins a turn, and can wait for its end."""
    return Operation(
        "POST",
        f"/api/v1/sessions/{{session_id}}/messages{path}",
        name,
        summary,
        "Messages",
        202,
        headers=("Location", "Preference-Applied"),
        actions=(Action.POST,),
        body=body,
        returns=PostedTurn,
        parameters=(IDEMPOTENCY_KEY, PREFER),
        errors=(*_REFUSALS, *also_refused),
        also={200: "The turn has ended, within the time that `Prefer: wait` gave it"},
        body_required=body_required,
    )


@endpoint(
    bp,
    _posting("", "post_message", "Post a message and start its turn", NewMessage, ErrorCode.MESSAGE_TOO_LONG),
    sends=True,
    durable=True,
)
async def post_message(call: Call, body: NewMessage) -> Response:
    """202 once the message is stored; the answer is streamed (`Location` names the turn).

    With `Prefer: wait=SECONDS`: 200 if the turn ends in that time, and 202 as soon as it waits for an approval.
    """
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    posted = await call.services.sessions.post_message(
        session_id, body, call.principal, idempotency_key=call.request.headers.get("idempotency-key")
    )
    return await _begun(call, posted)


@endpoint(
    bp,
    _posting(
        "/{message_id}/regenerate",
        "regenerate_message",
        "Regenerate the answer to a user's message, on a new branch",
        Regeneration,
        ErrorCode.MESSAGE_NOT_FOUND,
        body_required=False,
    ),
    sends=True,
    durable=True,
)
async def regenerate_message(call: Call, body: Regeneration) -> Response:
    """The new branch becomes the active one; the former answer stays on its own branch.

    The rest is as in posting a message: 202, `Location` names the turn, and `concurrency` applies.
    """
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    message_id = call.id("message_id", ErrorCode.MESSAGE_NOT_FOUND)
    posted = await call.services.branches.regenerate(
        session_id, message_id, body, call.principal, idempotency_key=call.request.headers.get("idempotency-key")
    )
    return await _begun(call, posted)


@endpoint(
    bp,
    _posting(
        "/{message_id}/edit",
        "edit_message",
        "Say a user's message anew, on a new branch",
        NewMessage,
        *(ErrorCode.MESSAGE_NOT_FOUND, ErrorCode.MESSAGE_TOO_LONG),
    ),
    sends=True,
    durable=True,
)
async def edit_message(call: Call, body: NewMessage) -> Response:
    """The new message is the caller's, and its branch becomes the active one; the former message and what followed stay
    on their own branch. Its files are those that the body names.

    The rest is as in posting a message: 202, `Location` names the turn, and `concurrency` applies.
    """
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    message_id = call.id("message_id", ErrorCode.MESSAGE_NOT_FOUND)
    posted = await call.services.edits.edit(
        session_id, message_id, body, call.principal, idempotency_key=call.request.headers.get("idempotency-key")
    )
    return await _begun(call, posted)


async def begin(call: Call, posted: Posted) -> None:
    """Start the turn if it is next."""
    call.events = posted.messages
    if posted.result.interrupted is not None:
        await durable_client.interrupt(call.durable, posted.result.interrupted)
    if posted.start:
        await durable_client.start_or_leave(call.durable, posted.result.turn.id)


async def send_now(call: Call) -> None:
    """Send the events now: the output binding does when the function returns, which is too late for live clients of one
    that waits."""
    messages, call.events = call.events, []
    if not messages:
        return
    try:
        await call.services.sender.send(messages)
    except DeliveryFailed as exc:
        log.warning("live delivery failed: %s", exc)


async def _begun(call: Call, posted: Posted) -> Response:
    """Start the turn if it is next, and respond."""
    await begin(call, posted)
    result = posted.result
    session_id = result.turn.session_id
    headers = {"Location": f"/api/v1/sessions/{session_id}/turns/{result.turn.id}"}
    wait_s = _wait_seconds(call)
    if wait_s is None:
        return ok(PostedTurn(message=result.message, turn=result.turn), 202, headers)
    return await _when_settled(call, result, wait_s, headers | {"Preference-Applied": f"wait={wait_s}"})


async def _when_settled(call: Call, result: PostedMessage, wait_s: int, headers: dict[str, str]) -> Response:
    """The response to a caller who waits for the turn."""
    await send_now(call)
    try:
        turn = await call.services.waiter.settled(result.target, result.turn.id, call.principal.user_id, wait_s)
    except NotFound as exc:
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, "The session was deleted, or you lost access to it.") from exc
    code = ErrorCode.APPROVAL_REQUIRED if turn.status is TurnStatus.WAITING_APPROVAL else None
    posted = PostedTurn(message=result.message, turn=turn, code=code)
    return ok(posted, 200 if turn.status.is_terminal else 202, headers)


def _wait_seconds(call: Call) -> int | None:
    """The `wait` of `Prefer` (RFC 7240), at most MAX_WAIT_SECONDS; None when it is absent or malformed."""
    found = _WAIT.search(",".join(call.request.headers.getlist("prefer")))
    return None if found is None else min(int(found[1]), MAX_WAIT_SECONDS)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/messages",
        "list_messages",
        "The history of a session",
        "Messages",
        200,
        actions=(Action.READ,),
        returns=list[Message],
        parameters=(
            Parameter("role", "Only of this role", values=MessageRole),
            *SINCE_UNTIL,
            Parameter("q", "Only with this text in the content", text(200)),
            Parameter("order", "Oldest first by default", values=Order),
            Parameter("branch", "The branch to read; the active one by default", {"type": "integer", "minimum": 0}),
            *PAGING,
        ),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND),
    ),
)
async def list_messages(call: Call, _: None) -> Response:
    """In the order of the conversation: a message that was queued comes after the turns that it waited for.

    A cursor stays valid while messages arrive and branches change.
    """
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    wanted = MessageFilter(
        role=call.query_as("role", MessageRole),
        since=call.instant("from"),
        until=call.instant("to"),
        q=call.query("q"),
        descending=call.query_as("order", Order) is Order.DESC,
        branch=call.query_as("branch", int),
    )
    items, cursor = await call.services.history.list_messages(session_id, call.principal, wanted, call.page(int))
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
        actions=(Action.READ,),
        returns=Message,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND),
    ),
)
async def get_message(call: Call, _: None) -> Response:
    """With its tool calls."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    message_id = call.id("message_id", ErrorCode.MESSAGE_NOT_FOUND)
    return ok(await call.services.history.get_message(session_id, message_id, call.principal))
