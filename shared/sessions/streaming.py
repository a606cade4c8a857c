"""StreamingHandler: the event log as Server-Sent Events, for a session or for one turn.

Invariant: a reader gets every event after the number it names exactly once and in order, first from the log, then
live; where the log has a hole it is told so, never left to guess. Its stream ends within two seconds after it lost the
right to read the session, or after that session was erased (`live/open_streams.py`).

A stream that has been open for LONGEST_S ends by itself, between two events. Its client reconnects with the number of
the last event, as every SSE client does. Azure would cut it at `functionTimeout`, in the middle of a chunk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

import orjson

from shared.errors import NotFound, Transient
from shared.sessions.events import EventLog, EventLogUnavailable, EventType, envelope
from shared.sessions.live.following import READ_BATCH, Followed, follow_from, kept_from
from shared.sessions.live.open_streams import OpenStream, OpenStreams, StreamBody, Viewer
from shared.sessions.live.reading import Reader
from shared.sessions.live.sse import KEEP_ALIVE, KEEP_ALIVE_SECONDS, RECONNECT, sse
from shared.sessions.models import JsonObject, Message, MessageRole, Turn
from shared.sessions.older_events import with_defaults
from shared.sessions.records.pages import PAGE_BYTES, MessageFilter, Page
from shared.sessions.repository import TurnRepository
from shared.sessions.turns.frames import end_event, end_frame, failure_frame, live_event, stored_frames

log = logging.getLogger(__name__)

START_BATCH = 32
"""Events looked at first when a turn's beginning is sought: a reader mostly comes right after its message."""
DEGRADED_POLL_SECONDS = 1.0
"""How often the database is asked while the log is away."""

LONGEST_S = 480.0
"""Two minutes below `functionTimeout` of host.json."""

_ASKED = frozenset({EventType.MESSAGE_CREATED.value, EventType.MESSAGE_UPDATED.value})


@dataclass(frozen=True, slots=True)
class Replay:
    """A page of a session's events."""

    items: list[bytes]
    """Encoded envelopes, ascending."""
    next_after: int
    """Where the next page begins."""
    last_seq: int
    gap: bool
    """Events after `after` were lost: rebuild from the messages."""
    more: bool


class OpenForLong(Exception):
    """A stream has been open for as long as one may."""


class LogLost(Exception):
    """The event log went away, or has lost a part of what was to be read."""


type TurnEvent = tuple[int | None, JsonObject | None]
"""An event's number and envelope; as a heartbeat, the last number and None. A number of None: the event was not in the
log."""

type StoredPart = Message | Turn | None


