"""How HTTP functions are declared: parse, authenticate, call, answer, and describe.

`endpoint` declares a route once: the function app gets its trigger and bindings, the OpenAPI document its entry.
Invariant: every response carries `x-correlation-id` and says how a browser may use it, every error is a problem
document of the wire contract, and internal details never reach a caller.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import azure.durable_functions as df
import azure.functions as func
import orjson
from azure.functions.decorators.function_app import FunctionBuilder
from azure.functions.decorators.http import HttpMethod, HttpTrigger
from azurefunctions.extensions.http.fastapi import Request, Response, StreamingResponse
from pydantic import BaseModel, TypeAdapter, ValidationError

from activities import hub
from activities.binding import answer_with, sends_events
from shared import tracing
from shared.composition.services import Services, services
from shared.errors import AppError, BudgetExceeded, ErrorCode, InvalidInput
from shared.ids import is_valid_id, new_id
from shared.principal import Principal, principal_of
from shared.rights import Action
from shared.sessions.error_handler import ErrorAnswer, SessionErrorHandler
from shared.sessions.live.open_streams import StreamBody
from shared.sessions.live.reading import Reader
from shared.sessions.live.sse import RESUME
from shared.sessions.records.pages import DEFAULT_LIMIT, MAX_LIMIT, PAGE_BYTES, Page, decode_cursor
from shared.settings import Settings
from shared.work_pool import in_own_thread
from triggers.http.bodies import body_chunks, json_fault, without_nulls
from triggers.http.headers import HEADERS, say_use
from triggers.http.sending import PIECE_BYTES, PacedAnswer, PacedStream

log = logging.getLogger("parley.http")

_ERRORS = SessionErrorHandler(log)

EXPOSED = ", ".join(name for name in HEADERS)
"""Headers that scripts of other origins may read, where the platform's CORS lets them read the answer."""

MAX_BODY_BYTES = 2 * 1024 * 1024
"""For JSON bodies; files have their own routes and limit."""

_ROOM_S = 10.0
"""How long a page waits for room beside others (`ReaderMemory`)."""
_PAGE_ROOM = 2
"""A page's rows and its JSON."""

_JSON = "application/json"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query or header parameter, for the OpenAPI document."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    place: str = "query"
    required: bool = False
    values: type[Enum] | None = None
    """The enumeration that its values are of, named in the document; instead of `schema`."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as the OpenAPI document shows it."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    status: int
    body: type[BaseModel] | None = None
    returns: Any = None
    media_type: str = _JSON
    parameters: Sequence[Parameter] = ()
    errors: Sequence[ErrorCode] = ()
    public: bool = False
    actions: Sequence[Action] = ()
    """What the caller needs the right to, in the session that the path names or leads to: one of these."""
    body_required: bool = True
    max_body_bytes: int = MAX_BODY_BYTES
    form: Mapping[str, Any] | None = None
    """The schema of a form body; the handler parses the form itself."""
    form_type: str = "application/x-www-form-urlencoded"
    also: Mapping[int, str] = field(default_factory=dict)
    """Further successful statuses and what they mean."""
    without_content: Sequence[int] = ()
    """Those of them that come without a body."""
    also_as: Sequence[str] = ()
    """Further media types of the successful response."""
    headers: Sequence[str] = ()
    """Names of headers that the successful response carries beside those of every response."""
    also_in_problems: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {}
    """Further members of its problem documents, for clients of another wire."""
    operation_id: str = ""
    """Its name in the document, a verb with its noun, where the function's own says less."""
    streams: Any = None
    """The type of the data of one event, of an event stream; None: it is described elsewhere."""
    is_file: bool = False
    """The successful response is a file, whatever its media type."""

    @property
    def is_page(self) -> bool:
        """Whether it answers with a page of a list."""
        return any(parameter.name == "limit" for parameter in self.parameters)


OPERATIONS: list[Operation] = []
"""Every declared route, in order of declaration."""

DESCRIPTIONS: dict[str, str] = {}
"""What the handler of an operation says of it, by the operation's name."""


