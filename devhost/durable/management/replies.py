"""JSON responses of the management API. Invariant: error bodies have the four keys that the SDK may read."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from devhost.durable.store import jsontext


def json_reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(jsontext.dumps(body), status, headers, media_type="application/json")


def error_reply(status: int, message: str, exception_type: str) -> Response:
    body = {
        "Message": "Something went wrong while processing your request",
        "ExceptionMessage": message,
        "ExceptionType": exception_type,
        "StackTrace": "",
    }
    return json_reply(status, body)
