from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.postgres.history.lexemes import CUT, _lexemes, question_of, vector_of
from shared.sessions.history.query import parse_query
from shared.sessions.history.words import folded, pieces

MAX_VECTOR_BYTES = 1 << 20


def test_a_folded_spelling_stands_beside_the_exact_one_at_the_same_position() -> None:
    assert vector_of("le café noir") == "'le':1 'café':2 '~cafe':2 'noir':3 '~'"


def test_a_run_is_stored_as_overlapping_pairs_and_a_korean_word_whole_and_in_pairs() -> None:
    assert vector_of("東京都") == "'東京':1 '京都':2 '都':3"
    assert vector_of("ที่นี่") == "'ที่+นี่':1 'นี่':2"
    assert vector_of("회의가 x") == "'회의가':1 '~회의':1 '~의가':1 '~가':1 'x':2 '~'"


def test_an_empty_message_is_not_indexed() -> None:
    assert vector_of("") is None
    assert vector_of("?!") == ""


def test_an_exact_question_asks_for_what_was_typed_and_a_loose_one_for_its_spellings() -> None:
    question = question_of(parse_query("café"))
    assert question.exact == "('café')"
    assert question.loose is not None
    assert set(re.findall("'([^']*)'", question.loose)) == {"café", "cafe", "~cafe"}
    assert question_of(parse_query("東京")).loose is None


@pytest.mark.parametrize(
    "content",
    [
        "字" * 100_000,
        "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))) * 5,
        " ".join(f"{number:x}ž" for number in range(40_000))[:100_000],
        "ﷺ" * 100_000,
        "가" * 100_000,
        " ".join("가나다라"[number % 4] * 30 for number in range(4_000)),
    ],
)
def test_the_longest_text_stays_below_what_a_tsvector_holds_and_says_that_it_was_cut(content: str) -> None:
    vector = vector_of(content)
    assert vector is not None
    assert vector.endswith(f" '~' {CUT}")
    lexemes = dict(part.rsplit(":", 1) for part in vector.split(" ") if ":" in part)
    assert (
        sum(len(lexeme.encode()) + 2 * positions.count(",") for lexeme, positions in lexemes.items()) < MAX_VECTOR_BYTES
    )
    assert max(positions.count(",") for positions in lexemes.values()) < 256
    assert all(len(lexeme.encode()) < 2_046 for lexeme in lexemes)


_WRITES = re.compile(
    r"INSERT INTO messages \((?P<columns>[^)]*)\)\s+(?P<values>.*?)\bFROM\b"
    r"|UPDATE messages\b(?P<before>[^;]{0,20}?)\bSET\b(?P<set>.*?)\bWHERE\b",
    re.DOTALL,
)


def test_every_statement_that_writes_the_text_of_a_message_gives_its_words() -> None:
    # A message without them is found as the version before found it, until the sweep has split it.
    files = Path(__file__).parents[3].joinpath("shared/adapters/postgres").rglob("*.sql")
    writes = [found for path in files for found in _WRITES.finditer(path.read_text("utf-8"))]
    with_text = [
        found[0]
        for found in writes
        if ("content" in (found["columns"] or "") and "'', 'streaming'" not in found["values"])
        or re.search(r"\bcontent =", found["set"] or "")
    ]
    assert len(with_text) >= 6
    assert [statement for statement in with_text if "words" not in statement] == []


@given(st.text(max_size=200))
def test_no_text_can_be_syntax(text: str) -> None:
    assert re.fullmatch(r"(?:'[^'\\\s]+'(?::\d+(?:,\d+)*)?(?: |$))*", vector_of(text) or "")
    terms = parse_query(text)
    if terms:
        question = question_of(terms)
        for asked in (question.exact, question.loose or ""):
            assert re.fullmatch(r"(?:'[^'\\\s]+'(?::\*)?|[()&| ]|<\d+>)*", asked)


@given(st.text(st.characters(codec="ascii"), max_size=400))
def test_the_short_way_for_ascii_finds_what_the_long_one_does(text: str) -> None:
    words = [piece.text for piece in pieces(text)]
    assert list(_lexemes(text)) == [(word, place) for place, word in enumerate(words, 1)]
    assert all(folded(word) == word for word in words)
    # Beside a character of another script every piece is found the long way.
    assert [piece.text for piece in pieces(f"{text} \u00e9")] == [*words, "\u00e9"]
