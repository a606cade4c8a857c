"""Estimates the cost of matching a pattern of a JSON Schema from the pattern's text.

The engine does not backtrack. At worst it tracks every position of the pattern (here: place) for each byte it reads:
`[ab]*a[ab]{100}c` has about a hundred places and took 2.2 microseconds per byte.
"""

from __future__ import annotations

import re
from functools import lru_cache

_REPEAT = re.compile(r"\{\s*([0-9]*)\s*(?:,\s*([0-9]*)\s*)?\}")
_UNICODE_PLACES = 10
"""A Unicode class such as \\p{L} compiles into many byte ranges."""
_MAX_DIGITS = 6


@lru_cache(maxsize=1024)
def places_of(pattern: str) -> int:
    """Upper bound of the places in the pattern, with repetitions expanded.

    Raises ValueError for syntax that cannot be counted without a full parser: nested classes, look-around, and groups
    with flags.
    """
    groups: list[int] = []  # the total before each open group
    total, last = 1, 0
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "{" and (repeat := _REPEAT.match(pattern, at)):
            times = _times(repeat)
            total, last = total + last * (times - 1), last * times
            at = repeat.end()
            continue
        if char == "(":
            _check_group(pattern, at)
            groups.append(total)
            total, last = 1, 0
        elif char == ")" and groups:
            last = total
            total += groups.pop()
        elif char in "*+?":
            total, last = total + 1, last + 1
        else:
            last = _UNICODE_PLACES if pattern[at : at + 2] in ("\\p", "\\P") else 1
            if char == "[":
                end = _end_of_class(pattern, at)
                last += _UNICODE_PLACES * sum(pattern.count(word, at, end) for word in ("\\p", "\\P"))
                at = end
            elif char == "\\":
                at += 1
            total += last
        at += 1
    return total + sum(groups)


def _times(repeat: re.Match[str]) -> int:
    numbers = [number for number in repeat.groups() if number]
    if any(len(number) > _MAX_DIGITS for number in numbers):
        raise ValueError("holds a pattern that repeats too often")
    return max(1, *map(int, numbers), 1)


def _check_group(pattern: str, at: int) -> None:
    if pattern[at + 1 : at + 2] == "?" and not re.match(r"\?(:|P?<[A-Za-z_])", pattern[at + 1 : at + 5]):
        raise ValueError("holds a pattern with look-around or flags, which are not supported")


def _end_of_class(pattern: str, at: int) -> int:
    """Position of the `]` that ends a class."""
    start = at + 2 if pattern[at + 1 : at + 2] == "^" else at + 1
    place = start
    while place < len(pattern):
        char = pattern[place]
        if char == "[" or (char == "]" and place == start):
            raise ValueError("holds a pattern with [ or ] in a class: write them as \\[ and \\]")
        if char == "]":
            return place
        place += 2 if char == "\\" else 1
    return len(pattern)
