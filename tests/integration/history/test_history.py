"""History pages and bookmarks over PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Any

import pytest

from shared.adapters.postgres.history.bookmarks import PostgresBookmarks
from shared.errors import ErrorCode, InvalidInput, NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.history.bookmarks import BookmarkService, NewBookmark
from shared.sessions.history.manager import HistoryManager
from shared.sessions.models import Concurrency
from shared.sessions.records.pages import MessageFilter, Page, decode_cursor
from tests.integration.domain import OWNER, READER, STRANGER, Stores

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset({Role.USER}))
RITA = Principal(READER, frozenset({Role.USER}))
MALLORY = Principal(STRANGER, frozenset({Role.USER, Role.APPROVER, Role.ADMIN}))


@pytest.fixture
def history(stores: Stores) -> HistoryManager:
    return HistoryManager(stores.sessions, stores.turns)


@pytest.fixture
def bookmarks(stores: Stores) -> BookmarkService:
    return BookmarkService(stores.sessions, PostgresBookmarks(stores.pool))


async def _refused(attempt: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(NotFound) as caught:
        await attempt
    return caught.value.code


async def test_message_pages_join(stores: Stores, history: HistoryManager) -> None:
    session = await stores.session()
    for n in range(5):
        await stores.post(session.id, f"m{n}", concurrency=Concurrency.ENQUEUE)
    contents: list[str] = []
    page = Page(limit=2)
    while True:
        messages, cursor = await history.list_messages(session.id, ANN, MessageFilter(), page)
        contents += [message.content for message in messages]
        if cursor is None:
            break
        page = Page(limit=2, after=decode_cursor(cursor, int))

    assert contents == ["m0", "m1", "m2", "m3", "m4"]


async def test_a_stranger_gets_404_everywhere(
    stores: Stores, history: HistoryManager, bookmarks: BookmarkService
) -> None:
    session = await stores.shared_session()
    message = (await stores.post(session.id)).message
    mine, _ = await bookmarks.put(session.id, NewBookmark(message_id=message.id), ANN)
    for attempt in (
        history.get_message(session.id, message.id, MALLORY),
        history.list_messages(session.id, MALLORY, MessageFilter(), Page()),
        bookmarks.put(session.id, NewBookmark(message_id=message.id), MALLORY),
        bookmarks.get(session.id, mine.id, MALLORY),
        bookmarks.list_for(session.id, MALLORY, Page()),
        bookmarks.delete(session.id, mine.id, MALLORY),
    ):
        assert await _refused(attempt) is ErrorCode.SESSION_NOT_FOUND


async def test_bookmarks_are_their_makers_own(stores: Stores, bookmarks: BookmarkService) -> None:
    session = await stores.shared_session()
    message = (await stores.post(session.id)).message
    mine, _ = await bookmarks.put(session.id, NewBookmark(message_id=message.id, note="mine"), ANN)
    hers, is_new = await bookmarks.put(session.id, NewBookmark(message_id=message.id, note="hers"), RITA)

    assert is_new
    assert await bookmarks.list_for(session.id, ANN, Page()) == ([mine], None)
    assert await bookmarks.list_for(session.id, RITA, Page()) == ([hers], None)
    assert await _refused(bookmarks.get(session.id, hers.id, ANN)) is ErrorCode.MESSAGE_NOT_FOUND
    assert await _refused(bookmarks.delete(session.id, hers.id, ANN)) is ErrorCode.MESSAGE_NOT_FOUND
    await bookmarks.delete(session.id, hers.id, RITA)
    assert await bookmarks.list_for(session.id, RITA, Page()) == ([], None)
    assert await bookmarks.get(session.id, mine.id, ANN) == mine


async def test_marking_a_message_again_changes_the_note(stores: Stores, bookmarks: BookmarkService) -> None:
    posted = await stores.turn()
    session_id, message_id = posted.message.session_id, posted.message.id
    first, was_new = await bookmarks.put(session_id, NewBookmark(message_id=message_id, note="one"), ANN)
    second, is_new = await bookmarks.put(session_id, NewBookmark(message_id=message_id, note="two"), ANN)

    assert (was_new, is_new) == (True, False)
    assert second == first.model_copy(update={"note": "two"})


async def test_a_bookmark_needs_a_message_of_that_session(stores: Stores, bookmarks: BookmarkService) -> None:
    session = await stores.session()
    elsewhere = (await stores.turn()).message
    for message_id in (new_id(), elsewhere.id):
        body = NewBookmark(message_id=message_id)
        assert await _refused(bookmarks.put(session.id, body, ANN)) is ErrorCode.MESSAGE_NOT_FOUND
    with pytest.raises(InvalidInput):
        await bookmarks.put(elsewhere.session_id, NewBookmark(message_id=elsewhere.id, note="a\x00b"), ANN)


async def test_bookmark_pages_hold_each_once_newest_first(stores: Stores, bookmarks: BookmarkService) -> None:
    session = await stores.session()
    made = []
    for _ in range(5):
        message = (await stores.post(session.id, concurrency=Concurrency.ENQUEUE)).message
        made.append((await bookmarks.put(session.id, NewBookmark(message_id=message.id), ANN))[0])
    found = []
    page = Page(limit=2)
    while True:
        items, cursor = await bookmarks.list_for(session.id, ANN, page)
        found += items
        if cursor is None:
            break
        page = Page(limit=2, after=decode_cursor(cursor, datetime))

    assert found == made[::-1]


async def test_bookmarks_go_with_their_session(stores: Stores, bookmarks: BookmarkService) -> None:
    posted = await stores.turn()
    bookmark, _ = await bookmarks.put(posted.message.session_id, NewBookmark(message_id=posted.message.id), ANN)
    await stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=posted.message.session_id)

    assert await stores.value(b"SELECT count(*) FROM bookmarks WHERE id = %(b)s", b=bookmark.id) == 0
