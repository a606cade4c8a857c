"""One client, whatever its transport: from the opening of its wire through the handshake to its end.

Invariant: a client is in its hub only between a valid handshake and the end of its wire. In serverless mode clients
only listen; a client that calls the hub gets an error and is closed, as in Azure without an upstream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from devhost.signalr.service.connection import Connection
from devhost.signalr.service.hub import Hub
from devhost.signalr.service.messagepack import MESSAGEPACK
from devhost.signalr.service.protocol import CALLS, CLOSE, JSON, ProtocolError, read_handshake

_SHOWN_CHARACTERS = 100


class Client:
    """token: what its requests show as `id`. on_end: called once, at its end."""

    def __init__(
        self, token: str, hub: Hub, connection: Connection, *, handshake_s: float, on_end: Callable[[Client], None]
    ) -> None:
        self.token = token
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
            self._obey(data)
        except ProtocolError as exc:
            connection.close(str(exc) if connection.protocol is None else f"Protocol error: {exc}.")

    def _obey(self, data: bytes) -> None:
        connection = self.connection
        for kind, target in connection.protocol.read(data) if connection.protocol is not None else ():
            if kind == CLOSE:
                connection.finish()
                return
            if kind in CALLS:
                connection.close(
                    f"Client called {str(target)[:_SHOWN_CHARACTERS]!r}, but in serverless mode clients cannot send to "
                    "the hub; call an HTTP function instead."
                )
            # A ping needs no answer: its arrival counts. Completions, stream items and cancellations answer calls
            # that this service never makes.

    def _end(self) -> None:
        self._no_handshake.cancel()
        self.hub.disconnect(self.connection)
        self._on_end(self)
