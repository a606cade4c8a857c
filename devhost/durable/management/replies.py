"""JSON responses of the management API. Invariant: the error body of an exception has the four keys that the SDK may
read."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from devhost.durable.store import jsontext

SOMETHING_WRONG = "Something went wrong while processing your request"
_JSON = "application/json; charset=utf-8"
_FRESH = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def json_reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(jsontext.dumps(body), status, {**_FRESH, **(headers or {})}, media_type=_JSON)


def error_reply(status: int, message: str, said: str = "", kind: str | None = None) -> Response:
    """message: the first words. said, kind: text and .NET type of the exception behind it, if there is one."""
    if kind is None:
        return json_reply(status, {"Message": message})
    body = {"Message": message, "ExceptionMessage": said, "ExceptionType": kind, "StackTrace": ""}
    return json_reply(status, body)
