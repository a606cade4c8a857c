"""SessionCache: who may read a session, and which of its branches are there, kept beside the database for a moment.

Reads of a session's parts (messages, events, bookmarks) begin with this question; one entry answers it for all callers
of the session. What changes with every message (status, times, tokens) is not kept: it would cost the write path, and
`GET /sessions/{id}` answers with an ETag that must be exact.

Invariant: a read that begins after a change was answered sees the change. A change is announced before its transaction
and again after it; what a reader loaded in between, or before, is not kept. One that was cut in the middle leaves its
announcement, under which nothing is kept for as long as a transaction could last. Where nobody could be told, a change
that takes access away is not answered before every entry that may still name it is too old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import orjson

from shared.errors import CacheUnavailable, no_such_session
from shared.sessions.records.sessions import Access

KEPT_S = 10.0
"""An entry's life. Also how long a removal waits when Redis is away, so not longer."""

LOAD_S = 2.0
"""A reader that took longer to load does not keep what it read."""

_TELL_AGAIN_S = 1.0

_SHAPE = 2
"""Goes up with `SessionEntry`: another version of the app must not read what this one kept."""


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """What is kept of a session. participants: access by user."""

    owner_id: str
    participants: Mapping[str, Access]
    active_branch: int
    last_branch: int
    feed: str
    """Where its events are."""

    def seen_by(self, user_id: str) -> ReadableSession:
        """Raises NotFound when the user may not read it."""
        access = "owner" if user_id == self.owner_id else self.participants.get(user_id)
        if access is None:
            raise no_such_session()
        return ReadableSession(self.owner_id, access, self.active_branch, self.last_branch, self.feed)

    def dump(self) -> bytes:
        return orjson.dumps(
            [_SHAPE, self.owner_id, dict(self.participants), self.active_branch, self.last_branch, self.feed]
        )

    @classmethod
    def load(cls, data: bytes) -> SessionEntry | None:
        """None for what another version of the app kept."""
        shape, *fields = orjson.loads(data)
        return cls(*fields) if shape == _SHAPE else None


@dataclass(frozen=True, slots=True)
class ReadableSession:
    """A session as one of its readers may see it."""

    owner_id: str
    access: Access
    active_branch: int
    last_branch: int
    feed: str


class SessionView(Protocol):
    """What `ReadableSession` and `SessionRecord` have in common."""

    @property
    def access(self) -> Access: ...

    @property
    def active_branch(self) -> int: ...

    @property
    def last_branch(self) -> int: ...


class SessionReader(Protocol):
    async def get(self, session_id: str, user_id: str) -> SessionView:
        """Raises NotFound when it does not exist or the user may not read it."""
        ...


class SessionChanges(Protocol):
    """Whom to tell of a change to what is kept."""

    def changing(self, session_id: str, *, takes_access: bool = False) -> AbstractAsyncContextManager[None]:
        """Around the transaction. takes_access: the block does not end before the change holds for every reader."""
        ...


class EntryStore(Protocol):
    """Where entries are kept. Every method raises CacheUnavailable."""

    async def find(self, session_id: str) -> bytes | None: ...

    async def ticket(self, session_id: str) -> str | None:
        """Taken before a session is loaded; None while it is being changed."""
        ...

    async def keep(self, session_id: str, ticket: str, entry: bytes) -> None:
        """Keep for KEPT_S what was loaded under the ticket, unless a change was announced since."""
        ...

    async def begin_change(self, session_id: str) -> None:
        """Drop what is kept, and keep nothing until the change ends."""
        ...

    async def end_change(self, session_id: str) -> None:
        """Drop what is kept; tickets from before are void."""
        ...


class SessionCache:
    """`SessionReader` and `SessionChanges` over a store of entries that may be away at any time."""

    def __init__(
        self,
        entries: EntryStore,
        load: Callable[[str], Awaitable[SessionEntry | None]],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """load: a session from the database, None when there is none."""
        self._entries = entries
        self._load = load
        self._pause = pause

    async def get(self, session_id: str, user_id: str) -> ReadableSession:
        """Raises NotFound when it does not exist or the user may not read it."""
        entry = await self._kept(session_id) or await self._loaded(session_id)
        if entry is None:
            raise no_such_session()
        return entry.seen_by(user_id)

    async def _kept(self, session_id: str) -> SessionEntry | None:
        try:
            found = await self._entries.find(session_id)
        except CacheUnavailable:
            return None
        return None if found is None else SessionEntry.load(found)

    async def _loaded(self, session_id: str) -> SessionEntry | None:
        began = time.monotonic()
        try:
            ticket = await self._entries.ticket(session_id)
        except CacheUnavailable:
            ticket = None
        entry = await self._load(session_id)
        if entry is not None and ticket is not None and time.monotonic() - began < LOAD_S:
            with suppress(CacheUnavailable):  # the next reader loads it again
                await self._entries.keep(session_id, ticket, entry.dump())
        return entry

    @asynccontextmanager
    async def changing(self, session_id: str, *, takes_access: bool = False) -> AsyncIterator[None]:
        """See `SessionChanges`."""
        with suppress(CacheUnavailable):  # the end tells what this could not
            await self._entries.begin_change(session_id)
        told = False
        try:
            yield
        finally:
            with suppress(CacheUnavailable):  # waited for below, or bounded by the life of an entry
                await self._entries.end_change(session_id)
                told = True
        if takes_access and not told:
            await self._outlived(session_id)

    async def _outlived(self, session_id: str) -> None:
        """Wait until nobody can read from before the change: told after all, or entries too old.

        A reader that does reach Redis may have loaded just before the change, so that is their life and the longest
        load.
        """
        left_s = KEPT_S + LOAD_S
        while left_s > 0:
            await self._pause(_TELL_AGAIN_S)
            left_s -= _TELL_AGAIN_S
            try:
                await self._entries.end_change(session_id)
            except CacheUnavailable:
                continue
            return
