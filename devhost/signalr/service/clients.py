"""The endpoints for SignalR clients: `POST /client/negotiate`, and `/client/` with its three transports.

- WebSockets: the upgrade of a `GET`. The only transport that needs no negotiation.
- Server-Sent Events: a `GET` that accepts `text/event-stream`. It carries text only, so JSON only.
- Long polling: any other `GET`; each answer has one frame. `DELETE` ends the connection.
Over the latter two a client sends by `POST`.

Invariant: every request shows a token for its hub, and one with an `id` belongs to the user who negotiated it. So a
connection over the latter two lasts no longer than its token, as in Azure.
Source: ASP.NET Core, "Transport Protocols"; behaviour checked against @microsoft/signalr 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from devhost.signalr.service.client import Client
from devhost.signalr.service.connection import Wire
from devhost.signalr.service.hub import Hub
from devhost.signalr.service.negotiation import WITH_TOKEN
from devhost.signalr.service.service import SignalRService, is_hub_name
from devhost.signalr.service.tokens import TokenRefused, user_id_of
from devhost.signalr.service.wires import EventStreamWire, PollWire, SocketWire, disconnected

_METHODS = ("GET", "POST", "DELETE", "OPTIONS")
_ALLOWED_HEADERS = "authorization,content-type,x-requested-with,x-signalr-user-agent"
_TRANSPORTS = [
    {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]},
    {"transport": "ServerSentEvents", "transferFormats": ["Text"]},
    {"transport": "LongPolling", "transferFormats": ["Text", "Binary"]},
]
_EVENT_STREAM = "text/event-stream"
_NOT_STORED = {"Cache-Control": "no-cache, no-store", "Pragma": "no-cache"}


def client_routes(service: SignalRService) -> list[BaseRoute]:
    negotiate = _Http(_Negotiate(service))
    requests = _Http(_HalfDuplex(service))
    socket = _Socket(service)
    return [
        Route("/client/negotiate", negotiate, methods=["POST", "OPTIONS"]),
        WebSocketRoute("/client/", socket),
        WebSocketRoute("/client", socket),
        Route("/client/", requests, methods=_METHODS),
        Route("/client", requests, methods=_METHODS),
    ]


class _Refused(Exception):
    """The request is refused with `status`; the text is the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Caller(NamedTuple):
    """Who sends a request, as its token says."""

    hub: Hub
    user_id: str | None
    claims: Mapping[str, Any]
    query: str
    """Without the token."""


class _Endpoint:
    """Answers requests, given who sends them. Raises _Refused only before its answer begins."""

    def __init__(self, service: SignalRService) -> None:
        self._service = service

    def identify(self, request: HTTPConnection) -> _Caller:
        """Raises _Refused."""
        service = self._service
        # Parsed here, since exactly one hub must be given, as in the token's audience.
        hubs = parse_qs(request.url.query).get("hub", [])
        if len(hubs) != 1 or not is_hub_name(hubs[0]):
            raise _Refused(400, "The query must name one hub.")
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            token = request.query_params.get("access_token", "")
        scheme = {"ws": "http", "wss": "https"}.get(request.url.scheme, request.url.scheme)
        try:
            claims = service.client_claims(token.strip(), hub=hubs[0], origin=f"{scheme}://{request.url.netloc}")
        except TokenRefused as exc:
            raise _Refused(401, f"The access token was refused: {exc}.") from exc
        shown = [part for part in request.url.query.split("&") if not part.startswith("access_token=")]
        return _Caller(service.hub(hubs[0]), user_id_of(claims), claims, "&".join(shown))

    def open(self, caller: _Caller, token: str | None, wire: Wire) -> Client:
        """Raises _Refused."""
        self.refuse_when_stopping()
        if self._service.is_full:
            raise _Refused(503, "Too many clients are connected.")
        client = self._service.open(caller.hub, caller.user_id, token, wire, claims=caller.claims, query=caller.query)
        if client is None:
            if self.find(caller, token or "") is not None:
                raise _Refused(409, "This connection id is in use.")
            raise _Refused(404, "No connection with this id was negotiated here.")
        return client

    def refuse_when_stopping(self) -> None:
        """Only for new connections: those that are open must be able to end."""
        if self._service.is_stopping:
            raise _Refused(503, "The dev host is stopping.")

    def find(self, caller: _Caller, token: str) -> Client | None:
        """The caller's connected client with this token."""
        client = self._service.client(token)
        if client is None or client.hub is not caller.hub or client.connection.user_id != caller.user_id:
            return None
        return client

    async def answer(self, request: Request, send: Send) -> None:
        raise NotImplementedError


