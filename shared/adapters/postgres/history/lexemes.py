"""What is stored and asked for as `tsvector` and `tsquery`: the pieces of a text as lexemes, each with its position.

    word                its exact spelling; `~` with the folded one where that differs
    run of clusters     each cluster with the next one, the last one alone; `+` between them where marks could follow
    Korean word         whole; `~` with each syllable and the next one, and with the last one alone

A lexeme with `~` is thus a loose match, one without it an exact one. Every word, Korean word and cluster takes one
position. `~` alone marks a text that has any loose match or is cut, `~~` one that is cut: that has more positions
than a `tsvector` keeps.

Invariant: both are made here, not by a text search configuration, which splits as the locale of the database says.
Pieces hold letters, digits and marks only, so nothing in a text can be syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shared.sessions.history.query import Term
from shared.sessions.history.words import Piece, Script, ascii_words, folded, pieces

INDEXED_CHARS = 100_000
"""Of a message."""
_LAST_POSITION = 16_383
_POSITIONS = 255
"""Of one lexeme. PostgreSQL drops what is beyond these two without a word."""
_VECTOR_BYTES = 900_000
"""Below the 1 MiB of a `tsvector`, whose excess would cost the message."""
_TAKES_MARKS = re.compile("[\u0e01-\u1b4c\ua980-\uaadf\U00011700-\U0001172b]")
"""Clusters of scripts with vowel signs: without a sign between, one would also be the beginning of another."""
_LOOSE = "~"
CUT = f"'{_LOOSE}{_LOOSE}'"
"""`tsvector` and `tsquery` of the mark of a text whose phrases cannot be checked in the index."""
_HAS_LOOSE = f"'{_LOOSE}'"


@dataclass(frozen=True, slots=True)
class Question:
    """exact, loose: `tsquery` in PostgreSQL's notation; `exact` finds a part of what `loose` finds. loose is None when
    both find the same."""

    exact: str
    loose: str | None


def vector_of(content: str) -> str | None:
    """The `tsvector` of a message, in PostgreSQL's notation; None for an empty one, which is not indexed."""
    if not content:
        return None
    places: dict[str, list[int]] = {}
    size, is_cut = 0, False
    for lexeme, position in _lexemes(content[:INDEXED_CHARS]):
        if position > INDEXED_CHARS:  # by characters that stand for several words
            is_cut = True
            break
        known = places.get(lexeme)
        if known is None:
            # A count and one position, aligned.
            size += (len(lexeme) if lexeme.isascii() else len(lexeme.encode())) + 6
            if size > _VECTOR_BYTES:
                is_cut = True
                break
            places[lexeme] = [min(position, _LAST_POSITION)]
            is_cut = is_cut or position > _LAST_POSITION
        elif len(known) < _POSITIONS and position <= _LAST_POSITION:
            known.append(position)
            size += 2
        else:
            is_cut = True
    vector = [f"'{lexeme}':{','.join(map(str, positions))}" for lexeme, positions in places.items()]
    if is_cut or any(lexeme.startswith(_LOOSE) for lexeme in places):
        vector.append(_HAS_LOOSE)
    if is_cut:
        vector.append(CUT)
    return " ".join(vector)


def question_of(terms: Sequence[Term]) -> Question:
    """All of `terms`. One that is a prefix is an exact match where it is the whole word."""
    found = [(_exact(term), _loose(term)) for term in terms]
    exact = " & ".join(f"({one})" for one, _ in found)
    loose = " & ".join(f"({one})" for _, one in found)
    return Question(exact, None if exact == loose else loose)


def _lexemes(text: str) -> Iterator[tuple[str, int]]:
    """Lexemes with their positions, which begin at 1."""
    if text.isascii():
        for place, word in enumerate(ascii_words(text), 1):
            yield word, place
        return
    position = 0
    for script, word, units in pieces(text):
        if script is Script.SPACED:
            position += 1
            yield word, position
            if not word.isascii() and (plain := folded(word)) != word and plain:
                yield f"{_LOOSE}{plain}", position
            continue
        if script is Script.UNSPACED:
            for unit, following in pairwise(units):
                position += 1
                yield _pair(unit, following), position
            position += 1
            yield units[-1], position
            continue
        position += 1
        yield word, position
        for syllable, following in pairwise(units):
            yield f"{_LOOSE}{syllable}{following}", position
        yield f"{_LOOSE}{units[-1]}", position


