"""Presence: whether anybody may be in a session's SignalR group. Where nobody is, nothing is sent to it.

A session has a mark, which Redis returns with each batch of events that it numbers: the time of the newest join in
milliseconds, negative once the group was found to be empty. A join raises it before the connection enters the group,
so whoever writes the session's events hears of it with their next batch, on any instance. What came before that batch
is in the event log, which a client reads once it has joined.

Invariant: a group is taken for empty only by a mark at or below zero, and a mark becomes that only
- when the session is made, and when a step begins of which the database knows no connection on record;
- when the last connection on record has unsubscribed;
- when SignalR says that the group has no connection, no join is younger than SETTLED_S, and no user is on record with
  connections that are still to come: connections that died without a word end here. SignalR is believed once it has
  told this process of any group that somebody is in it: a no alone may come from something that knows no group.
Each of these changes only the mark that stood when it looked, and so loses against every later join. A mark that Redis
has lost is not known, which sends. One that could not be set because Redis was away is set when it is back; should the
process die before, the next step brings what the database has on record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from shared.errors import CacheUnavailable, Transient
from shared.sessions.events import EventTarget, session_group
from shared.sessions.live.realtime import DeliveryFailed

log = logging.getLogger(__name__)

SETTLED_S = 60.0
"""Longer than a function that joins a connection takes to end."""
LOOK_EVERY_S = 60.0
"""How often a process asks SignalR about one session at most."""
AGAIN_EVERY_S = 0.5
AGAIN_FOR_S = 600.0
"""How long a join is said again while Redis is away: longer than a step, which hears of it from Redis alone."""
_LOOKED_LIMIT = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PresenceMarks(Protocol):
    """Where the marks are kept, by feed (Redis). Every method raises CacheUnavailable."""

    async def find(self, feed: str) -> int | None:
        """The mark; None: not known."""
        ...

    async def join(self, feed: str, at_ms: int) -> None:
        """Raise the mark above what it ever was, to `at_ms` at least."""
        ...

    async def vacate(self, feed: str, mark: int) -> bool:
        """Take the group for empty if `mark` (above 0) still stands; whether it did."""
        ...


class OnRecord(NamedTuple):
    """Who joined a session's group and has not left it, as far as the database knows."""

    connections: bool
    """Connections, each by its id."""
    users: bool
    """Users with all their connections, also later ones."""


class Presence:
    """Keeps the marks of sessions. Bound to its event loop."""

    def __init__(
        self,
        marks: PresenceMarks,
        is_empty: Callable[[str], Awaitable[bool]],
        on_record: Callable[[str], Awaitable[OnRecord]],
        *,
        again_every_s: float = AGAIN_EVERY_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """is_empty: whether a SignalR group has no connection; raises DeliveryFailed. on_record: by session id. clock:
        seconds since 1970."""
        self._marks = marks
        self._is_empty = is_empty
        self._on_record = on_record
        self._again_every_s = again_every_s
        self._clock = clock
        self._looked: OrderedDict[str, float] = OrderedDict()
        self._has_found_somebody = False
        self._unsaid: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def joins(self, feed: str, at: datetime) -> None:
        """Somebody is on record and is about to join. Never fails: what Redis cannot take now is said again."""
        at_ms = (at - _EPOCH) // timedelta(milliseconds=1)
        try:
            await self._marks.join(feed, at_ms)
        except CacheUnavailable:
            is_first = not self._unsaid
            self._unsaid[feed] = at_ms
            if is_first:
                self._start(self._say_again())

    async def left(self, session_id: str, feed: str) -> None:
        """Somebody is no longer on record. Raises Transient."""
        try:
            mark = await self._marks.find(feed)
            # Whoever joins is on record before they have a mark: asked in this order, none is overlooked.
            if mark is not None and mark > 0 and not any(await self._on_record(session_id)):
                await self._marks.vacate(feed, mark)
        except CacheUnavailable:
            return  # the next look finds it

    def look(self, target: EventTarget, mark: int) -> None:
        """Find out, beside the caller, whether anybody is still there; the session has this mark."""
        now = self._clock()
        if now - mark / 1000 < SETTLED_S or now - self._looked.get(target.feed, 0.0) < LOOK_EVERY_S:
            return
        self._looked[target.feed] = now
        self._looked.move_to_end(target.feed)
        if len(self._looked) > _LOOKED_LIMIT:
            self._looked.popitem(last=False)
        self._start(self._vacate_if_empty(target, mark))

    async def settled(self) -> None:
        """Wait for what runs beside the callers."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _vacate_if_empty(self, target: EventTarget, mark: int) -> None:
        try:
            if not await self._is_empty(session_group(target.feed)):
                self._has_found_somebody = True
                return
            if self._has_found_somebody and not (await self._on_record(target.session_id)).users:
                await self._marks.vacate(target.feed, mark)
        except (DeliveryFailed, Transient, CacheUnavailable) as exc:
            log.info("nobody can say whether anybody hears session %s: %s", target.session_id, exc)

    async def _say_again(self) -> None:
        until = self._clock() + AGAIN_FOR_S
        while self._unsaid and self._clock() < until:
            await asyncio.sleep(self._again_every_s)
            for feed, at_ms in list(self._unsaid.items()):
                try:
                    await self._marks.join(feed, at_ms)
                except CacheUnavailable:
                    break
                if self._unsaid.get(feed) == at_ms:
                    del self._unsaid[feed]
        self._unsaid.clear()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # In a context of its own: it is no part of the request that happened to begin it.
        task = asyncio.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
