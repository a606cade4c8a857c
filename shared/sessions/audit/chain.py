"""The audit trail as a chain of sealed lines: making a seal, and verifying a whole trail. Pure functions.

Invariant: a line's seal (HMAC-SHA256) covers its session, number, text and the previous seal. The anchor holds the
number of lines, the last seal, and when each of the newest lines was claimed. Neither the key nor the anchor is in the
table. So an attacker who can write the table can destroy lines, but cannot forge, alter, move or drop one undetected,
and nothing that is written or read later delays the detection.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import orjson

BEING_WRITTEN = timedelta(seconds=10)
"""A line claimed less than this ago is not missing yet: it may have been claimed while the trail was read. And code
that had no outbox claims a line's number up to five seconds before it writes the line."""

MAX_PROBLEMS = 100
"""Most problems reported for one trail."""

_MAX_GAPS = 10_000
"""Most gaps kept of one trail. More than the lines that are being written at once, so some gap is left to report."""

ERASED_PREFIX = "erased-"
"""Row key prefix of erasure lines. It sorts after all numbers; a later session with the same id does not read them."""

FIRST_PREVIOUS = ""
_ROW_KEY = re.compile(r"[0-9]{10}")


@dataclass(frozen=True, slots=True)
class SealedLine:
    """One line as stored. at: RFC 3339 text; details: JSON text; both exactly as they were sealed."""

    row_key: str
    at: str
    who: str
    action: str
    details: str
    previous: str
    hash: str

    @property
    def number(self) -> int:
        """From 1; 0 for a row that is not a line of a trail."""
        return int(self.row_key) if _ROW_KEY.fullmatch(self.row_key) else 0


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of a trail: number and seal of its last line. at: when that line was claimed."""

    number: int
    hash: str
    at: datetime | None = None
    claims: Mapping[int, datetime] = field(default_factory=dict)
    """When each of the newest lines was claimed, by number; at least those of the last BEING_WRITTEN."""

    def claimed_at(self, number: int) -> datetime | None:
        """None for a line that was claimed long ago."""
        return self.claims.get(number, self.at if number == self.number else None)


@dataclass(frozen=True, slots=True)
class Problem:
    """A defect found in a trail. line: None for a row that is not a line."""

    line: int | None
    message: str


def row_key(number: int) -> str:
    """Sorts like the number (Azure Tables orders rows by text)."""
    return f"{number:010d}"


def seal(
    key: bytes, session_id: str, number: int, *, at: datetime, who: str, action: str, details: str, previous: str
) -> SealedLine:
    """Make a line with its seal."""
    text = at.isoformat()
    digest = _digest(key, session_id, row_key(number), text, who, action, details, previous)
    return SealedLine(row_key(number), text, who, action, details, previous, digest)


def is_genuine(keys: Sequence[bytes], session_id: str, line: SealedLine) -> bool:
    """Whether the line's seal was made with one of the keys, for this session and this number."""
    parts = (session_id, line.row_key, line.at, line.who, line.action, line.details, line.previous)
    return any(hmac.compare_digest(_digest(key, *parts).encode(), line.hash.encode()) for key in keys)


def is_genuine_erasure(keys: Sequence[bytes], session_id: str, line: SealedLine) -> bool:
    """The same for the line that remains of an erased session. It is in no chain: `previous` is its own id."""
    return line.row_key == erased_row_key(line) and is_genuine(keys, session_id, replace(line, row_key=row_key(0)))


def erased_row_key(line: SealedLine) -> str:
    return f"{ERASED_PREFIX}{line.previous}"


