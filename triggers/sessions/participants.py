"""Participants: who else may read a session or write to it."""

from __future__ import annotations

import re

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client
from shared.errors import ErrorCode
from shared.sessions.models import NewParticipant, Participant
from triggers.http.endpoints import Call, InvalidPath, Operation, endpoint, no_content, ok

bp = df.Blueprint()

_PATH = "/api/v1/sessions/{session_id}/participants/{user_id}"
_USER = re.compile(r"[^\s;,\x00-\x1f]{1,200}")
"""What can be a caller's name at all."""


@endpoint(
    bp,
    Operation(
        "GET",
        _PATH,
        "get_participant",
        "What a user may do in a session",
        "Sessions",
        200,
        returns=Participant,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_participant(call: Call, _: None) -> Response:
    """For everyone who may read the session; who takes no part is not found."""
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
        body=NewParticipant,
        returns=Participant,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.SESSION_EXPIRED),
    ),
    sends=True,
    durable=True,
)
async def put_participant(call: Call, body: NewParticipant) -> Response:
    """The owner's to do. Replaces what the user was allowed before; who may no longer write loses their open turns."""
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
        "Take a user out of a session",
        "Sessions",
        204,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.VALIDATION_ERROR),
    ),
    sends=True,
    durable=True,
)
async def remove_participant(call: Call, _: None) -> Response:
    """The owner removes anyone, others leave. The user's turns are cancelled and live delivery to them ends: at once
    through SignalR, within seconds in an event stream that is open."""
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
