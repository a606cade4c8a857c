"""The HTTP server of the offline model: routes, and the handling of a request in either API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web

from devhost.model.chat.answer import ChatAnswer
from devhost.model.chat.request import parse_chat
from devhost.model.conversation import ModelRequest
from devhost.model.demo.demo import demo_reply
from devhost.model.errors import Json, RequestRefused, read_object
from devhost.model.options import ModelOptions
from devhost.model.reply import MODEL_NAME, Answer, Reply, limited
from devhost.model.responses.request import parse_responses
from devhost.model.responses.stream import ResponsesAnswer
from devhost.model.rules import check_key, check_model, check_parameters, check_tools, check_window
from devhost.model.scripts.calls import CallLog, CallLogs
from devhost.model.scripts.pacing import EventStream, Pace, scripted_pace, send_whole
from devhost.model.scripts.played import PlayedAnswer
from devhost.model.scripts.script import Fault, Script, find_script, scripted_reply

__all__ = ["ModelOptions", "ModelServer", "start_server"]

MAX_BODY_BYTES = 32 * 1024 * 1024
_JSON = "application/json"
_NO_FAULT = Fault.model_validate({})

type _Encoder = Callable[[Reply], Answer]
"""A reply in the format of an API."""


class ModelServer:
    """The application object; aiohttp serves its `app`."""

    def __init__(self, options: ModelOptions) -> None:
        self._options = options
        self._logs = CallLogs()
        self._started = int(time.time())
        self.app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_openai_errors])
        self.app.add_routes(
            [
                route
                for base in ("/v1", "/openai/v1")
                for route in (
                    web.post(f"{base}/chat/completions", self._chat),
                    web.post(f"{base}/responses", self._responses),
                    web.get(f"{base}/models", self._models),
                    web.get(f"{base}/models/{{model}}", self._model),
                )
            ]
        )
        self.app.add_routes([web.post("/openai/deployments/{deployment}/chat/completions", self._azure_chat)])
        if options.scripted:
            self.app.add_routes([web.get("/__calls", self._calls)])

    async def _models(self, request: web.Request) -> web.Response:
        check_key(request.headers, self._options, is_azure=_is_azure(request))
        names = self._options.models or (MODEL_NAME,)
        return _json_response({"object": "list", "data": [self._model_json(name) for name in names]})

    async def _model(self, request: web.Request) -> web.Response:
        check_key(request.headers, self._options, is_azure=_is_azure(request))
        name = request.match_info["model"]
        check_model(name, self._options, is_azure=_is_azure(request))
        return _json_response(self._model_json(name))

    def _model_json(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "devhost"}

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
            # Azure answers a missing api-version like an unknown path.
            raise RequestRefused("Resource not found", status=404, code="404")
        deployment = request.match_info["deployment"]
        raw = await self._admitted(request, deployment)
        chat = parse_chat(raw, model_in_path=deployment)
        return await self._answer(request, chat, lambda reply: ChatAnswer(chat, reply, is_azure=True))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        chat = parse_chat(await self._admitted(request))
        return await self._answer(request, chat, lambda reply: ChatAnswer(chat, reply))

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        asked = parse_responses(await self._admitted(request))
        return await self._answer(request, asked, lambda reply: ResponsesAnswer(asked, reply))

    async def _admitted(self, request: web.Request, deployment: str | None = None) -> Mapping[str, Json]:
        """The JSON of a request, after the checks of its key and its model."""
        is_azure = _is_azure(request)
        check_key(request.headers, self._options, is_azure=is_azure)
        raw = read_object(await request.read())
        model = deployment or raw.get("model")
        if isinstance(model, str):
            check_model(model, self._options, is_azure=is_azure)
        check_parameters(raw, self._options)
        return raw

    async def _answer(self, http: web.Request, request: ModelRequest, encode: _Encoder) -> web.StreamResponse:
        check_tools(request, self._options)
        check_window(request, self._options)
        script = find_script(request) if self._options.scripted else None
        if script is not None:
            return await self._play(http, request, script, encode)
        pace = Pace(self._options.first_s, self._options.token_s)
        return await _send(http, request, encode(limited(demo_reply(request), request.max_tokens)), pace)

    async def _play(
        self, http: web.Request, request: ModelRequest, script: Script, encode: _Encoder
    ) -> web.StreamResponse:
        log = self._logs.arrived(script.key) if script.key is not None else CallLog()
        fault = script.fail[log.calls - 1] if 0 < log.calls <= len(script.fail) else _NO_FAULT
        try:
            if fault.hang:
                await asyncio.Event().wait()  # until the client disconnects and the server cancels the handler
            if fault.status is not None:
                raise _fault_error(fault)
            pace = scripted_pace(script, fault)
            response = await _send(http, request, _scripted_answer(script, request, encode), pace)
        except (asyncio.CancelledError, ConnectionError):
            if fault.model_fields_set:
                log.failed += 1
            else:
                log.abandoned += 1
            raise
        except RequestRefused:
            log.failed += 1
            raise
        if pace.stop_after is None and script.response_failed is None:
            log.completed += 1
        else:
            log.failed += 1
        return response


def _scripted_answer(script: Script, request: ModelRequest, encode: _Encoder) -> Answer:
    if script.stream is not None and request.step == 0:
        return PlayedAnswer(script.stream)
    return encode(limited(scripted_reply(script, request), request.max_tokens))


async def _send(http: web.Request, request: ModelRequest, answer: Answer, pace: Pace) -> web.StreamResponse:
    if request.stream:
        return await EventStream(http, answer, pace).run()
    return await send_whole(answer, pace)


def _is_azure(request: web.Request) -> bool:
    return request.path.startswith("/openai/")


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
        param=fault.param,
        code=fault.code or codes.get(status),
        kind=fault.type or kinds.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        headers=headers,
        raw=orjson.dumps(fault.body) if fault.body is not None else None,
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
