"""Full-text search on PostgreSQL: what is found, in which order, by whom, and what no question can do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.adapters.postgres.history.search import PostgresSearch
from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.errors import ErrorCode, InvalidInput
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.history.recall import HistorySearch
from shared.sessions.history.search import SearchFilter, SearchHit, SearchService
from shared.sessions.models import Concurrency, MessageRole, MessageStatus
from shared.sessions.records.pages import Page, decode_cursor
from shared.sessions.tools.base import ToolContext
from shared.sessions.tools.builtin.search_history import SearchHistoryArguments, search_history
from shared.sessions.tools.services import ToolServices
from tests.integration.domain import READER, Stores, result_of, utc_now

pytestmark = pytest.mark.integration


@pytest.fixture
def search(stores: Stores) -> SearchService:
    return SearchService(PostgresSearch(stores.pool))


def _user(user_id: str) -> Principal:
    return Principal(user_id, frozenset({Role.USER}))


async def _said(stores: Stores, *contents: str, owner: str | None = None, **fields: Any) -> tuple[str, str]:
    """A session in which all of this was said; its owner and id."""
    owner = owner or new_id()
    session = await stores.session(owner=owner, **fields)
    for content in contents:
        await stores.post(session.id, content, user=owner, concurrency=Concurrency.ENQUEUE)
    return owner, session.id


async def _find(search: SearchService, user: str, question: str, **wanted: Any) -> list[SearchHit]:
    hits, _ = await search.search(_user(user), question, SearchFilter(**wanted), Page())
    return hits


async def _texts(search: SearchService, user: str, question: str, **wanted: Any) -> set[str]:
    return {hit.snippet for hit in await _find(search, user, question, **wanted)}


class TestWords:
    @pytest.mark.parametrize(
        ("content", "question"),
        [
            ("The annual report is due", "REPORT annual"),
            ("The annual report is due", '"annual report"'),
            ("The annual report is due", "rep* ann*"),
            ("The annual report is due", '"the annual" du*'),
            ("see shared/adapters/postgres_search.py:42", "postgres_search.py"),
            ("see shared/adapters/postgres_search.py:42", "adapters/post*"),
            ("mail ann.lee@example.com today", "ann.lee@example.com"),
            ("call +420 777-123-456", '"777 123"'),
            ("version v1.2.3-rc1", "v1.2.3"),
            ("<b>Bold</b> markup &amp; more", "bold"),
        ],
    )
    async def test_words_phrases_and_prefixes_are_found(
        self, stores: Stores, search: SearchService, content: str, question: str
    ) -> None:
        owner, _ = await _said(stores, content, "something else entirely")
        hits = await _find(search, owner, question)
        assert len(hits) == 1
        assert hits[0].highlights

    @pytest.mark.parametrize(
        ("content", "question"),
        [
            ("The annual report", '"report annual"'),
            ("The annual report", "annual missing"),
            ("The annual report", "annua"),
            ("The annual report", '"annual rep"'),
            ("annual and then a report", '"annual report"'),
        ],
    )
    async def test_what_was_not_said_is_not_found(
        self, stores: Stores, search: SearchService, content: str, question: str
    ) -> None:
        owner, _ = await _said(stores, content)
        assert await _find(search, owner, question) == []

    async def test_an_answer_is_found_as_soon_as_it_is_stored_and_not_before(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, session_id = await _said(stores, "a question")
        turn_id = await stores.value(b"SELECT id FROM turns WHERE session_id = %(s)s", s=session_id)
        start = await stores.started(turn_id)
        assert await _find(search, owner, "unicorn") == []
        await stores.steps.save_step(result_of(start, content="a unicorn", status=MessageStatus.COMPLETED))
        (hit,) = await _find(search, owner, "unicorn")
        assert (hit.message_id, hit.role, hit.turn_id) == (start.message_id, MessageRole.ASSISTANT, turn_id)

    async def test_a_huge_message_is_stored_and_found_by_its_beginning(
        self, stores: Stores, search: SearchService
    ) -> None:
        huge = "beginning " + " ".join(f"{number:x}ž" for number in range(60_000)) + " " + "x" * 5_000
        owner, _ = await _said(stores, huge[:400_000])
        assert len(await _find(search, owner, "beginning")) == 1


class TestOrderAndPages:
    async def test_better_matches_come_first_and_newer_ones_among_equals(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, _ = await _said(
            stores,
            "a budget, mentioned once among a good many other words that say nothing of it at all",
            "budget budget budget",
            "equal budget words",
            "equal budget words",
        )
        hits = await _find(search, owner, "budget")
        assert hits[0].snippet == "budget budget budget"
        assert hits[3].snippet.startswith("a budget, mentioned")
        assert hits[1].message_id > hits[2].message_id
        assert [hit.rank for hit in hits] == sorted((hit.rank for hit in hits), reverse=True)

    async def test_pages_hold_every_match_once_while_messages_arrive(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, session_id = await _said(stores, *(f"word {'word ' * (n % 3)} number{n}" for n in range(11)))
        whole = [hit.message_id for hit in await _find(search, owner, "word")]
        found: list[str] = []
        page = Page(limit=3)
        while True:
            hits, cursor = await search.search(_user(owner), "word", SearchFilter(), page)
            found += [hit.message_id for hit in hits]
            if cursor is None:
                break
            await stores.post(session_id, "word newly arrived", user=owner, concurrency=Concurrency.ENQUEUE)
            page = Page(limit=3, after=decode_cursor(cursor, int))
        assert len(found) == len(set(found))
        assert [message_id for message_id in found if message_id in whole] == whole

    async def test_filters_narrow_to_what_fits_all_of_them(self, stores: Stores, search: SearchService) -> None:
        owner, first = await _said(stores, "shared word", name="First")
        _, second = await _said(stores, "shared word again", owner=owner)
        turn_id = await stores.value(b"SELECT id FROM turns WHERE session_id = %(s)s", s=first)
        await stores.answer(turn_id, content="the word in an answer")
        now = utc_now()

        assert len(await _find(search, owner, "word")) == 3
        assert {hit.session_name for hit in await _find(search, owner, "word", session_id=first)} == {"First"}
        assert await _texts(search, owner, "word", session_id=second) == {"shared word again"}
        assert await _texts(search, owner, "word", role=MessageRole.ASSISTANT) == {"the word in an answer"}
        assert await _texts(search, owner, "word", role=MessageRole.TOOL) == set()
        assert len(await _find(search, owner, "word", until=now)) == 3
        assert await _find(search, owner, "word", since=now) == []
        since, until = now - timedelta(hours=1), now
        wanted = {"session_id": first, "role": MessageRole.USER, "since": since, "until": until}
        assert await _texts(search, owner, "word", **wanted) == {"shared word"}


class TestAccess:
    async def test_a_caller_finds_what_they_own_or_take_part_in_and_no_more(
        self, stores: Stores, search: SearchService
    ) -> None:
        secret = f"secret{new_id().replace('-', '')}"
        owner, session_id = await _said(stores, f"the {secret} one")
        reader = new_id()
        assert await _find(search, reader, secret) == []
        assert await _find(search, reader, secret, session_id=session_id) == []
        await stores.share(session_id, reader, "read")
        for wanted in ({}, {"session_id": session_id}):
            assert len(await _find(search, reader, secret, **wanted)) == 1
            assert len(await _find(search, owner, secret, **wanted)) == 1
        await stores.sql(b"DELETE FROM session_participants WHERE user_id = %(u)s", u=reader)
        assert await _find(search, reader, secret) == []

    async def test_an_owner_who_is_also_a_participant_finds_a_message_once(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, session_id = await _said(stores, "only once")
        await stores.share(session_id, owner, "write")
        assert len(await _find(search, owner, "once")) == 1

    async def test_nothing_is_found_of_an_erased_session(self, stores: Stores, search: SearchService) -> None:
        owner, session_id = await _said(stores, "erase me")
        await stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=session_id)
        assert await _find(search, owner, "erase") == []
        assert await stores.value(b"SELECT count(*) FROM message_search WHERE owner_id = %(o)s", o=owner) == 0


HOSTILE = [
    "'; DROP TABLE messages; --",
    "' || (SELECT 1) || '",
    "word & | ! <-> :* ( ) ' \\",
    "foo':*",
    "\\' & secret:*",
    "%(user_id)s {} %s",
    "<->",
    "!word",
    "word <5> other",
    '"""""',
    "\x00",
    "a\x00b",
    "*",
    "\u202e\u200b\ufeff",
    "\ud7ff\uffff\U0010ffff",
    "<script>alert(1)</script>",
]


