"""Search in every script on PostgreSQL: what is found, that an exact match comes first, and long texts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.adapters.postgres.history.lexemes import question_of, vector_of
from shared.adapters.postgres.history.search import PostgresSearch
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.history.query import parse_query
from shared.sessions.history.search import SearchFilter, SearchHit, SearchService
from shared.sessions.records.pages import Page, decode_cursor
from tests.integration.domain import STRANGER, Stores
from tests.support.search_cases import FOUND, NOT_FOUND

pytestmark = pytest.mark.integration

_MIXED = "aéßž京都서울กำ่ที 'ﷺ🎉*\""
_STORE = b"""
INSERT INTO messages (id, session_id, number, turn_number, step, ordinal, role, content, status, tokens, created_at,
                      words)
SELECT %(session)s || '-' || n, %(session)s, n, n, 0, 0, 'user', content, 'completed', 5,
       now() + n * interval '1 second', words::tsvector
FROM unnest(%(contents)s::text[], %(words)s::text[]) WITH ORDINALITY AS said (content, words, n)
"""


@pytest.fixture
def search(stores: Stores) -> SearchService:
    return SearchService(PostgresSearch(stores.pool))


def _user(user_id: str) -> Principal:
    return Principal(user_id, frozenset({Role.USER}))


async def _said(stores: Stores, *contents: str) -> tuple[str, str]:
    """A session in which all of this was said, the last one most recently; its owner and id."""
    owner = new_id()
    session = await stores.session(owner=owner)
    words = {content: vector_of(content) for content in contents}
    await stores.sql(_STORE, session=session.id, contents=list(contents), words=[words[one] for one in contents])
    return owner, session.id


async def _find(search: SearchService, user: str, question: str, page: Page | None = None) -> list[SearchHit]:
    return (await search.search(_user(user), question, SearchFilter(), page or Page()))[0]


async def _texts(search: SearchService, user: str, question: str) -> list[str]:
    return [hit.snippet for hit in await _find(search, user, question)]


def _marked(hit: SearchHit) -> list[str]:
    return [hit.snippet[mark.start : mark.end] for mark in hit.highlights]


class TestScripts:
    async def test_a_sentence_in_any_script_is_found_by_its_words_and_they_are_marked(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, _ = await _said(stores, *dict.fromkeys(content for content, _, _ in FOUND))
        wrong: list[Any] = []
        for content, question, marked in FOUND:
            on_one_line = " ".join(content.split())
            hits = {hit.snippet: _marked(hit) for hit in await _find(search, owner, question)}
            if hits.get(on_one_line) != marked or not all(hits.values()):
                wrong.append((content, question, hits))
        assert wrong == []

    async def test_what_is_only_part_of_a_character_or_word_is_not_found(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, _ = await _said(stores, *dict.fromkeys(content for content, _ in NOT_FOUND))
        for content, question in NOT_FOUND:
            assert content not in await _texts(search, owner, question)

    async def test_nobody_else_finds_it_by_a_folded_or_partial_word(
        self, stores: Stores, search: SearchService
    ) -> None:
        _, session_id = await _said(stores, "Geheim in der Königsstraße", "비밀회의가 있습니다", "การประชุมลับ")
        questions = ("konigsstrasse", "königsstraße", "회의", "ประชุม")
        for question in questions:
            assert await _find(search, STRANGER, question) == []
        await stores.share(session_id, STRANGER, "read")
        for question in questions:
            assert len(await _find(search, STRANGER, question)) == 1

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.text(st.sampled_from(_MIXED), max_size=20)
    )
    async def test_any_text_makes_a_vector_that_its_own_words_find(
        self, stores: Stores, text: str, question: str
    ) -> None:
        content = f"{text} {question}".replace("\0", "")
        for terms in (parse_query(question), parse_query(content.replace('"', " "))):
            if terms:
                asked = question_of(terms)
                [row] = await stores.rows(
                    b"SELECT %(v)s::tsvector @@ %(e)s::tsquery AS exact, %(v)s::tsvector @@ %(l)s::tsquery AS loose",
                    v=vector_of(content),
                    e=asked.exact,
                    l=asked.loose or asked.exact,
                )
                assert row["loose"]


class TestExactFirst:
    @pytest.mark.parametrize(
        ("question", "exact", "others"),
        [
            ("café", "un café", ["a cafe", "cafe cafe cafe", "cafè cafè"]),
            ("cafe", "one cafe in a long sentence about many other things", ["café café café"]),
            ("straße", "die Straße", ["strasse strasse strasse"]),
            ("strasse", "die Strasse", ["Straße Straße Straße"]),
            ("회의", "회의 시작", ["회의가 회의를 회의에서", "화상회의 회의실"]),
            ("plan*", "one plan among a good many other words", ["planes plane planning"]),
            ("ёлка", "ёлка", ["елка елка елка"]),
            ("كتاب", "كتاب", ["كِتَاب كِتَاب كِتَاب"]),
            ("2026", "2026", ["٢٠٢٦ ٢٠٢٦"]),
        ],
    )
    async def test_an_exact_match_comes_before_any_number_of_folded_or_partial_ones(
        self, stores: Stores, search: SearchService, question: str, exact: str, others: list[str]
    ) -> None:
        owner, _ = await _said(stores, exact, *others)
        hits = await _find(search, owner, question)
        assert {hit.snippet for hit in hits} == {exact, *others}
        assert hits[0].snippet == exact
        assert hits[0].rank >= 1 > hits[1].rank

    async def test_an_old_exact_match_is_not_lost_among_newer_folded_ones_on_any_page(
        self, stores: Stores, search: SearchService
    ) -> None:
        owner, _ = await _said(stores, "the old cafe", *["ein Café"] * 310)
        found: list[SearchHit] = []
        page = Page(limit=100)
        while True:
            hits, cursor = await search.search(_user(owner), "cafe", SearchFilter(), page)
            found += hits
            if cursor is None:
                break
            page = Page(limit=100, after=decode_cursor(cursor, int))
        assert found[0].snippet == "the old cafe"
        assert len({hit.message_id for hit in found}) == len(found) == 301


class TestLongTexts:
    async def test_the_end_of_a_long_text_is_found_by_words_and_phrases(
        self, stores: Stores, search: SearchService
    ) -> None:
        chinese = "我们讨论了这个项目的进展情况" * 3_000 + "然后在北京大学见面"
        english = "the report of the day and the end of it all " * 2_000 + "the needle of gold"
        owner, _ = await _said(stores, chinese, english)
        for question, marked in (
            ("北京大学", "北京大学"),
            ("大学见面", "大学见面"),
            ('"needle of gold"', "needle of gold"),
            ('"of gold"', "of gold"),
        ):
            [hit] = await _find(search, owner, question)
            assert _marked(hit) == [marked]

    async def test_a_phrase_that_only_might_be_in_a_long_text_is_not_found(
        self, stores: Stores, search: SearchService
    ) -> None:
        content = "gold of the day and the needle " * 3_000
        owner, _ = await _said(stores, content)
        assert await _find(search, owner, '"needle of gold"') == []
        assert len(await _find(search, owner, "needle gold")) == 1

    @pytest.mark.parametrize(
        "sentence",
        ["我们讨论了这个项目的进展情况", "การประชุมพรุ่งนี้เวลาเก้าโมงเช้า", "내일회의가서울에서있습니다", "Straße café "],
    )
    async def test_the_longest_question_is_answered(self, stores: Stores, search: SearchService, sentence: str) -> None:
        longest = (sentence * 50)[:498]
        owner, _ = await _said(stores, f"x {longest} y", f"x {longest[:400]} y")
        for question in (f'"{longest}"', longest[:500]):
            hits = await _find(search, owner, question)
            assert hits[0].highlights
            assert hits[0].snippet.startswith("x ")
