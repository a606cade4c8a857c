"""Full-text search over messages, and bookmarks."""

from __future__ import annotations

from datetime import datetime

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.ids import is_valid_id
from shared.rights import Action
from shared.sessions.history.bookmarks import Bookmark, NewBookmark
from shared.sessions.history.search import MAX_QUERY_CHARS, SearchFilter, SearchHit
from shared.sessions.models import MessageRole
from triggers.http.endpoints import Call, Operation, endpoint, invalid_parameter, ok, page_of
from triggers.http.parameters import PAGING, SINCE_UNTIL, Parameter, text

bp = df.Blueprint()

_BOOKMARKS = "/api/v1/sessions/{session_id}/bookmarks"
_ONE_BOOKMARK = f"{_BOOKMARKS}/{{bookmark_id}}"
_ERRORS = (ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/search",
        "search",
        "Search the messages of all sessions that the caller may read, best match first",
        "History",
        200,
        operation_id="search_messages",
        returns=list[SearchHit],
        parameters=(
            Parameter(
                "q",
                'Words, all required; a "phrase" in quotes; prefix*',
                {"type": "string", "minLength": 1, "maxLength": MAX_QUERY_CHARS},
                required=True,
            ),
            Parameter("session_id", "Only in this session", text(64)),
            Parameter("role", "Only of this role", values=MessageRole),
            *SINCE_UNTIL,
            *PAGING,
        ),
    ),
)
async def search(call: Call, _: None) -> Response:
    """Naming a session that the caller may not read finds nothing."""
    question = call.query("q")
    if question is None:
        raise invalid_parameter("q", "is required")
    session_id = call.query("session_id")
    if session_id is not None and not is_valid_id(session_id):
        raise invalid_parameter("session_id", "is not a valid id")
    wanted = SearchFilter(
        session_id=session_id,
        role=call.query_as("role", MessageRole),
        since=call.instant("from"),
        until=call.instant("to"),
    )
    hits, cursor = await call.services.search.search(call.principal, question, wanted, call.page(int))
    return page_of(hits, cursor)


@endpoint(
    bp,
    Operation(
        "POST",
        _BOOKMARKS,
        "put_bookmark",
        "Bookmark a message",
        "History",
        201,
        headers=("Location",),
        actions=(Action.READ,),
        body=NewBookmark,
        returns=Bookmark,
        errors=_ERRORS,
        also={200: "The message was already bookmarked; its note is replaced"},
    ),
)
async def put_bookmark(call: Call, body: NewBookmark) -> Response:
    """Bookmarks are private to the caller. Everyone who may read a session can bookmark its messages."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    bookmark, is_new = await call.services.bookmarks.put(session_id, body, call.principal)
    location = f"/api/v1/sessions/{session_id}/bookmarks/{bookmark.id}"
    return ok(bookmark, 201 if is_new else 200, {"Location": location})


@endpoint(
    bp,
    Operation(
        "GET",
        _BOOKMARKS,
        "list_bookmarks",
        "The caller's bookmarks in a session, newest first",
        "History",
        200,
        actions=(Action.READ,),
        returns=list[Bookmark],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_bookmarks(call: Call, _: None) -> Response:
    """By creation time."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    return page_of(*await call.services.bookmarks.list_for(session_id, call.principal, call.page(datetime)))


@endpoint(
    bp,
    Operation(
        "GET",
        _ONE_BOOKMARK,
        "get_bookmark",
        "One bookmark",
        "History",
        200,
        actions=(Action.READ,),
        returns=Bookmark,
        errors=_ERRORS,
    ),
)
async def get_bookmark(call: Call, _: None) -> Response:
    """One of the caller's own."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    bookmark_id = call.id("bookmark_id", ErrorCode.MESSAGE_NOT_FOUND)
    return ok(await call.services.bookmarks.get(session_id, bookmark_id, call.principal))


@endpoint(
    bp,
    Operation(
        "DELETE",
        _ONE_BOOKMARK,
        "delete_bookmark",
        "Remove a bookmark",
        "History",
        204,
        actions=(Action.READ,),
        errors=_ERRORS,
    ),
)
async def delete_bookmark(call: Call, _: None) -> Response:
    """The message stays."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    bookmark_id = call.id("bookmark_id", ErrorCode.MESSAGE_NOT_FOUND)
    await call.services.bookmarks.delete(session_id, bookmark_id, call.principal)
    return Response(status_code=204)
