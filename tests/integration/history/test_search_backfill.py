"""Messages that the version before indexed: found as before, and split into words by the sweep, whatever happens."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from shared.adapters.postgres.history.backfill import PostgresSearchBackfill
from shared.adapters.postgres.history.lexemes import vector_of
from shared.adapters.postgres.history.search import PostgresSearch
from shared.adapters.sql.migrate import migrate, migrations
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.history.search import SearchFilter, SearchService
from shared.sessions.models import TurnStatus
from shared.sessions.records.pages import Page
from shared.sessions.records.turns import CutAnswer
from tests.integration.domain import Stores, utc_now
from tests.support.servers import fresh_database

pytestmark = pytest.mark.integration

NUMBER = 32
_WRITE = b"""
INSERT INTO messages (id, session_id, number, turn_number, step, ordinal, role, content, status, tokens, created_at)
SELECT %(s)s || '-' || n, %(s)s, n, n, 0, 0, 'user', text, 'completed', 5, now()
FROM unnest(%(texts)s::text[]) WITH ORDINALITY AS said (text, n)
"""
"""As the version before does, which knows no words."""


async def _written(stores: Stores, *texts: str) -> tuple[str, str]:
    """A session with messages of the version before; its owner and id."""
    owner = new_id()
    session = await stores.session(owner=owner)
    await stores.sql(_WRITE, s=session.id, texts=list(texts))
    return owner, session.id


async def _texts(stores: Stores, owner: str, question: str) -> list[str]:
    service = SearchService(PostgresSearch(stores.pool))
    hits, _ = await service.search(Principal(owner, frozenset({Role.USER})), question, SearchFilter(), Page())
    return sorted(hit.snippet for hit in hits)


async def _left(stores: Stores, owner: str) -> int:
    count: int = await stores.value(b"SELECT count(*) FROM message_search_old WHERE owner_id = %(o)s", o=owner)
    return count


async def _split_all(stores: Stores, *, limit: int = 100) -> None:
    backfill = PostgresSearchBackfill(stores.pool)
    while await backfill.split(limit=limit):
        pass


async def test_old_messages_are_found_as_before_until_they_are_split_and_then_in_every_script(stores: Stores) -> None:
    owner, session_id = await _written(
        stores, "Straße in Düsseldorf", "私は東京都に住んでいます。", "การประชุมพรุ่งนี้", "?!"
    )
    assert await _left(stores, owner) == 4
    assert await _texts(stores, owner, "straße") == ["Straße in Düsseldorf"]
    assert await _texts(stores, owner, "東京") == ["私は東京都に住んでいます。"]
    assert await _texts(stores, owner, "strasse") == await _texts(stores, owner, "ประชุม") == []

    await _split_all(stores, limit=3)

    assert await _left(stores, owner) == 0
    assert await stores.value(b"SELECT count(*) FROM message_words WHERE session_id = %(s)s", s=session_id) == 4
    assert await _texts(stores, owner, "strasse") == ["Straße in Düsseldorf"]
    assert await _texts(stores, owner, "東京") == ["私は東京都に住んでいます。"]
    assert await _texts(stores, owner, "ประชุม") == ["การประชุมพรุ่งนี้"]


async def test_while_half_is_split_every_message_is_found_exactly_once(stores: Stores) -> None:
    owner, _ = await _written(stores, *(f"word number{n}" for n in range(10)))
    backfill = PostgresSearchBackfill(stores.pool)
    while await _left(stores, owner) > 5:
        await backfill.split(limit=2)
        assert await _texts(stores, owner, "word") == [f"word number{n}" for n in range(10)]


async def test_a_batch_that_is_cut_has_moved_nothing_and_the_next_one_does_it(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, _ = await _written(stores, "cut here", "and here")

    def cut(content: str) -> str | None:
        raise asyncio.CancelledError(content)

    monkeypatch.setattr("shared.adapters.postgres.history.backfill.vector_of", cut)
    with pytest.raises(asyncio.CancelledError):
        await _split_all(stores)
    monkeypatch.undo()
    assert await _left(stores, owner) == 2
    await _split_all(stores)
    assert await _left(stores, owner) == 0
    assert await _texts(stores, owner, "here") == ["and here", "cut here"]


async def test_several_split_at_once_and_each_message_once(stores: Stores) -> None:
    owner, session_id = await _written(stores, *(f"word number{n}" for n in range(40)))
    await asyncio.gather(*(_split_all(stores, limit=7) for _ in range(4)))
    await _split_all(stores)
    assert await _left(stores, owner) == 0
    assert await stores.value(b"SELECT count(*) FROM message_words WHERE session_id = %(s)s", s=session_id) == 40


async def test_a_message_that_is_changed_or_deleted_meanwhile_is_found_as_it_is(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, session_id = await _written(stores, "changed before", "deleted before", "untouched before")
    reached, go_on = asyncio.Event(), asyncio.Event()
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        reached.set()
        await go_on.wait()
        await sleep(seconds)

    monkeypatch.setattr("shared.adapters.postgres.history.backfill.asyncio.sleep", pause)
    batch = asyncio.create_task(PostgresSearchBackfill(stores.pool).split(limit=100))
    await reached.wait()
    monkeypatch.undo()
    writers = asyncio.gather(
        stores.sql(
            b"UPDATE messages SET content = 'changed after', words = %(w)s::tsvector WHERE id = %(s)s || '-1'",
            s=session_id,
            w=vector_of("changed after"),
        ),
        stores.sql(b"DELETE FROM messages WHERE id = %(s)s || '-2'", s=session_id),
    )
    go_on.set()
    await asyncio.gather(batch, writers)
    await _split_all(stores)
    assert await _texts(stores, owner, "before") == ["untouched before"]
    assert await _texts(stores, owner, "after") == ["changed after"]
    assert await stores.value(b"SELECT count(*) FROM message_search WHERE session_id = %(s)s", s=session_id) == 2


async def test_words_are_only_on_their_way_in_a_message(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.answer(posted.turn.id, content="an answer")
    session_id = posted.turn.session_id
    for query, count in (
        (b"SELECT count(*) FROM messages WHERE session_id = %(s)s AND words IS NOT NULL", 0),
        (b"SELECT count(*) FROM message_words WHERE session_id = %(s)s", 2),
        (b"SELECT count(*) FROM message_search_old WHERE session_id = %(s)s", 0),
    ):
        assert await stores.value(query, s=session_id) == count


async def test_what_was_streamed_of_an_answer_that_is_cut_is_found(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.started(posted.turn.id)
    answer = CutAnswer(content="die Straße", reasoning="", tokens=3)
    await stores.turns.finish(posted.turn.id, status=TurnStatus.CANCELLED, error=None, now=utc_now(), answer=answer)
    count = b"SELECT count(*) FROM message_words WHERE session_id = %(s)s AND words @@ %(q)s::tsquery"
    assert await stores.value(count, s=posted.turn.session_id, q="'~strasse'") == 1


def test_the_migration_keeps_what_was_indexed_and_the_version_before_goes_on_searching(
    postgres_server: dict[str, str],
) -> None:
    with fresh_database(postgres_server["POSTGRES_URL"], template="template0") as url:
        migrate(url, [one for one in migrations() if one.number < NUMBER])
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO sessions (id, owner_id, status, config, created_at, updated_at, event_seq_ceiling)"
                " VALUES ('s', 'ann', 'ACTIVE', '{}', now(), now(), 0)"
            )
            connection.execute(_WRITE, {"s": "s", "texts": ["an old report"]})
            migrate(url, [one for one in migrations() if one.number <= NUMBER])
            connection.execute(
                b"INSERT INTO messages (id, session_id, number, turn_number, step, ordinal, role, content, status,"
                b" tokens, created_at, words)"
                b" VALUES ('n', 's', 9, 9, 0, 0, 'user', 'a new report', 'completed', 5, now(), %(w)s::tsvector)",
                {"w": vector_of("a new report")},
            )
            of_before = (
                "SELECT message_id FROM message_search s WHERE s.owner_id = 'ann'"
                " AND s.words @@ search_query(ARRAY['report'], ARRAY[false]) ORDER BY message_id"
            )
            assert [row[0] for row in connection.execute(of_before)] == ["n", "s-1"]
            assert connection.execute("SELECT count(*) FROM message_search_old").fetchone() == (1,)
