"""The three ways to a client: a WebSocket, a stream of events, and polls.

Invariant: a wire holds no frame. `send` returns when the server has taken the frame (a socket whose buffer is full, a
client that does not poll: later), so what waits is bounded by the connection's queue.
Source: ASP.NET Core, "Transport Protocols" (TransportProtocols.md).
"""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Send

from devhost.signalr.service.protocol import Frame


class SocketWire:
    """A WebSocket: text frames for JSON, binary ones for MessagePack."""

    is_text_only = False
    needs_pings = True
    is_over_when_closed = False
    is_awaited = False

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, frame: Frame) -> None:
        await self._send({"type": "websocket.send", "text" if isinstance(frame, str) else "bytes": frame})

    async def close(self) -> None:
        await self._send({"type": "websocket.close", "code": 1000})


class EventStreamWire:
    """The body of a `text/event-stream` answer: each frame is the data of one event, without line breaks."""

    is_text_only = True
    needs_pings = True
    is_over_when_closed = True
    is_awaited = False

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_ended = False

    async def send(self, frame: Frame) -> None:
        data = frame.encode() if isinstance(frame, str) else frame
        await self._send({"type": "http.response.body", "body": b"data: %b\r\n\r\n" % data, "more_body": True})

    async def close(self) -> None:
        """Idempotent."""
        if not self._is_ended:
            self._is_ended = True
            await self._send({"type": "http.response.body", "body": b""})


class PollWire:
    """Requests that wait for the next frame, one at a time."""

    is_text_only = False
    needs_pings = False
    is_over_when_closed = True

    def __init__(self) -> None:
        self._poll: asyncio.Future[bytes | None] | None = None
        self._arrived = asyncio.Event()

    @property
    def is_awaited(self) -> bool:
        return self._poll is not None

    async def send(self, frame: Frame) -> None:
        await self._hand_over(frame.encode() if isinstance(frame, str) else frame)

    async def close(self) -> None:
        await self._hand_over(None)

    async def poll(self, receive: Receive, limit_s: float) -> bytes | None:
        """The next frame; empty when none came within `limit_s` or the caller left; None when no more will come.

        A poll that still waits is ended: its caller has come back, so it does not listen there any more.
        """
        self.end()
        poll = self._poll = asyncio.get_running_loop().create_future()
        self._arrived.set()
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait((poll, gone), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            return poll.result() if poll.done() else b""
        finally:
            gone.cancel()
            if self._poll is poll:
                self._forget_poll()

    def end(self) -> None:
        """Tell the poll that waits, if any, that no more will come."""
        poll = self._poll
        if poll is not None:
            self._forget_poll()
            poll.set_result(None)

    async def _hand_over(self, data: bytes | None) -> None:
        while self._poll is None:
            await self._arrived.wait()
        poll = self._poll
        self._forget_poll()
        poll.set_result(data)

    def _forget_poll(self) -> None:
        self._poll = None
        self._arrived.clear()


async def disconnected(receive: Receive) -> None:
    """Wait until the caller of a request has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
