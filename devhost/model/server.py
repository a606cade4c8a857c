"""HTTP side of the offline model: routes, pacing, and the faults a script asks for.

Invariant: one SSE event per token, always; a stream without pacing leaves in as few writes as
possible, because the model shares its machine with the system it is used to measure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import orjson
from aiohttp import web

from devhost.model.demo import demo_reply
from devhost.model.reply import MODEL_NAME, Completion, Reply, count_prompt_tokens, limited
from devhost.model.request import ChatRequest, RequestRefused, parse_request
from devhost.model.script import CallLog, CallLogs, Fault, Script, find_script, scripted_reply

MAX_BODY_BYTES = 32 * 1024 * 1024
_SSE = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
_JSON = "application/json"
_NO_FAULT = Fault.model_validate({})


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How the server behaves. Times in seconds."""

    scripted: bool = False
    first_s: float = 0.2
    token_s: float = 0.015
    context_tokens: int = 128_000


@dataclass(frozen=True, slots=True)
class _Pace:
    first_s: float
    token_s: float
    cut_after: int | None = None
    hang_after: int | None = None
    error_after: int | None = None
    split_bytes: int | None = None

    @property
    def stop_after(self) -> int | None:
        """The token after which something goes wrong."""
        stops = [n for n in (self.cut_after, self.hang_after, self.error_after) if n is not None]
        return min(stops, default=None)


class ModelServer:
    """The application object; `app` is what aiohttp serves."""

    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._logs = CallLogs()
        self._started = int(time.time())
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_openai_errors])
        self.app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/openai/v1/chat/completions", self._chat),
                web.post("/openai/deployments/{deployment}/chat/completions", self._azure_chat),
                web.get("/v1/models", self._models),
                web.get("/openai/v1/models", self._models),
                web.get("/v1/models/{model}", self._model),
                web.get("/openai/v1/models/{model}", self._model),
            ]
        )
        if options.scripted:
            self.app.add_routes([web.get("/__calls", self._calls)])

    def _model_json(self) -> dict[str, object]:
        return {"id": MODEL_NAME, "object": "model", "created": self._started, "owned_by": "devhost"}

    async def _models(self, request: web.Request) -> web.Response:
        return _json_response({"object": "list", "data": [self._model_json()]})

    async def _model(self, request: web.Request) -> web.Response:
        return _json_response({**self._model_json(), "id": request.match_info["model"]})

    async def _calls(self, request: web.Request) -> web.Response:
        key = request.query.get("key", "")
        log = self._logs.get(key)
        return _json_response(
            {
                "key": key,
                "calls": log.calls,
                "completed": log.completed,
                "failed": log.failed,
                "abandoned": log.abandoned,
                "arrivals": list(log.arrivals),
            }
        )

    async def _azure_chat(self, request: web.Request) -> web.StreamResponse:
        if "api-version" not in request.query:
            # Azure answers a missing api-version as it does an unknown path.
            raise RequestRefused("Resource not found", status=404, code="404")
        return await self._answer(request, deployment=request.match_info["deployment"])

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, deployment=None)

    async def _answer(self, request: web.Request, *, deployment: str | None) -> web.StreamResponse:
        chat = parse_request(await request.read(), model_in_path=deployment)
        self._check_window(chat)
        script = find_script(chat) if self._options.scripted else None
        if script is None:
            pace = _Pace(self._options.first_s, self._options.token_s)
            return await self._send(request, chat, demo_reply(chat), pace, is_azure=deployment is not None)
        log = self._logs.arrived(script.key) if script.key is not None else CallLog()
        fault = script.fail[log.calls - 1] if 0 < log.calls <= len(script.fail) else _NO_FAULT
        try:
            if fault.hang:
                await asyncio.Event().wait()  # until the client leaves: the server cancels its handler
            if fault.status is not None:
                raise _fault_error(fault)
            pace = _scripted_pace(script, fault)
            reply = scripted_reply(script, chat)
            response = await self._send(request, chat, reply, pace, is_azure=deployment is not None)
        except (asyncio.CancelledError, ConnectionError):
            if fault.model_fields_set:
                log.failed += 1
            else:
                log.abandoned += 1
            raise
        except RequestRefused:
            log.failed += 1
            raise
        if pace.stop_after is None:
            log.completed += 1
        else:
            log.failed += 1
        return response

    def _check_window(self, chat: ChatRequest) -> None:
        tokens = count_prompt_tokens(chat)
        if tokens > self._options.context_tokens:
            raise RequestRefused(
                f"This model's maximum context length is {self._options.context_tokens} tokens. However, your"
                f" messages resulted in about {tokens} tokens. Please reduce the length of the messages.",
                param="messages",
                code="context_length_exceeded",
            )

    async def _send(
        self, request: web.Request, chat: ChatRequest, reply: Reply, pace: _Pace, *, is_azure: bool
    ) -> web.StreamResponse:
        completion = Completion(chat, limited(reply, chat.max_tokens), is_azure=is_azure)
        if chat.stream:
            return await _Stream(request, completion, pace).run()
        wait_s = pace.first_s + pace.token_s * completion.completion_tokens
        if wait_s:
            await asyncio.sleep(wait_s)
        if pace.hang_after is not None:
            await asyncio.Event().wait()
        if pace.stop_after is not None:
            raise RequestRefused("The scripted answer breaks off.", status=502, kind="server_error")
        return web.Response(body=completion.body(), content_type=_JSON)


