"""A session's events: replay as JSON, or replay and then live as Server-Sent Events."""

from __future__ import annotations

import azure.durable_functions as df
import orjson
from azurefunctions.extensions.http.fastapi import Response
from pydantic import BaseModel, Field

from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.live.open_streams import Viewer
from triggers.http.endpoints import Call, Operation, Parameter, endpoint, event_stream, invalid_parameter, raw_json
from triggers.http.parameters import PAGING, text
from triggers.live.envelopes import Envelope, SessionStreamEvent

bp = df.Blueprint()

_MAX_SEQ = 2**53 - 1
"""The largest integer that is exact in JavaScript."""

_SEQ = {"type": "integer", "format": "int64", "minimum": 0, "maximum": _MAX_SEQ}

LAST_EVENT_ID = Parameter("Last-Event-ID", "Sequence number of the last event seen", _SEQ, place="header")
AFTER = Parameter("after", "The last sequence number seen; as `Last-Event-ID`", _SEQ)


class EventPage(BaseModel):
    """A session's events after a sequence number."""

    items: list[Envelope] = Field(description="Ascending by seq")
    next_cursor: str | None = Field(description="`after` of the next page; null on the last page")
    last_seq: int = Field(description="The session's newest sequence number")
    gap: bool = Field(description="Some events after `after` are lost: read the stored messages instead")


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/events",
        "read_events",
        "Events after a sequence number",
        "Events",
        200,
        actions=(Action.READ,),
        returns=EventPage,
        also_as=("text/event-stream",),
        streams=SessionStreamEvent,
        parameters=(
            AFTER,
            LAST_EVENT_ID,
            Parameter("cursor", "As `after`: `next_cursor` of the previous page", text(16)),
            PAGING[0],
        ),
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def read_events(call: Call, _: None) -> Response:
    """Replay as JSON. With `Accept: text/event-stream`: replay, then live, as long as the caller may read. The stream
    closes after eight minutes: reconnect with `Last-Event-ID`."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    after = last_event_id(call) or 0
    limit = call.page(int).limit
    user_id = call.principal.user_id
    feed = (await call.services.session_cache.get(session_id, user_id)).feed
    if "text/event-stream" in call.request.headers.get("accept", ""):
        return event_stream(call.services.streaming.session_events(Viewer(session_id, user_id, feed), after))
    found = await call.services.streaming.replay(feed, after, limit)
    return raw_json(
        {
            "items": [orjson.Fragment(item) for item in found.items],
            "next_cursor": str(found.next_after) if found.more else None,
            "last_seq": found.last_seq,
            "gap": found.gap,
        }
    )


def last_event_id(call: Call) -> int | None:
    """`Last-Event-ID`, or `after`, or `cursor`. Raises InvalidInput(VALIDATION_ERROR)."""
    given = (call.request.headers.get("last-event-id"), call.query("after"), call.query("cursor"))
    numbers = [_number(text) for text in given if text]
    return numbers[0] if numbers else None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= _MAX_SEQ):
        raise invalid_parameter("after", "must be a whole number from 0")
    return int(text)
