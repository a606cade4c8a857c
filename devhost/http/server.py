"""The ASGI application of the host, which routes each request.

Order: routes of extensions, the admin API, the app's functions, the landing page, 404. An unknown route and a wrong
method are both 404 with an empty body, since the method is part of a route. An unhandled error is 500 with an empty
body; its details are only in the log. A request for another host's name reaches none of them (`../asgi/hosts.py`).

Invariant: a request gets one response. A failure before it begins is the response; after that it can only cut it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from devhost.app.dispatch import Dispatcher, Plan
from devhost.asgi.cors import with_cors
from devhost.asgi.hosts import AllowedHosts
from devhost.asgi.identity import add_principal
from devhost.asgi.replies import BodyTooLarge, ClientGone, ResponseWatch, declared_length, send_response
from devhost.correlation import correlation_id_of
from devhost.extensions.contract import HTTP_TRIGGER, Function, FunctionFailed, HostError, TriggerData
from devhost.http.classic import header_values, json_object, query_values, read_body, request_parts, send_result
from devhost.http.forwarding import is_never_forwarded
from devhost.http.proxy import HostileHeader
from devhost.http.routing import Route, RouteTable, overlaps, parse_template, request_path
from devhost.http.streaming import Exchange, Upstreams, is_chunked
from devhost.pages.landing import LANDING_PAGE
from devhost.settings.config import HttpOptions
from devhost.settings.keys import AuthLevel, Keys

logger = logging.getLogger("devhost.http")

RESERVED_FIRST_SEGMENTS = frozenset({"admin", "runtime"})
_KEY_HEADER = "x-functions-key"


class AdminApi(Protocol):
    """Answers `/admin/...`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An HTTP function behind a route."""

    plan: Plan
    level: AuthLevel
    needs_trigger_data: bool


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """The host's HTTP settings."""

    options: HttpOptions
    body_limit_bytes: int
    keys: Keys | None
    """None: keys are not enforced."""
    dev_identity: bool
    homepage: bool
    hosts: AllowedHosts
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = False
    cors_local: bool = False
    """Pages of this machine may read answers."""


