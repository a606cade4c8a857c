"""Splits text of any script into the pieces that are indexed and searched, and folds their spelling.

Script by script: words between spaces; runs of clusters where a language puts no spaces between words (Thai, Lao,
Khmer, Burmese, Chinese, Japanese, ...), in which any part can be searched; Korean words, which are both.

Invariant: the index, the query and the highlights all split with this module, so they agree whatever the database's
version and locale are. Compatibility forms, case, and characters without a shape of their own never tell words apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

_UNSPACED = re.compile(
    "["
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai, without its digits, like the next ones
    "\u0e81-\u0ecf\u0edc-\u0edf"  # Lao
    "\u1000-\u103f\u1050-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese, Mon, Shan, Karen
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7f\uaa80-\uaadf\U00011700-\U0001172b"  # the Tai scripts
    "\u1b00-\u1b4c\ua980-\ua9c0"  # Balinese, Javanese
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b"  # radicals and marks of Han
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9d"  # kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\ua000-\ua48c\U00017000-\U00018d08\U0001b000-\U0001b2ff"  # Yi, Tangut, older kana, Nushu
    "\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff"  # emoji
    "]"
)
"""Line breaking class SA and what breaks anywhere (UAX #14), except Hangul; and emoji."""
_STACKING = "\u1039\u17d2\u1a60\u1b44\ua9c0"
"""Signs that put the next consonant under the one before it."""
_HANGUL = re.compile("[\u1100-\u11ff\ua960-\ua97f\uac00-\ud7a3\ud7b0-\ud7ff]")


class _Kinds(dict[str, str]):
    """The kind of each character, found on first use.

    U: of a script without spaces. V: stacking sign. M: another combining mark. H: Hangul. L: another letter or digit.
    A space: what only separates. On a string of kinds every pattern is short, and fast.
    """

    def __missing__(self, character: str) -> str:
        category = unicodedata.category(character)[0]
        if character in _STACKING:
            kind = "V"
        elif category == "M":
            kind = "M"
        elif _UNSPACED.match(character):
            kind = "U"
        elif _HANGUL.match(character):
            kind = "H"
        else:
            kind = "L" if category in "LN" else " "
        self[character] = kind
        return kind


KINDS = _Kinds()


def kinds_of(text: str) -> str:
    """The kind of each code point of a text, see `KINDS`."""
    return "".join(map(KINDS.__getitem__, text))


LONGEST_HANGUL = 32
"""Syllables of a Korean word; a longer one counts as several."""
_PIECE = re.compile(f"(?P<run>U[UMV]*)|(?P<hangul>H{{1,{LONGEST_HANGUL}}})|(?P<word>L[LMV]*)")
_CLUSTER = re.compile("U(?:VU|[MV])*")
_LONGEST_WORD = 255
"""Characters by which words are told apart; a lexeme may have 2,046 bytes."""
_ASCII_WORD = re.compile("[a-z0-9]+")

ZERO_WIDTH_JOINER = "\u200d"
IGNORED = (
    "\u00ad\u034f\u0640\u061c\u115f\u1160\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U0001f3fb-\U0001f3ff\U000e0000-\U000e0fff"
)
"""Character class: joiners, direction and variation marks, soft hyphens, tatweel, skin tones, Hangul fillers."""
_IGNORED = re.compile(f"[{IGNORED}]+")
_BREAK = re.compile("\u200b+|[^\\S\n]*\n[^\\S\n]*")
"""A possible break, shown as a zero-width space, or a broken line."""
_TONE_BEFORE_NIKHAHIT = re.compile("([\u0e48-\u0e4b\u0ec8-\u0ecb])([\u0e4d\u0ecd])")
"""Thai and Lao am, written after or before the tone mark; both look the same."""

_FOLDED_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # Latin, Greek, Cyrillic
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # Arabic
    "\u0711\u0730-\u074a"  # Syriac
    "\u093c\u09bc\u0a3c\u0abc\u0b3c\u0cbc]+"  # the dot below of Indic letters
)
_ZEROS = "٠۰߀०০੦૦୦௦౦೦൦๐໐༠၀႐០᠐"
_FOLDED_LETTERS = str.maketrans(
    {
        **dict(zip("ıøđðłħŧŋɓɗƙƴ", "ioddlhtnbdky", strict=True)),
        **{"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"},
        **dict(zip("ٱىیکة", "اييكه", strict=True)),
        **dict.fromkeys("ʹʺʻʼʽʾʿ", ""),
        **{chr(ord(zero) + digit): str(digit) for zero in _ZEROS for digit in range(10)},
    }
)
"""Letters that differ by more than a mark, but are typed as the plain one, and the digits of other scripts."""


