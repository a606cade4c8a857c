"""One connected client: its send queue, and how it is closed.

Invariant: `enqueue` never waits. A client that does not read fills its own bounded queue; on overflow only
that client is closed (it may reconnect), and others are not affected. Text is sent in the order it was
enqueued; all text that is queued when the socket is free is sent as one WebSocket frame.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import Send

from devhost.signalr.service.protocol import encode_close


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
    """Largest body of one send, as in Azure."""


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
    """A client after its handshake. Not thread safe: lives on the host's event loop."""

    __slots__ = (
        "_closing",
        "_flusher",
        "_limits",
        "_queue",
        "_queued_bytes",
        "_scheduled",
        "_send",
        "connection_id",
        "cut",
        "groups",
        "heard_at",
        "sending",
        "sent_at",
        "user_id",
    )

    def __init__(
        self, connection_id: str, user_id: str | None, send: Send, *, flusher: Flusher, limits: Limits
    ) -> None:
        loop = asyncio.get_running_loop()
        self.connection_id = connection_id
        self.user_id = user_id
        self.groups: set[str] = set()
        self.heard_at = self.sent_at = loop.time()
        self.cut: asyncio.Future[None] = loop.create_future()
        """Done when the socket must be dropped without waiting for the client."""
        self.sending: asyncio.Task[None] | None = None
        self._send = send
        self._flusher = flusher
        self._limits = limits
        self._queue: list[str] = []
        self._queued_bytes = 0
        self._scheduled = False
        self._closing = False

    @property
    def is_closing(self) -> bool:
        return self._closing

    def enqueue(self, text: str) -> None:
        """Queue encoded messages. Ignored once the connection is closing."""
        if self._closing:
            return
        self._append(text)
        if self._queued_bytes > self._limits.queue_bytes:
            self._queue.clear()
            self._queued_bytes = 0
            self.close("The client reads too slowly; its queue is full.", allow_reconnect=True)

    def close(self, error: str | None = None, *, allow_reconnect: bool = False) -> None:
        """Send the queue and a close message, then close the socket; cut it if the client does not read.

        allow_reconnect: whether the client may connect again by itself.
        """
        if self._closing:
            return
        self._append(encode_close(error, allow_reconnect=allow_reconnect))
        self._closing = True
        asyncio.get_running_loop().call_later(self._limits.close_grace_s, self.drop)

    def drop(self) -> None:
        """Drop the socket now. Idempotent."""
        self._closing = True
        self._queue.clear()
        if not self.cut.done():
            self.cut.set_result(None)
        if self.sending is not None and self.sending is not asyncio.current_task():
            self.sending.cancel()

    async def drain(self) -> None:
        """Send until the queue is empty. Only the flusher calls it, never concurrently."""
        try:
            while self._queue:
                await self._send({"type": "websocket.send", "text": self._next_frame()})
            self.sent_at = asyncio.get_running_loop().time()
            if self._closing:
                await self._send({"type": "websocket.close", "code": 1000})
        except (OSError, RuntimeError):
            # ASGI servers raise OSError for a vanished client, and RuntimeError when they closed the socket
            # themselves (their own keep-alive). The receiving side ends the connection in both cases.
            self.drop()
        finally:
            self.sending = None
            self._scheduled = False

    def _append(self, text: str) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._flusher.add(self)
        self._queue.append(text)
        self._queued_bytes += len(text)

    def _next_frame(self) -> str:
        queue = self._queue
        if len(queue) == 1 or self._queued_bytes <= self._limits.frame_bytes:
            frame = queue[0] if len(queue) == 1 else "".join(queue)
            queue.clear()
            self._queued_bytes = 0
            return frame
        size, count = 0, 0
        for text in queue:
            if count and size + len(text) > self._limits.frame_bytes:
                break
            size += len(text)
            count += 1
        frame = "".join(queue[:count])
        del queue[:count]
        self._queued_bytes -= size
        return frame
