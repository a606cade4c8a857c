from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.history.query import MAX_TERMS, SNIPPET_CHARS, Term, parse_query, snippet_of


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("annual report", [Term("annual"), Term("report")]),
        ('"annual report" 2026', [Term("annual report"), Term("2026")]),
        ("plan*", [Term("plan", is_prefix=True)]),
        ("plan* plan plan*", [Term("plan", is_prefix=True), Term("plan")]),
        ('"plan*"', [Term("plan*")]),
        ('say "never closed', [Term("say"), Term("never closed")]),
        ("\u201eja\u201c \u00abnein doch\u00bb", [Term("ja"), Term("nein doch")]),
        ('before"in quotes"after', [Term("before"), Term("in quotes"), Term("after")]),
        ("東京*", [Term("東京", is_prefix=True)]),
        ("", []),
        (' * ** "" " " ?! & | !() :* \\ \' _ \x00', []),
        ("a\x00b", [Term("a"), Term("b")]),
        ("-not | or & and:* !x", [Term("-not"), Term("or"), Term("and:", is_prefix=True), Term("!x")]),
    ],
)
def test_a_question_is_taken_apart_into_words_phrases_and_prefixes(text: str, terms: list[Term]) -> None:
    assert parse_query(text) == terms


def test_only_so_many_terms_count() -> None:
    assert len(parse_query(" ".join(f"w{number}" for number in range(100)))) == MAX_TERMS


def _hits(content: str, question: str) -> list[str]:
    snippet = snippet_of(content, parse_query(question))
    return [snippet.text[start:end] for start, end in snippet.hits]


@pytest.mark.parametrize(
    ("content", "question", "hits"),
    [
        ("The Plan is a plane, plan B.", "plan", ["Plan", "plan"]),
        ("The Plan is a plane.", "plan*", ["Plan", "plane"]),
        ("annual, report; report annual report", '"annual report"', ["annual, report", "annual report"]),
        ("see foo_bar-baz.py", "foo-bar", ["foo_bar"]),
        ("ŽLUŤOUČKÝ kůň", "žluťoučký", ["ŽLUŤOUČKÝ"]),
        ("ПРИВЕТ, мир", "привет мир", ["ПРИВЕТ", "мир"]),
        ("私は東京都に住む", "東京", ["東京"]),
        ("cafe\u0301 noir", "caf\u00e9", ["caf\u00e9"]),
        ("<b>bold</b> & 'x'", "bold", ["bold"]),
        ("overlap of plan and planning", "plan* planning", ["plan", "planning"]),
        ("nothing here", "else", []),
    ],
)
def test_hits_are_where_the_words_stand(content: str, question: str, hits: list[str]) -> None:
    assert _hits(content, question) == hits


def test_a_snippet_is_the_part_around_the_first_hit_cut_between_words() -> None:
    content = "filler words " * 500 + "the needle is here " + "and more follows " * 500
    snippet = snippet_of(content, parse_query("needle"))
    assert snippet.text.startswith("… ")
    assert snippet.text.endswith(" …")
    assert len(snippet.text) <= SNIPPET_CHARS + 4
    assert [snippet.text[a:b] for a, b in snippet.hits] == ["needle"]
    assert set(snippet.text.strip("… ").split()) <= set(content.split())


def test_a_short_text_is_shown_whole_on_one_line() -> None:
    assert snippet_of(" one\n\ttwo  three ", [Term("two")]).text == "one two three"
    assert snippet_of("", [Term("two")]).text == ""


@given(st.text(max_size=600), st.text(max_size=60))
def test_any_text_and_question_make_a_bounded_snippet_with_hits_apart_and_in_it(content: str, question: str) -> None:
    snippet = snippet_of(content, parse_query(question))
    assert len(snippet.text) <= SNIPPET_CHARS + 4
    end_before = 0
    for start, end in snippet.hits:
        assert end_before <= start < end <= len(snippet.text)
        end_before = end
