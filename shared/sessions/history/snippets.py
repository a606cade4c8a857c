"""Finds the terms of a query in a text, and shows the part around the first one.

Invariant: a snippet is the text itself, on one line; only the search in it folds its spelling. A hit and a cut never
part a character from what combines with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from shared.sessions.history.query import Term
from shared.sessions.history.words import (
    IGNORED,
    KINDS,
    LONGEST_HANGUL,
    ZERO_WIDTH_JOINER,
    Piece,
    Script,
    exact,
    exact_character,
    folded,
    joins,
    kinds_of,
    pieces,
)

SNIPPET_CHARS = 240
_LEAD_CHARS = 60
"""Characters shown before the first hit."""
_WORD_EDGE_CHARS = 20
"""How far a cut moves to fall between words."""
_MARKED_WORDS = 32
"""Words of a phrase that are matched in a snippet. More of them, repeated in a long text, would take too long."""
_SLICE_CHARS = 1_000
"""Of a long text, searched at a time."""
_OVERLAP_CHARS = 700
"""The longest hit that is found across the end of a slice."""


class _Combining(dict[str, str]):
    """How each character combines, found on first use.

    x: with the one before it. j: as x, and a joiner of emoji. e: an emoji. r: half of a flag. A dot: not at all.
    """

    def __missing__(self, character: str) -> str:
        if character == ZERO_WIDTH_JOINER:
            kind = "j"
        elif KINDS[character] in "MV" or _COMBINES.match(character):
            kind = "x"
        elif "\U0001f1e6" <= character <= "\U0001f1ff":
            kind = "r"
        else:
            kind = "e" if "\u2190" <= character <= "\u2bff" or character >= "\U0001f000" else "."
        self[character] = kind
        return kind


_COMBINING = _Combining()
# Jamo that are not composed, and halfwidth voice marks, are letters that combine.
_COMBINES = re.compile(f"[{IGNORED}\u0e33\u0eb3\u1160-\u11ff\u3131-\u318e\ud7b0-\ud7ff\uff9e-\uffdc]")
_CHARACTER = re.compile(r"(?:rr|.)[xj]*(?:(?<=j)e[xj]*)*")
_SPACES = re.compile(r"\s+")
_REST_OF_WORD = re.compile("[LMV]*")
_REST_OF_CLUSTER = re.compile("[MV]*")
_HANGUL = "[\u1100-\u11ff\uac00-\ud7ff]"
_SHORT_GAP = r"[\W_]{0,40}?"  # bounded, so that the cost stays linear in a text full of punctuation
_GAP = r"[\W_]{1,40}?"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text. hits: (start, end) in code points of `text`, in order, not overlapping."""

    text: str
    hits: list[tuple[int, int]]


class Spelling:
    """A text in its folded spelling. kinds: of each code point, see `words.KINDS`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds = kinds_of(text)


class Highlighter:
    """Finds the terms of one query in any number of texts."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._needles = [_Needle(found, term.is_prefix) for term in terms if (found := _marked(term))]

    def snippet(self, content: str) -> Snippet:
        """The part of a text around the first hit, on one line, with the positions of all hits in it."""
        text = _on_few_lines(content)
        first = self._first(text)
        start = _between_words(text, max(0, first[0] - _LEAD_CHARS), forward=True)
        end = _between_words(text, start + SNIPPET_CHARS, forward=False)
        before, after = "… " if start else "", " …" if end < len(text) else ""
        # With what stands around it, by which a part of a word is told from a whole one.
        around = _character_start(text, max(0, start - _WORD_EDGE_CHARS))
        hits = [(a + around, b + around) for a, b in self._hits(text[around : end + _WORD_EDGE_CHARS])]
        # The first one may be longer than the part that is shown.
        shown = [hit for hit in hits if start <= hit[0] and hit[1] <= end] or [(first[0], min(first[1], end))]
        spans = sorted((a - start + len(before), b - start + len(before)) for a, b in shown if a < b)
        return Snippet(f"{before}{text[start:end]}{after}".replace("\n", " "), _merged(spans))

    def has_all(self, content: str) -> bool:
        """Whether every term occurs in a text."""
        missing = self._needles
        for _, part in _slices(_on_few_lines(content)):
            spelling = Spelling(folded(exact(part)))
            missing = [needle for needle in missing if needle.find(spelling, 0) is None]
            if not missing:
                break
        return not missing

    def _first(self, text: str) -> tuple[int, int]:
        """(start, end) of the first hit; (0, 0) without any."""
        for start, part in _slices(text):
            spelling = Spelling(folded(exact(part)))
            if any(needle.find(spelling, 0) for needle in self._needles) and (hits := self._hits(part)):
                first = min(hits)
                return start + first[0], start + first[1]
        return 0, 0

    def _hits(self, text: str) -> list[tuple[int, int]]:
        """(start, end) of every hit in a text, in whole characters. Those of different terms may overlap."""
        plain, places = _spelled(text)
        spelling = Spelling(plain)
        hits: list[tuple[int, int]] = []
        # Term by term: in an alternation a short one would hide a longer one with the same beginning.
        for needle in self._needles:
            at = 0
            while (found := needle.find(spelling, at)) is not None:
                start, at = found
                hits.append((places[start][0], places[at - 1][1]) if places else found)
        return hits


