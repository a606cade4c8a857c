"""HTTP functions of the streaming kind: a starlette request in, a starlette response out.

In Azure the worker's own FastAPI server receives these; here the request is handed over in process. A return value
means the same as there: a Response is sent as it is, anything else as FastAPI encodes it.

Invariant: no part of a response is buffered here, and a disconnect of the caller cancels the body's generator
(starlette's StreamingResponse watches for it).
"""

from __future__ import annotations

import json
from typing import Any

from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from devhost.extensions.contract import FunctionFailed

INVOCATION_HEADER = b"x-ms-invocation-id"


def make_request(scope: Scope, receive: Receive, send: Send, route: dict[str, str], invocation_id: str) -> Request:
    """The function's request, with route values in `path_params` and the invocation id in a header."""
    scope["path_params"] = route
    scope["headers"] = [*scope["headers"], (INVOCATION_HEADER, invocation_id.encode())]
    return Request(scope, receive, send)


def as_response(value: Any) -> Response:
    """A return value as FastAPI would send it. Raises FunctionFailed when it cannot be encoded."""
    if isinstance(value, Response):
        return value
    if value is None:
        # The worker fails a request whose response is None.
        raise FunctionFailed("ValueError: the function returned None; a streaming HTTP function returns a response")
    try:
        return JSONResponse(jsonable_encoder(value))
    except (ValueError, TypeError, json.JSONDecodeError, RecursionError) as exc:
        raise FunctionFailed(f"{type(exc).__name__}: the return value cannot be sent as JSON: {exc}") from exc


def error_response(failure: FunctionFailed) -> Response | None:
    """FastAPI's answer when user code raised its HTTPException; None for any other failure."""
    cause = failure.__cause__
    if not isinstance(cause, HTTPException):
        return None
    headers = dict(cause.headers) if cause.headers else None
    if cause.status_code < 200 or cause.status_code in {204, 205, 304}:
        return Response(status_code=cause.status_code, headers=headers)
    return JSONResponse({"detail": cause.detail}, status_code=cause.status_code, headers=headers)
