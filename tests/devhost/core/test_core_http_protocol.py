"""A connection whose caller takes nothing is cut, and one that takes a little is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from devhost.asgi.serving import SEND_BUFFER_BYTES
from devhost.http.protocol import LocalProtocol

pytestmark = pytest.mark.timeout(60)

PIECE = b"x" * 64 * 1024


class Impatient(LocalProtocol):
    takes_nothing_s = 0.2


class Endless:
    """Sends for as long as the connection is there."""

    def __init__(self) -> None:
        self.pieces = 0
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        left = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.done():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await asyncio.sleep(0)
            self.pieces += 1
        self.ended.set()


@asynccontextmanager
async def called(app: Endless) -> AsyncIterator[socket.socket]:
    """A caller that has sent its request and reads nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=Impatient, lifespan="off", log_config=None))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    serving = asyncio.create_task(server.serve([listener]))
    with socket.socket() as caller:
        caller.setblocking(False)
        await asyncio.get_running_loop().sock_connect(caller, listener.getsockname())
        await asyncio.get_running_loop().sock_sendall(caller, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        yield caller
    server.should_exit = True
    await serving


async def test_a_caller_that_takes_nothing_is_cut() -> None:
    app = Endless()
    async with called(app) as caller:
        await app.ended.wait()
        taken = 0
        while data := await asyncio.get_running_loop().sock_recv(caller, 65536):
            taken += len(data)
        assert taken < app.pieces * len(PIECE)  # what was waiting is thrown away


async def test_a_caller_that_takes_some_now_and_then_is_not_cut() -> None:
    app = Endless()
    async with called(app) as caller:
        for _ in range(20):
            await asyncio.sleep(Impatient.takes_nothing_s / 4)
            taken = 0
            while taken < 2 * SEND_BUFFER_BYTES:
                taken += len(await asyncio.get_running_loop().sock_recv(caller, 65536))
        assert not app.ended.is_set()
