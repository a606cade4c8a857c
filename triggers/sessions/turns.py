"""Turns: list, read, cancel, and watch one as Server-Sent Events."""

from __future__ import annotations

from datetime import UTC, datetime

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.live.open_streams import Viewer
from shared.sessions.models import Turn
from triggers.http.endpoints import Call, Operation, endpoint, event_stream, no_content, ok, page_of
from triggers.http.parameters import PAGING
from triggers.live.envelopes import TurnStreamEvent
from triggers.live.replay import AFTER, LAST_EVENT_ID, last_event_id

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
    turn = await cancel(call, *_ids(call))
    return ok(turn, 200 if turn.status.is_terminal else 202)


async def cancel(call: Call, session_id: str, turn_id: str) -> Turn:
    """Ask a turn to stop, and tell its orchestration. Raises NotFound."""
    turn, interruption, events = await call.services.sessions.cancel_turn(session_id, turn_id, call.principal)
    below = await call.services.subagents.stop_below(turn_id, now=datetime.now(UTC))
    call.events = [*events, *below.messages]
    await durable_client.interrupt(call.durable, interruption.with_those_of(below.interruption))
    return turn


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
        streams=TurnStreamEvent,
        parameters=(LAST_EVENT_ID, AFTER),
        errors=_NOT_FOUND,
        also={204: "The turn is over, and the caller has seen its end: an EventSource does not come back"},
    ),
)
async def stream_turn(call: Call, _: None) -> Response:
    """The turn's frames from the beginning, or after `Last-Event-ID`. The stream closes after an `end` event, or after
    eight minutes without one: then reconnect with `Last-Event-ID`.

    Events are named after the type of their frame, or of the session's event for what becomes of tool calls (such as
    `tool_call.pending`) and for a failure (`error.occurred`); `data` is the envelope together with the frame's fields.
    """
    session_id, turn_id = _ids(call)
    after = last_event_id(call)
    found = await call.services.sessions.readable_turn(session_id, turn_id, call.principal)
    if after is not None and await call.services.streaming.has_seen_end(found.turn, found.feed, after):
        return no_content()
    viewer = Viewer(session_id, call.principal.user_id, found.feed)
    return event_stream(call.services.streaming.turn_stream(found.turn, viewer, after))


def _ids(call: Call) -> tuple[str, str]:
    return call.id("session_id", ErrorCode.SESSION_NOT_FOUND), call.id("turn_id", ErrorCode.MESSAGE_NOT_FOUND)
