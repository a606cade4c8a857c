"""Made-up messages for the benchmark of the search: the same ones every time.

Word frequencies are as in a natural language (Zipf's law). Six tenths of the messages are plain Latin; accented Latin,
Chinese, Thai and Korean have a tenth each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

_WORDS = 30_000
_WORDS_PER_MESSAGE = 40
_PER_CLAUSE = 8
_PARTICLES = ("은", "는", "이", "가", "을", "를", "에", "에서", "으로", "와")
_ACCENTS = str.maketrans("aeiou", "áêïöů")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words of each kind, most common first."""

    latin: list[str]
    accented: list[str]
    chinese: list[str]
    thai: list[str]
    korean: list[str]


def vocabulary() -> Vocabulary:
    maker = random.Random(1)  # noqa: S311  # the same words every time
    latin = _distinct(maker, [consonant + vowel for consonant in "bdfghklmnprstvz" for vowel in "aeiou"], (2, 3, 3, 4))
    accented = [word.translate(_ACCENTS) if maker.random() < 0.3 else word for word in latin]
    chinese = _distinct(maker, [chr(0x4E00 + 7 * number) for number in range(2_500)], (1, 2, 2, 2, 3))
    consonants, vowels = "กขคงจชดตทนบปพมยรลวสหอ", ("า", "ี", "ิ", "ุ", "ู", "ะ", "ั", "")
    tones, finals = ("", "", "่", "้"), ("", "น", "ง", "ม", "ก")
    thai = [
        consonant + vowel + tone + final
        for consonant in consonants
        for vowel in vowels
        for tone in tones
        for final in finals
    ]
    korean = [chr(first + 28 * number) for first in (0xAC00, 0xAC04) for number in range(390)]
    return Vocabulary(
        latin, accented, chinese, _distinct(maker, thai, (1, 1, 2, 3)), _distinct(maker, korean, (2, 2, 3))
    )


def contents(count: int) -> Iterator[str]:
    """The messages."""
    maker = random.Random(3)  # noqa: S311  # the same messages every time
    words = vocabulary()
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(_WORDS)))
    kinds: list[tuple[list[str], Callable[[Sequence[str]], str]]] = [
        *[(words.latin, " ".join)] * 6,
        (words.accented, " ".join),
        (words.chinese, lambda chosen: _clauses(chosen, "，")),
        (words.thai, lambda chosen: _clauses(chosen, " ")),
        (words.korean, lambda chosen: " ".join(word + maker.choice(_PARTICLES) for word in chosen)),
    ]
    for number in range(count):
        known, written = kinds[number * 7 % len(kinds)]
        yield written(maker.choices(known, cum_weights=weights[: len(known)], k=_WORDS_PER_MESSAGE))


def _distinct(maker: random.Random, syllables: Sequence[str], lengths: Sequence[int]) -> list[str]:
    """Distinct words of some of the syllables."""
    words: dict[str, None] = {}
    while len(words) < _WORDS:
        words["".join(maker.choices(syllables, k=maker.choice(lengths)))] = None
    return list(words)


def _clauses(words: Sequence[str], between: str) -> str:
    """Words without spaces."""
    return between.join("".join(words[at : at + _PER_CLAUSE]) for at in range(0, len(words), _PER_CLAUSE))
