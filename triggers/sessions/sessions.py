"""Sessions: create, read, list, change, move along the state machine, erase."""

from __future__ import annotations

from datetime import datetime

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from activities import durable_client, erasure, suspending
from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.life.lifecycle import etag_of
from shared.sessions.models import ListedSession, NewSession, Session, SessionPatch, SessionStatus
from shared.sessions.records.pages import SESSION_SORTS, SessionFilter, SessionSort
from shared.sessions.service import Changed
from triggers.http.endpoints import Call, Operation, endpoint, no_content, ok, page_of
from triggers.http.parameters import IDEMPOTENCY_KEY, PAGING, Parameter, if_match, text

bp = df.Blueprint()

_NOT_FOUND = (ErrorCode.SESSION_NOT_FOUND,)

_CANCEL_SECONDS = 3.0
"""How long an erasure waits for a cancelled turn to end, before its orchestration is terminated."""

IF_MATCH = if_match("An `ETag` of this session; CONFLICT when it has changed since")


def _transition(verb: str, summary: str) -> Operation:
    """One transition of the state machine. An expired session can still be ended."""
    expires = () if verb == "end" else (ErrorCode.SESSION_EXPIRED,)
    return Operation(
        "POST",
        f"/api/v1/sessions/{{session_id}}/{verb}",
        f"{verb}_session",
        summary,
        "Sessions",
        200,
        headers=("ETag",),
        returns=Session,
        actions=(Action.POST if verb == "activate" else Action.CHANGE,),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.INVALID_STATE, *expires),
    )


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/sessions",
        "create_session",
        "Open a session",
        "Sessions",
        201,
        headers=(
            "ETag",
            "Location",
        ),
        body=NewSession,
        returns=Session,
        parameters=(IDEMPOTENCY_KEY,),
        errors=(ErrorCode.SESSION_ALREADY_EXISTS, ErrorCode.CONFLICT),
        body_required=False,
    ),
    sends=True,
)
async def create_session(call: Call, body: NewSession) -> Response:
    """A repeat with the same Idempotency-Key returns the same session. `template` fills in missing fields."""
    session, _, call.events = await call.services.sessions.create(
        body, call.principal, idempotency_key=call.request.headers.get("idempotency-key")
    )
    return ok(session, 201, {"Location": f"/api/v1/sessions/{session.id}", "ETag": etag_of(session)})


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions",
        "list_sessions",
        "The caller's sessions",
        "Sessions",
        200,
        returns=list[ListedSession],
        parameters=(
            Parameter("status", "Only in this state", values=SessionStatus),
            Parameter("tag", "Only with this tag", text(64)),
            Parameter("agent_id", "Only with this agent", text(64)),
            Parameter("q", "Only with this text in the name, or in the title of one without a name", text(200)),
            Parameter("parent_session_id", "The sessions of this one's subagents; they are not listed else", text(64)),
            Parameter("pinned", "Only those that the caller has pinned, or only the others", {"type": "boolean"}),
            Parameter("sort", "Order; newest first by default", values=SessionSort),
            *PAGING,
        ),
    ),
)
async def list_sessions(call: Call, _: None) -> Response:
    """The sessions that the caller owns or participates in."""
    wanted = SessionFilter(
        status=call.query_as("status", SessionStatus),
        tag=call.query("tag"),
        agent_id=call.query("agent_id"),
        q=call.query("q"),
        parent_session_id=call.query("parent_session_id"),
        pinned=call.query_as("pinned", bool),
        sort=SESSION_SORTS[call.query_as("sort", SessionSort) or SessionSort.NEWEST_FIRST],
    )
    items, cursor = await call.services.sessions.list_for(call.principal, wanted, call.page(datetime))
    return page_of(items, cursor)


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}",
        "get_session",
        "One session",
        "Sessions",
        200,
        headers=("ETag",),
        actions=(Action.READ,),
        returns=Session,
        errors=_NOT_FOUND,
    ),
)
async def get_session(call: Call, _: None) -> Response:
    """For its owner and participants; everyone else gets 404."""
    record = await call.services.sessions.get(_session_id(call), call.principal)
    return ok(record.session, headers={"ETag": etag_of(record.session)})


