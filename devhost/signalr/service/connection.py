"""One connected client: its send queue, and how it is closed.

Invariant: `enqueue` never waits. A client that does not read fills its own bounded queue; on overflow only
that client is closed (it may reconnect), and others are not affected. Messages are sent in the order in which they were
enqueued, after the answer to the handshake; all that is queued when the wire is free is sent as one frame.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from devhost.signalr.service.protocol import HANDSHAKE_OK, Frame, HubProtocol, encode_handshake_error


class Wire(Protocol):
    """How frames reach a client."""

    is_text_only: bool
    needs_pings: bool
    """Whether the client knows only by our pings that it is still connected."""
    is_over_when_closed: bool
    """Whether nothing more comes from the client after `close`."""

    @property
    def is_awaited(self) -> bool:
        """Whether the client shows that it is there by waiting for an answer at this moment."""
        ...

    async def send(self, frame: Frame) -> None:
        """Returns when the next frame may be sent. Raises OSError or RuntimeError when the client has gone."""
        ...

    async def close(self) -> None:
        """Tell the client that no more frames come. Raises as `send` does."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds and sizes in bytes; tests shorten them."""

    ping_interval_s: float = 15.0
    """A client is sent a ping after this long without a message."""
    client_timeout_s: float = 30.0
    """A client that sent nothing for this long counts as gone (clients ping every 15 s)."""
    handshake_timeout_s: float = 15.0
    close_grace_s: float = 5.0
    """How long a closing client may take to read the rest of its queue before the socket is cut."""
    queue_bytes: int = 4 * 1024 * 1024
    frame_bytes: int = 256 * 1024
    """Queued messages are joined into frames of about this size (some clients refuse frames over 1 MiB)."""
    message_bytes: int = 1024 * 1024
    """Largest body of one send, as in Azure, and of what a client posts."""
    poll_s: float = 90.0
    """A poll without news is answered after this long, as in ASP.NET Core."""
    negotiated_s: float = 30.0
    """How long a negotiated connection may take to be opened."""
    negotiated: int = 10_000
    """So many negotiated connections wait to be opened; above that the oldest is forgotten."""
    clients: int = 10_000
    """So many clients are connected at once; further ones are refused."""


class Flusher:
    """Starts sending for all connections that got messages in this iteration of the event loop.

    One callback serves them all, so a message to many clients costs no task and no wake-up per client,
    and messages of the same iteration share frames.
    """

    def __init__(self) -> None:
        self._waiting: list[Connection] = []

    def add(self, connection: Connection) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(connection)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        for connection in waiting:
            # Eager: unless the socket is full, the whole send happens here and no task is scheduled.
            task = asyncio.Task(connection.drain(), loop=loop, eager_start=True)
            if not task.done():
                connection.sending = task


class Connection:
    """A client from the opening of its transport. Not thread safe: lives on the host's event loop."""

    __slots__ = (
        "_closing",
        "_flusher",
        "_greeting",
        "_limits",
        "_queue",
        "_queued_bytes",
        "_scheduled",
        "connection_id",
        "cut",
        "groups",
        "heard_at",
        "protocol",
        "sending",
        "sent_at",
        "user_id",
        "wire",
    )

    def __init__(
        self, connection_id: str, user_id: str | None, wire: Wire, *, flusher: Flusher, limits: Limits
    ) -> None:
        loop = asyncio.get_running_loop()
        self.connection_id = connection_id
        self.user_id = user_id
        self.wire = wire
        self.protocol: HubProtocol | None = None
        """None before the handshake."""
        self.groups: set[str] = set()
        self.heard_at = self.sent_at = loop.time()
        self.cut: asyncio.Future[None] = loop.create_future()
        """Done when the client must be left without waiting for it."""
        self.sending: asyncio.Task[None] | None = None
        self._greeting: Frame | None = None
        self._flusher = flusher
        self._limits = limits
        self._queue: list[Frame] = []
        self._queued_bytes = 0
        self._scheduled = False
        self._closing = False

    @property
    def is_closing(self) -> bool:
        return self._closing

    def begin(self, protocol: HubProtocol) -> None:
        """Accept the handshake: from here on the connection speaks `protocol`."""
        self.protocol = protocol
        self._greeting = HANDSHAKE_OK.encode() if protocol.is_binary else HANDSHAKE_OK
        self._schedule()

    def enqueue(self, message: Frame) -> None:
        """Queue a message of the connection's protocol. Ignored once the connection is closing."""
        if self._closing:
            return
        self._append(message)
        if self._queued_bytes > self._limits.queue_bytes:
            self._queue.clear()
            self._queued_bytes = 0
            self.close("The client reads too slowly; its queue is full.", allow_reconnect=True)

    def close(self, error: str | None = None, *, allow_reconnect: bool = False) -> None:
        """Send the queue and a close message, then close the wire; cut it if the client does not read.

        Before the handshake the error is the answer to it. allow_reconnect: whether the client may connect again by
        itself.
        """
        if self._closing:
            return
        if self.protocol is None:
            self._greeting = encode_handshake_error(error or "the connection was closed")
        else:
            self._append(self.protocol.close(error, allow_reconnect=allow_reconnect))
        self.finish()

    def finish(self) -> None:
        """Send the queue, then close the wire without a word; cut it if the client does not read."""
        if self._closing:
            return
        self._closing = True
        self._schedule()
        asyncio.get_running_loop().call_later(self._limits.close_grace_s, self.drop)

    def drop(self) -> None:
        """Drop the wire now. Idempotent."""
        self._closing = True
        self._queue.clear()
        if not self.cut.done():
            self.cut.set_result(None)
        if self.sending is not None and self.sending is not asyncio.current_task():
            self.sending.cancel()

    async def drain(self) -> None:
        """Send until the queue is empty. Only the flusher calls it, never concurrently."""
        try:
            # A frame of its own: not every client looks for messages behind the answer to its handshake.
            if self._greeting is not None:
                greeting, self._greeting = self._greeting, None
                await self.wire.send(greeting)
            while self._queue:
                await self.wire.send(self._next_frame())
            self.sent_at = asyncio.get_running_loop().time()
            if self._closing:
                await self.wire.close()
                if self.wire.is_over_when_closed:
                    self.drop()
        except (OSError, RuntimeError):
            # ASGI servers raise OSError for a vanished client, and RuntimeError when they closed the socket
            # themselves (their own keep-alive). The receiving side ends the connection in both cases.
            self.drop()
        finally:
            self.sending = None
            self._scheduled = False

    def _append(self, message: Frame) -> None:
        self._schedule()
        self._queue.append(message)
        self._queued_bytes += len(message)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._flusher.add(self)

    def _next_frame(self) -> Frame:
        queue = self._queue
        count = len(queue)
        size = self._queued_bytes
        if count > 1 and size > self._limits.frame_bytes:
            size = count = 0
            for message in queue:
                if count and size + len(message) > self._limits.frame_bytes:
                    break
                size += len(message)
                count += 1
        protocol = self.protocol
        frame = queue[0] if count == 1 or protocol is None else protocol.join(queue[:count])
        del queue[:count]
        self._queued_bytes -= size
        return frame
