"""The rows of one sheet of a workbook.

Invariant: one row is in memory at a time; a cell's text and a formula are bounded, and so is the number of formulas
that are remembered.
"""

from __future__ import annotations

import re

from shared.sessions.files.readers.analysis import Limits, TextSink, too_large
from shared.sessions.files.readers.cellformats import PLAIN, CellFormat, show
from shared.sessions.files.readers.columns import Columns

_REFERENCE = re.compile(r"([A-Z]{1,3})\d{1,7}")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_MAX_FORMULA_CHARS = 8_192  # Excel's own limit
_MAX_SHARED_FORMULA_CHARS = 500
_MAX_SHARED_FORMULAS = 2_000


class Sheet:
    """Callbacks of one pass over a sheet. A row is at most `max_columns` cells.

    uncomputed: formulas for which the file has no value.
    """

    def __init__(
        self,
        limits: Limits,
        sink: TextSink,
        shared: list[str],
        formats: list[CellFormat],
        *,
        is_1904: bool,
        rows_before: int,
    ) -> None:
        self.columns = Columns(limits)
        self.uncomputed = self.hidden_rows = 0
        self._limits, self._sink, self._shared, self._formats = limits, sink, shared, formats
        self._is_1904, self._rows_before = is_1904, rows_before
        self._has_formula = self._is_phonetic = self._in_formula = False
        self._formula: list[str] = []
        self._formula_chars = 0
        self._shared_formula = ""
        self._formulas: dict[str, str] = {}  # shared ones, by their number
        self._cells: list[str] = []
        self._types: list[str] = []
        self._value: list[str] = []
        self._value_chars = 0
        self._kind, self._style, self._reading = "n", 0, False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "row":
            self._cells, self._types = [], []
            self.hidden_rows += attributes.get("hidden") in ("1", "true")
        elif tag == "c":
            self._kind = attributes.get("t", "n")
            self._style = integer(attributes.get("s"))
            self._skip_to(attributes.get("r", ""))
            self._value, self._value_chars = [], 0
            self._has_formula, self._formula, self._formula_chars, self._shared_formula = False, [], 0, ""
        elif tag in ("v", "t"):
            self._reading = not self._is_phonetic
        elif tag == "f":
            self._has_formula = self._in_formula = True
            self._shared_formula = attributes.get("si", "") if attributes.get("t") == "shared" else ""
        elif tag == "rPh":  # phonetic guides for Japanese repeat the text
            self._is_phonetic = True

    def end(self, tag: str) -> None:
        if tag in ("v", "t"):
            self._reading = False
        elif tag == "f":
            self._in_formula = False
            self._remember_formula()
        elif tag == "rPh":
            self._is_phonetic = False
        elif tag == "c":
            self._put(*self._typed("".join(self._value)))
        elif tag == "row":
            if self._rows_before + self.columns.rows >= self._limits.max_rows:
                raise too_large(f"The workbook has more than {self._limits.max_rows} rows.")
            self.columns.add(self._cells, self._types)
            self._write_row()

    def data(self, text: str) -> None:
        if self._reading and self._value_chars < 32_767:  # Excel's own limit of a cell
            self._value.append(text)
            self._value_chars += len(text)
        elif self._in_formula and self._formula_chars < _MAX_FORMULA_CHARS:
            self._formula.append(text)
            self._formula_chars += len(text)

    def _remember_formula(self) -> None:
        """The first cell of a shared formula has its text, the others only its number."""
        number = self._shared_formula
        if not number:
            return
        if self._formula and len(self._formulas) < _MAX_SHARED_FORMULAS:
            self._formulas.setdefault(number, "".join(self._formula)[:_MAX_SHARED_FORMULA_CHARS])
        elif not self._formula and number in self._formulas:
            self._formula = [f"{self._formulas[number]} (filled)"]

    def _write_row(self) -> None:
        # Cell by cell, not joined: thousands of cells may refer to the same long shared text.
        for index, cell in enumerate(self._cells):
            if self._sink.is_cut:
                return
            if index:
                self._sink.add("\t")
            self._sink.add(cell)
        self._sink.add("\n")

    def _skip_to(self, reference: str) -> None:
        """Add empty cells up to the column in `reference`: the file leaves them out."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            return
        column = 0
        for letter in match[1]:
            column = column * 26 + ord(letter) - 64
        if column > self._limits.max_columns:
            raise too_large(f"The workbook has more than {self._limits.max_columns} columns.")
        missing = column - 1 - len(self._cells)
        if missing > 0:
            self._cells += [""] * missing
            self._types += ["empty"] * missing

    def _put(self, text: str, kind: str) -> None:
        if len(self._cells) >= self._limits.max_columns:
            raise too_large(f"The workbook has more than {self._limits.max_columns} columns.")
        self._cells.append(text)
        self._types.append(kind)

    def _typed(self, raw: str) -> tuple[str, str]:
        if not raw:
            if self._has_formula and self._kind != "str":  # the saved result of a formula may be an empty text
                self.uncomputed += 1
                return "=" + "".join(self._formula)[:_MAX_FORMULA_CHARS], "formula"
            return "", "empty"
        if self._kind == "s":
            index = integer(raw)
            return (self._shared[index], "text") if index < len(self._shared) else ("", "empty")
        if self._kind == "b":
            return ("TRUE" if raw == "1" else "FALSE"), "boolean"
        if self._kind == "d":
            return raw.removesuffix("T00:00:00").replace("T", " "), "date"
        if self._kind in ("str", "inlineStr", "e"):
            return unescaped(raw), "text"
        return show(
            raw, self._formats[self._style] if self._style < len(self._formats) else PLAIN, is_1904=self._is_1904
        )


def integer(text: str | None) -> int:
    """A count or index from the file; 0 if it is invalid or negative."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 0


def unescaped(text: str) -> str:
    """The text with `_x000D_` and the like as the characters that they stand for (ECMA-376 part 1, 22.9.2.19)."""
    if "_x" not in text:
        return text
    return _ESCAPED.sub(_character, text).replace("\r\n", "\n").replace("\r", "\n")


def _character(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return "" if "\ud800" <= char <= "\udfff" or char == "\x00" else char
