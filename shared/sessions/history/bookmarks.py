"""BookmarkService: a user's bookmarks of messages.

Invariant: a bookmark is private to the user who made it. It is deleted with its message, and it is inaccessible while
the user may not read the session.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from pydantic import Field

from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.cache import SessionReader
from shared.sessions.models import Value
from shared.sessions.records.pages import Page


class NewBookmark(Value):
    """Body of `POST /sessions/{id}/bookmarks`."""

    message_id: str = Field(min_length=1, max_length=64)
    note: str | None = Field(None, max_length=2_000)


class Bookmark(Value):
    id: str
    session_id: str
    message_id: str
    note: str | None
    created_at: datetime


class BookmarkRepository(Protocol):
    """Bookmarks by user. The caller has checked that the user may read the session."""

    async def put(self, bookmark: Bookmark, user_id: str) -> tuple[Bookmark, bool]:
        """Store it, or update the note of the existing one; the flag is True for a new one. Raises NotFound."""
        ...

    async def get(self, session_id: str, bookmark_id: str, user_id: str) -> Bookmark:
        """Raises NotFound."""
        ...

    async def list_for(self, session_id: str, user_id: str, page: Page) -> list[Bookmark]:
        """Newest first, one more than `page.limit` when there are more."""
        ...

    async def delete(self, session_id: str, bookmark_id: str, user_id: str) -> None:
        """Raises NotFound."""
        ...


class BookmarkService:
    """A user's bookmarks. Checks access in every method."""

    def __init__(self, sessions: SessionReader, bookmarks: BookmarkRepository) -> None:
        self._sessions = sessions
        self._bookmarks = bookmarks

    async def put(self, session_id: str, body: NewBookmark, principal: Principal) -> tuple[Bookmark, bool]:
        """Bookmark a message; a repeat replaces the note. The flag is True for a new bookmark. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        bookmark = Bookmark(
            id=new_id(),
            session_id=session_id,
            message_id=body.message_id,
            note=body.note,
            created_at=datetime.now(UTC),
        )
        return await self._bookmarks.put(bookmark, principal.user_id)

    async def get(self, session_id: str, bookmark_id: str, principal: Principal) -> Bookmark:
        """Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        return await self._bookmarks.get(session_id, bookmark_id, principal.user_id)

    async def list_for(self, session_id: str, principal: Principal, page: Page) -> tuple[list[Bookmark], str | None]:
        """Newest first, and the next cursor. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        found = await self._bookmarks.list_for(session_id, principal.user_id, page)
        return page.cut(found, lambda bookmark: (bookmark.created_at, bookmark.id))

    async def delete(self, session_id: str, bookmark_id: str, principal: Principal) -> None:
        """Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        await self._bookmarks.delete(session_id, bookmark_id, principal.user_id)
