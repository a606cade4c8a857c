"""Turns: list, read, cancel, and watch one as Server-Sent Events."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.live.open_streams import Viewer
from shared.sessions.models import Turn
from triggers.http.endpoints import Call, Operation, Parameter, endpoint, event_stream, ok, page_of
from triggers.http.parameters import PAGING
from triggers.live.replay import LAST_EVENT_ID, last_event_id

bp = df.Blueprint()

_NOT_FOUND = (ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/turns",
        "list_turns",
        "The turns of a session",
        "Turns",
        200,
        actions=(Action.READ,),
        returns=list[Turn],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_turns(call: Call, _: None) -> Response:
    """Newest first. A cursor stays valid while turns are added."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    items, cursor = await call.services.lifecycle.list_turns(session_id, call.principal, call.page(int))
    return page_of(items, cursor)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/turns/{turn_id}",
        "get_turn",
        "One turn",
        "Turns",
        200,
        actions=(Action.READ,),
        returns=Turn,
        errors=_NOT_FOUND,
    ),
)
async def get_turn(call: Call, _: None) -> Response:
    """With its tool calls, usage and error."""
    session_id, turn_id = _ids(call)
    return ok(await call.services.sessions.get_turn(session_id, turn_id, call.principal))


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/sessions/{session_id}/turns/{turn_id}/cancel",
        "cancel_turn",
        "Stop a turn",
        "Turns",
        202,
        actions=(Action.CANCEL_OWN_TURN, Action.CANCEL_ANY_TURN),
        returns=Turn,
        errors=_NOT_FOUND,
        also={200: "The turn had already ended"},
    ),
    sends=True,
    durable=True,
)
async def cancel_turn(call: Call, _: None) -> Response:
    """Idempotent. 202 while the turn is stopping, 200 once it has ended."""
    session_id, turn_id = _ids(call)
    turn, interruption, call.events = await call.services.sessions.cancel_turn(session_id, turn_id, call.principal)
    await durable_client.interrupt(call.durable, interruption)
    return ok(turn, 200 if turn.status.is_terminal else 202)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/turns/{turn_id}/stream",
        "stream_turn",
        "Watch a turn as Server-Sent Events",
        "Turns",
        200,
        actions=(Action.READ,),
        media_type="text/event-stream",
        parameters=(LAST_EVENT_ID, Parameter("after", "As Last-Event-ID", {"type": "integer", "minimum": 0})),
        errors=_NOT_FOUND,
    ),
)
async def stream_turn(call: Call, _: None) -> Response:
    """The turn's frames from the beginning, or after `Last-Event-ID`. The stream closes after an `end` event, or after
    eight minutes without one: then reconnect with `Last-Event-ID`.

    Event names are the frame types; `data` is the envelope together with the frame's fields.
    """
    session_id, turn_id = _ids(call)
    after = last_event_id(call)
    found = await call.services.sessions.readable_turn(session_id, turn_id, call.principal)
    viewer = Viewer(session_id, call.principal.user_id, found.feed)
    return event_stream(call.services.streaming.turn_stream(found.turn, viewer, after))


def _ids(call: Call) -> tuple[str, str]:
    return call.id("session_id", ErrorCode.SESSION_NOT_FOUND), call.id("turn_id", ErrorCode.MESSAGE_NOT_FOUND)
