"""Branches: the other answers of a session, and which of them new messages follow."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.sessions.branches import Branch
from shared.sessions.lifecycle import etag_of
from shared.sessions.models import Session
from triggers.http import Call, InvalidPath, Operation, endpoint, ok, page_of
from triggers.parameters import PAGING

bp = df.Blueprint()

_BRANCHES = "/api/v1/sessions/{session_id}/branches"


@endpoint(
    bp,
    Operation(
        "GET",
        _BRANCHES,
        "list_branches",
        "The branches of a session, oldest first",
        "Branches",
        200,
        returns=list[Branch],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_branches(call: Call, _: None) -> Response:
    """Branch 0 is what a session begins with; those with the same `fork_message_id` are answers to choose from."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    return page_of(*await call.services.branches.list_for(session_id, call.principal, call.page(int)))


@endpoint(
    bp,
    Operation(
        "POST",
        f"{_BRANCHES}/{{branch}}/activate",
        "activate_branch",
        "Go on from another branch",
        "Branches",
        200,
        returns=Session,
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.MESSAGE_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.CONFLICT,
            ErrorCode.SESSION_EXPIRED,
        ),
    ),
    sends=True,
)
async def activate_branch(call: Call, _: None) -> Response:
    """Idempotent. CONFLICT while a turn of the session is open."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    session, call.events = await call.services.branches.activate(session_id, _branch(call), call.principal)
    return ok(session, headers={"ETag": etag_of(session)})


def _branch(call: Call) -> int:
    """The number in the path. Raises MESSAGE_NOT_FOUND for what cannot be one."""
    text = str(call.request.path_params.get("branch", ""))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidPath(ErrorCode.MESSAGE_NOT_FOUND)
    return int(text)
