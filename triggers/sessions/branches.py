"""Branches: alternative answers in a session, the choice of the active one, and forks of a session."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.life.branches import Branch
from shared.sessions.life.forks import NewFork
from shared.sessions.life.lifecycle import etag_of
from shared.sessions.models import Session
from triggers.http.endpoints import Call, InvalidPath, Operation, endpoint, ok, page_of
from triggers.http.parameters import IDEMPOTENCY_KEY, PAGING

bp = df.Blueprint()

_BRANCHES = "/api/v1/sessions/{session_id}/branches"

MOVE_ERRORS = (
    ErrorCode.SESSION_NOT_FOUND,
    ErrorCode.MESSAGE_NOT_FOUND,
    ErrorCode.INVALID_STATE,
    ErrorCode.CONFLICT,
    ErrorCode.SESSION_EXPIRED,
)
"""Errors of moving a session to another branch or checkpoint."""


@endpoint(
    bp,
    Operation(
        "GET",
        _BRANCHES,
        "list_branches",
        "The branches of a session, oldest first",
        "Branches",
        200,
        actions=(Action.READ,),
        returns=list[Branch],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_branches(call: Call, _: None) -> Response:
    """A session begins with branch 0. Branches with the same `fork_message_id` are alternative answers."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    return page_of(*await call.services.branches.list_for(session_id, call.principal, call.page(int)))


@endpoint(
    bp,
    Operation(
        "POST",
        f"{_BRANCHES}/{{branch}}/activate",
        "activate_branch",
        "Make another branch the active one",
        "Branches",
        200,
        headers=("ETag",),
        actions=(Action.POST,),
        returns=Session,
        errors=MOVE_ERRORS,
    ),
    sends=True,
)
async def activate_branch(call: Call, _: None) -> Response:
    """Idempotent. CONFLICT while a turn of the session is open."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    session, call.events = await call.services.branches.activate(session_id, _branch(call), call.principal)
    return ok(session, headers={"ETag": etag_of(session)})


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/sessions/{session_id}/fork",
        "fork_session",
        "Copy a session, up to a message or a checkpoint, into a new session of the caller",
        "Branches",
        201,
        headers=(
            "ETag",
            "Location",
        ),
        actions=(Action.READ,),
        body=NewFork,
        returns=Session,
        parameters=(IDEMPOTENCY_KEY,),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.MESSAGE_NOT_FOUND, ErrorCode.CONFLICT),
        body_required=False,
    ),
    sends=True,
)
async def fork_session(call: Call, body: NewFork) -> Response:
    """Everyone who may read a session may copy it. The copy has one branch; `forked_from` names the original.

    Messages, turns, tool calls and the session's settings are copied; participants, bookmarks and approvals are not.
    """
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    session, call.events = await call.services.forks.fork(
        session_id, body, call.principal, idempotency_key=call.request.headers.get("idempotency-key")
    )
    return ok(session, 201, {"Location": f"/api/v1/sessions/{session.id}", "ETag": etag_of(session)})


def _branch(call: Call) -> int:
    """The branch number in the path. Raises MESSAGE_NOT_FOUND when it is malformed."""
    text = str(call.request.path_params.get("branch", ""))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidPath(ErrorCode.MESSAGE_NOT_FOUND)
    return int(text)
