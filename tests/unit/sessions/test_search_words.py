from __future__ import annotations

import pytest

from shared.sessions.history.words import Script, folded, pieces


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("การประชุม", ["ก", "า", "ร", "ป", "ร", "ะ", "ชุ", "ม"]),
        ("ភ្នំពេញ", ["ភ្នំ", "ពេ", "ញ"]),  # a consonant under another one
        ("သတ္တမ", ["သ", "တ္တ", "မ"]),
        ("東京都", ["東", "京", "都"]),
        ("東\n京 都", ["東", "京", "都"]),
        ("회의가", ["회", "의", "가"]),
        ("naïve  co-op_x", ["naïve", "co", "op", "x"]),
        ("AI会議3月", ["ai", "会", "議", "3", "月"]),
        ("नमस्ते", ["नमस्ते"]),
        ("a\u0301\u200db", ["áb"]),
        ("½ ™ ﬁ", ["1", "2", "tm", "fi"]),
        ("\u0301 ' , 。!", []),
        ("\ud800x\x00y", ["x", "y"]),
    ],
)
def test_a_text_is_split_into_words_and_clusters(text: str, units: list[str]) -> None:
    assert [unit for piece in pieces(text) for unit in piece.units] == units


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("東\n京 都", [("unspaced", "東京"), ("unspaced", "都")]),
        ("ไทย\u200bไทย", [("unspaced", "ไทยไทย")]),
        ("x\u200by", [("spaced", "x"), ("spaced", "y")]),
        ("서울대 서울", [("hangul", "서울대"), ("hangul", "서울")]),
    ],
)
def test_a_run_ends_where_something_stands_between(text: str, runs: list[tuple[str, str]]) -> None:
    assert [(piece.script.value, piece.text) for piece in pieces(text)] == runs


def test_a_word_of_endless_length_is_bounded() -> None:
    [word] = pieces("x" * 10_000)
    assert len(word.text) == 255
    assert max(len(piece.text) for piece in pieces("가" * 1_000) if piece.script is Script.HANGUL) == 32


@pytest.mark.parametrize(
    ("exact", "plain"),
    [
        ("café", "cafe"),
        ("straße", "strasse"),
        ("łódź", "lodz"),
        ("ёлка", "елка"),
        ("αθήνα", "αθηνα"),
        ("مُحَمَّدٌ", "محمد"),
        ("שָׁלוֹם", "שלום"),
        ("٢٠٢٦", "2026"),
        ("ガ", "ガ"),  # another letter, not an accent
        ("ที่", "ที่"),
        ("한", "한"),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_folding_takes_accents_and_points_and_leaves_letters(exact: str, plain: str) -> None:
    assert folded(exact) == plain
