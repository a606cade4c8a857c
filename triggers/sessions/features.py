"""Tags, session templates and statistics."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.sessions.features.models import NewTag, NewTemplate, PeriodStatistics, SessionStatistics, Tag, Template
from shared.sessions.life.lifecycle import etag_of
from shared.sessions.models import Session
from triggers.http.endpoints import Call, Operation, endpoint, invalid_parameter, no_content, ok, page_of
from triggers.http.parameters import SINCE_UNTIL, Parameter, text

bp = df.Blueprint()

# Tags. -----------------------------------------------------------------------------------------


@endpoint(bp, Operation("GET", "/api/v1/tags", "list_tags", "Tags to choose from", "Tags", 200, returns=list[Tag]))
async def list_tags(call: Call, _: None) -> Response:
    """The presets, then the caller's own; one page."""
    return page_of(await call.services.tags.list_for(call.principal), None)


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/tags",
        "create_tag",
        "Make a tag of one's own",
        "Tags",
        201,
        body=NewTag,
        returns=Tag,
        errors=(ErrorCode.CONFLICT,),
    ),
)
async def create_tag(call: Call, body: NewTag) -> Response:
    """A name the caller has already, or a preset's, is a CONFLICT."""
    return ok(await call.services.tags.create(body, call.principal), 201)


@endpoint(
    bp,
    Operation(
        "DELETE",
        "/api/v1/tags",
        "delete_tag",
        "Delete a tag of one's own",
        "Tags",
        204,
        parameters=(Parameter("name", "Which", text(64), required=True),),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.CONFLICT),
    ),
)
async def delete_tag(call: Call, _: None) -> Response:
    """Sessions keep what they carry; a preset is a CONFLICT."""
    name = call.query("name")
    if name is None:
        raise invalid_parameter("name", "is required")
    await call.services.tags.delete(name, call.principal)
    return no_content()


@endpoint(
    bp,
    Operation(
        "DELETE",
        "/api/v1/tags/{name}",
        "delete_named_tag",
        "Delete a tag of one's own, named in the path",
        "Tags",
        204,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.VALIDATION_ERROR),
    ),
)
async def delete_named_tag(call: Call, _: None) -> Response:
    """The same as with `?name=`."""
    await call.services.tags.delete(_name(call), call.principal)
    return no_content()


def _session_tag(method: str, name: str, summary: str) -> Operation:
    return Operation(
        method,
        "/api/v1/sessions/{session_id}/tags/{name}",
        name,
        summary,
        "Tags",
        200,
        returns=Session,
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.VALIDATION_ERROR,
        ),
    )


@endpoint(bp, _session_tag("PUT", "tag_session", "Put a tag on a session"))
async def tag_session(call: Call, _: None) -> Response:
    """Any name will do; a repeat changes nothing."""
    return _session(await call.services.tags.put_on(_session_id(call), _name(call), call.principal))


@endpoint(bp, _session_tag("DELETE", "untag_session", "Take a tag off a session"))
async def untag_session(call: Call, _: None) -> Response:
    """A repeat changes nothing."""
    return _session(await call.services.tags.take_off(_session_id(call), _name(call), call.principal))


# Templates. ------------------------------------------------------------------------------------


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/templates",
        "list_templates",
        "Templates to open sessions from",
        "Templates",
        200,
        returns=list[Template],
    ),
)
async def list_templates(call: Call, _: None) -> Response:
    """The system's, then the caller's own; one page. `POST /sessions` with `template` opens a session from one."""
    return page_of(await call.services.templates.list_for(call.principal), None)


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/templates",
        "create_template",
        "Make a template of one's own",
        "Templates",
        201,
        body=NewTemplate,
        returns=Template,
        errors=(ErrorCode.CONFLICT,),
    ),
)
async def create_template(call: Call, body: NewTemplate) -> Response:
    """A name the caller has already is a CONFLICT."""
    template = await call.services.templates.create(body, call.principal)
    return ok(template, 201, {"Location": f"/api/v1/templates/{template.id}"})


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/templates/{template_id}",
        "get_template",
        "One template",
        "Templates",
        200,
        returns=Template,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_template(call: Call, _: None) -> Response:
    """One of the system's, or of the caller's own."""
    return ok(await call.services.templates.get(_template_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "DELETE",
        "/api/v1/templates/{template_id}",
        "delete_template",
        "Delete a template of one's own",
        "Templates",
        204,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.CONFLICT),
    ),
)
async def delete_template(call: Call, _: None) -> Response:
    """Sessions made from it stay as they are; one of the system's is a CONFLICT."""
    await call.services.templates.delete(_template_id(call), call.principal)
    return no_content()


# Statistics. -----------------------------------------------------------------------------------


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/statistics",
        "get_session_statistics",
        "What a session amounts to",
        "Statistics",
        200,
        returns=SessionStatistics,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_session_statistics(call: Call, _: None) -> Response:
    """Messages, turns, tokens, tool calls, approvals and how long they took; as of now."""
    return ok(await call.services.statistics.of_session(_session_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/statistics",
        "get_statistics",
        "What the caller's sessions amount to in a period",
        "Statistics",
        200,
        returns=PeriodStatistics,
        parameters=SINCE_UNTIL,
    ),
)
async def get_statistics(call: Call, _: None) -> Response:
    """Of the sessions the caller owns; without bounds, of all time."""
    found = await call.services.statistics.of_period(call.principal, call.instant("from"), call.instant("to"))
    return ok(found)


def _session(session: Session) -> Response:
    return ok(session, headers={"ETag": etag_of(session)})


def _session_id(call: Call) -> str:
    return call.id("session_id", ErrorCode.SESSION_NOT_FOUND)


def _template_id(call: Call) -> str:
    return call.id("template_id", ErrorCode.SESSION_NOT_FOUND)


def _name(call: Call) -> str:
    """A tag in the path, where a slash inside a segment arrives still encoded."""
    return str(call.request.path_params.get("name", "")).replace("%2F", "/").replace("%2f", "/")
