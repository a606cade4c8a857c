"""Following a session's event log from a number on: first the events it keeps, then live ones.

Invariant: each event is passed on once, in order. After an interruption the log is read again from the last number that
was passed on. Events that the log has lost show as a hole in the numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from shared.sessions.events import EventLog, EventLogUnavailable
from shared.sessions.live.heartbeat import Heartbeat, with_heartbeat

READ_BATCH = 500

type Followed = tuple[int, bytes | None]
"""An event's number and body; or, as a heartbeat, the last number and None. A last number below one that was passed on
means that the log has lost its end: what comes next has numbers above it."""


async def follow_from(
    log: EventLog, feed: str, after: int, *, heartbeat_s: float, until: asyncio.Future[None]
) -> AsyncGenerator[Followed]:
    """Events after `after`, then live ones. Ends when `until` is done or the log cannot be reached."""
    try:
        async with aclosing(with_heartbeat(log.follow(feed), heartbeat_s, until)) as live:
            async for items in live:
                if isinstance(items, Heartbeat):
                    yield after, None
                    continue
                if items is None or (items and items[0][0] > after + 1):
                    # Just subscribed, interrupted, or something was missed: the stream has it, or it is lost.
                    newest: int | None = None
                    async for seq, body in _read_all(log, feed, after):
                        if body is None:
                            newest = seq
                            continue
                        after = seq
                        yield seq, body
                    if newest is not None and newest < after:
                        after = newest
                        yield after, None
                for seq, body in items or ():
                    if seq > after:
                        after = seq
                        yield seq, body
    except EventLogUnavailable:
        return


async def kept_from(log: EventLog, feed: str, after: int) -> AsyncGenerator[Followed]:
    """Events after `after` that the log holds now. Ends when the log cannot be reached."""
    try:
        async for seq, body in _read_all(log, feed, after):
            if body is not None:
                yield seq, body
    except EventLogUnavailable:
        return


async def _read_all(log: EventLog, feed: str, after: int) -> AsyncIterator[Followed]:
    """What the log has after `after`, and last its newest number, if it knows one."""
    while True:
        found = await log.read(feed, after, READ_BATCH)
        for seq, body in found.items:
            yield seq, body
        if len(found.items) < READ_BATCH:
            if found.last_seq is not None:
                yield found.last_seq, None
            return
        after = found.items[-1][0]
