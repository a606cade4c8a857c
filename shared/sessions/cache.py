"""SessionCache: a short-lived cache of who may read a session and which branches it has.

Every read of a session's parts (messages, events, bookmarks) needs this first; one entry serves all users of the
session. Fields that change with every message (status, times, tokens) are not cached: each message would have to
invalidate them, and `GET /sessions/{id}` needs an exact ETag.

Invariant: a read that begins after a change was answered sees the change. A writer invalidates the entry before its
transaction and again after it; an entry loaded before or during the transaction is not cached. If the writer crashes
in between, the open change stops caching for longer than a transaction can last. If the cache is unavailable, a change
that takes access away is answered only after every older entry has expired.
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
from shared.rights import Access, Action, require

KEPT_S = 10.0
"""Lifetime of an entry. Kept short, since a removal of access waits this long when Redis is unavailable."""

LOAD_S = 2.0
"""A reader that takes longer to load does not cache the result."""

_TELL_AGAIN_S = 1.0

_SHAPE = 2
"""Format version; raise it when `SessionEntry` changes, so that no app version reads another's entries."""


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """The cached part of a session. participants: access by user id."""

    owner_id: str
    participants: Mapping[str, Access]
    active_branch: int
    last_branch: int
    feed: str
    """Key of its event log."""

    def seen_by(self, user_id: str) -> ReadableSession:
        """Raises NotFound when the user may not read it."""
        access = "owner" if user_id == self.owner_id else self.participants.get(user_id)
        require(access, Action.READ)
        assert access is not None  # a stranger may do nothing
        return ReadableSession(
            self.owner_id, access, self.active_branch, self.last_branch, self.feed, self.participants
        )

    def dump(self) -> bytes:
        return orjson.dumps(
            [_SHAPE, self.owner_id, dict(self.participants), self.active_branch, self.last_branch, self.feed]
        )

    @classmethod
    def load(cls, data: bytes) -> SessionEntry | None:
        """None for an entry of another format version."""
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
    participants: Mapping[str, Access]
    """Who may read it beside its owner: access by user id."""


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
    """Invalidates the cache when a session changes."""

    def changing(self, session_id: str, *, takes_access: bool = False) -> AbstractAsyncContextManager[None]:
        """Wraps the transaction. takes_access: the block ends only when every reader sees the change."""
        ...


class EntryStore(Protocol):
    """Storage of the entries. Every method raises CacheUnavailable."""

    async def find(self, session_id: str) -> bytes | None: ...

    async def ticket(self, session_id: str) -> str | None:
        """Version of the entry, read before a session is loaded; None while a change is open."""
        ...

    async def keep(self, session_id: str, ticket: str, entry: bytes) -> None:
        """Store an entry for KEPT_S, unless a change has begun or ended since the ticket was read."""
        ...

    async def begin_change(self, session_id: str) -> None:
        """Delete the entry; store none until the change ends."""
        ...

    async def end_change(self, session_id: str) -> None:
        """Delete the entry; earlier tickets become invalid."""
        ...


class SessionCache:
    """`SessionReader` and `SessionChanges` over an entry store that may be unavailable at any time."""

    def __init__(
        self,
        entries: EntryStore,
        load: Callable[[str], Awaitable[SessionEntry | None]],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """load: reads a session from the database; None when it does not exist."""
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
            with suppress(CacheUnavailable):  # the next reader loads from the database again
                await self._entries.keep(session_id, ticket, entry.dump())
        return entry

    @asynccontextmanager
    async def changing(self, session_id: str, *, takes_access: bool = False) -> AsyncIterator[None]:
        """See `SessionChanges`."""
        with suppress(CacheUnavailable):  # `end_change` invalidates the entry too
            await self._entries.begin_change(session_id)
        told = False
        try:
            yield
        finally:
            with suppress(CacheUnavailable):  # waited for below, or bounded by the lifetime of an entry
                await self._entries.end_change(session_id)
                told = True
        if takes_access and not told:
            await self._outlived(session_id)

    async def _outlived(self, session_id: str) -> None:
        """Wait until no reader can see the state before the change: it was invalidated after all, or has expired.

        A reader that reaches Redis may have loaded just before the change and store its entry after it. So entries
        expire only after their lifetime plus the longest load.
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
