"""Schedules: a prompt that is posted at its time."""

from __future__ import annotations

from datetime import UTC, datetime

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.sessions.unattended.models import NewSchedule, Schedule, ScheduleDetail
from triggers.http.endpoints import Call, Operation, endpoint, no_content, ok, page_of_all
from triggers.http.parameters import PAGING

bp = df.Blueprint()

_PATH = "/api/v1/schedules/{schedule_id}"


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/schedules",
        "list_schedules",
        "Your schedules",
        "Schedules",
        200,
        returns=list[Schedule],
        parameters=PAGING,
    ),
)
async def list_schedules(call: Call, _: None) -> Response:
    """By id, each with its last run and when it is due next."""
    return page_of_all(call, await call.services.schedules.list_for(call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        _PATH,
        "get_schedule",
        "One schedule, with its runs",
        "Schedules",
        200,
        returns=ScheduleDetail,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_schedule(call: Call, _: None) -> Response:
    """What became of each due time, newest first; a run that did not happen says why."""
    return ok(await call.services.schedules.get(_schedule_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "PUT",
        _PATH,
        "put_schedule",
        "Make or replace a schedule",
        "Schedules",
        200,
        body=NewSchedule,
        returns=Schedule,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
        also={201: "The schedule is new"},
    ),
)
async def put_schedule(call: Call, body: NewSchedule) -> Response:
    """Ids are your own: others may have schedules of the same id. It runs as you; what was due before is not run."""
    schedule, is_new = await call.services.schedules.put(
        _schedule_id(call), body, call.principal, now=datetime.now(UTC)
    )
    return ok(schedule, 201 if is_new else 200)


@endpoint(
    bp,
    Operation(
        "DELETE",
        _PATH,
        "delete_schedule",
        "Delete a schedule",
        "Schedules",
        204,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def delete_schedule(call: Call, _: None) -> Response:
    """With the record of its runs. The sessions that it made stay, and so do turns that run."""
    await call.services.schedules.delete(_schedule_id(call), call.principal)
    return no_content()


def _schedule_id(call: Call) -> str:
    return call.id("schedule_id", ErrorCode.SESSION_NOT_FOUND)
