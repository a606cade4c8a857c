"""One client, whatever its transport: from the opening of its wire through the handshake to its end.

Invariant: a client is in its hub only between a valid handshake and the end of its wire. In serverless mode a client
that calls the hub is heard by the upstream (`upstream.py`); without one it gets an error and is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from devhost.signalr.service.connection import Connection
from devhost.signalr.service.hub import Hub
from devhost.signalr.service.messagepack import MESSAGEPACK
from devhost.signalr.service.protocol import CALLS, CLOSE, INVOCATION, JSON, ProtocolError, read_handshake
from devhost.signalr.service.upstream import Telling

_SHOWN_CHARACTERS = 100


class Client:
    """token: what its requests show as `id`. on_end: called once, at its end."""

    def __init__(
        self,
        token: str,
        hub: Hub,
        connection: Connection,
        *,
        handshake_s: float,
        on_end: Callable[[Client], None],
        tell: Callable[[Client], Telling | None],
    ) -> None:
        """tell: what tells the upstream of this client, once it is connected."""
        self.token = token
        self._tell = tell
        self._telling: Telling | None = None
        self.hub = hub
        self.connection = connection
        self._on_end = on_end
        self._protocols = (JSON,) if connection.wire.is_text_only else (JSON, MESSAGEPACK)
        loop = asyncio.get_running_loop()
        self._no_handshake = loop.call_later(handshake_s, connection.close, "the client sent no handshake in time")
        connection.cut.add_done_callback(lambda _: self._end())

    def touch(self) -> None:
        """Something shows that the client is still there."""
        self.connection.heard_at = asyncio.get_running_loop().time()

    def hear(self, data: bytes) -> None:
        """Act on one frame of the client's."""
        self.touch()
        connection = self.connection
        if connection.is_closing:
            return
        try:
            if connection.protocol is None:
                protocol, data = read_handshake(data, self._protocols)
                self._no_handshake.cancel()
                connection.begin(protocol)
                self.hub.connect(connection)
                self._telling = self._tell(self)
            self._obey(data)
        except ProtocolError as exc:
            connection.close(str(exc) if connection.protocol is None else f"Protocol error: {exc}.")

    def _obey(self, data: bytes) -> None:
        connection = self.connection
        for message in connection.protocol.read(data) if connection.protocol is not None else ():
            if message.kind == CLOSE:
                connection.finish()
                return
            if message.kind == INVOCATION and self._telling is not None:
                self._telling.call(message)
            elif message.kind in CALLS:
                connection.close(
                    f"Client called {str(message.target)[:_SHOWN_CHARACTERS]!r}, but in serverless mode clients cannot"
                    " send to the hub; call an HTTP function instead."
                )
            # A ping needs no answer: its arrival counts. Completions, stream items and cancellations answer calls
            # that this service never makes.

    def answer(self, invocation_id: str, result: Any, error: str | None) -> None:
        """Answer a call of the client's."""
        protocol = self.connection.protocol
        if protocol is None or self.connection.is_closing:
            return
        try:
            frame = protocol.completion(invocation_id, result, error)
        except ValueError as exc:
            frame = protocol.completion(invocation_id, None, str(exc))
        self.connection.enqueue(frame)

    def _end(self) -> None:
        self._no_handshake.cancel()
        if self._telling is not None:
            self._telling.end()
        self.hub.disconnect(self.connection)
        self._on_end(self)
