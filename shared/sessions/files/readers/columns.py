"""Names and types of a table's columns, collected row by row.

Invariant: memory grows with the number of columns (which is bounded), never with the number of rows.
"""

from __future__ import annotations

import re
from typing import Any

from shared.sessions.files.readers.analysis import Limits, too_large

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(
    r"[+-]?(\d+([.,]\d+)?|[.,]\d+|\d{1,3}(,\d{3})+(\.\d+)?|\d{1,3}([.'\u2019 \u00a0\u202f]\d{3})+(,\d+)?)"
    r"([eE][+-]?\d{1,3})? ?%?"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_BOOLEANS = frozenset({"true", "false", "yes", "no"})
_MAX_NAME_CHARS = 100
_MAX_LISTED = 100


def type_of(text: str) -> str:
    """One of integer, number, date, boolean, text; `empty` for nothing."""
    text = text.strip()
    if not text:
        return "empty"
    if len(text) > 40:
        return "text"
    if _INTEGER.fullmatch(text):
        return "integer"
    if _NUMBER.fullmatch(text):
        return "number"
    if _DATE.fullmatch(text):
        return "date"
    return "boolean" if text.lower() in _BOOLEANS else "text"


class Columns:
    """Counts rows and merges the types of each column. The first row names the columns if it is all text."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.rows = 0
        self._names: list[str] = []
        self._first: list[str] = []
        self._types: list[set[str]] = []
        self._last: list[str] = []  # merged with the next row, since the last one may hold totals

    def add(self, cells: list[str], types: list[str] | None = None) -> None:
        """Add one row. types: if the file itself states them. Raises AnalysisError beyond the limits."""
        self.rows += 1
        if self.rows > self._limits.max_rows:
            raise too_large(f"The table has more than {self._limits.max_rows} rows.")
        if len(cells) > self._limits.max_columns:
            raise too_large(f"The table has more than {self._limits.max_columns} columns.")
        if types is None:
            types = [type_of(cell) for cell in cells]
        if self.rows == 1:
            self._names, self._first = [cell.strip()[:_MAX_NAME_CHARS] for cell in cells], types
            return
        self._merge(self._last)
        self._last = types
        while len(self._types) < len(types):
            self._types.append(set())

    def has_totals(self) -> bool:
        """Whether the last row begins with a word where all others have numbers or dates."""
        if self.rows < 4 or not self._last:
            return False
        first = next((index for index, kind in enumerate(self._last) if kind != "empty"), 0)
        above = self._types[first] - {"empty"}
        return self._last[first] == "text" and bool(above) and "text" not in above

    def _merge(self, types: list[str]) -> None:
        for known, new in zip(self._types, types, strict=False):
            known.add(new)

    def facts(self) -> dict[str, Any]:
        """`rows` without the header, `columns` with name and type; at most 100 columns are listed."""
        if not self.has_totals():
            self._merge(self._last)
        has_header = set(self._first) in ({"text"}, {"text", "empty"})
        seen = [set(kinds) for kinds in self._types] + [set() for _ in self._first[len(self._types) :]]
        if not has_header:
            for known, new in zip(seen, self._first, strict=False):
                known.add(new)
        listed = [
            {"name": self._names[index] if has_header and index < len(self._names) else None, "type": _merged(kinds)}
            for index, kinds in enumerate(seen[:_MAX_LISTED])
        ]
        return {
            "rows": self.rows - has_header,
            "column_count": len(seen),
            "has_header": has_header,
            "columns": listed,
        }


def _merged(kinds: set[str]) -> str:
    kinds = kinds - {"empty"}
    if not kinds:
        return "empty"
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "text"
