"""The host's connections to a worker's HTTP server, which carry one request after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from devhost.asgi.replies import ResponseWatch
from devhost.http.proxy import Upstream

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b""}


class Worker:
    """Answers each request alike, and counts its connections."""

    def __init__(self) -> None:
        self.connections = 0

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[Upstream]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield Upstream(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            server.close_clients()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Caller:
    """Takes an answer. is_leaving: leaves in the moment in which it has the whole."""

    def __init__(self, *, is_leaving: bool = False) -> None:
        self._is_leaving = is_leaving
        self._left = asyncio.Event()
        self.body = b""

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.body += message.get("body", b"")
        if message["type"] == "http.response.body" and not message["more_body"] and self._is_leaving:
            self._left.set()
            await asyncio.sleep(0)  # the host hears of it before it has the connection back

    async def ask(self, upstream: Upstream) -> bytes:
        watch = ResponseWatch(self.send, [])
        await upstream.forward(_SCOPE, [], b"", self.receive, watch, 1)
        return self.body


async def test_a_connection_is_kept_for_the_next_request() -> None:
    worker = Worker()
    async with worker.reached() as upstream:
        assert [await Caller().ask(upstream) for _ in range(3)] == [b"ok"] * 3
        assert worker.connections == 1


async def test_a_caller_that_leaves_with_the_last_byte_costs_the_next_one_nothing() -> None:
    async with Worker().reached() as upstream:
        for _ in range(3):
            assert await Caller(is_leaving=True).ask(upstream) == b"ok"
            assert await Caller().ask(upstream) == b"ok"
