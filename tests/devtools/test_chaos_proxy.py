"""The proxy fails as networks do, and nothing of a failure is left when it is over."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from devtools.chaos.proxy import Fault, FaultyProxy

LIMIT_S = 20.0


@dataclass
class Echo:
    """A server that says everything again, and knows how each connection ended."""

    port: int = 0
    ends: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(100):
                writer.write(piece)
            self.ends.put_nowait("closed")
        except ConnectionResetError:
            self.ends.put_nowait("reset")
        finally:
            writer.transport.abort()


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[Echo, FaultyProxy]]:
    behind = Echo()
    server = await asyncio.start_server(behind.serve, "127.0.0.1", 0)
    async with server, asyncio.timeout(LIMIT_S), FaultyProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield behind, proxy


async def connected(proxy: FaultyProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which something has moved."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    return reader, writer


async def test_an_end_is_passed_on_as_it_was() -> None:
    async with echo() as (behind, proxy):
        _, writer = await connected(proxy)
        writer.close()
        assert await behind.ends.get() == "closed"
        _, writer = await connected(proxy)
        end: socket.socket = writer.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        assert await behind.ends.get() == "reset"


async def test_a_client_that_is_lost_is_never_heard_of() -> None:
    async with echo() as (behind, proxy):
        _, writer = await connected(proxy)
        proxy.lose_clients()
        writer.close()
        await proxy.become(Fault.HANG)
        await proxy.become(Fault.NONE)
        await connected(proxy)
        assert behind.ends.empty()
        await proxy.become(Fault.REFUSE)
        assert await behind.ends.get() in {"closed", "reset"}


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HALF_OPEN])
async def test_what_hangs_goes_on_when_it_is_over(fault: Fault) -> None:
    async with echo() as (_, proxy):
        reader, writer = await connected(proxy)
        await proxy.become(fault)
        writer.write(b"y")
        if fault is Fault.HALF_OPEN:
            await connected(proxy)  # a new one works
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        await proxy.become(Fault.NONE)
        assert await reader.read(1) == b"y"


async def test_refused_and_reset_connections_are_broken_and_new_ones_work_after() -> None:
    async with echo() as (_, proxy):
        for fault in (Fault.REFUSE, Fault.RESET):
            reader, _ = await connected(proxy)
            await proxy.become(fault)
            with pytest.raises(ConnectionError):
                await reader.read(1)
            await proxy.become(Fault.NONE)
            await connected(proxy)
