from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.history.query import Term, parse_query
from shared.sessions.history.snippets import SNIPPET_CHARS, Highlighter, Snippet
from tests.support.search_cases import FOUND, NOT_FOUND


def snippet_of(content: str, terms: list[Term]) -> Snippet:
    return Highlighter(terms).snippet(content)


def has_all(content: str, terms: list[Term]) -> bool:
    return Highlighter(terms).has_all(content)


def _hits(content: str, question: str) -> list[str]:
    snippet = snippet_of(content, parse_query(question))
    return [snippet.text[start:end] for start, end in snippet.hits]


@pytest.mark.parametrize(("content", "question", "hits"), FOUND)
def test_in_every_script_what_is_asked_is_marked_in_the_real_text(content: str, question: str, hits: list[str]) -> None:
    assert _hits(content, question) == hits
    assert has_all(content, parse_query(question))


@pytest.mark.parametrize(("content", "question"), NOT_FOUND)
def test_nothing_is_marked_that_is_not_found(content: str, question: str) -> None:
    assert _hits(content, question) == []
    assert not has_all(content, parse_query(question))


@pytest.mark.parametrize(
    ("content", "question", "hits"),
    [
        ("The Plan is a plane, plan B.", "plan", ["Plan", "plan"]),
        ("The Plan is a plane.", "plan*", ["Plan", "plane"]),
        ("annual, report; report annual report", '"annual report"', ["annual, report", "annual report"]),
        ("see foo_bar-baz.py", "foo-bar", ["foo_bar"]),
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


def test_a_long_text_without_spaces_is_cut_between_clusters_and_its_last_word_is_marked() -> None:
    snippet = snippet_of("กำลังพูดคุยเรื่องนี้อยู่" * 2_000 + "ประชุม", parse_query("ประชุม"))
    assert [snippet.text[a:b] for a, b in snippet.hits] == ["ประชุม"]
    first, *_ = snippet.text.removeprefix("… ")
    assert unicodedata.category(first) != "Mn"


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


@pytest.mark.parametrize("word", ["가", "가가", "🎉", "a", "é", "字", "ที่", "가a", "字🎉"])
@pytest.mark.parametrize("between", [" ", "", " . "])
def test_a_phrase_that_repeats_one_word_is_looked_up_once_in_a_text_that_repeats_it(word: str, between: str) -> None:
    # With backtracking over every choice, one of these would run for years.
    phrase = parse_query(f'"{" ".join([word] * 15)} end"')
    text = f"{(word * 20 + between) * 30} {(word + between) * 300}"
    assert not has_all(text, phrase)


_TRICKY = "aeoßÆ京ガｶﾞกำุ่ที\u0301\u0308\u200b\u200d\u05b0שאأ한ᄒ\u1161\u11ab🎉👨🏽🇨\u094dक \n.ﷺ"


@given(st.text(st.sampled_from(_TRICKY), max_size=60))
def test_no_hit_and_no_cut_parts_a_character_from_its_marks(content: str) -> None:
    questions = parse_query(content)
    snippet = snippet_of(content, questions)
    for start, end in snippet.hits:
        assert start == 0 or not unicodedata.combining(snippet.text[start])
        assert end == len(snippet.text) or not unicodedata.combining(snippet.text[end])


_CHARACTERS = ["a", "e\u0301", "o\u0308", "ß", "Æ", "京", "ガ", "ｶﾞ", "กำ", "นํ้", "ที่", "שׁ", "أ", "한", "ᄒ\u1161\u11ab"]
_CHARACTERS += [
    "🎉",
    "👨🏽",
    "👨\u200d👩\u200d👧",
    "🇨🇿",
    "क्ष",
    "ज़",
    "ﷺ",
    " ",
    "\n",
    ".",
    "\u200b",
    "\u00ad",
    "_",
    "7",
    "٣",
]


@given(st.lists(st.sampled_from(_CHARACTERS), max_size=40).map("".join))
def test_a_text_is_found_by_each_of_its_own_words(content: str) -> None:
    terms = parse_query(content.replace('"', " "))
    assert has_all(content, terms)
    assert not terms or snippet_of(content, terms).hits
