"""Small helpers shared by all ASGI parts of the host."""

from __future__ import annotations

import http
import json
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Message, Scope, Send


class BodyTooLarge(Exception):
    """The request body is over the limit; answered with 413."""


class ClientGone(Exception):
    """The caller disconnected before its request was complete."""


async def send_response(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b""
) -> None:
    """Send one complete response, without body and Content-Length for 204 and 304."""
    all_headers = list(headers)
    if status in {204, 304} or status < 200:
        body = b""
    else:
        all_headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused."""

    status: int
    detail: str

    async def answer(self, scope: Scope, send: Send) -> None:
        """Send it as a problem document, also as the answer to a WebSocket's handshake."""
        headers = [(b"content-type", b"application/problem+json"), (b"x-content-type-options", b"nosniff")]
        title = http.HTTPStatus(self.status).phrase
        body = json.dumps({"type": "about:blank", "title": title, "status": self.status, "detail": self.detail})
        if scope["type"] != "websocket":
            await send_response(send, self.status, headers, body.encode())
        elif "websocket.http.response" in scope.get("extensions", {}):
            await send({"type": "websocket.http.response.start", "status": self.status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": body.encode()})
        else:
            await send({"type": "websocket.close", "code": 1008})


class NotAscii(Exception):
    """A response header that Azure's server does not send; answered with 500."""


def declared_length(scope: Scope) -> int | None:
    """Content-Length of a request, None when absent (chunked or no body)."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


class ResponseWatch:
    """Wraps `send`: records how far a response has come, and adds the host's custom headers."""

    __slots__ = ("_extra", "_send", "finished", "started")

    def __init__(self, send: Send, extra: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._extra = extra
        self.started = False
        self.finished = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            for name, value in message.get("headers", ()):
                if not value.isascii():
                    raise NotAscii(f"the response header {name.decode('latin-1')} is not ASCII")
            self.started = True
            if self._extra:
                extra = {name for name, _ in self._extra}
                kept = [pair for pair in message.get("headers", ()) if pair[0] not in extra]
                message["headers"] = [*kept, *self._extra]
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.finished = True
