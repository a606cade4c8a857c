"""The audit trail as a chain: how a line is sealed, and what a look at all of them finds out. Pure functions.

Invariant: a line's seal (HMAC-SHA256) covers its session, number, text and the seal before it, with a key that is not
in the table; the anchor says how many lines there are and how the last is sealed, and is not in the table either. So
who can write the table can destroy lines, and neither forge, alter, move nor drop one without being found out.
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
"""A line is claimed before it is written: one that is missing for less than this may be on its way."""

MAX_PROBLEMS = 100
"""As many as are told; more of them say nothing more."""

FIRST_PREVIOUS = ""
_ROW_KEY = re.compile(r"[0-9]{10}")


@dataclass(frozen=True, slots=True)
class SealedLine:
    """One line as it is stored. at: RFC 3339 text; details: JSON text; both exactly as they were sealed."""

    row_key: str
    at: str
    who: str
    action: str
    details: str
    previous: str
    hash: str

    @property
    def number(self) -> int:
        """From 1; 0 for a row that is no line of a trail."""
        return int(self.row_key) if _ROW_KEY.fullmatch(self.row_key) else 0


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where a trail ends. at: when its last line was claimed."""

    number: int
    hash: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a trail cannot have by itself. line: None for a row that is no line."""

    line: int | None
    message: str


def row_key(number: int) -> str:
    """Sorts as the number does (Azure Tables order rows by text)."""
    return f"{number:010d}"


def seal(
    key: bytes, session_id: str, number: int, *, at: datetime, who: str, action: str, details: str, previous: str
) -> SealedLine:
    """A line with its seal."""
    text = at.isoformat()
    digest = _digest(key, session_id, row_key(number), text, who, action, details, previous)
    return SealedLine(row_key(number), text, who, action, details, previous, digest)


def is_genuine(keys: Sequence[bytes], session_id: str, line: SealedLine) -> bool:
    """Whether its seal was made with one of the keys, for this session and this place."""
    parts = (session_id, line.row_key, line.at, line.who, line.action, line.details, line.previous)
    return any(hmac.compare_digest(_digest(key, *parts).encode(), line.hash.encode()) for key in keys)


def _digest(key: bytes, *parts: str) -> str:
    # A JSON list, so that no two lists of parts have the same text.
    return hmac.new(key, orjson.dumps(parts), hashlib.sha256).hexdigest()


@dataclass(slots=True)
class ChainCheck:
    """Reads a trail once, in the order of its rows: `look_at` each line, then `end` with the anchor.

    The anchor must be read after the lines: what is written meanwhile is then seen as on its way, not as missing.
    """

    keys: Sequence[bytes]
    """Every one that may have sealed a line: keys change."""
    session_id: str
    now: datetime
    problems: list[Problem] = field(default_factory=list)
    _last: int = 0
    _hash: str | None = FIRST_PREVIOUS
    """Of the line before; None when that one is missing or not genuine."""

    def look_at(self, line: SealedLine) -> None:
        if line.number == 0:
            self._report(None, f"The row {line.row_key[:40]!r} is no line of this trail.")
            return
        genuine = is_genuine(self.keys, self.session_id, line)
        if line.number > self._last + 1:
            written = datetime.fromisoformat(line.at) if genuine else None
            self._missing(line.number - 1, written)
            self._hash = None
        if not genuine:
            self._report(line.number, "It is not as it was written: text, place and seal do not belong together.")
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
            self._report(self._last, "It is not the line that was written last.")
        return self.problems

    def _missing(self, up_to: int, next_at: datetime | None) -> None:
        """next_at: when the line behind the gap was claimed, which was after all that are missing."""
        if next_at is not None and self.now - next_at < BEING_WRITTEN:
            return
        first = self._last + 1
        which = f"Line {first} is" if first == up_to else f"Lines {first} to {up_to} are"
        self._report(first, f"{which} missing: removed, or lost while the storage was away.")

    def _report(self, line: int | None, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(line, message))
