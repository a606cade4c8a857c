"""The time scale of a timeline whose durations differ by orders of magnitude.

Between cuts the scale is linear. A stretch so long that everything else would be too small to see (a wait of three days
beside an activity of 5 ms) is cut: it gets a small fixed width, and its true length is shown.

Invariant: positions keep the order of the instants and lie within 0..100.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_FLOOR_US = 500_000
"""Counted in addition to the stretches that are kept, so that short timelines are not cut."""
_IDLE_TIMES = 10
"""A stretch in which nothing runs is cut when it is this many times as long as all kept stretches together."""
_BUSY_TIMES = 30
_MOST_CUTS = 40
_CUT_WIDTH = 6.0
_CUTS_SHARE = 50.0
"""Largest share of the width for all cuts together, in percent."""
_STEPS_US = tuple(
    unit * count
    for unit, counts in (
        (1_000, (1, 2, 5, 10, 20, 50, 100, 200, 500)),
        (1_000_000, (1, 2, 5, 10, 15, 30)),
        (60_000_000, (1, 2, 5, 10, 15, 30)),
        (3_600_000_000, (1, 2, 3, 6, 12)),
        (86_400_000_000, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)),
    )
    for count in counts
)
_MOST_STEPS = 8
_UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000))


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch that is not drawn to scale."""

    left: float
    right: float
    length_us: int


class Scale:
    """Positions in percent of the width.

    instants: the times to draw, at least one. busy: (start, end) of running work; such stretches are cut less readily.
    """

    def __init__(self, instants: Iterable[int], busy: Iterable[tuple[int, int]]) -> None:
        self._instants = sorted(set(instants))
        lengths = [after - at for at, after in pairwise(self._instants)]
        is_cut = _cuts(lengths, _busy(self._instants, busy))
        cuts = sum(is_cut)
        self.linear_us = sum(length for length, cut in zip(lengths, is_cut, strict=True) if not cut)
        cut_width = min(_CUT_WIDTH, _CUTS_SHARE / cuts) if cuts else 0.0
        if not self.linear_us and cuts:
            cut_width = 100.0 / cuts
        self._per_us = (100.0 - cuts * cut_width) / self.linear_us if self.linear_us else 0.0
        self._lefts = [0.0]
        for length, cut in zip(lengths, is_cut, strict=True):
            self._lefts.append(min(100.0, self._lefts[-1] + (cut_width if cut else length * self._per_us)))
        self.cuts = [
            Cut(self._lefts[index], self._lefts[index + 1], lengths[index]) for index, cut in enumerate(is_cut) if cut
        ]
        self._stretches = _stretches(is_cut)

    def at(self, instant_us: int) -> float:
        """The position of an instant. Instants before the first or after the last lie on the edges."""
        index = bisect_right(self._instants, instant_us) - 1
        if index < 0:
            return 0.0
        if index >= len(self._instants) - 1:
            return self._lefts[-1]
        length = self._instants[index + 1] - self._instants[index]
        share = (instant_us - self._instants[index]) / length
        return self._lefts[index] + share * (self._lefts[index + 1] - self._lefts[index])

    @property
    def step_us(self) -> int:
        """Time between two lines of the grid."""
        return next((step for step in _STEPS_US if self.linear_us <= step * _MOST_STEPS), _STEPS_US[-1])

    def grid(self) -> list[tuple[float, int, bool]]:
        """Grid lines, left to right: (position, time since the first instant, whether it is the first after a cut)."""
        lines = []
        origin = self._instants[0]
        for first, last in self._stretches:
            start, end = self._instants[first], self._instants[last]
            count = min((end - start) // self.step_us, 4 * _MOST_STEPS)
            for number in range(count + 1):
                at = start + number * self.step_us
                lines.append((self.at(at), at - origin, number == 0))
        return lines


def span(length_us: int) -> str:
    """A duration as text: `5 ms`, `1.25 s`, `3 d 4 h`."""
    if length_us < 1_000:
        return f"{length_us / 1_000:.1f} ms" if length_us else "0 ms"
    if length_us < 999_500:
        return f"{length_us / 1_000:.0f} ms"
    if length_us < 59_995_000:
        return f"{length_us / 1_000_000:.2f}".rstrip("0").rstrip(".") + " s"
    seconds = round(length_us / 1_000_000) * 1_000_000
    for (unit, size), (smaller, small) in zip(_UNITS, (*_UNITS[1:], ("s", 1_000_000)), strict=True):
        if seconds >= size:
            rest = seconds % size // small
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds // 1_000_000} s"


def _busy(instants: Sequence[int], intervals: Iterable[tuple[int, int]]) -> list[bool]:
    """For each stretch between two instants: whether something runs during all of it."""
    found = []
    waiting = sorted(intervals)
    until, index = instants[0], 0
    for at, after in pairwise(instants):
        while index < len(waiting) and waiting[index][0] <= at:
            until = max(until, waiting[index][1])
            index += 1
        found.append(until >= after)
    return found


def _cuts(lengths: Sequence[int], busy: Sequence[bool]) -> list[bool]:
    """Which stretches to cut. Going from the shortest up, a stretch far longer than all kept so far is cut."""
    kept = _FLOOR_US
    candidates = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if lengths[index] > kept * (_BUSY_TIMES if busy[index] else _IDLE_TIMES):
            candidates.append(index)
        else:
            kept += lengths[index]
    chosen = set(candidates[-_MOST_CUTS:])  # the longest ones
    return [index in chosen for index in range(len(lengths))]


def _stretches(is_cut: Sequence[bool]) -> list[tuple[int, int]]:
    """Index of the first and last instant of each range without a cut."""
    found = []
    first = 0
    for index, cut in enumerate([*is_cut, True]):
        if cut:
            found.append((first, index))
            first = index + 1
    return found
