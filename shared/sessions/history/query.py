"""Parses search queries, and finds their terms in a text.

    report "annual budget" plan*      all terms must occur: a word, a phrase, a prefix

Invariant: any text is a valid query. An unclosed quote ends with the text; punctuation separates words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_TERMS = 16
_TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')
_QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02", '"'))
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Han and kana: the index stores each character as a word (`search_text` in the migrations)."""
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_STARTS = rf"(?<![^\W_{_UNSPACED}])"
_ENDS = rf"(?![^\W_{_UNSPACED}])"

SNIPPET_CHARS = 240
_LEAD_CHARS = 60
"""Characters shown before the first hit."""
_WORD_EDGE_CHARS = 20
"""How far a cut moves to fall between words."""
_MARKED_WORDS = 32
"""Words of a phrase that are matched in a snippet. More of them, repeated in a long text, would take too long."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a phrase. is_prefix: its last word is a prefix."""

    text: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Snippet:
    """A part of a text. hits: (start, end) in characters of `text`, in order, not overlapping."""

    text: str
    hits: list[tuple[int, int]]


def parse_query(text: str) -> list[Term]:
    """The distinct terms of a query that contain a letter or digit, at most MAX_TERMS."""
    terms: dict[Term, None] = {}
    # U+0000 and lone surrogates, which JSON allows and no stored text contains, separate words.
    storable = text.replace("\0", " ").encode("utf-8", "replace").decode()
    for found in _TERM.finditer(storable.translate(_QUOTES)):
        phrase, word = found.groups()
        is_prefix = phrase is None and word.endswith("*")
        words = phrase if word is None else word.rstrip("*")
        if _PIECE.search(unicodedata.normalize("NFKC", words)) is not None:
            terms[Term(words, is_prefix)] = None
    return list(terms)[:MAX_TERMS]


def snippet_of(content: str, terms: Sequence[Term]) -> Snippet:
    """The part of a text around the first hit, on one line, with the positions of all hits in it.

    Characters are normalised as in the index (NFKC: full-width letters become plain ones, and so on).
    """
    text = " ".join(unicodedata.normalize("NFKC", content).split())
    # One pattern per term: in an alternation a short term would hide a longer one with the same beginning.
    patterns = [re.compile(pattern, re.IGNORECASE) for term in terms if (pattern := _pattern(term))]
    firsts = [found.start() for pattern in patterns if (found := pattern.search(text))]
    start = _between_words(text, max(0, min(firsts, default=0) - _LEAD_CHARS), forward=True)
    end = _between_words(text, start + SNIPPET_CHARS, forward=False)
    before, after = "… " if start else "", " …" if end < len(text) else ""
    spans = sorted(found.span() for pattern in patterns for found in pattern.finditer(text, start, end))
    hits = [(a - start + len(before), b - start + len(before)) for a, b in _merged(spans)]
    return Snippet(f"{before}{text[start:end]}{after}", hits)


def _pattern(term: Term) -> str:
    """A pattern that matches like the index: the term's words, with no letters or digits between them."""
    pieces: list[str] = _PIECE.findall(unicodedata.normalize("NFKC", term.text))[:_MARKED_WORDS]
    if not pieces:
        return ""
    pattern = re.escape(pieces[0])
    for piece, following in pairwise(pieces):
        both_unspaced = _is_unspaced(piece) or _is_unspaced(following)
        # Bounded, so that the cost stays linear in a text full of punctuation.
        pattern += (r"[\W_]{0,40}" if both_unspaced else r"[\W_]{1,40}") + re.escape(following)
    ends = ""
    if not _is_unspaced(pieces[-1]):
        ends = rf"[^\W_{_UNSPACED}]*" if term.is_prefix else _ENDS
    return ("" if _is_unspaced(pieces[0]) else _STARTS) + pattern + ends


def _is_unspaced(piece: str) -> bool:
    return re.fullmatch(rf"[{_UNSPACED}]", piece) is not None


def _between_words(text: str, at: int, *, forward: bool) -> int:
    """The nearest gap between words in that direction, or `at` itself if there is none nearby."""
    if at <= 0 or at >= len(text):
        return max(0, min(at, len(text)))
    if forward:
        space = text.find(" ", at, at + _WORD_EDGE_CHARS)
        return at if space < 0 else space + 1
    space = text.rfind(" ", at - _WORD_EDGE_CHARS, at + 1)
    return at if space < 0 else space


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
