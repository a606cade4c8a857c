"""Following a session's event log from a number on: first the events it keeps, then live ones.

Invariant: each event is passed on once, in order. After an interruption the log is read again from the last number that
was passed on. Events that the log has lost show as a hole in the numbers. What the reader holds of them is counted, and
waits for room (`reading.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from shared.sessions.events import READ_BYTES, EventLog, EventLogUnavailable
from shared.sessions.live.heartbeat import Heartbeat, with_heartbeat
from shared.sessions.live.reading import Reader

READ_BATCH = 500

type Followed = tuple[int, bytes | None]
"""An event's number and body; or, as a heartbeat, the last number and None. A last number other than the one that was
passed on means that the log has lost its end: what comes next has numbers above it."""


async def follow_from(
    log: EventLog, feed: str, after: int, reader: Reader, *, heartbeat_s: float, until: asyncio.Future[None]
) -> AsyncGenerator[Followed]:
    """Events after `after`, then live ones. Ends when `until` is done or the log cannot be reached."""
    try:
        async with aclosing(with_heartbeat(log.follow(feed), heartbeat_s, until)) as live:
            async for items in live:
                if isinstance(items, Heartbeat):
                    yield after, None
                    continue
                if not items or items[0][0] > after + 1:
                    # Just subscribed, interrupted, or something was missed: the stream has it, or it is lost.
                    newest: int | None = None
                    async for seq, body in _read_all(log, feed, after, reader):
                        if body is None:
                            newest = seq
                            continue
                        after = seq
                        yield seq, body
                    if newest is not None and newest != after:
                        after = newest
                        yield after, None
                if not items:
                    continue
                reader.keep(_size_bytes(items))
                for seq, body in items:
                    if seq > after:
                        after = seq
                        yield seq, body
                reader.keep(0)
    except EventLogUnavailable:
        return


async def kept_from(log: EventLog, feed: str, after: int, reader: Reader) -> AsyncGenerator[Followed]:
    """Events after `after` that the log holds now. Ends when the log cannot be reached."""
    try:
        async for seq, body in _read_all(log, feed, after, reader):
            if body is not None:
                yield seq, body
    except EventLogUnavailable:
        return


async def _read_all(log: EventLog, feed: str, after: int, reader: Reader) -> AsyncIterator[Followed]:
    """What the log has after `after`, and last its newest number, if it knows one."""
    while True:
        await reader.take(READ_BYTES)
        found = await log.read(feed, after, READ_BATCH)
        reader.keep(_size_bytes(found.items))
        for seq, body in found.items:
            yield seq, body
        if len(found.items) < READ_BATCH and not found.is_cut:
            reader.keep(0)
            if found.last_seq is not None:
                yield found.last_seq, None
            return
        after = found.items[-1][0]


def _size_bytes(items: Sequence[tuple[int, bytes]]) -> int:
    return sum(len(body) for _, body in items)