@dataclass(slots=True)
class Call:
    """One request, as a handler sees it."""

    request: Request
    correlation_id: str
    services: Services
    principal: Principal
    client: df.DurableOrchestrationClient | None = None
    events: list[bytes] = field(default_factory=list)
    """Encoded SignalR messages; the function's output binding sends them after the handler returns."""

    def id(self, name: str, missing: ErrorCode) -> str:
        """An id from the path. Raises the given 404 for text that is not a valid id."""
        value = str(self.request.path_params.get(name, ""))
        if not is_valid_id(value):
            raise InvalidPath(missing)
        return value

    def query(self, name: str) -> str | None:
        """A query parameter, or None when it is absent or empty."""
        return self.request.query_params.get(name) or None

    def query_as[T](self, name: str, kind: type[T]) -> T | None:
        """A query parameter of a type. Raises InvalidInput(VALIDATION_ERROR)."""
        value = self.query(name)
        if value is None:
            return None
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError as exc:
            message = exc.errors(include_url=False, include_input=False)[0]["msg"]
            raise invalid_parameter(name, message) from None

    def instant(self, name: str) -> datetime | None:
        """An RFC 3339 time with its offset."""
        text = self.query(name)
        if text is not None and _DAY.match(text) is None:
            raise invalid_parameter(name, "must be a time such as 2026-01-31T12:00:00Z")  # pydantic takes numbers too
        value = self.query_as(name, datetime)
        if value is not None and value.tzinfo is None:
            raise invalid_parameter(name, "needs an offset, such as Z")
        return value

    def page(self, key: type[datetime] | type[int]) -> Page:
        """`limit` and `cursor`. key: the type of the list's sort key."""
        limit = self.query_as("limit", int)
        if limit is not None and not 1 <= limit <= MAX_LIMIT:
            raise invalid_parameter("limit", f"must be 1 to {MAX_LIMIT}")
        cursor = self.query("cursor")
        return Page(limit or DEFAULT_LIMIT, decode_cursor(cursor, key) if cursor else None)

    @property
    def durable(self) -> df.DurableOrchestrationClient:
        """The durable client of a function declared with `durable=True`."""
        assert self.client is not None
        return self.client


class InvalidPath(AppError):
    """A malformed path segment; answered as not found, like an id that does not exist."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code, "No such resource.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code,)


type Handler[Body] = Callable[[Call, Body], Awaitable[Response]]


def endpoint[Body: BaseModel | None](
    bp: df.Blueprint,
    operation: Operation,
    *,
    sends: bool = False,
    durable: bool = False,
) -> Callable[[Handler[Body]], Handler[Body]]:
    """Register a handler under its operation.

    sends: it has the SignalR output binding; durable: it has the durable client.
    The handler gets the validated body (None without one) and returns a response or raises AppError.
    """
    OPERATIONS.append(operation)

    def declare(handler: Handler[Body]) -> Handler[Body]:
        if text := inspect.getdoc(handler):
            DESCRIPTIONS[operation.name] = text

        async def run(req: Request, client: Any = None, events: func.Out[str] | None = None) -> Response:
            if req.method not in _methods_of(operation):
                return not_allowed(req, operation.path)
            return await _serve(operation, handler, req, client, events)

        function = _shaped(run, sends=sends, durable=durable)
        function.__name__ = operation.name
        if durable:
            function = bp.durable_client_input(client_name="client")(function)
        if sends:
            function = sends_events(bp)(function)
        route = operation.path.removeprefix("/")
        # The app authenticates callers itself, by the platform's principal or the development header.
        routed = bp.route(route=route, methods=_methods_of(operation), auth_level=func.AuthLevel.ANONYMOUS)(function)
        _ROUTED.append((operation, routed))
        return handler

    return declare


_ROUTED: list[tuple[Operation, FunctionBuilder]] = []
"""Operations that are served here, and what their functions are made of."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def _methods_of(operation: Operation) -> list[str]:
    return ["GET", "HEAD"] if operation.method == "GET" else [operation.method]


def _methods_at(path: str) -> list[str]:
    """The methods that a path has, in the order of _METHODS."""
    declared = {method for operation in OPERATIONS if operation.path == path for method in _methods_of(operation)}
    return [method for method in _METHODS if method in declared]