class _Needle:
    """One term, found in folded text as the index finds it: its words, with nothing but gaps between them."""

    def __init__(self, words: Sequence[Piece], is_prefix: bool) -> None:
        pattern = re.escape(folded(words[0].text))
        for piece, following in pairwise(words):
            # Atomic: the first place where the next word stands is the only one, so a text without the phrase is left
            # after one look, however often its words are repeated.
            pattern += f"(?>{_between(piece, following)}{re.escape(folded(following.text))})"
        self._pattern = re.compile(pattern)
        self._begins_word = words[0].script is Script.SPACED
        self._rest = {Script.SPACED: _REST_OF_WORD, Script.UNSPACED: _REST_OF_CLUSTER}.get(words[-1].script)
        self._is_prefix = is_prefix

    def find(self, spelling: Spelling, at: int) -> tuple[int, int] | None:
        """(start, end) of the first occurrence that begins at `at` or later."""
        while (found := self._pattern.search(spelling.text, at)) is not None:
            start, end = found.span()
            if not (self._begins_word and start and spelling.kinds[start - 1] in "LMV"):
                rest = self._rest.match(spelling.kinds, end) if self._rest else None
                if rest is None or self._is_prefix or not rest[0]:
                    return start, rest.end() if rest else end
            at = start + 1
        return None


def _marked(term: Term) -> list[Piece]:
    """The words of a term that are matched in a text."""
    return [piece for piece in pieces(term.text) if folded(piece.text)][:_MARKED_WORDS]


def _on_few_lines(content: str) -> str:
    """Without repeated whitespace. A line break is kept: between clusters of a run it is no gap, unlike a space."""
    return _SPACES.sub(lambda found: "\n" if "\n" in found[0] else " ", content.strip())


def _between(piece: Piece, following: Piece) -> str:
    """What may stand between two pieces of a phrase: gaps, and the rest of a Korean word."""
    hangul = [one.script is Script.HANGUL for one in (piece, following)]
    if all(hangul) and len(piece.text) == LONGEST_HANGUL:
        return ""  # parts of one endless word
    are_words = all(hangul) or (piece.script is Script.SPACED and following.script is Script.SPACED)
    gap = _GAP if are_words else _SHORT_GAP
    return f"{f'{_HANGUL}*+' if hangul[0] else ''}{gap}{f'{_HANGUL}{{0,{LONGEST_HANGUL}}}?' if hangul[1] else ''}"


def _slices(text: str) -> Iterator[tuple[int, str]]:
    """(start, part) of a long text; each part goes on into the next one."""
    start = 0
    while start < len(text) or start == 0:
        yield start, text[start : start + _SLICE_CHARS + _OVERLAP_CHARS]
        start = max(start + 1, _between_words(text, start + _SLICE_CHARS, forward=False))


def _spelled(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The folded spelling of a text, and for each of its code points where in the text its character is. No places:
    each is its own character."""
    if text.isascii():
        return text.lower(), []
    dropped = {at for start, end in joins(text) for at in range(start, end)}
    spelling: list[str] = []
    places: list[tuple[int, int]] = []
    for found in _CHARACTER.finditer("".join(map(_COMBINING.__getitem__, text))):
        start, end = found.span()
        if start not in dropped:
            plain = _folded_character(text[start:end])
            spelling.append(plain)
            places += [(start, end)] * len(plain)
    return "".join(spelling), places


@lru_cache(4_096)
def _folded_character(character: str) -> str:
    return folded(exact_character(character))


def _character_start(text: str, at: int) -> int:
    """`at`, or the place before it where the character begins that goes on there."""
    while 0 < at < len(text) and (_COMBINING[text[at]] in "xj" or text[at - 1] == ZERO_WIDTH_JOINER):
        at -= 1
    return at


def _between_words(text: str, at: int, *, forward: bool) -> int:
    """The nearest gap between words in that direction, or else the nearest gap between characters before it."""
    if at <= 0 or at >= len(text):
        return max(0, min(at, len(text)))
    if forward:
        space = _SPACES.search(text, at, at + _WORD_EDGE_CHARS)
        return _character_start(text, at) if space is None else space.end()
    spaces = list(_SPACES.finditer(text, max(0, at - _WORD_EDGE_CHARS), at + 1))
    return spaces[-1].start() if spaces else _character_start(text, at)


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
