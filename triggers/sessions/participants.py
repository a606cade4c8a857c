"""Participants: users other than the owner who may read a session or write to it."""

from __future__ import annotations

import re

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.models import NewParticipant, Participant
from triggers.http.endpoints import Call, InvalidPath, Operation, endpoint, no_content, ok, page_of_all
from triggers.http.parameters import PAGING

bp = df.Blueprint()

_ALL = "/api/v1/sessions/{session_id}/participants"
_PATH = f"{_ALL}/{{user_id}}"
_USER = re.compile(r"[^\s;,\x00-\x1f]{1,200}")
"""A valid user id."""


@endpoint(
    bp,
    Operation(
        "GET",
        _ALL,
        "list_participants",
        "Who else may read a session or write to it",
        "Sessions",
        200,
        actions=(Action.READ,),
        returns=list[Participant],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_participants(call: Call, _: None) -> Response:
    """For everyone who may read the session: its users beside the owner, by user id."""
    session_id = call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
    return page_of_all(call, await call.services.lifecycle.participants(session_id, call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        _PATH,
        "get_participant",
        "What a user may do in a session",
        "Sessions",
        200,
        actions=(Action.READ,),
        returns=Participant,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_participant(call: Call, _: None) -> Response:
    """For everyone who may read the session. 404 for a user who is not a participant."""
    session_id, user_id = _ids(call)
    return ok(await call.services.lifecycle.participant(session_id, user_id, call.principal))


@endpoint(
    bp,
    Operation(
        "PUT",
        _PATH,
        "put_participant",
        "Let a user read a session or write to it",
        "Sessions",
        200,
        actions=(Action.SHARE,),
        body=NewParticipant,
        returns=Participant,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.SESSION_EXPIRED),
    ),
    sends=True,
    durable=True,
)
async def put_participant(call: Call, body: NewParticipant) -> Response:
    """For the owner. Replaces the user's former access; a user who loses write access loses their open turns."""
    session_id, user_id = _ids(call)
    participant, change = await call.services.lifecycle.put_participant(session_id, user_id, body, call.principal)
    await durable_client.interrupt(call.durable, change.interruption)
    call.events = change.messages
    return ok(participant)


@endpoint(
    bp,
    Operation(
        "DELETE",
        _PATH,
        "remove_participant",
        "Remove a user from a session",
        "Sessions",
        204,
        actions=(Action.SHARE, Action.LEAVE),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.VALIDATION_ERROR),
    ),
    sends=True,
    durable=True,
)
async def remove_participant(call: Call, _: None) -> Response:
    """The owner removes anyone; others can remove themselves. The user's turns are cancelled. Live delivery to them
    ends at once through SignalR, and within two seconds in an open event stream."""
    session_id, user_id = _ids(call)
    change = await call.services.lifecycle.remove_participant(session_id, user_id, call.principal)
    await durable_client.interrupt(call.durable, change.interruption)
    call.events = change.messages
    return no_content()


def _ids(call: Call) -> tuple[str, str]:
    user_id = str(call.request.path_params.get("user_id", ""))
    if _USER.fullmatch(user_id) is None:
        raise InvalidPath(ErrorCode.SESSION_NOT_FOUND)
    return call.id("session_id", ErrorCode.SESSION_NOT_FOUND), user_id