def route_other_methods() -> None:
    """Let the first function of each path hear of the methods that no function of the path has, to say so: the host
    knows no 405, and answers 404. For the app, once all are declared."""
    heard: set[str] = set()
    for operation, routed in _ROUTED:
        if operation.path in heard:
            continue
        heard.add(operation.path)
        # The library gives out functions only once, to the worker; it reads their triggers then.
        trigger = routed._function.get_trigger()
        assert isinstance(trigger, HttpTrigger)
        others = [method for method in _METHODS if method not in _methods_at(operation.path)]
        trigger.methods = [HttpMethod[method] for method in (*_methods_of(operation), *others)]


def not_allowed(req: Request, path: str) -> Response:
    """405 with the methods that the path has."""
    headers = {"Allow": ", ".join(_methods_at(path)), "x-correlation-id": request_id(req)}
    return say_use(Response(status_code=405, headers=headers), services().settings.public_base_url)


def _shaped(run: Callable[..., Awaitable[Response]], *, sends: bool, durable: bool) -> Any:
    """A function with exactly the parameters of its bindings, since the worker compares their names."""
    if sends and durable:

        async def with_both(req: Request, client: df.DurableOrchestrationClient, events: func.Out[str]) -> Response:
            return await run(req, client, events)

        return with_both
    if sends:

        async def with_events(req: Request, events: func.Out[str]) -> Response:
            return await run(req, None, events)

        return with_events
    if durable:

        async def with_client(req: Request, client: df.DurableOrchestrationClient) -> Response:
            return await run(req, client, None)

        return with_client

    async def plain(req: Request) -> Response:
        return await run(req)

    return plain


def caller_of(req: Request, settings: Settings) -> Principal:
    """The authenticated caller of a request. Raises NotAuthenticated."""
    return principal_of(
        req.headers, settings.auth_mode, tenant_id=settings.auth_tenant_id, audiences=settings.auth_audiences
    )


async def _serve(
    operation: Operation, handler: Handler[Any], req: Request, client: Any, events: func.Out[str] | None
) -> Response:
    correlation_id = request_id(req)
    # Health probes and scrapers call constantly; their traces would only be noise.
    traced = operation.tag != "Operations"
    reader = services().readers.open()
    with tracing.request(operation.method, operation.path, req.headers, correlation_id, traced=traced) as span:
        response = await _answer(operation, handler, req, client, events, correlation_id, reader)
        span.set("http.response.status_code", response.status_code)
        if response.status_code >= 500:
            span.fail(str(response.status_code))
    response.headers["x-correlation-id"] = correlation_id
    if "origin" in req.headers:
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
    response = await _as_asked(req, response)
    response = say_use(response, services().settings.public_base_url)
    if reader.held_bytes:
        return PacedAnswer(response, reader)
    return response


async def _as_asked(req: Request, response: Response) -> Response:
    """Without a body for HEAD, and for a GET whose caller has the current version."""
    if req.method not in {"GET", "HEAD"}:
        return response
    is_known = response.status_code == 200 and _is_known(req, response.headers.get("etag"))
    if is_known or req.method == "HEAD":
        if isinstance(response, PacedStream):
            await response.aclose()
        status = 304 if is_known else response.status_code
        dropped = {"content-length", "content-type"} if is_known else set()
        headers = {name: value for name, value in response.headers.items() if name not in dropped}
        return Response(status_code=status, headers=headers)
    return response


def _is_known(req: Request, etag: str | None) -> bool:
    """Whether `If-None-Match` names the version (RFC 9110, 13.1.2)."""
    asked = req.headers.get("if-none-match", "")
    return etag is not None and (asked.strip() == "*" or etag.removeprefix("W/") in re.findall(r'"[^"]*"', asked))


