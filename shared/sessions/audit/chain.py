"""The audit trail as a chain of sealed lines: making a seal, and verifying a whole trail. Pure functions.

Invariant: a line's seal (HMAC-SHA256) covers its session, number, text and the previous seal. The anchor holds the
number of lines and the last seal. Neither the key nor the anchor is in the table. So an attacker who can write the
table can destroy lines, but cannot forge, alter, move or drop one undetected.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson

BEING_WRITTEN = timedelta(seconds=10)
"""A line's number is claimed before the line is written, so a gap younger than this is not a problem yet."""

MAX_PROBLEMS = 100
"""Most problems reported for one trail."""

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


def _digest(key: bytes, *parts: str) -> str:
    # As a JSON list, so that different parts never encode to the same text.
    return hmac.new(key, orjson.dumps(parts), hashlib.sha256).hexdigest()


@dataclass(slots=True)
class ChainCheck:
    """Verifies a trail in one pass, in row order: call `look_at` with each line, then `end` with the anchor.

    Read the anchor after the lines. A line written meanwhile then counts as being written, not as missing.
    """

    keys: Sequence[bytes]
    """All keys that may have sealed a line, rotated ones included."""
    session_id: str
    now: datetime
    problems: list[Problem] = field(default_factory=list)
    _last: int = 0
    _hash: str | None = FIRST_PREVIOUS
    """Seal of the previous line; None when that line is missing or not genuine."""

    def look_at(self, line: SealedLine) -> None:
        if line.number == 0:
            self._report(None, f"The row {line.row_key[:40]!r} is not a line of this trail.")
            return
        genuine = is_genuine(self.keys, self.session_id, line)
        if line.number > self._last + 1:
            written = datetime.fromisoformat(line.at) if genuine else None
            self._missing(line.number - 1, written)
            self._hash = None
        if not genuine:
            self._report(line.number, "Its seal does not match its text and number: it was altered, moved or forged.")
        elif self._hash is not None and line.previous != self._hash:
            self._report(line.number, f"It does not follow line {line.number - 1}.")
        self._last = line.number
        self._hash = line.hash if genuine else None

    def end(self, anchor: Anchor) -> list[Problem]:
        if self._last < anchor.number:
            self._missing(anchor.number, anchor.at)
        elif self._last > anchor.number:
            self._report(self._last, f"The trail has only {anchor.number} lines.")
        elif self._hash is not None and self._hash != anchor.hash:
            self._report(self._last, "It is not the last line that was written.")
        return self.problems

    def _missing(self, up_to: int, next_at: datetime | None) -> None:
        """next_at: when the line after the gap was claimed; all missing lines were claimed before it."""
        if next_at is not None and self.now - next_at < BEING_WRITTEN:
            return
        first = self._last + 1
        which = f"Line {first} is" if first == up_to else f"Lines {first} to {up_to} are"
        self._report(first, f"{which} missing: removed, or lost while the storage was unavailable.")

    def _report(self, line: int | None, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(line, message))
