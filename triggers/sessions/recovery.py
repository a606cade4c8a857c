"""Checkpoints of a session, and recovery from them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import azure.durable_functions as df
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Response

from shared.composition.services import services
from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.life.lifecycle import etag_of
from shared.sessions.models import Session
from shared.sessions.recovery import Checkpoint, NewCheckpoint, Recovery
from triggers.http.endpoints import Call, Operation, endpoint, ok, page_of
from triggers.http.parameters import PAGING
from triggers.sessions.branches import MOVE_ERRORS

bp = df.Blueprint()

log = logging.getLogger("parley.recovery")

_CHECKPOINTS = "/api/v1/sessions/{session_id}/checkpoints"


@endpoint(
    bp,
    Operation(
        "POST",
        _CHECKPOINTS,
        "create_checkpoint",
        "Create a checkpoint of a session",
        "Recovery",
        201,
        actions=(Action.CHANGE,),
        body=NewCheckpoint,
        returns=Checkpoint,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.INVALID_STATE, ErrorCode.SESSION_EXPIRED),
        body_required=False,
    ),
)
async def create_checkpoint(call: Call, body: NewCheckpoint) -> Response:
    """In addition to the automatic ones before each turn. While a turn runs, the checkpoint is placed after that turn.

    The newest hundred are kept, for a year.
    """
    return ok(await call.services.recovery.create_checkpoint(_session_id(call), call.principal, label=body.label), 201)


@endpoint(
    bp,
    Operation(
        "GET",
        _CHECKPOINTS,
        "list_checkpoints",
        "The checkpoints of a session, newest first",
        "Recovery",
        200,
        actions=(Action.READ,),
        returns=list[Checkpoint],
        parameters=PAGING,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def list_checkpoints(call: Call, _: None) -> Response:
    """The newest hundred of each kind; automatic ones are kept for ninety days."""
    return page_of(
        *await call.services.recovery.list_checkpoints(_session_id(call), call.principal, call.page(datetime))
    )


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/sessions/{session_id}/recover",
        "recover_session",
        "Recover a session from a checkpoint",
        "Recovery",
        200,
        headers=("ETag",),
        actions=(Action.CHANGE,),
        body=Recovery,
        returns=Session,
        errors=MOVE_ERRORS,
    ),
    sends=True,
)
async def recover_session(call: Call, body: Recovery) -> Response:
    """The session takes the checkpoint's state and goes on from there. Later messages stay on their own branch.

    Idempotent. CONFLICT while a turn is open; an ENDED session stays ENDED.
    """
    session, call.events = await call.services.recovery.recover_from_checkpoint(
        _session_id(call), body.checkpoint_id, call.principal
    )
    return ok(session, headers={"ETag": etag_of(session)})


@bp.timer_trigger(arg_name="timer", schedule="0 17 * * * *")
async def forget_checkpoints(timer: func.TimerRequest) -> None:
    """Drop checkpoints that are too old or too many."""
    forgotten = await services().recovery.forget_checkpoints(now=datetime.now(UTC))
    if forgotten:
        log.info("forgot %d checkpoints", forgotten)


def _session_id(call: Call) -> str:
    return call.id("session_id", ErrorCode.SESSION_NOT_FOUND)