async def _answer(
    operation: Operation,
    handler: Handler[Any],
    req: Request,
    client: Any,
    events: func.Out[str] | None,
    correlation_id: str,
    reader: Reader,
) -> Response:
    """reader: holds the answer if it is large, and is closed if it is not."""
    limits: Mapping[str, str] = {}
    try:
        everything = services()
        principal = _ANONYMOUS
        _refuse_forged(req, operation, everything.settings.public_base_url)
        if not operation.public:
            principal = caller_of(req, everything.settings)
            # Before we read the body. Azure's host has read one with a Content-Length by now (docs/operations.md).
            admission = await everything.limiter.admit(principal.user_id)
            limits = admission.headers
            admission.check()
        _check_lengths(req, operation)
        body = await _body(req, operation)
        if client is not None:
            await hub.know(everything, client, now=datetime.now(UTC))
        call = Call(req, correlation_id, everything, principal, client)
        if operation.is_page:
            await _take_room(reader)
        response = await handler(call, body)
        if events is not None:
            await answer_with(events, call.events)
    except Exception as exc:
        doing = f"{operation.method} {operation.path}"
        answer = _ERRORS.handle(exc, doing=doing, correlation_id=correlation_id)
        answer.document.update(operation.also_in_problems(answer.document))
        response = _problem(answer)
    finally:
        # A failure beyond all errors too: what nobody sends is not held.
        reader.keep(0)
    if not isinstance(response, StreamingResponse) and len(response.body) > PIECE_BYTES:
        reader.keep(len(response.body))
    response.headers.update(limits)
    return response


async def _take_room(reader: Reader) -> None:
    try:
        async with asyncio.timeout(_ROOM_S):
            await reader.take(_PAGE_ROOM * PAGE_BYTES)
    except TimeoutError:
        raise BudgetExceeded(
            ErrorCode.RATE_LIMITED, "Too many large answers are being sent; try again.", retry_after_s=_ROOM_S
        ) from None


_ANONYMOUS = Principal("", frozenset())
"""The caller of a public operation; no domain method accepts it."""


def request_id(req: Request) -> str:
    """The request's `x-correlation-id`, or a new one."""
    given = str(req.headers.get("x-correlation-id", ""))
    # Only a valid id is safe in logs and headers.
    return given if is_valid_id(given) else new_id()


def is_cross_site(request: Request, public_base_url: str) -> bool:
    """Whether a browser sent this request for another site.

    As Go's net/http.CrossOriginProtection: `Sec-Fetch-Site` decides if present, else `Origin`. Every browser sends at
    least one of them with a POST. A request without either is not from a browser and carries no user's cookies.
    """
    site = request.headers.get("sec-fetch-site", "")
    if site:
        return site not in {"same-origin", "none"}
    origin = request.headers.get("origin", "")
    # Azure's host rewrites `Host` to the worker's own address, and says what the caller asked for in this header. It
    # overwrites a caller's own.
    asked = request.headers.get("x-forwarded-host") or request.headers.get("host")
    return bool(origin) and origin.partition("://")[2] not in {urlsplit(public_base_url).netloc, asked} - {""}


def _refuse_forged(req: Request, operation: Operation, public_base_url: str) -> None:
    """Refuse cross-site requests that a browser sends without a CORS preflight (CSRF): they carry the caller's cookies.

    Browsers send forms and bare POSTs without a preflight. JSON and requests with a custom header need one, which the
    platform's CORS answers. The approve page checks its own form, since it answers with a page.
    """
    if operation.method in {"GET", "HEAD"} or operation.media_type == "text/html":
        return
    asks_leave = (
        req.headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON
        or "authorization" in req.headers
        or "x-requested-with" in req.headers
    )
    if not asks_leave and is_cross_site(req, public_base_url):
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            "This request was sent by another site. Such requests need content-type application/json or the header"
            " x-requested-with.",
            errors=[{"field": "Origin", "message": "is another site"}],
        )


def _check_lengths(req: Request, operation: Operation) -> None:
    """Refuse query parameters beyond their declared length. Other constraints are checked where a value is read."""
    for parameter in operation.parameters:
        limit = parameter.schema.get("maxLength")
        if limit and parameter.place == "query" and len(req.query_params.get(parameter.name) or "") > limit:
            raise invalid_parameter(parameter.name, f"may have at most {limit} characters")


async def _body(req: Request, operation: Operation) -> Any:
    if operation.body is None:
        return None
    data = bytearray()
    async for chunk in body_chunks(req):
        data += chunk
        if len(data) > operation.max_body_bytes:
            limit = operation.max_body_bytes
            raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A body may have at most {limit} bytes.")
    if not data and not operation.body_required:
        return operation.body()
    model, received = operation.body, bytes(data)
    if len(received) > MAX_BODY_BYTES:
        return await in_own_thread("read a large body", lambda: _read(model, received))
    return _read(model, received)