class TestHostileQuestions:
    @pytest.mark.parametrize("question", HOSTILE)
    async def test_syntax_of_anything_is_only_text(self, stores: Stores, search: SearchService, question: str) -> None:
        owner, _ = await _said(stores, "an innocent word")
        stranger_text = "stranger drop table messages secret"
        await _said(stores, stranger_text)
        for hit in await _find(search, owner, question):
            assert hit.snippet == "an innocent word"
        assert len(await _find(search, owner, "innocent")) == 1

    async def test_a_question_beyond_the_limit_is_refused_by_name(self, search: SearchService) -> None:
        with pytest.raises(InvalidInput) as caught:
            await _find(search, READER, "x" * 501)
        assert (caught.value.code, caught.value.errors[0]["field"]) == (ErrorCode.VALIDATION_ERROR, "q")

    async def test_a_lone_surrogate_finds_nothing_or_is_refused(self, search: SearchService) -> None:
        try:
            assert await _find(search, READER, "a\ud800b") == []
        except InvalidInput as exc:
            assert exc.code is ErrorCode.VALIDATION_ERROR  # noqa: PT017  # either outcome is right

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
    async def test_any_text_is_stored_and_searched_without_an_error(
        self, stores: Stores, search: SearchService, text: str
    ) -> None:
        owner, _ = await _said(stores, "x" + text.replace("\0", ""))
        await _find(search, owner, text)

    @pytest.mark.parametrize("after_id", ["a\x00b", "ž" * 500])
    async def test_a_forged_cursor_is_an_empty_page_or_a_refusal(
        self, stores: Stores, search: SearchService, after_id: str
    ) -> None:
        owner, _ = await _said(stores, "word")
        for rank in (-(2**63), 0, 2**63 - 1):
            try:
                await search.search(_user(owner), "word", SearchFilter(), Page(after=(rank, after_id)))
            except InvalidInput as exc:
                assert exc.code is ErrorCode.VALIDATION_ERROR  # noqa: PT017  # either outcome is right