class _Stream:
    """One Server-Sent-Events answer."""

    def __init__(self, request: web.Request, completion: Completion, pace: _Pace) -> None:
        self._request = request
        self._completion = completion
        self._pace = pace
        self._response = web.StreamResponse(headers=_SSE)

    async def run(self) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        pace = self._pace
        units = self._completion.units()
        broken = pace.stop_after is not None and pace.stop_after <= len(units)
        units = units[: pace.stop_after] if broken else units
        if pace.first_s:
            await asyncio.sleep(pace.first_s)
        await self._response.prepare(self._request)
        started = loop.time()
        pending = self._completion.head()
        sent = 0
        while pace.token_s and sent < len(units):
            # By the clock, not by sleeps: a late loop sends all tokens that are due and keeps the rate.
            due = min(len(units), int((loop.time() - started) / pace.token_s) + 1)
            if due > sent:
                await self._write(pending + b"".join(units[sent:due]))
                pending, sent = b"", due
            if sent < len(units):
                await asyncio.sleep(max(0.0, started + sent * pace.token_s - loop.time()))
        pending += b"".join(units[sent:])
        if broken:
            return await self._break_off(pending)
        return await self._finish(pending + self._completion.tail())

    async def _finish(self, data: bytes) -> web.StreamResponse:
        if self._pace.split_bytes is None:
            await self._response.write_eof(data)
        else:
            await self._write(data)
            await self._response.write_eof()
        return self._response

    async def _break_off(self, data: bytes) -> web.StreamResponse:
        if data:
            await self._write(data)
        stop = self._pace.stop_after
        if stop == self._pace.error_after:
            error = RequestRefused("The scripted stream failed.", kind="server_error", code="server_error")
            return await self._finish(b"data: " + error.body() + b"\n\n")
        if stop == self._pace.hang_after:
            await asyncio.Event().wait()
        transport = self._request.transport
        if transport is not None:
            transport.close()  # what was written still leaves; the closing chunk never does
        return self._response

    async def _write(self, data: bytes) -> None:
        size = self._pace.split_bytes
        if size is None:
            await self._response.write(data)
            return
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])
            await asyncio.sleep(0)


def _scripted_pace(script: Script, fault: Fault) -> _Pace:
    first_ms = script.first_ms if fault.first_ms is None else fault.first_ms
    token_ms = script.token_ms if fault.token_ms is None else fault.token_ms
    pace = _Pace(
        first_ms / 1000,
        token_ms / 1000,
        cut_after=fault.cut_after,
        hang_after=fault.hang_after,
        error_after=fault.error_after,
        split_bytes=script.split_bytes,
    )
    if pace.stop_after is None:
        return replace(pace, cut_after=script.cut_after, hang_after=script.hang_after)
    return pace


def _fault_error(fault: Fault) -> RequestRefused:
    status = fault.status or 500
    headers = {}
    if fault.retry_after is not None:
        value = fault.retry_after
        headers["Retry-After"] = value if isinstance(value, str) else f"{value:g}"
    if fault.retry_after_ms is not None:
        headers["retry-after-ms"] = str(fault.retry_after_ms)
    kinds = {401: "invalid_request_error", 429: "requests"}
    codes = {429: "rate_limit_exceeded", 401: "invalid_api_key"}
    return RequestRefused(
        fault.message or f"Scripted failure {status}.",
        status=status,
        code=fault.code or codes.get(status),
        kind=kinds.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        headers=headers,
    )


@web.middleware
async def _openai_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestRefused as exc:
        refused = exc
    except web.HTTPRequestEntityTooLarge:
        refused = RequestRefused(f"The body is larger than {MAX_BODY_BYTES} bytes.", status=413)
    except web.HTTPNotFound:
        refused = RequestRefused(f"Invalid URL ({request.method} {request.path})", status=404)
    except web.HTTPMethodNotAllowed:
        refused = RequestRefused(f"Not allowed: {request.method} {request.path}", status=405)
    return web.Response(body=refused.body(), status=refused.status, headers=refused.headers, content_type=_JSON)


def _json_response(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type=_JSON)


async def start_server(options: ModelOptions, *, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Listen and return the runner and the real port (port 0 picks a free one).

    `await runner.cleanup()` stops it; streams under way are dropped.
    """
    runner = web.AppRunner(ModelServer(options).app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=1024)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])
