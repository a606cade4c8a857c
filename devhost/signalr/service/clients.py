"""The endpoints for SignalR clients: `POST /client/negotiate` and the WebSocket at `/client/`.

Invariant: a client is in its hub only between a valid handshake and the end of its socket. In serverless mode clients
only listen; a client that sends gets an error and is closed, as in Azure without an upstream.
Source: ASP.NET Core "Transport Protocols"; behaviour checked against @microsoft/signalr 10.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from devhost.signalr.service import protocol
from devhost.signalr.service.connection import Connection
from devhost.signalr.service.hub import Hub
from devhost.signalr.service.service import SignalRService, is_hub_name, new_connection_id
from devhost.signalr.service.tokens import TokenRefused, user_id_of

_ALLOWED_HEADERS = "authorization,content-type,x-requested-with,x-signalr-user-agent"


def client_routes(service: SignalRService) -> list[BaseRoute]:
    negotiate = _Negotiate(service)
    socket = _Socket(service)
    return [
        Route("/client/negotiate", negotiate, methods=["POST", "OPTIONS"]),
        WebSocketRoute("/client/", socket),
        WebSocketRoute("/client", socket),
    ]


class _Refused(Exception):
    """The request is refused with `status`; the text is the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Negotiate:
    """The service's part of the negotiation: issues a connection id."""

    def __init__(self, service: SignalRService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            response = Response() if request.method == "OPTIONS" else self._answer(request)
        except _Refused as exc:
            response = Response(str(exc), status_code=exc.status, media_type="text/plain")
        origin = request.headers.get("origin")
        if origin is not None:
            # Any origin is allowed: the token protects the service, and cookies are never read.
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
            response.headers["Vary"] = "Origin"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = "POST"
                response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
                response.headers["Access-Control-Max-Age"] = "600"
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        hub, _ = _identify(self._service, request)
        if request.query_params.get("negotiateVersion") != "1":
            return JSONResponse({"error": "The dev host's SignalR endpoint needs negotiateVersion=1."})
        connection_id = new_connection_id()
        # `useStatefulReconnect` is left out, so clients that asked for it fall back to a plain reconnect.
        return JSONResponse(
            {
                "negotiateVersion": 1,
                "connectionId": connection_id,
                "connectionToken": self._service.connection_token(hub, connection_id),
                "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}],
            }
        )


class _Socket:
    """One client's WebSocket, from the upgrade to its end."""

    def __init__(self, service: SignalRService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        request = HTTPConnection(scope)
        try:
            hub, user_id = _identify(self._service, request)
            connection_id = self._connection_id(hub, request)
        except _Refused as exc:
            await _refuse_upgrade(scope, send, exc)
            return
        try:
            await send({"type": "websocket.accept"})
            rest = await self._handshake(receive, send)
        except OSError:
            return  # the client disconnected in between
        if rest is None:
            return
        connection = Connection(
            connection_id, user_id, send, flusher=self._service.flusher, limits=self._service.limits
        )
        self._service.admit(hub, connection)
        try:
            if self._service.is_stopping:
                connection.close("The dev host is stopping.", allow_reconnect=True)
            await self._listen(connection, rest, receive)
        finally:
            connection.drop()
            self._service.dismiss(hub, connection)

    def _connection_id(self, hub: Hub, request: HTTPConnection) -> str:
        shown = request.query_params.get("id")
        if shown is None:  # the client skipped the negotiation
            return new_connection_id()
        connection_id = self._service.connection_id_of(hub, shown)
        if connection_id is None:
            raise _Refused(404, "No connection with this id was negotiated here.")
        if connection_id in hub.connections:
            raise _Refused(409, "This connection id is in use.")
        return connection_id

    async def _handshake(self, receive: Receive, send: Send) -> str | None:
        """Returns the text after the handshake in the same frame, or None when the handshake failed."""
        try:
            async with asyncio.timeout(self._service.limits.handshake_timeout_s):
                message = await receive()
            if message["type"] != "websocket.receive":
                return None
            rest = protocol.read_handshake(_text(message))
        except (protocol.ProtocolError, TimeoutError) as exc:
            reason = str(exc) or "the client sent no handshake in time"
            await send({"type": "websocket.send", "text": protocol.encode_handshake_error(reason)})
            await send({"type": "websocket.close", "code": 1000})
            return None
        await send({"type": "websocket.send", "text": protocol.HANDSHAKE_OK})
        return rest

    async def _listen(self, connection: Connection, rest: str, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        message: Message = {"type": "websocket.receive", "text": rest}
        while True:
            try:
                if not connection.is_closing and not _obey(connection, _text(message)):
                    return
            except protocol.ProtocolError as exc:
                connection.close(f"Protocol error: {exc}.")
            receiving = asyncio.ensure_future(receive())
            try:
                await asyncio.wait((receiving, connection.cut), return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done():
                    return
            finally:
                receiving.cancel()
            message = receiving.result()
            if message["type"] != "websocket.receive":
                return
            connection.heard_at = loop.time()


def _obey(connection: Connection, text: str) -> bool:
    """Handle a client's messages; False after its close message."""
    for kind, message in protocol.read_messages(text):
        if kind == protocol.CLOSE:
            return False
        if kind in {protocol.INVOCATION, protocol.STREAM_INVOCATION}:
            target = str(message.get("target"))[:100]
            connection.close(
                f"Client called {target!r}, but in serverless mode clients cannot send to the hub; "
                "call an HTTP function instead."
            )
        # A ping needs no answer: its arrival counts. Completions, stream items and cancellations answer calls
        # that this service never makes.
    return True


def _identify(service: SignalRService, request: HTTPConnection) -> tuple[Hub, str | None]:
    """The hub and the user of a request. Raises _Refused."""
    if service.is_stopping:
        raise _Refused(503, "The dev host is stopping.")
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
    return service.hub(hubs[0]), user_id_of(claims)


def _text(message: Message) -> str:
    text: str | None = message.get("text")
    if text is not None:
        return text
    try:
        data: bytes = message["bytes"]
        return data.decode()
    except UnicodeDecodeError as exc:
        raise protocol.ProtocolError("the frame is not UTF-8 text") from exc


async def _refuse_upgrade(scope: Scope, send: Send, refusal: _Refused) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": str(refusal)})
        return
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": []})
    await send({"type": "websocket.http.response.body", "body": str(refusal).encode()})