class TestTool:
    async def test_it_searches_as_the_turns_user_and_leaves_the_turn_itself_out(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, _ = await _said(stores, "the launch is on Friday", name="Plans")
        await _said(stores, "a stranger's launch")
        _, session_id = await _said(stores, "when is the launch?", owner=owner)
        turn_id = await stores.value(b"SELECT id FROM turns WHERE session_id = %(s)s", s=session_id)
        services = ToolServices(history=HistorySearch(search, PostgresLifecycle(stores.pool).is_private))
        call = ToolContext("call-1", session_id, turn_id, owner, datetime.now(UTC), services)

        everywhere = await search_history.run(SearchHistoryArguments(query="launch"), call)
        here = await search_history.run(SearchHistoryArguments(query="launch", only_this_session=True), call)

        assert everywhere.content.endswith("user in 'Plans'] the launch is on Friday")
        assert everywhere.content.startswith("1. [")
        assert "stranger" not in everywhere.content
        assert "when is" not in everywhere.content
        assert isinstance(everywhere.data, dict)
        assert here.content == "Nothing was found."

    async def test_what_is_asked_where_others_listen_stays_among_them(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, _ = await _said(stores, "my salary is secret", name="Private")
        _, session_id = await _said(stores, "our salary round begins", owner=owner)
        await stores.share(session_id, READER, "read")
        services = ToolServices(history=HistorySearch(search, PostgresLifecycle(stores.pool).is_private))

        async def asked_by(user: str) -> str:
            call = ToolContext("call-1", session_id, "another-turn", user, datetime.now(UTC), services)
            return (await search_history.run(SearchHistoryArguments(query="salary"), call)).content

        for user in (owner, READER):
            answer = await asked_by(user)
            assert "secret" not in answer
            assert "our salary round begins" in answer
            assert "Only this conversation was searched" in answer
        await stores.sql(b"DELETE FROM session_participants WHERE session_id = %(s)s", s=session_id)
        assert "secret" in await asked_by(owner)

    async def test_a_turn_whose_user_was_taken_out_tells_the_session_nothing_of_theirs(
        self, stores: Stores, search: SearchService
    ) -> None:
        writer, _ = await _said(stores, "my salary is secret", name="Private")
        _, session_id = await _said(stores, "our salary round begins")
        await stores.share(session_id, writer, "write")
        services = ToolServices(history=HistorySearch(search, PostgresLifecycle(stores.pool).is_private))
        call = ToolContext("call-1", session_id, "their-turn", writer, datetime.now(UTC), services)
        await stores.sql(b"DELETE FROM session_participants WHERE session_id = %(s)s", s=session_id)

        answer = await search_history.run(SearchHistoryArguments(query="salary"), call)

        # Nor what is said there since: they may not read it any more.
        assert "secret" not in answer.content
        assert "round" not in answer.content
