from __future__ import annotations

import pytest

from shared.sessions.history.query import MAX_TERMS, Term, parse_query


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
        ("🎉 !", [Term("🎉")]),
        ("\u200b \u0301", []),
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
