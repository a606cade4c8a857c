"""Small helpers shared by all ASGI parts of the host."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Message, Receive, Scope, Send


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


def declared_length(scope: Scope) -> int | None:
    """Content-Length of a request, None when absent (chunked or no body)."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def limited(receive: Receive, limit_bytes: int) -> Receive:
    """`receive` that raises BodyTooLarge once more than `limit_bytes` have come in."""
    size = 0

    async def counting() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit_bytes:
            raise BodyTooLarge
        return message

    return counting


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
            self.started = True
            if self._extra:
                message["headers"] = [*message.get("headers", ()), *self._extra]
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.finished = True
