"""ReaderMemory: what all readers of this process hold together of what was read for them, bounded.

A reader is an open event stream, or an answer that is being made or sent. It takes room before it reads, and gives it
back once its client has taken what was read.

Invariant: the readers hold at most `total_bytes` together, and beyond that only what was larger than the room that its
reader took: one event or one row. When there is no room, the reader whose client has taken nothing for longest is
closed; while no client is slow, whoever wants room waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

TOTAL_BYTES = 64 * 1024 * 1024
"""An eighth of the smallest instance (512 MB). Python holds a read page two or three times while it is encoded."""
SEND_S = 60.0
"""A client that takes nothing for so long is gone or stuck. What the kernel has buffered for it counts as taken: a few
hundred KiB, so one on a slow line (50 kbit/s) is not meant."""
SLOW_S = 1.0
"""While room is wanted, a client that takes nothing for so long makes it."""


class TooSlow(Exception):
    """A client takes nothing: its connection is closed. It may come back and read on."""


class Reader:
    """One reader. What it holds is what its owner said last."""

    __slots__ = ("_memory", "_sending", "held_bytes", "is_closed", "sends_since")

    def __init__(self, memory: ReaderMemory) -> None:
        self._memory = memory
        self._sending: asyncio.Timeout | None = None
        self.held_bytes = 0
        self.sends_since: float | None = None
        """Since when its client takes nothing; None: nothing is offered."""
        self.is_closed = False

    async def take(self, size_bytes: int) -> None:
        """Wait for room, in place of what it held so far."""
        self.keep(0)
        await self._memory.wait_for_room(size_bytes)
        self.keep(size_bytes)

    def keep(self, size_bytes: int) -> None:
        """It holds so much from here on."""
        if not self.is_closed:
            self._memory.change(self, size_bytes)

    async def send[Message](self, send: Callable[[Message], Awaitable[None]], message: Message) -> None:
        """Offer its client the next piece. Raises TooSlow when it takes nothing for SEND_S, or when it was cut."""
        try:
            async with asyncio.timeout(self._memory.send_s) as self._sending:
                self.sends_since = asyncio.get_running_loop().time()
                await send(message)
        except TimeoutError as exc:
            raise TooSlow from exc
        finally:
            self._sending = self.sends_since = None

    def cut(self) -> None:
        """End what it sends just now, if anything."""
        if self._sending is not None and not self._sending.expired():
            self._sending.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """It holds nothing any more. Harmless when repeated."""
        self.keep(0)
        self.is_closed = True


class ReaderMemory:
    """The readers of one process. Bound to its event loop."""

    def __init__(self, total_bytes: int = TOTAL_BYTES, *, send_s: float = SEND_S, slow_s: float = SLOW_S) -> None:
        self.send_s = send_s
        self.held_bytes = 0
        self._total_bytes = total_bytes
        self._slow_s = slow_s
        self._holders: set[Reader] = set()
        self._waiting: deque[asyncio.Event] = deque()

    def open(self) -> Reader:
        """A reader that holds nothing yet. Whoever opens it closes it."""
        return Reader(self)

    def change(self, reader: Reader, size_bytes: int) -> None:
        """What a reader holds."""
        self.held_bytes += size_bytes - reader.held_bytes
        reader.held_bytes = size_bytes
        if size_bytes:
            self._holders.add(reader)
        else:
            self._holders.discard(reader)
        self._wake()

    async def wait_for_room(self, size_bytes: int) -> None:
        """Returns when so much more fits, or nobody holds anything."""
        if self._fits(size_bytes) and not self._waiting:
            return
        place = asyncio.Event()
        self._waiting.append(place)
        try:
            while not self._fits(size_bytes) or self._waiting[0] is not place:
                self._cut_slowest(size_bytes)
                place.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._slow_s):
                        await place.wait()
        finally:
            self._waiting.remove(place)
            self._wake()

    def _fits(self, size_bytes: int) -> bool:
        return not self._holders or self.held_bytes + size_bytes <= self._total_bytes

    def _wake(self) -> None:
        """Let the one who has waited longest look again."""
        if self._waiting:
            self._waiting[0].set()

    def _cut_slowest(self, size_bytes: int) -> None:
        slow_since = asyncio.get_running_loop().time() - self._slow_s
        slow = [(reader.sends_since, reader) for reader in self._holders if reader.sends_since is not None]
        left = self.held_bytes + size_bytes
        for since, reader in sorted(slow, key=lambda one: one[0]):
            if since > slow_since or left <= self._total_bytes:
                return
            left -= reader.held_bytes
            reader.cut()