class HttpApp:
    """ASGI entry of the host."""

    def __init__(
        self, dispatcher: Dispatcher, policy: HttpPolicy, extension_routes: Sequence[BaseRoute], admin: AdminApi
    ) -> None:
        self._behind_cors = with_cors(
            self._serve_host, policy.cors_origins, credentials=policy.cors_credentials, local=policy.cors_local
        )
        self._dispatcher = dispatcher
        self._policy = policy
        self._admin = admin
        routes = _function_routes(dispatcher, policy.options.route_prefix)
        _warn_of_overlaps(routes)
        self._routes = RouteTable(routes)
        self._extension_routes = _ExtensionRoutes(extension_routes)
        self._extra = [(name.lower().encode(), value.encode()) for name, value in policy.options.custom_headers.items()]
        self._upstreams = Upstreams()
        self._outstanding = 0
        concurrent = policy.options.max_concurrent
        self._turns: AbstractAsyncContextManager[object] = (
            nullcontext() if concurrent is None else asyncio.Semaphore(concurrent)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._policy.hosts.refusal(scope["headers"])
        if refusal is not None:
            await refusal.answer(scope, send)
            return
        first = scope["path"][1:].partition("/")[0].lower()
        if first != "runtime" and await self._extension_routes.handle(first, scope, receive, send):
            # In Azure these endpoints are separate services with their own CORS rules.
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        await self._behind_cors(scope, receive, send)

    async def _serve_host(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = ResponseWatch(send, self._extra)
        path = request_path(scope["path"], scope.get("raw_path"))
        first = path[1:].partition("/")[0].lower()
        if first == "runtime":
            # Extensions guard their webhooks themselves, with their own system keys.
            if not await self._extension_routes.handle(first, scope, receive, send):
                await send_response(send, 404)
            return
        if first == "admin":
            await self._admin(scope, receive, send)
            return
        found = self._routes.match(scope["method"], path)
        if found is not None:
            if self._policy.dev_identity:
                add_principal(scope, self._policy.hosts, self._policy.cors_origins)
            await self._serve(found[0], found[1], scope, receive, send)
        elif path == "/":
            status = 200 if self._policy.homepage else 204
            await send_response(send, status, [(b"content-type", b"text/html")], LANDING_PAGE)
        else:
            await send_response(send, 404)

    async def _serve(
        self, endpoint: Endpoint, route: dict[str, str], scope: Scope, receive: Receive, send: ResponseWatch
    ) -> None:
        limit = self._policy.options.max_outstanding
        if limit is not None and self._outstanding >= limit:
            await send_response(send, 429)
            return
        self._outstanding += 1
        try:
            await self._answer(endpoint, route, scope, receive, send)
        except BodyTooLarge:
            await send_response(send, 413)
        except ClientGone:
            logger.debug("the caller of %s left before its request was complete", endpoint.plan.function.name)
        except FunctionFailed as failure:
            if isinstance(failure.__cause__, BodyTooLarge | HostileHeader) and not send.started:
                await send_response(send, 413 if isinstance(failure.__cause__, BodyTooLarge) else 400)
            elif not send.started:
                await send_response(send, 500)
            # Else an output failed after the answer, or the answer broke half-way: the server then cuts the connection.
        except Exception:
            # The outermost edge: handles responses with a header or status that cannot be sent.
            logger.exception("the answer of %s could not be sent", endpoint.plan.function.name)
            if not send.started:
                await send_response(send, 500)
        finally:
            self._outstanding -= 1

    async def _answer(
        self, endpoint: Endpoint, route: dict[str, str], scope: Scope, receive: Receive, send: ResponseWatch
    ) -> None:
        headers = header_values(scope)
        if self._policy.keys is not None and endpoint.level is not AuthLevel.ANONYMOUS:
            given = headers.get(_KEY_HEADER) or query_values(scope).get("code")
            if not self._policy.keys.allows(endpoint.level, endpoint.plan.function.name, given):
                await send_response(send, 401)
                return
        length = declared_length(scope)
        if length is not None and length > self._policy.body_limit_bytes:
            raise BodyTooLarge
        streaming = endpoint.plan.is_streaming
        query = query_values(scope) if endpoint.needs_trigger_data or not streaming else {}
        body: bytes | None = None
        if not is_chunked(scope):
            body = await read_body(receive, self._policy.body_limit_bytes)
        elif not streaming:
            logger.warning("the chunked body of a request to %s is left out, as in Azure", endpoint.plan.function.name)
        given_body = json_object(body) if endpoint.needs_trigger_data and body and length else {}
        trigger = TriggerData(headers, query, route, given_body)
        trace = headers.get("traceparent", ""), headers.get("tracestate", "")
        run = partial(
            self._dispatcher.run, endpoint.plan, trigger=trigger, correlation_id=correlation_id_of(headers), trace=trace
        )
        if streaming:
            exchange = Exchange(scope, body, receive, send, self._policy.body_limit_bytes, self._upstreams)
            async with self._turns:
                await run(payload=None, forward=exchange.forward, is_lost=self._is_lost(endpoint, scope))
            return
        payload = "http", request_parts(scope, headers, query, route, body or b"")
        async with self._turns:
            result = await run(payload=payload)
        await send_result(send, result)

    def _is_lost(self, endpoint: Endpoint, scope: Scope) -> bool:
        harsh = self._dispatcher.context.harsh
        return (
            harsh is not None
            and is_never_forwarded(scope["headers"])
            and harsh.strikes("hung_header", endpoint.plan.function.name)
        )


class _ExtensionRoutes:
    """Routes of extensions, indexed by their first path segment so that other requests cost nothing."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        firsts = [(str(getattr(route, "path", "")).strip("/").partition("/")[0], route) for route in routes]
        self._floating = [route for first, route in firsts if not first or "{" in first]
        self._by_first = {
            first.lower(): [route for other, route in firsts if other.lower() == first.lower() or "{" in other]
            for first, _ in firsts
        }

    async def handle(self, first: str, scope: Scope, receive: Receive, send: Send) -> bool:
        candidates = self._by_first.get(first, self._floating)
        partial: tuple[BaseRoute, Scope] | None = None
        for route in candidates:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                await route.handle(scope, receive, send)
                return True
            if match is Match.PARTIAL and partial is None:
                partial = route, child
        if partial is None:
            return False
        scope.update(partial[1])
        await partial[0].handle(scope, receive, send)
        return True


def _function_routes(dispatcher: Dispatcher, prefix: str) -> list[Route[Endpoint]]:
    routes = []
    for function in sorted(dispatcher.context.functions, key=lambda function: function.name.casefold()):
        if function.trigger.type != HTTP_TRIGGER or function.disabled:
            continue
        raw = function.trigger.raw
        where = f"function '{function.name}'"
        route = str(raw.get("route") or function.name).strip("/")
        if route.partition("/")[0].lower() in RESERVED_FIRST_SEGMENTS:
            raise HostError(f"{where}: a route may not start with {route.partition('/')[0]!r}")
        methods = raw.get("methods")
        plan = dispatcher.plan(function)
        routes.append(
            Route(
                parse_template(f"{prefix}/{route}".strip("/"), where),
                None if not methods else frozenset(str(method).upper() for method in methods),
                Endpoint(plan, _level(function), bool(plan.inputs)),
            )
        )
    return routes


def _warn_of_overlaps(routes: Sequence[Route[Endpoint]]) -> None:
    for number, first in enumerate(routes):
        for second in routes[number + 1 :]:
            if overlaps(first, second):
                winner, loser = first.target.plan.function.name, second.target.plan.function.name
                logger.warning(
                    "the routes %s of %s and %s of %s overlap: %s answers what fits both, since its name comes first",
                    *(first.template.text, winner, second.template.text, loser, winner),
                )


def _level(function: Function) -> AuthLevel:
    text = str(function.trigger.raw.get("authLevel") or AuthLevel.FUNCTION).upper()
    try:
        return AuthLevel(text)
    except ValueError as exc:
        raise HostError(f"function '{function.name}': auth level {text!r} is not supported") from exc
