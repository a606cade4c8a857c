"""The OpenAPI 3.1 document, built from the declared operations and their pydantic models.

Invariant: what generators of clients stumble over is not in it. Each list has a named page, each event stream says what
one event holds, a file is bytes whatever its media type, and a success never carries a problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin

from shared.errors import HTTP_STATUS, ErrorCode
from shared.rights import RIGHTS, who
from shared.sessions.error_handler import Problem
from triggers.http.endpoints import DESCRIPTIONS, OPERATIONS, Operation, Parameter
from triggers.http.headers import HEADERS, RATE_LIMITS, RETRY_AFTER
from triggers.http.openapi.examples import Examples
from triggers.http.openapi.schemas import REF, schemas_of
from triggers.http.parameters import IF_NONE_MATCH

type Json = dict[str, Any]

_ALWAYS = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL_ERROR,
    ErrorCode.DATABASE_ERROR,
    ErrorCode.CACHE_ERROR,
)
_PROBLEM = "application/problem+json"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_WITHOUT_CONTENT = (204, 304)
_ID = {"type": "string", "minLength": 1, "maxLength": 64}
_PATH_SCHEMAS = {
    "chat_id": {"type": "string", "minLength": 1, "maxLength": 255},
    "response_id": {"type": "string", "minLength": 1, "maxLength": 160},
    "token": {"type": "string", "minLength": 1, "maxLength": 2048},
    "user_id": {"type": "string", "minLength": 1, "maxLength": 200},
}
"""Path parameters whose limits differ from `_ID`."""
_WAITS = (429, 503)
_BYTES: Json = {"type": "string", "format": "binary"}

_TAGS = {
    "Sessions": "Conversations: open, read, change, share, move along the state machine, erase.",
    "Messages": "Post a message, which begins a turn; read the history.",
    "Turns": "What a message began: list, read, stop, watch.",
    "Events": "The numbered log of a session: replay, or replay and follow.",
    "Realtime": "Live events over SignalR.",
    "Approvals": "Tool calls that wait for a person.",
    "Branches": "Other answers to the same message; copies of sessions.",
    "Recovery": "Checkpoints of a session, and going back to one.",
    "History": "Full-text search, and bookmarks.",
    "Files": "Files of a session, and a session as a file.",
    "Tags": "Words that sessions are found by.",
    "Templates": "What new sessions begin with.",
    "Statistics": "What sessions and periods have used and cost.",
    "Agents": "Instructions, model, tools and policies, in versions.",
    "Tools": "What agents may call.",
    "Schedules": "Messages that are posted at their time.",
    "Triggers": "Messages that are posted when something outside happens.",
    "Webhooks": "What a user's own programs are told of.",
    "Doors": "The same turns in the wires of other clients.",
    "Operations": "Health, metrics, audits, and this document.",
}


@cache
def document() -> Json:
    """The whole document; built once per process."""
    schemas, requests, answers = schemas_of(
        sorted({(_key(kind), kind) for kind in _requested()}, key=_by_name),
        sorted({(_key(kind), kind) for kind in _answered()}, key=_by_name),
    )
    # Kiota's exceptions show it.
    schemas["Problem"]["properties"]["detail"]["x-ms-primary-error-message"] = True
    schemas |= _pages()
    writer = _Writer(requests, answers, Examples(schemas))
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = writer.operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Parley",
            "version": "1",
            "description": "Agent conversations with durable turns, human approvals and live streaming. Each GET also"
            " answers HEAD; a method that a path does not have is answered with 405 and `Allow`.",
            "license": {"name": "MIT", "identifier": "MIT"},
            "contact": {"name": "The operators of this deployment"},
        },
        "servers": [{"url": "/", "description": "Where this document comes from"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "headers": HEADERS,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "An access token of Microsoft Entra ID for this app. Browsers that signed in to the"
                    " app's own site send its cookie instead.",
                },
                "development": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-dev-user",
                    "description": "Only on the development host, where it says who is calling: `NAME[;role,role]`."
                    " It proves nothing, and no deployment reads it.",
                },
            },
        },
        "security": [{"bearer": []}, {"development": []}],
    }


class _Writer:
    """Describes operations. requests, answers: schemas by the key of their type."""

    def __init__(self, requests: Mapping[str, Json], answers: Mapping[str, Json], examples: Examples) -> None:
        self._requests = requests
        self._answers = answers
        self._examples = examples

    def operation(self, operation: Operation) -> Json:
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
                "schema": dict(
                    parameter.schema if parameter.values is None else self._requests[_key(parameter.values)]
                ),
            }
            for parameter in _asked(operation)
        ]
        described: Json = {
            "operationId": operation.operation_id or operation.name,
            "summary": operation.summary,
            "description": DESCRIPTIONS.get(operation.name, f"{operation.summary}."),
            "tags": [operation.tag],
            "parameters": parameters,
            "responses": self._responses(operation),
        }
        if operation.actions:
            described["description"] += f"\n\nSession access: for {who(*operation.actions)}."
            described["x-session-access"] = sorted(
                {access for action in operation.actions for access in RIGHTS[action]}
            )
        if operation.body is not None:
            schema = self._requests[_key(operation.body)]
            described["requestBody"] = {
                "required": operation.body_required,
                "content": {_JSON: self._media(schema)},
            }
        if operation.form is not None:
            form = dict(operation.form)
            media = self._media(form) if operation.form_type == _JSON else {"schema": form}
            described["requestBody"] = {"required": True, "content": {operation.form_type: media}}
        if operation.public:
            described["security"] = []
        return described

    def _media(self, schema: Json) -> Json:
        if schema == _BYTES:
            return {"schema": schema}
        return {"schema": schema, "example": self._examples.of(schema)}

    def _content(self, operation: Operation) -> Json:
        """Of a success, by media type."""
        content = {}
        for kind in (operation.media_type, *operation.also_as):
            if operation.is_file:
                schema = dict(_BYTES)
            elif kind == _EVENTS and operation.streams is not None:
                # Of one event: its `data`. What the doors stream is described by the wires' own documents.
                schema = self._answers[_key(operation.streams)]
            elif kind == _JSON:
                schema = self._returned(operation.returns)
            else:
                schema = {"type": "string"}
            content[kind] = self._media(schema)
        return content

    def _returned(self, kind: Any) -> Json:
        """The schema of an answer: for `list[Model]` a page."""
        if get_origin(kind) is list:
            return {"$ref": REF.format(model=f"{_item(kind).__name__}Page")}
        return dict(self._answers[_key(kind)])

    def _responses(self, operation: Operation) -> Json:
        common = ["x-correlation-id", *(() if operation.public else RATE_LIMITS)]
        headers = _headers(*common, *operation.headers)
        statuses = {operation.status: operation.summary} | dict(operation.also)
        if _has_versions(operation):
            statuses |= {304: "The caller has the current version"}
        responses: Json = {}
        for status, meaning in statuses.items():
            responses[str(status)] = {"description": meaning, "headers": headers}
            if status == 304:
                responses["304"]["headers"] = _headers(*common, "ETag")
            if status not in (*_WITHOUT_CONTENT, *operation.without_content):
                responses[str(status)]["content"] = self._content(operation)
        if 206 in operation.also:
            responses["206"]["headers"] = headers | _headers("Content-Range")
        for status, codes in sorted(_refusals(operation).items()):
            entry = responses.setdefault(str(status), {"description": "", "headers": _headers(*common), "content": {}})
            entry["description"] = " or ".join(filter(None, [entry["description"], ", ".join(codes)]))
            example = self._examples.problem(codes[0], status)
            problem = {"schema": {"$ref": REF.format(model="Problem")}, "example": example}
            entry["content"] = {**entry["content"], _PROBLEM: problem}
            if status in _WAITS:
                entry["headers"] = {**entry["headers"], **_headers(RETRY_AFTER)}
        if operation.public and not any(status.startswith("4") for status in responses):
            responses["414"] = {"description": "The platform refuses a URL that is too long; the app does not see it"}
        return responses


def _has_versions(operation: Operation) -> bool:
    return operation.method == "GET" and "ETag" in operation.headers


def _asked(operation: Operation) -> Sequence[Parameter]:
    """Its parameters."""
    known = {parameter.name for parameter in operation.parameters}
    if not _has_versions(operation) or IF_NONE_MATCH.name in known:
        return operation.parameters
    return (*operation.parameters, IF_NONE_MATCH)


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _refusals(operation: Operation) -> dict[int, list[ErrorCode]]:
    """Codes by status."""
    codes = [*operation.errors, *_ALWAYS]
    if operation.public:
        codes = [*operation.errors, ErrorCode.INTERNAL_ERROR]
    if operation.parameters or operation.method != "GET":
        codes.append(ErrorCode.VALIDATION_ERROR)
    if operation.body is not None:
        codes.append(ErrorCode.MESSAGE_TOO_LONG)
    by_status: dict[int, list[ErrorCode]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(HTTP_STATUS[code], []).append(code)
    return by_status


def _key(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _by_name(keyed: tuple[str, Any]) -> str:
    return keyed[0]


def _requested() -> Iterator[Any]:
    """The types of bodies and of query parameters."""
    for operation in OPERATIONS:
        if operation.body is not None:
            yield operation.body
        yield from (parameter.values for parameter in operation.parameters if parameter.values is not None)


def _answered() -> Iterator[Any]:
    yield Problem
    for operation in OPERATIONS:
        yield from (_item(kind) for kind in (operation.returns, operation.streams) if kind is not None)


def _item(returns: Any) -> Any:
    """Of a page, the type of its items; else the type itself."""
    return get_args(returns)[0] if get_origin(returns) is list else returns


def _pages() -> Json:
    """A page of each type that is listed."""
    items = {_item(operation.returns) for operation in OPERATIONS if get_origin(operation.returns) is list}
    return {
        f"{item.__name__}Page": {
            "type": "object",
            "description": "A part of a list.",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": {"type": "array", "items": {"$ref": REF.format(model=item.__name__)}},
                "next_cursor": {
                    "type": ["string", "null"],
                    "description": "`cursor` of the next page; null on the last",
                },
            },
            "additionalProperties": False,
        }
        for item in sorted(items, key=_key)
    }