def _digest(key: bytes, *parts: str) -> str:
    # As a JSON list, so that different parts never encode to the same text.
    return hmac.new(key, orjson.dumps(parts), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Reading:
    """The time in which a trail was read: its lines first, then its anchor."""

    began: datetime
    ended: datetime

    def may_be_written(self, claimed_at: datetime | None) -> bool:
        """Whether a line claimed then may not have been there yet. A clock that is far ahead buys no more time."""
        return claimed_at is not None and self.began - BEING_WRITTEN < claimed_at < self.ended + BEING_WRITTEN


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers without a line."""

    numbers: range
    before: str | None
    """Seal of the line before them; None: not known for certain."""
    last: str | None
    """The seal that the last of them had, by what follows it."""


@dataclass(slots=True)
class ChainCheck:
    """Verifies a trail in one pass, in row order: call `look_at` with each line, then `end` with the anchor.

    Read the anchor after the lines. A line written meanwhile then counts as being written, not as missing.
    """

    keys: Sequence[bytes]
    """All keys that may have sealed a line, rotated ones included."""
    session_id: str
    problems: list[Problem] = field(default_factory=list)
    being_written: list[int] = field(default_factory=list)
    """After `end`: the lines that are not there and too young to be missing."""
    lost: list[Gap] = field(default_factory=list)
    """After `end`: the gaps that hold no line that may still come."""
    _gaps: list[Gap] = field(default_factory=list)
    _last: int = 0
    _hash: str | None = FIRST_PREVIOUS
    """Seal of the previous line; None when that line is missing or not genuine."""

    def look_at(self, line: SealedLine) -> None:
        if line.number == 0:
            self._report(None, f"The row {line.row_key[:40]!r} is not a line of this trail.")
            return
        if line.number <= self._last:
            self._report(line.number, f"It comes after line {self._last}.")
            return
        genuine = is_genuine(self.keys, self.session_id, line)
        if line.number > self._last + 1:
            self._gap(self._last + 1, line.number, line.previous if genuine else None)
            self._hash = None
        if not genuine:
            self._report(line.number, "Its seal does not match its text and number: it was altered, moved or forged.")
        elif self._hash is not None and line.previous != self._hash:
            self._report(line.number, f"It does not follow line {line.number - 1}.")
        self._last = line.number
        self._hash = line.hash if genuine else None

    def end(self, anchor: Anchor, reading: Reading) -> list[Problem]:
        """All problems, by line; those of no line first."""
        if self._last < anchor.number:
            self._gap(self._last + 1, anchor.number + 1, anchor.hash)
        elif self._last > anchor.number:
            self._report(self._last, f"The trail has only {anchor.number} lines.", most=MAX_PROBLEMS)
        elif self._hash is not None and self._hash != anchor.hash:
            self._report(self._last, "It is not the last line that was written.", most=MAX_PROBLEMS)
        for gap in self._gaps:
            written = len(self.being_written)
            for missing in self._missing(gap.numbers, anchor, reading):
                which = f"Line {missing[0]} is" if len(missing) == 1 else f"Lines {missing[0]} to {missing[-1]} are"
                text = f"{which} missing: removed, or lost by code that had no outbox."
                self._report(missing[0], text, most=MAX_PROBLEMS)
            if written == len(self.being_written) and gap.numbers.stop <= anchor.number + 1:
                self.lost.append(gap)
        self.problems.sort(key=lambda problem: problem.line or 0)
        return self.problems

    def _gap(self, first: int, end: int, last: str | None) -> None:
        if len(self._gaps) < _MAX_GAPS:
            self._gaps.append(Gap(range(first, end), self._hash, last))

    def _missing(self, gap: range, anchor: Anchor, reading: Reading) -> Iterator[range]:
        """The parts of a gap whose lines should have been there. Lines that nobody claimed are not missing."""
        gap = range(gap.start, min(gap.stop, anchor.number + 1))
        known = {*anchor.claims, anchor.number}
        young = sorted(n for n in known if n in gap and reading.may_be_written(anchor.claimed_at(n)))
        self.being_written += young
        start = gap.start
        for number in [*young, gap.stop]:
            if start < number:
                yield range(start, number)
            start = number + 1

    def _report(self, line: int | None, message: str, *, most: int = MAX_PROBLEMS // 2) -> None:
        """most: half of all by default, so that lines that somebody adds hide none that are missing."""
        if len(self.problems) < most:
            self.problems.append(Problem(line, message))