class _Http:
    """The frame around requests: their refusals and CORS."""

    def __init__(self, endpoint: _Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        send = _with_cors(request, send)
        try:
            if request.method == "OPTIONS":
                await Response()(scope, receive, send)
            else:
                await self._endpoint.answer(request, send)
        except _Refused as exc:
            await Response(str(exc), status_code=exc.status, media_type="text/plain")(scope, receive, send)


class _Negotiate(_Endpoint):
    """The service's part of the negotiation: issues a connection id."""

    async def answer(self, request: Request, send: Send) -> None:
        hub, user_id, *_ = self.identify(request)
        self.refuse_when_stopping()
        text = request.query_params.get("negotiateVersion", "0")
        if text.isdecimal() and text.isascii():
            version = min(int(text[:9]), WITH_TOKEN)
            negotiated = self._service.negotiate(hub, user_id, version)
            # `useStatefulReconnect` is left out, so clients that asked for it fall back to a plain reconnect.
            body = {"negotiateVersion": version, "connectionId": negotiated.connection_id}
            if version >= WITH_TOKEN:
                body["connectionToken"] = negotiated.token
            body["availableTransports"] = _TRANSPORTS
        else:
            body = {"error": "The client requested a non-integer protocol version."}
        await JSONResponse(body)(request.scope, request.receive, send)


class _HalfDuplex(_Endpoint):
    """Server-Sent Events, long polling, and what clients of both send."""

    async def answer(self, request: Request, send: Send) -> None:
        caller = self.identify(request)
        token = request.query_params.get("id", "")
        if not token:
            raise _Refused(400, "The query must have the id of a negotiated connection.")
        if request.method == "GET":
            if _EVENT_STREAM in request.headers.get("accept", "").lower():
                await self._stream(caller, token, request, send)
                return
            response = await self._poll(caller, token, request)
        else:
            client = self.find(caller, token)
            if client is None:
                raise _Refused(404, "There is no connection with this id.")
            if request.method == "POST":
                response = await self._hear(client, request)
            elif request.method == "DELETE":
                response = _end(client)
            else:
                raise _Refused(405, f"{request.method} is not one of {', '.join(_METHODS)}.")
        await response(request.scope, request.receive, send)

    async def _stream(self, caller: _Caller, token: str, request: Request, send: Send) -> None:
        wire = EventStreamWire(send)
        connection = self.open(caller, token, wire).connection
        gone = asyncio.ensure_future(disconnected(request.receive))
        try:
            # The comment makes proxies send the headers on, as ASP.NET Core's does.
            head = Response(headers={"Content-Type": _EVENT_STREAM, "Content-Encoding": "identity", **_NOT_STORED})
            del head.headers["Content-Length"]
            await send({"type": "http.response.start", "status": 200, "headers": head.raw_headers})
            await send({"type": "http.response.body", "body": b":\r\n", "more_body": True})
            await asyncio.wait((gone, connection.cut), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            connection.drop()
        await wire.close()

    async def _poll(self, caller: _Caller, token: str, request: Request) -> Response:
        client = self.find(caller, token)
        if client is None:
            # The first poll is answered at once, so that the client knows that it is connected.
            wire = PollWire()
            connection = self.open(caller, token, wire).connection
            connection.cut.add_done_callback(lambda _: wire.end())
            return Response(headers=_NOT_STORED)
        waiting = client.connection.wire
        if not isinstance(waiting, PollWire):
            raise _Refused(409, "This connection id is in use over another transport.")
        data = await waiting.poll(request.receive, self._service.limits.poll_s)
        client.touch()
        if data is None:
            return Response(status_code=204, headers=_NOT_STORED)
        return Response(data, media_type="application/octet-stream", headers=_NOT_STORED)

    async def _hear(self, client: Client, request: Request) -> Response:
        if isinstance(client.connection.wire, SocketWire):
            raise _Refused(405, "POST requests are not allowed for WebSocket connections.")
        limit = self._service.limits.message_bytes
        body = bytearray()
        more = True
        while more:
            message = await request.receive()
            if message["type"] != "http.request":
                return Response(status_code=400)  # nobody reads it
            body += message.get("body", b"")
            if len(body) > limit:
                raise _Refused(413, f"A request may have {limit} bytes.")
            more = message.get("more_body", False)
        client.hear(bytes(body))
        return Response(media_type="text/plain")


class _Socket(_Endpoint):
    """One client's WebSocket, from the upgrade to its end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        request = HTTPConnection(scope)
        try:
            caller = self.identify(request)
            client = self.open(caller, request.query_params.get("id"), SocketWire(send))
        except _Refused as exc:
            await _refuse_upgrade(scope, send, exc)
            return
        try:
            await send({"type": "websocket.accept"})
            await self._listen(client, receive)
        except OSError:
            return  # the client disconnected in between
        finally:
            client.connection.drop()

    async def _listen(self, client: Client, receive: Receive) -> None:
        while True:
            receiving = asyncio.ensure_future(receive())
            try:
                await asyncio.wait((receiving, client.connection.cut), return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done():
                    return
            finally:
                receiving.cancel()
            message = receiving.result()
            if message["type"] != "websocket.receive":
                return
            text: str | None = message.get("text")
            client.hear(message["bytes"] if text is None else text.encode())


def _end(client: Client) -> Response:
    if not isinstance(client.connection.wire, PollWire):
        raise _Refused(400, "Only a long polling connection is ended by DELETE.")
    client.connection.drop()
    return Response(status_code=202, media_type="text/plain")


def _with_cors(request: Request, send: Send) -> Send:
    """Any origin is allowed: the token protects the service, and cookies are never read."""
    origin = request.headers.get("origin")
    if origin is None:
        return send
    headers = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin"}
    if request.method == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = ", ".join(_METHODS)
        headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
        headers["Access-Control-Max-Age"] = "600"
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return send_with_headers


async def _refuse_upgrade(scope: Scope, send: Send, refusal: _Refused) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)})
        return
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": []})
    await send({"type": "websocket.http.response.body", "body": str(refusal).encode()})
