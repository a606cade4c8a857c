"""The OpenAPI 3.1 document, built from the declared operations and their pydantic models."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from shared.errors import HTTP_STATUS, ErrorCode
from shared.rights import RIGHTS, who
from shared.sessions.error_handler import Problem
from triggers.http.endpoints import OPERATIONS, Operation

_REF = "#/components/schemas/{model}"
_ALWAYS = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL_ERROR,
    ErrorCode.DATABASE_ERROR,
    ErrorCode.CACHE_ERROR,
)
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_WITHOUT_CONTENT = (204, 304)
_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_PATH_SCHEMAS = {
    "token": {"type": "string", "minLength": 1, "maxLength": 2048},
    "user_id": {"type": "string", "minLength": 1, "maxLength": 200},
}
"""Path parameters whose limits differ from `_ID`."""
_WAITS = (429, 503)
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds until a retry may succeed", "schema": {"type": "integer", "minimum": 1}}
}
_CORRELATION = {"x-correlation-id": {"description": "Names this request in our logs", "schema": {"type": "string"}}}
_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {"description": "The version of what is answered, for `If-Match`", "schema": {"type": "string"}},
    "Location": {"description": "Where what was made is found", "schema": {"type": "string"}},
}


@cache
def document() -> dict[str, Any]:
    """The whole document; built once per process."""
    models = {model for operation in OPERATIONS for model in _models(operation)} | {Problem}
    ordered = sorted(models, key=lambda model: model.__name__)
    schemas = models_json_schema(
        [(model, "validation" if _is_body(model) else "serialization") for model in ordered], ref_template=_REF
    )[1]["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Parley",
            "version": "1",
            "description": "Agent conversations with durable turns, human approvals and live streaming.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "platform": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-ms-client-principal",
                    "description": "Set by App Service Authentication; on a laptop use x-dev-user: NAME[;role,role].",
                }
            },
        },
        "security": [{"platform": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS.get(name, _ID)}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    parameters += [
        {
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.required,
            "description": parameter.description,
            "schema": dict(parameter.schema),
        }
        for parameter in operation.parameters
    ]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": _responses(operation),
    }
    if operation.actions:
        described["description"] = f"Session access: for {who(*operation.actions)}."
        described["x-session-access"] = sorted({access for action in operation.actions for access in RIGHTS[action]})
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    if operation.form is not None:
        described["requestBody"] = {
            "required": True,
            "content": {operation.form_type: {"schema": dict(operation.form)}},
        }
    if operation.public:
        described["security"] = []
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    headers = _CORRELATION | {name: _HEADERS[name] for name in operation.headers}
    success: dict[str, Any] = {"description": operation.summary, "headers": headers}
    schema = _returned(operation.returns)
    if operation.media_type != "application/json":
        # The schema of one event of a stream: any JSON, since the fields depend on the event's type.
        schema = {} if operation.media_type == "text/event-stream" else {"type": "string"}
    content = {kind: {"schema": schema} for kind in (operation.media_type, *operation.also_as)}
    if operation.status not in _WITHOUT_CONTENT:
        success["content"] = content
    responses: dict[str, Any] = {str(operation.status): success}
    for status, meaning in operation.also.items():
        responses[str(status)] = {"description": meaning, "headers": headers}
        if status not in _WITHOUT_CONTENT:
            responses[str(status)]["content"] = content
    codes = [*operation.errors, *_ALWAYS]
    if operation.public:
        codes = [ErrorCode.INTERNAL_ERROR]
    if operation.parameters or operation.method != "GET":
        codes.append(ErrorCode.VALIDATION_ERROR)
    if operation.body is not None:
        codes.append(ErrorCode.MESSAGE_TOO_LONG)
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(HTTP_STATUS[code], []).append(code)
    for status, names in sorted(by_status.items()):
        entry = responses.setdefault(str(status), {"description": "", "headers": _CORRELATION, "content": {}})
        entry["description"] = " or ".join(filter(None, [entry["description"], ", ".join(names)]))
        entry["content"] = {**entry["content"], **_PROBLEM}
        if status in _WAITS:
            entry["headers"] = {**entry["headers"], **_RETRY_AFTER}
    return responses


def _models(operation: Operation) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    if operation.body is not None:
        found.add(operation.body)
    returned = get_args(operation.returns)[0] if get_origin(operation.returns) is list else operation.returns
    if isinstance(returned, type) and issubclass(returned, BaseModel):
        found.add(returned)
    return found


def _is_body(model: type[BaseModel]) -> bool:
    return any(operation.body is model for operation in OPERATIONS)


def _returned(kind: Any) -> dict[str, Any]:
    """A model, or a page of models for `list[Model]`."""
    if kind is None:
        return {}
    if get_origin(kind) is list:
        return {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": {"type": "array", "items": _reference(get_args(kind)[0])},
                "next_cursor": {"type": ["string", "null"]},
            },
        }
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _reference(kind)
    return TypeAdapter(kind).json_schema()


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}
