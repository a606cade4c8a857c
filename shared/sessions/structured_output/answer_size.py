"""The size of an answer, for bounding the cost of its validation."""

from __future__ import annotations

from dataclasses import dataclass

EXTREME_VALUES = 24
"""A very large or very small number counts as this many values: it is compared exactly, which takes up to 12 µs."""
_LARGE = 2**53
_SMALL = 2**-53


@dataclass(frozen=True, slots=True)
class AnswerSize:
    """values: objects, lists and their items, without field names; extreme numbers count as EXTREME_VALUES.
    text_bytes: of its JSON in UTF-8. longest_list: items of its longest list.
    """

    values: int
    text_bytes: int
    longest_list: int


def size_of_answer(value: object, text_bytes: int) -> AnswerSize:
    """value: JSON of bounded depth."""
    values, longest = _measure(value)
    return AnswerSize(values, text_bytes, longest)


def weight_of(number: float) -> int:
    """How many values a number counts as."""
    return 1 if number == 0 or _SMALL <= abs(number) <= _LARGE else EXTREME_VALUES


def _measure(value: object) -> tuple[int, int]:
    if isinstance(value, (dict, list)):
        values, longest = 1, len(value) if isinstance(value, list) else 0
        for item in value.values() if isinstance(value, dict) else value:
            inner, longest_inner = _measure(item)
            values, longest = values + inner, max(longest, longest_inner)
        return values, longest
    return (weight_of(value) if isinstance(value, (int, float)) else 1), 0