def _exact(term: Term) -> str:
    found = list(pieces(term.text))
    steps: list[tuple[str, int]] = []
    for piece, following in _with_next(found):
        if piece.script is Script.UNSPACED:
            steps += _run(piece.units, is_prefix=term.is_prefix and following is None, goes_on=following is None)
        else:
            steps.append((_quoted(piece.text), 1))
    return _phrase(steps)


def _loose(term: Term) -> str:
    found = list(pieces(term.text))
    steps: list[tuple[str, int]] = []
    for piece, following in _with_next(found):
        is_prefix = term.is_prefix and following is None
        if piece.script is Script.UNSPACED:
            steps += _run(piece.units, is_prefix=is_prefix, goes_on=following is None)
        elif piece.script is Script.HANGUL:
            steps.append((_any([_quoted(piece.text, is_prefix=is_prefix), _inside(piece.units)]), 1))
        else:
            plain = folded(piece.text)
            spellings = dict.fromkeys((piece.text, plain, f"{_LOOSE}{plain}") if plain else (piece.text,))
            steps.append((_any([_quoted(spelling, is_prefix=is_prefix) for spelling in spellings]), 1))
    phrase = _phrase(steps)
    if len(steps) == 1:
        return phrase
    in_cut = " & ".join([CUT, *(step for step, _ in steps)])
    exact = _exact(term) if not term.is_prefix else phrase
    if exact == phrase:
        return f"({phrase}) | ({in_cut})"
    # Most texts have nothing loose: one look at the mark spares them the phrase of all spellings.
    return f"({exact}) | ({_HAS_LOOSE} & (({phrase}) | ({in_cut})))"


def _with_next(found: Sequence[Piece]) -> Iterator[tuple[Piece, Piece | None]]:
    return zip(found, [*found[1:], None], strict=True)


def _run(units: Sequence[str], *, is_prefix: bool, goes_on: bool) -> Iterator[tuple[str, int]]:
    """Lexemes that together hold all clusters, each with how many positions it is before the next one.

    goes_on: what is found may be the beginning of a longer run. is_prefix: the last cluster may have further marks.
    """
    count = len(units)
    if count == 1:
        [unit] = units
        if goes_on and not is_prefix and _TAKES_MARKS.match(unit):
            yield _any([_quoted(unit), _quoted(_pair(unit, ""), is_prefix=True)]), 1
        else:
            yield _quoted(unit, is_prefix=goes_on), 1
        return
    # Every other pair, and the last one, which may overlap with the one before it.
    starts = [*range(0, count - 1, 2)]
    if count % 2:
        starts.append(count - 2)
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        pair = _pair(units[start], units[start + 1])
        if following is not None:
            yield _quoted(pair), following - start
        elif goes_on:
            yield _quoted(pair, is_prefix=is_prefix), 2
        else:
            yield _quoted(pair), 1
            yield _quoted(units[-1]), 1


def _pair(cluster: str, following: str) -> str:
    return f"{cluster}+{following}" if _TAKES_MARKS.match(cluster) else cluster + following


def _inside(units: Sequence[str]) -> str:
    """Syllables in a row within a Korean word."""
    if len(units) == 1:
        return _quoted(f"{_LOOSE}{units[0]}", is_prefix=True)
    return " <0> ".join(_quoted(f"{_LOOSE}{one}{following}") for one, following in pairwise(units))


def _any(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"({' | '.join(f'({choice})' for choice in choices)})"


def _phrase(steps: Sequence[tuple[str, int]]) -> str:
    """The steps one after another at their distances."""
    whole, distance = "", 0
    for step, width in steps:
        whole = f"{whole} <{distance}> {step}" if whole else step
        distance = width
    return whole


def _quoted(lexeme: str, *, is_prefix: bool = False) -> str:
    return f"'{lexeme}':*" if is_prefix else f"'{lexeme}'"
