"""Tags, session templates and statistics."""

from __future__ import annotations

import azure.durable_functions as df
from azurefunctions.extensions.http.fastapi import Response

from shared.errors import ErrorCode
from shared.rights import Action
from shared.sessions.features.models import NewTag, NewTemplate, PeriodStatistics, SessionStatistics, Tag, Template
from shared.sessions.life.lifecycle import etag_of
from shared.sessions.models import Session
from triggers.http.endpoints import Call, Operation, endpoint, invalid_parameter, no_content, ok, page_of_all
from triggers.http.parameters import PAGING, SINCE_UNTIL, Parameter, text

bp = df.Blueprint()

# Tags. -----------------------------------------------------------------------------------------


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/tags",
        "list_tags",
        "Tags to choose from",
        "Tags",
        200,
        returns=list[Tag],
        parameters=PAGING,
    ),
)
async def list_tags(call: Call, _: None) -> Response:
    """The presets, then the caller's own tags."""
    return page_of_all(call, await call.services.tags.list_for(call.principal))


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/tags",
        "create_tag",
        "Create a tag",
        "Tags",
        201,
        body=NewTag,
        returns=Tag,
        errors=(ErrorCode.CONFLICT,),
    ),
)
async def create_tag(call: Call, body: NewTag) -> Response:
    """CONFLICT when the name is a preset or already the caller's."""
    return ok(await call.services.tags.create(body, call.principal), 201)


@endpoint(
    bp,
    Operation(
        "DELETE",
        "/api/v1/tags",
        "delete_tag",
        "Delete a tag",
        "Tags",
        204,
        parameters=(Parameter("name", "The tag", text(64), required=True),),
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.CONFLICT),
    ),
)
async def delete_tag(call: Call, _: None) -> Response:
    """Sessions keep their tags. CONFLICT for a preset."""
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
        "Delete a tag, named in the path",
        "Tags",
        204,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.VALIDATION_ERROR),
    ),
)
async def delete_named_tag(call: Call, _: None) -> Response:
    """The same as with the query parameter `name`."""
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
        headers=("ETag",),
        actions=(Action.CHANGE,),
        returns=Session,
        errors=(
            ErrorCode.SESSION_NOT_FOUND,
            ErrorCode.INVALID_STATE,
            ErrorCode.SESSION_EXPIRED,
            ErrorCode.VALIDATION_ERROR,
        ),
    )


@endpoint(bp, _session_tag("PUT", "tag_session", "Add a tag to a session"))
async def tag_session(call: Call, _: None) -> Response:
    """Any name is allowed. Idempotent."""
    return _session(await call.services.tags.put_on(_session_id(call), _name(call), call.principal))


@endpoint(bp, _session_tag("DELETE", "untag_session", "Remove a tag from a session"))
async def untag_session(call: Call, _: None) -> Response:
    """Idempotent."""
    return _session(await call.services.tags.take_off(_session_id(call), _name(call), call.principal))


# Templates. ------------------------------------------------------------------------------------


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/templates",
        "list_templates",
        "Session templates",
        "Templates",
        200,
        returns=list[Template],
        parameters=PAGING,
    ),
)
async def list_templates(call: Call, _: None) -> Response:
    """The built-in templates, then the caller's own. `POST /sessions` takes one as `template`."""
    return page_of_all(call, await call.services.templates.list_for(call.principal))


@endpoint(
    bp,
    Operation(
        "POST",
        "/api/v1/templates",
        "create_template",
        "Create a template",
        "Templates",
        201,
        headers=("Location",),
        body=NewTemplate,
        returns=Template,
        errors=(ErrorCode.CONFLICT,),
    ),
)
async def create_template(call: Call, body: NewTemplate) -> Response:
    """CONFLICT when the caller already has a template of that name."""
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
    """A built-in template, or one of the caller's own."""
    return ok(await call.services.templates.get(_template_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "DELETE",
        "/api/v1/templates/{template_id}",
        "delete_template",
        "Delete a template",
        "Templates",
        204,
        errors=(ErrorCode.SESSION_NOT_FOUND, ErrorCode.CONFLICT),
    ),
)
async def delete_template(call: Call, _: None) -> Response:
    """Sessions made from it stay as they are. CONFLICT for a built-in template."""
    await call.services.templates.delete(_template_id(call), call.principal)
    return no_content()


# Statistics. -----------------------------------------------------------------------------------


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/sessions/{session_id}/statistics",
        "get_session_statistics",
        "Statistics of a session",
        "Statistics",
        200,
        actions=(Action.READ,),
        returns=SessionStatistics,
        errors=(ErrorCode.SESSION_NOT_FOUND,),
    ),
)
async def get_session_statistics(call: Call, _: None) -> Response:
    """Messages, turns, tokens, tool calls, approvals and durations, as of now."""
    return ok(await call.services.statistics.of_session(_session_id(call), call.principal))


@endpoint(
    bp,
    Operation(
        "GET",
        "/api/v1/statistics",
        "get_statistics",
        "Statistics of the caller's sessions in a period",
        "Statistics",
        200,
        returns=PeriodStatistics,
        parameters=SINCE_UNTIL,
    ),
)
async def get_statistics(call: Call, _: None) -> Response:
    """Over the sessions that the caller owns; without bounds, over all time."""
    found = await call.services.statistics.of_period(call.principal, call.instant("from"), call.instant("to"))
    return ok(found)


def _session(session: Session) -> Response:
    return ok(session, headers={"ETag": etag_of(session)})


def _session_id(call: Call) -> str:
    return call.id("session_id", ErrorCode.SESSION_NOT_FOUND)


def _template_id(call: Call) -> str:
    return call.id("template_id", ErrorCode.SESSION_NOT_FOUND)


def _name(call: Call) -> str:
    """The tag in the path; a slash inside a path segment arrives percent-encoded."""
    return str(call.request.path_params.get("name", "")).replace("%2F", "/").replace("%2f", "/")