def _read(model: type[BaseModel], data: bytes) -> BaseModel:
    """Raises InvalidInput, which names the fields."""
    try:
        body = _validated(model, data)
    except ValidationError as exc:
        errors = [
            {
                "field": ".".join(str(part) for part in error["loc"]) or "body",
                "message": error["msg"].removeprefix("Value error, "),
            }
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "The request body is not valid.", errors=errors[:20]) from None
    fault = json_fault(data.decode())
    if fault is not None:
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            "The request body is not valid.",
            errors=[{"field": fault.field or "body", "message": fault.message}],
        )
    return body


def _validated(model: type[BaseModel], data: bytes) -> BaseModel:
    """The body; null stands for an absent field where it is no value of that. Raises ValidationError."""
    # Strict: JSON has its own types, so "8" is not a number and false is not 0.0.
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as exc:
        nulls = [
            error["loc"] for error in exc.errors(include_url=False, include_context=False) if error["input"] is None
        ]
        without = without_nulls(data, nulls) if nulls else None
        if without is None:
            raise
        try:
            return model.model_validate_json(without, strict=True)
        except ValidationError as still:
            # A field that may not be absent: what its null is wrong with says more than that it is missing.
            raise (exc if any(error["type"] == "missing" for error in still.errors()) else still) from None


def invalid_parameter(field_name: str, message: str) -> InvalidInput:
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        f"{field_name}: {message}",
        errors=[{"field": field_name, "message": message}],
    )


# Answers. --------------------------------------------------------------------------------------


def ok(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A model as JSON."""
    return Response(model.model_dump_json(), status_code=status, media_type=_JSON, headers=headers)


def no_content() -> Response:
    """204: success without a body."""
    return Response(status_code=204)


def raw_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Plain JSON; `orjson.Fragment` inserts parts that are already encoded."""
    return Response(orjson.dumps(value, option=orjson.OPT_UTC_Z), status_code=status, media_type=_JSON, headers=headers)


def page_of(items: Sequence[BaseModel], next_cursor: str | None) -> Response:
    """`{"items": [...], "next_cursor": ...}`."""
    encoded = [orjson.Fragment(item.model_dump_json()) for item in items]
    return raw_json({"items": encoded, "next_cursor": next_cursor})


def page_of_all(call: Call, items: Sequence[BaseModel]) -> Response:
    """The requested page of a list that is short enough to be read as a whole."""
    page = call.page(int)
    first = 0 if page.after is None else page.after[0]
    rows, cursor = page.cut(items[max(first, 0) : max(first, 0) + page.limit + 1], lambda _: (first + page.limit, ""))
    return page_of(rows, cursor)


def event_stream(source: StreamBody) -> Response:
    """Server-Sent Events, with headers that stop proxies from buffering. The first one says how soon to reconnect: a
    client that is too slow is closed between two bytes."""
    return PacedStream(
        source,
        source.reader,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"},
        first_field=RESUME,
    )


async def file_stream(
    call: Call, pieces: AsyncGenerator[bytes], *, media_type: str, headers: Mapping[str, str], status: int = 200
) -> Response:
    """A file that is read or made while it is sent. A failure of its first piece is raised here, and is the answer."""
    reader = call.services.readers.open()
    try:
        await _take_room(reader)
        begun = await _begun(pieces)
    except BaseException:
        reader.close()
        raise
    return PacedStream(begun, reader, status_code=status, media_type=media_type, headers=headers)


async def _begun(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    first = await anext(pieces, b"")

    async def whole() -> AsyncGenerator[bytes]:
        async with aclosing(pieces):
            if first:
                yield first
            async for piece in pieces:
                yield piece

    return whole()


def problem(exc: AppError, correlation_id: str, *, doing: str) -> Response:
    """The problem document for a handler that returns an error instead of raising it. doing: for the log."""
    return _problem(_ERRORS.handle(exc, doing=doing, correlation_id=correlation_id))


def _problem(answer: ErrorAnswer) -> Response:
    return Response(
        orjson.dumps(answer.document),
        status_code=answer.status,
        media_type="application/problem+json",
        headers=answer.headers,
    )
