"""OpenStreams: the event streams that this process has open, and whether their readers may still read.

Invariant: a stream ends within CHECK_S and one query after its reader lost the right to read the session, for whatever
reason: removed, erased, another owner. One query asks for all streams of the process together, so its cost does not
grow with their number. While the database does not answer, a stream goes on for UNCHECKED_S and then ends.

Invariant: a user has at most `per_user` streams open here. They are counted in this process and not across instances:
what a stream takes (a connection, memory, a place among the instance's concurrent requests) is the instance's own, so
the limit bounds a user's share of each instance and thereby of all of them. A process that is killed takes its count
with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextvars import Context
from dataclasses import dataclass

from shared.errors import BudgetExceeded, ErrorCode
from shared.sessions.live.reading import Reader, ReaderMemory

log = logging.getLogger(__name__)

CHECK_S = 1.0
"""How often the rights of all readers are looked up."""
CHECK_LIMIT_S = 5.0
"""How long one look may take."""
UNCHECKED_S = 10.0
"""How long a stream goes on while nobody can say whether its reader may read."""
RETRY_AFTER_S = 10.0
"""When a user with too many streams may try again; streams end by themselves within minutes."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who watches which session. feed: where its events are; that of a later session with its id is another."""

    session_id: str
    user_id: str
    feed: str


class OpenStream:
    """One stream. `ended` is done once its reader may no longer read."""

    __slots__ = ("checked_at", "ended", "opened_at", "reader", "viewer")

    def __init__(self, viewer: Viewer, reader: Reader, now: float) -> None:
        self.viewer = viewer
        self.reader = reader
        self.opened_at = self.checked_at = now
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
            self.reader.cut()


class OpenStreams:
    """Counts and watches streams. Bound to its event loop."""

    def __init__(
        self,
        readable: Callable[[Collection[Viewer]], Awaitable[set[Viewer]]],
        memory: ReaderMemory | None = None,
        *,
        per_user: int | None,
        longest_s: float,
        check_s: float = CHECK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """readable: those who may read their session now; raises AppError. per_user: None for no limit. longest_s: how
        long a stream may be open. clock: seconds from any beginning."""
        self._readable = readable
        self._memory = memory or ReaderMemory()
        self._per_user = per_user
        self._longest_s = longest_s
        self._check_s = check_s
        self._clock = clock
        self._open: dict[str, set[OpenStream]] = {}
        self._is_failing = False
        self._task: asyncio.Task[None] | None = None

    def open(self, viewer: Viewer, source: Callable[[OpenStream], AsyncGenerator[bytes]]) -> StreamBody:
        """A stream with the bytes of `source`. The caller has checked access.

        Raises BudgetExceeded(RATE_LIMITED) when the user has too many open.
        """
        self.admit(viewer.user_id)
        stream = OpenStream(viewer, self._memory.open(), self._clock())
        self._open.setdefault(viewer.user_id, set()).add(stream)
        if self._task is None:
            # It watches all streams: what it logs is not about the one that happened to come first.
            self._task = asyncio.create_task(self._watch(), context=Context())
        return StreamBody(source(stream), stream.reader, lambda: self._close(stream))

    def admit(self, user_id: str) -> None:
        """Raises BudgetExceeded(RATE_LIMITED) when the user could not open a stream now: for whoever does something
        first that is not to be done twice."""
        if self._per_user is None or self.count(user_id) < self._per_user:
            return
        self._drop_stale(user_id, self._clock())
        if self.count(user_id) >= self._per_user:
            raise BudgetExceeded(
                ErrorCode.RATE_LIMITED,
                f"You have {self._per_user} event streams open, the most that are allowed; close one first.",
                retry_after_s=RETRY_AFTER_S,
            )

    def count(self, user_id: str) -> int:
        """How many streams a user has open here."""
        return len(self._open.get(user_id, ()))

    async def check(self) -> None:
        """Look once whether all readers may still read; end the streams of those who may not."""
        streams = [stream for of_user in self._open.values() for stream in of_user]
        if not streams:
            return
        now = self._clock()
        try:
            async with asyncio.timeout(CHECK_LIMIT_S):
                readable = await self._readable({stream.viewer for stream in streams})
        except Exception as exc:
            # Whatever it is: rights that cannot be looked up end, and the next look may work.
            if not self._is_failing:
                why = str(exc) or type(exc).__name__
                log.warning("the rights of %d open streams cannot be looked up: %s", len(streams), why)
            self._is_failing = True
            for stream in streams:
                if now - stream.checked_at >= UNCHECKED_S:
                    stream.end()
            return
        self._is_failing = False
        for stream in streams:
            if stream.viewer in readable:
                stream.checked_at = now
            else:
                stream.end()

    async def _watch(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._check_s)
                if not self._open:
                    return
                await self.check()
        finally:
            self._task = None

    def _close(self, stream: OpenStream) -> None:
        stream.reader.close()
        of_user = self._open.get(stream.viewer.user_id)
        if of_user is not None:
            of_user.discard(stream)
            if not of_user:
                del self._open[stream.viewer.user_id]

    def _drop_stale(self, user_id: str, now: float) -> None:
        """No longer count streams that must be over, should one have been dropped without a word."""
        for stream in list(self._open.get(user_id, ())):
            if now - stream.opened_at > self._longest_s + UNCHECKED_S:
                stream.end()
                self._close(stream)


class StreamBody(AsyncIterator[bytes]):
    """The bytes of a stream. It is closed once it ends, fails, is cancelled or is dropped, begun or not."""

    def __init__(self, source: AsyncGenerator[bytes], reader: Reader, close: Callable[[], None]) -> None:
        self.reader = reader
        self._source = source
        self._close = close

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._source)
        except BaseException:
            self._close()
            raise

    async def aclose(self) -> None:
        """Close it before its end."""
        self._close()
        await self._source.aclose()

    def __del__(self) -> None:
        self._close()