@endpoint(
    bp,
    Operation(
        "PATCH",
        "/api/v1/sessions/{session_id}",
        "update_session",
        "Change a session's name, configuration, tags or metadata",
        "Sessions",
        200,
        headers=("ETag",),
        actions=(Action.CHANGE,),
        body=SessionPatch,
        returns=Session,
        parameters=(IF_MATCH,),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.CONFLICT,
        ),
    ),
)
async def update_session(call: Call, body: SessionPatch) -> Response:
    """Absent fields stay as they are. Turns posted earlier keep the configuration they were posted under."""
    record = await call.services.lifecycle.patch(
        _session_id(call), body, call.principal, if_match=call.request.headers.get("if-match")
    )
    return ok(record.session, headers={"ETag": etag_of(record.session)})


@endpoint(
    bp,
    Operation(
        "DELETE",
        "/api/v1/sessions/{session_id}",
        "delete_session",
        "Erase a session and everything that belongs to it",
        "Sessions",
        204,
        actions=(Action.ERASE,),
        parameters=(IF_MATCH,),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.CONFLICT),
    ),
    sends=True,
    durable=True,
)
async def delete_session(call: Call, _: None) -> Response:
    """For the owner; idempotent. A running turn is cancelled first; the sweep completes an interrupted erasure."""
    session_id = _session_id(call)
    erasing = call.services.erasure
    mark, call.events = await erasing.mark(session_id, call.principal, if_match=call.request.headers.get("if-match"))
    if mark is not None:
        await suspending.follow(call.services, call.durable, session_id)
        await durable_client.interrupt(call.durable, mark.interruption)
        await erasing.turns_over(session_id, within_s=_CANCEL_SECONDS)
    await erasure.erase(call.services, call.durable, session_id)
    return no_content()


def _pin(method: str, name: str, summary: str, *also: ErrorCode) -> Operation:
    return Operation(
        method,
        "/api/v1/sessions/{session_id}/pin",
        name,
        summary,
        "Sessions",
        204,
        actions=(Action.READ,),
        errors=(*_NOT_FOUND, *also),
    )


@endpoint(bp, _pin("PUT", "pin_session", "Keep a session at the top of the caller's list", ErrorCode.VALIDATION_ERROR))
async def pin_session(call: Call, _: None) -> Response:
    """For everyone who may read it, each for themselves. Idempotent; at most a hundred sessions."""
    await call.services.pins.put(_session_id(call), call.principal)
    return no_content()


@endpoint(bp, _pin("DELETE", "unpin_session", "Take a session off the top of the caller's list"))
async def unpin_session(call: Call, _: None) -> Response:
    """Idempotent."""
    await call.services.pins.delete(_session_id(call), call.principal)
    return no_content()


@endpoint(bp, _transition("activate", "CREATED to ACTIVE"), sends=True, durable=True)
async def activate_session(call: Call, _: None) -> Response:
    """The first message does the same."""
    changed = await call.services.sessions.change_status(_session_id(call), call.principal, SessionStatus.ACTIVE)
    return _answer(call, changed)


@endpoint(bp, _transition("suspend", "ACTIVE to SUSPENDED"), sends=True, durable=True)
async def suspend_session(call: Call, _: None) -> Response:
    """A running turn is paused where it is, its waits included."""
    changed = await call.services.sessions.change_status(_session_id(call), call.principal, SessionStatus.SUSPENDED)
    await suspending.follow(call.services, call.durable, changed.session.id)
    return _answer(call, changed)


@endpoint(bp, _transition("resume", "SUSPENDED to ACTIVE"), sends=True, durable=True)
async def resume_session(call: Call, _: None) -> Response:
    """A paused turn goes on; a queued one starts."""
    changed = await call.services.sessions.resume(_session_id(call), call.principal)
    await suspending.follow(call.services, call.durable, changed.session.id)
    if changed.next_turn_id is not None:
        await durable_client.start_or_leave(call.durable, changed.next_turn_id)
    return _answer(call, changed)


@endpoint(bp, _transition("end", "To ENDED, permanently"), sends=True, durable=True)
async def end_session(call: Call, _: None) -> Response:
    """A running turn is cancelled first."""
    changed = await call.services.sessions.change_status(_session_id(call), call.principal, SessionStatus.ENDED)
    # Suspended orchestrations must run to see that they were cancelled.
    await suspending.follow(call.services, call.durable, changed.session.id)
    await durable_client.interrupt(call.durable, changed.interruption)
    return _answer(call, changed)


def _session_id(call: Call) -> str:
    return call.id("session_id", ErrorCode.SESSION_NOT_FOUND)


def _answer(call: Call, changed: Changed) -> Response:
    call.events = changed.messages
    return ok(changed.session, headers={"ETag": etag_of(changed.session)})