class StreamingHandler:
    """Serves replay and live events. The caller has checked access, which is checked again while a stream is open."""

    def __init__(
        self,
        log: EventLog,
        turns: TurnRepository,
        streams: OpenStreams,
        *,
        keep_alive_s: float = KEEP_ALIVE_SECONDS,
        longest_s: float = LONGEST_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: seconds from any beginning."""
        self._log = log
        self._turns = turns
        self._streams = streams
        self._keep_alive_s = keep_alive_s
        self._longest_s = longest_s
        self._clock = clock

    async def replay(self, feed: str, after: int, limit: int) -> Replay:
        """Events with seq > after. Without the log: nothing, and a gap."""
        try:
            found = await self._log.read(feed, after, limit + 1)
        except EventLogUnavailable:
            return Replay([], after, after, gap=True, more=False)
        items = found.items[:limit]
        last = found.last_seq if found.last_seq is not None else after
        gap = _has_gap(after, found.items, found.last_seq)
        return Replay(
            [envelope(seq, with_defaults(body)) for seq, body in items],
            items[-1][0] if items else last,
            last,
            gap,
            found.is_cut or len(found.items) > limit,
        )

    def session_events(self, viewer: Viewer, after: int) -> StreamBody:
        """A session's events as SSE (`id: seq`, `event: type`), replay then live, until the client leaves, may no
        longer read them, or has to reconnect.

        A hole is an event `gap` without id: `{"type": "gap", "after": n, "next": m}`. Raises BudgetExceeded when the
        user has too many streams open.
        """
        return self._streams.open(viewer, lambda stream: self._events(stream, after))

    async def _events(self, stream: OpenStream, after: int) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._while_readable(stream, self._live(stream, after))) as live:
                async for seq, body in live:
                    if body is None:
                        if seq != after:
                            yield _gap(after, seq + 1)
                            after = seq
                        yield KEEP_ALIVE
                        continue
                    if seq > after + 1:
                        yield _gap(after, seq)
                    after = seq
                    yield sse(_type_of(body), envelope(seq, with_defaults(body)), seq)
        except OpenForLong:
            yield RECONNECT

    def turn_stream(self, turn: Turn, viewer: Viewer, after: int | None) -> StreamBody:
        """One turn's frames as SSE (`event: message_start`, ...), with what becomes of its tool calls, from its
        beginning or after a number; ends with it, or when its reader may no longer read them or has to reconnect.

        When the log no longer holds the turn, the stored messages are sent as frames instead. Raises BudgetExceeded
        when the user has too many streams open.
        """
        return self._streams.open(viewer, lambda stream: self._turn_frames(turn, stream, after))

    async def _turn_frames(self, turn: Turn, stream: OpenStream, after: int | None) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._frames(turn, stream, after)) as frames:
                async for frame in frames:
                    yield frame
        except OpenForLong:
            yield RECONNECT

    async def _frames(self, turn: Turn, stream: OpenStream, after: int | None) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self.turn_events(turn, stream, after)) as events:
                async for seq, event in events:
                    if event is None:
                        yield KEEP_ALIVE
                    elif (told := live_event(seq, event)) is not None:
                        yield told
            return
        except LogLost:
            pass
        async with aclosing(self.stored_turn(turn, stream)) as stored:
            async for found in stored:
                for frame in _stored_part(found):
                    yield frame

    def open(self, viewer: Viewer, source: Callable[[OpenStream], AsyncGenerator[bytes]]) -> StreamBody:
        """A stream of what `source` makes of `turn_events` and `stored_turn`. Raises BudgetExceeded when the user has
        too many open."""
        return self._streams.open(viewer, source)

    async def turn_events(self, turn: Turn, stream: OpenStream, after: int | None) -> AsyncGenerator[TurnEvent]:
        """A turn's events, from its beginning or after a number, with its end as the last one; as a heartbeat, None in
        place of an event. Ends also when its reader may no longer read them.

        Raises LogLost where the log cannot tell on, and OpenForLong.
        """
        viewer, start = stream.viewer, after
        if start is None:
            start = await self._start_of(turn, viewer.feed)
            if start is None:
                raise LogLost
        # What has ended brings no more events: reading what is kept is enough.
        over = turn.status.is_terminal
        source = kept_from(self._log, viewer.feed, start, stream.reader) if over else self._live(stream, start)
        async with aclosing(self._while_readable(stream, source)) as events:
            async for seq, body in events:
                if body is None:
                    if seq != start or await self._ended_unseen(turn, viewer):
                        break
                    yield start, None
                    continue
                if seq > start + 1:
                    break  # a hole: events of this turn may be in it
                start = seq
                event = orjson.loads(b"{" + with_defaults(body))
                if event.get("turn_id") != turn.id:
                    continue
                yield seq, {"seq": seq, **event}
                if event["type"] == EventType.STREAM_ENDED:
                    return
            else:
                if after is not None and await self.has_seen_end(turn, viewer.feed, after):
                    yield None, end_event(turn)
                    return
        if not stream.ended.done():
            raise LogLost

    def _live(self, stream: OpenStream, after: int) -> AsyncGenerator[Followed]:
        feed, until = stream.viewer.feed, stream.ended
        return follow_from(self._log, feed, after, stream.reader, heartbeat_s=self._keep_alive_s, until=until)

    async def _while_readable[Item](self, stream: OpenStream, source: AsyncGenerator[Item]) -> AsyncGenerator[Item]:
        """`source` until its reader may no longer read the session. Raises OpenForLong."""
        began = self._clock()
        async with aclosing(source) as items:
            async for item in items:
                if stream.ended.done():
                    return
                if self._clock() - began >= self._longest_s:
                    raise OpenForLong
                yield item

    async def _start_of(self, turn: Turn, feed: str) -> int | None:
        """A number before the turn's first frame; None when the log does not hold it (any more)."""
        before: int | None = None
        size = START_BATCH
        asked = (turn.id.encode(), turn.message_id.encode())
        try:
            while page := await self._log.read_back(feed, before, size):
                for seq, body in page:
                    kind = _type_of(body)
                    if kind == EventType.STREAM_STARTED and _is_of(turn, body):
                        return seq - 1
                    if kind in _ASKED and b'"turn_id":"%b","message_id":"%b"' % asked in body:
                        # The message that asks for it, new or asked again: the turn has not streamed yet.
                        return seq
                before, size = page[-1][0], READ_BATCH
        except EventLogUnavailable:
            pass
        return None

    async def _ended_unseen(self, turn: Turn, viewer: Viewer) -> bool:
        """Whether the turn is over, for this reader at least, although its end has not come by. No while nobody can
        say."""
        try:
            current = await self._current(turn, viewer)
        except Transient:
            return False
        return current is None or current.status.is_terminal

    async def has_seen_end(self, turn: Turn, feed: str, after: int) -> bool:
        """Whether the turn is over, and the last event that the reader had is its end. That the log has nothing newer
        does not say so: what was numbered without it may be missing."""
        if not turn.status.is_terminal:
            return False
        try:
            found = await self._log.read_back(feed, after + 1, 1)
        except EventLogUnavailable:
            return False
        if not found:
            return False
        seq, body = found[0]
        return seq == after and _type_of(body) == EventType.STREAM_ENDED and _is_of(turn, body)

    async def has_more(self, turn: Turn, viewer: Viewer, after: int) -> bool:
        """Whether the log has more of the turn after a number now. No when nobody can say."""
        try:
            found = await self._log.read(viewer.feed, after, READ_BATCH)
        except EventLogUnavailable:
            return False
        return found.is_cut or any(_is_of(turn, body) for _, body in found.items)

    async def stored_turn(
        self, turn: Turn, stream: OpenStream, *, until: Callable[[Turn], bool] = lambda turn: turn.status.is_terminal
    ) -> AsyncGenerator[StoredPart]:
        """The turn from the store, once `until` holds: its answers, and then the turn; before that, None as a
        heartbeat. For readers of an event log that went away or lost a part: what is stored is the truth.

        Ends without anything when its reader may no longer read it. Raises OpenForLong.
        """
        began = self._clock()
        while True:
            if stream.ended.done():
                return
            if self._clock() - began >= self._longest_s:
                raise OpenForLong
            try:
                current = await self._current(turn, stream.viewer)
            except Transient:
                yield None
                await asyncio.sleep(DEGRADED_POLL_SECONDS)
                continue
            if current is None:
                return
            if until(current):
                break
            yield None
            await asyncio.sleep(DEGRADED_POLL_SECONDS)
        async for message in self._messages_of(current, stream.reader):
            yield message
        yield current

    async def _current(self, turn: Turn, viewer: Viewer) -> Turn | None:
        """The turn as it is now; None for one who may no longer read it."""
        try:
            return (await self._turns.readable_turn(turn.session_id, turn.id, viewer.user_id)).turn
        except NotFound:
            return None

    async def _messages_of(self, turn: Turn, reader: Reader) -> AsyncIterator[Message]:
        page = Page(limit=200)
        # By turn and not by time: each step was stored by the clock of the instance that ran it.
        wanted = MessageFilter(role=MessageRole.ASSISTANT, turn_id=turn.id)
        while True:
            await reader.take(PAGE_BYTES)
            found = await self._turns.list_messages(turn.session_id, wanted, page)
            for _, message in found[: page.limit]:
                yield message
            if not page.has_more(found):
                return
            page = Page(limit=page.limit, after=(found[: page.limit][-1][0], ""))


def _stored_part(found: StoredPart) -> list[bytes]:
    match found:
        case None:
            return [KEEP_ALIVE]
        case Message():
            return stored_frames(found)
    error = [] if found.error is None else [failure_frame(found.error)]
    return [*error, end_frame(found)]


def _gap(after: int, following: int) -> bytes:
    return sse("gap", orjson.dumps({"type": "gap", "after": after, "next": following}))


def _type_of(body: bytes) -> str:
    """The `type` of a body, which always stands first: `"type":"x",...`."""
    return body[8 : body.index(b'"', 8)].decode()


def _is_of(turn: Turn, body: bytes) -> bool:
    return b'"turn_id":"%b"' % turn.id.encode() in body


def _has_gap(after: int, items: list[tuple[int, bytes]], last_seq: int | None) -> bool:
    if last_seq is None:
        return True
    if not items:
        return last_seq != after  # a smaller one: the log has lost its end, with what this reader has seen
    numbers = [after, *(seq for seq, _ in items)]
    return any(later != earlier + 1 for earlier, later in pairwise(numbers))
