"""HTTP functions of the streaming kind: a starlette request in, a starlette response out.

In Azure the worker's own server is a FastAPI app with one route, whose endpoint hands each request to the invocation
of the same id and returns what the function returned. `Exchanges` does the same without FastAPI's work per request; the
answers are recorded ones. A return value means the same as there: a Response is sent as it is, anything else as FastAPI
encodes it.

Invariant: no part of a response is buffered here, and a disconnect of the caller cancels the body's generator
(starlette's StreamingResponse watches for it).
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections import deque
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from devhost.extensions.contract import FunctionFailed

logger = logging.getLogger("devhost.worker")

INVOCATION_HEADER = b"x-ms-invocation-id"
_REMEMBERED = 256
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
"""Of the endpoint in `azurefunctions.extensions.http.fastapi`."""


class Exchange:
    """A request that waits for its answer."""

    __slots__ = ("_answered", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self._answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def answer(self, response: Response) -> None:
        """Send the function's answer. Only the first call counts."""
        if not self._answered.done():
            self._answered.set_result(response)

    def fail(self, exc: BaseException) -> None:
        """Answer for user code that raised."""
        self.answer(error_response(exc))

    async def answered(self) -> Response:
        """The answer, once there is one."""
        return await self._answered


class Exchanges:
    """The worker's HTTP server as an ASGI app: brings requests and invocations together by their id."""

    def __init__(self) -> None:
        self._requests: dict[str, asyncio.Future[Exchange]] = {}
        self._dropped: deque[str] = deque(maxlen=_REMEMBERED)

    def expect(self, invocation_id: str) -> asyncio.Future[Exchange]:
        """The request of an invocation, whichever of the two comes first."""
        waiting = self._requests.get(invocation_id)
        if waiting is None:
            waiting = self._requests[invocation_id] = asyncio.get_running_loop().create_future()
        return waiting

    def forget(self, invocation_id: str) -> None:
        """The invocation has its request, or will not have it."""
        waiting = self._requests.pop(invocation_id, None)
        if waiting is not None and (waiting.cancelled() or not waiting.done()):
            self._dropped.append(invocation_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        invocation_id = next((value for name, value in scope["headers"] if name == INVOCATION_HEADER), b"").decode(
            "latin-1"
        )
        waiting = self.expect(invocation_id)
        if scope["method"] not in METHODS:
            refused = JSONResponse({"detail": "Method Not Allowed"}, 405, {"allow": ", ".join(METHODS)})
            await refused(scope, receive, send)
            # In Azure the invocation waits for its request until functionTimeout, and the worker ends with it.
            waiting.cancel()
            return
        if not invocation_id or waiting.done() or invocation_id in self._dropped:
            await PlainTextResponse("Internal Server Error", 500)(scope, receive, send)
            return
        exchange = Exchange(Request(scope, receive, send))
        waiting.set_result(exchange)
        response = await exchange.answered()
        try:
            await response(scope, receive, send)
        except Exception as exc:
            stack = "".join(traceback.format_exception(exc))
            logger.error(
                "the answer to %s broke off: %s: %s\n%s", scope["path"], type(exc).__name__, exc, stack.rstrip()
            )
            raise


def as_response(value: Any) -> Response:
    """A return value as FastAPI would send it. Raises FunctionFailed when it cannot be encoded."""
    if isinstance(value, Response):
        return value
    if value is None:
        # The worker fails a request whose response is None.
        raise FunctionFailed("ValueError: the function returned None; a streaming HTTP function returns a response")
    # Imported late: it takes longer than the rest of the host, and most apps have no function that needs it.
    from fastapi.encoders import jsonable_encoder

    try:
        return JSONResponse(jsonable_encoder(value))
    except (ValueError, TypeError, json.JSONDecodeError, RecursionError) as exc:
        raise FunctionFailed(f"{type(exc).__name__}: the return value cannot be sent as JSON: {exc}") from exc


def error_response(exc: BaseException) -> Response:
    """FastAPI's answer when user code raised."""
    if not isinstance(exc, HTTPException):
        return PlainTextResponse("Internal Server Error", 500)
    headers = dict(exc.headers) if exc.headers else None
    if exc.status_code < 200 or exc.status_code in {204, 205, 304}:
        return Response(status_code=exc.status_code, headers=headers)
    return JSONResponse({"detail": exc.detail}, status_code=exc.status_code, headers=headers)
