"""A TCP proxy between the app and one of its stores that can fail as networks do.

Invariant: nothing that it has accepted outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

_PIECE = 65_536
_LINGER = struct.pack("ii", 1, 0)  # closing sends a reset


class Fault(StrEnum):
    """What the network does just now."""

    NONE = "none"
    REFUSE = "refuse"  # nothing listens, and open connections are reset
    HANG = "hang"  # connections are accepted, and no byte moves on any
    RESET = "reset"  # every connection is reset after its first bytes
    HALF_OPEN = "half_open"  # no byte moves on connections that were open before; new ones work


@dataclass(eq=False)
class _Pair:
    """One accepted connection and the one to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    moves: asyncio.Event = field(default_factory=asyncio.Event)
    is_lost: bool = False
    """Its client is gone without a word, and nothing moves on it any more."""


class FaultyProxy:
    """Listens on a port of 127.0.0.1 that stays the same, whatever fails.

    latency_s: added to each piece in each direction.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.fault = Fault.NONE
        self.latency_s = 0.0
        self.accepted = 0

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._refuse()

    async def become(self, fault: Fault) -> None:
        """From now on the network does this."""
        was, self.fault = self.fault, fault
        if fault is Fault.REFUSE:
            await self._refuse()
            return
        if was is Fault.REFUSE:
            await self._listen()
        for pair in self._pairs:
            if pair.is_lost:
                continue
            if fault in {Fault.HANG, Fault.HALF_OPEN}:
                pair.moves.clear()
            elif fault is Fault.RESET:
                _reset(pair)
            else:
                pair.moves.set()

    def lose_clients(self) -> None:
        """Whoever has a connection now is gone without a word, as a machine is that loses power: the server hears
        nothing of it, however long it waits."""
        for pair in self._pairs:
            pair.is_lost = True
            pair.moves.clear()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        for pair in self._pairs:
            _reset(pair)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            # The proxy refuses now. The server's own callback of this task would log a cancelled one as a fault.
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
        except OSError:
            return
        pair = _Pair(writer, to_server)
        if self.fault is not Fault.HANG:
            pair.moves.set()
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._move(reader, to_server, pair))
                both.create_task(self._move(from_server, writer, pair))
        finally:
            self._pairs.discard(pair)
            to_server.transport.abort()

    async def _move(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, pair: _Pair) -> None:
        try:
            while piece := await source.read(_PIECE):
                await pair.moves.wait()
                if self.fault is Fault.RESET:
                    _reset(pair)
                    return
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                sink.write(piece)
                await sink.drain()
            await pair.moves.wait()
            sink.write_eof()
        except OSError:
            await pair.moves.wait()
            _reset(pair)  # who is reset at one end is at the other


def _reset(pair: _Pair) -> None:
    for writer in (pair.client, pair.server):
        end: socket.socket | None = writer.get_extra_info("socket")
        if end is not None:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        writer.transport.abort()
