"""Bookmarks in PostgreSQL. Implements `BookmarkRepository`."""

from __future__ import annotations

from shared.adapters.postgres.pool import PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.errors import ErrorCode, NotFound
from shared.sessions.history.bookmarks import Bookmark
from shared.sessions.records.pages import Page

_Q = load_queries("history/bookmarks")


class PostgresBookmarks:
    """`BookmarkRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def put(self, bookmark: Bookmark, user_id: str) -> tuple[Bookmark, bool]:
        parameters = {
            "id": bookmark.id,
            "session_id": bookmark.session_id,
            "message_id": bookmark.message_id,
            "user_id": user_id,
            "note": bookmark.note,
            "now": bookmark.created_at,
        }
        row = await self._pool.fetch_one(_Q["set_bookmark"], parameters)
        if row is None:
            raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such message.")
        return _bookmark(row), row["made"]

    async def get(self, session_id: str, bookmark_id: str, user_id: str) -> Bookmark:
        row = await self._pool.fetch_one(_Q["bookmark"], _key(session_id, bookmark_id, user_id))
        if row is None:
            raise _no_such_bookmark()
        return _bookmark(row)

    async def list_for(self, session_id: str, user_id: str, page: Page) -> list[Bookmark]:
        after_at, after_id = page.after or (None, None)
        parameters = {
            "session_id": session_id,
            "user_id": user_id,
            "after_at": after_at,
            "after_id": after_id,
            "limit": page.limit + 1,
        }
        return [_bookmark(row) for row in await self._pool.fetch_all(_Q["bookmarks"], parameters)]

    async def delete(self, session_id: str, bookmark_id: str, user_id: str) -> None:
        if not await self._pool.execute(_Q["delete_bookmark"], _key(session_id, bookmark_id, user_id)):
            raise _no_such_bookmark()


def _key(session_id: str, bookmark_id: str, user_id: str) -> dict[str, str]:
    return {"session_id": session_id, "bookmark_id": bookmark_id, "user_id": user_id}


def _no_such_bookmark() -> NotFound:
    # The contract has no code of its own for bookmarks: a bookmark is a place among messages.
    return NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such bookmark.")


def _bookmark(row: Row) -> Bookmark:
    return Bookmark(
        id=row["id"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        note=row["note"],
        created_at=row["created_at"],
    )