class Script(Enum):
    SPACED = "spaced"
    UNSPACED = "unspaced"
    HANGUL = "hangul"


class Piece(NamedTuple):
    """A word, or a run of clusters between which there is nothing.

    text: in its exact spelling (see `exact`). units: the word itself, the clusters of a run, the syllables of a Korean
    word.
    """

    script: Script
    text: str
    units: tuple[str, ...]


def exact(text: str) -> str:
    """The spelling by which words are the same: one form per character, lower case, nothing without a shape."""
    if text.isascii():
        return text.lower()
    return _exact(_joined(text))


def exact_character(text: str) -> str:
    """`exact` of one character with what combines with it."""
    return text.lower() if text.isascii() else _exact(text)


def _exact(text: str) -> str:
    normal = _IGNORED.sub("", unicodedata.normalize("NFKC", text)).lower().replace("ς", "σ")
    return _TONE_BEFORE_NIKHAHIT.sub(r"\2\1", normal)


def folded(text: str) -> str:
    """An exact spelling without accents, points and other marks of the scripts that are also written without them."""
    if text.isascii():
        return text
    plain = _FOLDED_MARKS.sub("", unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFC", plain.translate(_FOLDED_LETTERS))


def joins(text: str) -> list[tuple[int, int]]:
    """(start, end) of the breaks that are dropped: those within a run (the rule of CSS Text for segment breaks)."""
    if "\n" not in text and "\u200b" not in text:
        return []
    return [
        found.span()
        for found in _BREAK.finditer(text)
        if found.start() > 0
        and found.end() < len(text)
        and KINDS[text[found.start() - 1]] in "UMV"
        and KINDS[text[found.end()]] == "U"
    ]


def _joined(text: str) -> str:
    breaks = joins(text)
    if not breaks:
        return text
    parts: list[str] = []
    at = 0
    for start, end in breaks:
        parts.append(text[at:start])
        at = end
    return "".join([*parts, text[at:]])


def ascii_words(text: str) -> list[str]:
    """`pieces` of a text in ASCII, where each is a word that is its own folded form: most of what is written."""
    words: list[str] = _ASCII_WORD.findall(text.lower())
    return [word[:_LONGEST_WORD] for word in words]


def pieces(text: str) -> Iterator[Piece]:
    """The words and runs of a text, in order. Punctuation and symbols only separate."""
    normal = exact(text)
    if normal.isascii():
        for word in ascii_words(normal):
            yield Piece(Script.SPACED, word, (word,))
        return
    kinds = kinds_of(normal)
    for found in _PIECE.finditer(kinds):
        start, end = found.span()
        piece = normal[start:end]
        match kinds[start]:
            case "L":
                piece = piece[:_LONGEST_WORD]
                yield Piece(Script.SPACED, piece, (piece,))
            case "U":
                is_plain = found[0].count("U") == len(piece)
                units = (
                    piece if is_plain else [normal[slice(*one.span())] for one in _CLUSTER.finditer(kinds, start, end)]
                )
                yield Piece(Script.UNSPACED, piece, tuple(units))
            case _:
                yield Piece(Script.HANGUL, piece, tuple(piece))


def _clusters(run: str, kinds: str) -> tuple[str, ...]:
    if kinds.count("U") == len(run):
        return tuple(run)
    return tuple([run[found.start() : found.end()] for found in _CLUSTER.finditer(kinds)])
