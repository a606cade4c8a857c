"""HTTP functions of the streaming kind: a starlette request in, a starlette response out.

In Azure the worker's own FastAPI server receives these; here the request is handed over in process. A return value
means the same as there: a Response is sent as it is, anything else as FastAPI encodes it. A harsh host treats them as
Azure's proxy does: the answer leaves before the outputs, and none of them leave when its caller does not take it.

Invariant: no part of a response is buffered here, and a disconnect of the caller cancels the body's generator
(starlette's StreamingResponse watches for it).
"""

from __future__ import annotations

import json
import logging
import traceback
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope

from devhost.app.dispatch import Dispatcher, Plan
from devhost.app.worker import Invocation
from devhost.asgi.replies import ResponseWatch
from devhost.extensions.contract import FunctionFailed, TriggerData
from devhost.http.forwarding import forwarded_headers, is_never_forwarded, proxied_headers

logger = logging.getLogger("devhost.http")

_CALLER_LEFT = "the caller left before it had the answer, so outputs are not sent"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that a function is to answer."""

    plan: Plan
    route: dict[str, str]
    trigger: TriggerData
    invocation: Invocation
    correlation_id: str
    scope: Scope
    receive: Receive
    send: ResponseWatch


async def serve(exchange: Exchange, dispatcher: Dispatcher, turns: AbstractAsyncContextManager[object]) -> None:
    """Call the function and send its answer. turns: held while the function runs.

    Raises FunctionFailed, also after the response has begun.
    """
    scope, send, name = exchange.scope, exchange.send, exchange.plan.function.name
    harsh = dispatcher.context.harsh
    is_lost = harsh is not None and is_never_forwarded(scope["headers"]) and harsh.strikes("hung_header", name)
    is_proxied = harsh is not None and harsh.strikes("proxied_host", name)
    is_late = harsh is not None and harsh.strikes("late_output", name)
    rewritten = proxied_headers if is_proxied else forwarded_headers
    scope["path_params"] = exchange.route
    scope["headers"] = rewritten(scope, exchange.invocation.invocation_id)
    request = Request(scope, exchange.receive, send)

    async def answer_first(result: object) -> None:
        response = as_response(result)
        # A streaming response notices by itself that its caller leaves.
        if not isinstance(response, StreamingResponse) and await request.is_disconnected():
            raise FunctionFailed(_CALLER_LEFT)
        try:
            await response(scope, exchange.receive, send)
        except Exception as exc:
            stack = "".join(traceback.format_exception(exc))
            raise FunctionFailed(f"{type(exc).__name__}: the answer broke off: {exc}", stack) from exc
        if not send.finished:
            raise FunctionFailed(_CALLER_LEFT)

    async with turns:
        result = await dispatcher.run(
            exchange.plan,
            None,
            exchange.trigger,
            exchange.invocation,
            exchange.correlation_id,
            request=request,
            answer=answer_first if is_late else None,
            is_lost=is_lost,
        )
    if is_late:
        return
    try:
        response = as_response(result)
    except FunctionFailed as failure:
        logger.error("%s failed: %s", name, failure.message)
        raise
    # After a failure half-way it is too late for a status. The connection closes early, so the caller sees that the
    # body is incomplete.
    await response(scope, exchange.receive, send)


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


def error_response(failure: FunctionFailed) -> Response | None:
    """FastAPI's answer when user code raised its HTTPException; None for any other failure."""
    cause = failure.__cause__
    if not isinstance(cause, HTTPException):
        return None
    headers = dict(cause.headers) if cause.headers else None
    if cause.status_code < 200 or cause.status_code in {204, 205, 304}:
        return Response(status_code=cause.status_code, headers=headers)
    return JSONResponse({"detail": cause.detail}, status_code=cause.status_code, headers=headers)
