"""Forwards a request to a worker's own HTTP server and its answer to the caller, as Azure's host does.

Each connection to a worker carries one request at a time and is kept for the next one.

Invariant: what the caller sees of an answer is whole or visibly cut: an answer that the worker does not finish raises
`AnswerBroken`, and the server then closes the caller's connection. A caller that leaves closes the connection to the
worker, which is how user code notices. No more than `_AHEAD_BYTES` of an answer wait for a slow caller.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import suppress
from typing import cast

import httptools
from starlette.types import Receive, Scope

from devhost.asgi.replies import BodyTooLarge, ResponseWatch
from devhost.asgi.serving import ADDRESS
from devhost.http.forwarding import Headers

_AHEAD_BYTES = 1 << 16
_MOST_IDLE = 64
_OF_THE_CONNECTION = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"})
_WITHOUT_BODY = frozenset({204, 304})


class AnswerBroken(Exception):
    """The worker did not finish its answer."""


class CallerLeft(Exception):
    """The caller left before it had the whole answer."""


class HostileHeader(Exception):
    """A header holds a line break, which would be a header of its own for the worker."""


class Upstream:
    """The HTTP server of one worker."""

    def __init__(self, port: int) -> None:
        self.address = f"{ADDRESS}:{port}".encode()
        self._port = port
        self._idle: deque[_Connection] = deque()

    async def forward(
        self,
        scope: Scope,
        headers: Headers,
        body: bytes | None,
        receive: Receive,
        send: ResponseWatch,
        limit_bytes: int,
    ) -> None:
        """Send a request and pass on its answer.

        headers: what the worker gets. body: the whole body; None: it comes in pieces from `receive`, limit_bytes at
        most. Raises AnswerBroken, CallerLeft, BodyTooLarge, and HostileHeader before anything is sent.
        """
        request = _head(scope, headers, is_chunked=body is None) + (body or b"")
        connection = await self._connect()
        is_kept = False
        uploading = asyncio.create_task(_upload(connection, receive, limit_bytes, is_chunked=body is None))
        try:
            connection.begin(request, is_head=scope["method"] == "HEAD")
            await _pass_on(connection, send)
            is_kept = connection.can_be_kept and connection.is_open and (body is not None or uploading.done())
        except AnswerBroken as exc:
            if connection.refusal is not None:
                raise connection.refusal from exc
            raise
        finally:
            uploading.cancel()
            if is_kept and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
            else:
                connection.close()

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        wire = socket.socket()
        wire.setblocking(False)
        # Left to itself the kernel takes megabytes of an answer that the caller has not read.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _AHEAD_BYTES)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(wire, (ADDRESS, self._port))
            _, connection = await loop.create_connection(_Connection, sock=wire)
        except OSError as exc:
            wire.close()
            raise AnswerBroken(f"the worker's HTTP server cannot be reached: {exc}") from exc
        return connection


async def _upload(connection: _Connection, receive: Receive, limit_bytes: int, *, is_chunked: bool) -> None:
    """Send the body's pieces, then wait for the caller to leave."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            connection.refuse(CallerLeft())
            return
        if not is_chunked:
            continue
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            connection.refuse(BodyTooLarge())
            return
        if piece:
            await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if not message.get("more_body", False):
            await connection.write(b"0\r\n\r\n")
            is_chunked = False


async def _pass_on(connection: _Connection, send: ResponseWatch) -> None:
    await connection.has_begun
    headers = [(name, value) for name, value in connection.headers if name not in _OF_THE_CONNECTION]
    await send({"type": "http.response.start", "status": connection.status, "headers": headers})
    while True:
        piece, is_last = await connection.piece()
        await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
        if is_last:
            return


def _head(scope: Scope, headers: Headers, *, is_chunked: bool) -> bytes:
    """The request line and headers."""
    target = bytes(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.1"]
    lines += [b"%b: %b" % pair for pair in headers]
    if is_chunked and not any(name == b"transfer-encoding" for name, _ in headers):
        lines.append(b"transfer-encoding: chunked")
    head = b"\r\n".join([*lines, b"", b""])
    if not head.count(b"\r") == head.count(b"\n") == len(lines) + 1:
        raise HostileHeader
    return head


class _Connection(asyncio.Protocol):
    """A connection to the worker. Use: `begin`, `has_begun`, then `piece` until the last one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._waiter: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self.refusal: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent. The loop tells of a connection's end a turn after it was closed."""
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, request: bytes, *, is_head: bool) -> None:
        """Send a request: its head and, when it is short, its body."""
        self._is_head = is_head
        self._parser = httptools.HttpResponseParser(self)
        self.headers: Headers = []
        self.status = 0
        self.has_begun: asyncio.Future[None] = self._loop.create_future()
        self.can_be_kept = False
        self.refusal = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._is_complete = False
        self._is_paused = False
        assert self._transport is not None
        self._transport.write(request)

    async def write(self, data: bytes) -> None:
        """Send more of a request; waits while the worker does not read."""
        await self._writable.wait()
        if self._transport is not None:
            self._transport.write(data)

    async def piece(self) -> tuple[bytes, bool]:
        """What has come of the body, and whether that was the last of it. Raises AnswerBroken."""
        while not self._pieces and not self._is_complete:
            if self._transport is None:
                raise AnswerBroken("the worker's answer broke off")
            self._waiter = self._loop.create_future()
            await self._waiter
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._held = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return found, self._is_complete

    def refuse(self, why: Exception) -> None:
        """Give the exchange up: the answer breaks off with this reason."""
        self.refusal = why
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        if self._parser is None:
            return
        if not self.has_begun.done():
            self.has_begun.set_exception(AnswerBroken("the worker ended the connection without an answer"))
            self.has_begun.exception()  # it is read, or nobody waits any more
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def on_status(self, _: bytes) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            return
        self.status = status
        if not self.has_begun.done():
            self.has_begun.set_result(None)
        if self._is_head or status in _WITHOUT_BODY:
            self._complete(is_kept=self._parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._held += len(body)
        if self._held > _AHEAD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            with suppress(RuntimeError):
                self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self.status:
            self._complete(is_kept=self._parser.should_keep_alive())

    def _complete(self, *, is_kept: bool) -> None:
        if self._is_complete:
            return
        self._is_complete = True
        self.can_be_kept = is_kept and self._transport is not None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._waiter = None
