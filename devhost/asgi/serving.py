"""An HTTP server that its caller stops, in two steps, and where this host's servers listen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ADDRESS = "127.0.0.1"
SEND_BUFFER_BYTES = 256 * 1024
"""Of each connection. Left to itself the kernel takes megabytes of an answer that its caller has not read, and tells of
no progress until a third of them is gone."""

_DATE_S = 1.0


class Server(uvicorn.Server):
    """uvicorn without its signal handlers. It sleeps while nobody calls, where uvicorn looks ten times a second whether
    it is to stop: stop it with `stop`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told_to_stop = asyncio.Event()

    def stop(self) -> None:
        """End `serve`. Call it on the server's loop."""
        self.should_exit = True
        self._told_to_stop.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # renews the date in answers
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told_to_stop.wait(), _DATE_S if self.config.date_header else None)

    def stop_accepting(self, listener: socket.socket) -> None:
        """Refuse new connections, and end those that wait for a request. Requests that are being answered go on."""
        address = listener.getsockname()
        for server in self.servers:
            if address in [accepting.getsockname() for accepting in server.sockets]:
                server.close()
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, HttpToolsProtocol) and connection.server == address:
                connection.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
