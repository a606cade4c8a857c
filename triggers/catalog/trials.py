"""Trying a version of an agent, or a draft, in a session of its own."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.sessions.life.lifecycle import etag_of
from shared.sessions.life.trials import NewTrial
from shared.sessions.models import Session
from triggers.http.endpoints import Call, Operation, endpoint, ok
from triggers.http.parameters import IDEMPOTENCY_KEY

bp = df.Blueprint()


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/agents/{agent_id}/trials",
        "try_agent",
        "Try a version of an agent, or a draft of the next one",
        "Agents",
        201,
        headers=(
            "ETag",
            "Location",
        ),
        body=NewTrial,
        returns=Session,
        parameters=(IDEMPOTENCY_KEY,),
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.CONFLICT,
            ErrorCode.TOOL_EXECUTION_FAILED,
            ErrorCode.TOOL_TIMEOUT,
        ),
        body_required=False,
    ),
    sends=True,
)
async def try_agent(call: Call, body: NewTrial) -> Response:
    """For admins. A session like any other, but that version answers all of its messages, and only admins post to it.
    A draft is kept in that session alone. Its tools are real: what acts outward does."""
    agent_id = call.id("agent_id", ErrorCode.SESSION_NOT_FOUND)
    session, call.events = await call.services.trials.begin(
        agent_id, body, call.principal, idempotency_key=call.request.headers.get("idempotency-key")
    )
    return ok(session, 201, {"Location": f"/api/v1/sessions/{session.id}", "ETag": etag_of(session)})
