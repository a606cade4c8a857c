"""Parses search queries.

    report "annual budget" plan*      all terms must occur: a word, a phrase, a prefix

Invariant: any text is a valid query. An unclosed quote ends with the text; punctuation separates words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.sessions.history.words import pieces

MAX_TERMS = 16
_TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')
_QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02", '"'))


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a phrase. is_prefix: its last word is a prefix."""

    text: str
    is_prefix: bool = False


def parse_query(text: str) -> list[Term]:
    """The distinct terms of a query that contain a letter, a digit or an emoji, at most MAX_TERMS."""
    terms: dict[Term, None] = {}
    # U+0000 and lone surrogates, which JSON allows and no stored text contains, separate words.
    storable = text.replace("\0", " ").encode("utf-8", "replace").decode()
    for found in _TERM.finditer(storable.translate(_QUOTES)):
        phrase, word = found.groups()
        is_prefix = phrase is None and word.endswith("*")
        words = phrase if word is None else word.rstrip("*")
        if any(True for _ in pieces(words)):
            terms[Term(words, is_prefix)] = None
    return list(terms)[:MAX_TERMS]
