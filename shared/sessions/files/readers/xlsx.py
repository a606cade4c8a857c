"""Excel workbooks: every sheet as rows of text with the types of its columns.

Invariant: sheets are streamed row by row; only the table of shared texts is in memory as a whole, and it is bounded.
Formulas are not computed and links are not followed: the saved values are read.
"""

from __future__ import annotations

import posixpath
import re
from datetime import datetime, timedelta
from typing import Any

from shared.sessions.files.readers.analysis import (
    Analysis,
    Job,
    Limits,
    TextSink,
    malformed,
    too_large,
)
from shared.sessions.files.readers.columns import Columns, type_of
from shared.sessions.files.readers.zipped import Archive, holds_part
from shared.sessions.models import FileKind

_WORKBOOK = "xl/workbook.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_SHARED = "xl/sharedStrings.xml"
_STYLES = "xl/styles.xml"
_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_MAX_SHEETS = 200
_MAX_FORMATS = 65_000  # Excel's own limit is 65 490
_REFERENCE = re.compile(r"([A-Z]{1,3})\d{1,7}")
_DATE_FORMATS = frozenset({*range(14, 23), *range(45, 48)})  # ECMA-376 part 1, 18.8.30
_DATE_LETTERS = re.compile(r"[ymdhs]", re.IGNORECASE)
_NOT_FORMAT = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')  # literals and colours within a number format


class XlsxStrategy:
    def recognise(self, job: Job) -> bool:
        return holds_part(job, _WORKBOOK)

    def analyze(self, job: Job) -> Analysis:
        archive = Archive(job)
        sheets = _sheets(archive)
        shared = _shared_texts(archive, job.limits)
        dates = _date_styles(archive)
        sink = TextSink(job.limits.max_text_chars)
        facts: list[dict[str, Any]] = []
        rows = 0
        for name, part in sheets:
            sink.add(f"## {name}\n")
            sheet = _Sheet(job.limits, sink, shared, dates, rows)
            archive.parse(part, start=sheet.start, end=sheet.end, data=sheet.data)
            rows += sheet.columns.rows
            facts.append({"name": name, **sheet.columns.facts()})
        return Analysis(
            FileKind.XLSX,
            _MEDIA_TYPE,
            sink.text(),
            {"size_bytes": job.size_bytes, "sheets": facts},
            tuple(sink.warnings()),
        )


def _sheets(archive: Archive) -> list[tuple[str, str]]:
    """Names and parts in the order of the workbook."""
    targets: dict[str, str] = {}
    listed: list[tuple[str, str]] = []

    def relation(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and attributes.get("TargetMode") != "External" and len(targets) < 10 * _MAX_SHEETS:
            target = attributes.get("Target", "")
            path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"xl/{target}")
            targets[attributes.get("Id", "")] = path

    def sheet(tag: str, attributes: dict[str, str]) -> None:
        if tag != "sheet":
            return
        if len(listed) >= _MAX_SHEETS:
            raise too_large(f"The workbook has more than {_MAX_SHEETS} sheets.")
        listed.append((attributes.get("name", "")[:100], attributes.get("id", "")))

    if _RELATIONS not in archive.names:
        raise malformed("The workbook does not say where its sheets are.")
    archive.parse(_RELATIONS, start=relation)
    archive.parse(_WORKBOOK, start=sheet)
    found = [(name, targets[key]) for name, key in listed if targets.get(key) in archive.names]
    return [(name, part) for name, part in found if "/worksheets/" in part]  # chart sheets have no cells


def _shared_texts(archive: Archive, limits: Limits) -> list[str]:
    texts: list[str] = []
    parts: list[str] = []
    state = {"text": False, "phonetic": False, "chars": 0}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "t":
            state["text"] = not state["phonetic"]
        elif tag == "rPh":  # phonetic guides for Japanese repeat the text
            state["phonetic"] = True

    def end(tag: str) -> None:
        if tag == "t":
            state["text"] = False
        elif tag == "rPh":
            state["phonetic"] = False
        elif tag == "si":
            texts.append("".join(parts))
            state["chars"] += 16  # even an empty entry takes room
            check()
            parts.clear()

    def data(text: str) -> None:
        if state["text"]:
            state["chars"] += len(text)
            check()
            parts.append(text)

    def check() -> None:
        if state["chars"] > limits.max_shared_chars:
            raise too_large(f"The workbook holds more than {limits.max_shared_chars} characters of text.")

    if _SHARED in archive.names:
        archive.parse(_SHARED, start=start, end=end, data=data)
    return texts


def _date_styles(archive: Archive) -> list[bool]:
    """For each cell format, by its number, whether it shows a date or a time."""
    custom: set[int] = set()
    formats: list[bool] = []
    inside = {"cellXfs": False}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "numFmt" and len(custom) < _MAX_FORMATS:
            code = _NOT_FORMAT.sub("", attributes.get("formatCode", "")[:500])
            if _DATE_LETTERS.search(code) and "general" not in code.lower():
                custom.add(_integer(attributes.get("numFmtId")))
        elif tag == "cellXfs":
            inside["cellXfs"] = True
        elif tag == "xf" and inside["cellXfs"]:
            if len(formats) >= _MAX_FORMATS:
                raise too_large(f"The workbook has more than {_MAX_FORMATS} cell formats.")
            number = _integer(attributes.get("numFmtId"))
            formats.append(number in _DATE_FORMATS or number in custom)

    def end(tag: str) -> None:
        if tag == "cellXfs":
            inside["cellXfs"] = False

    if _STYLES in archive.names:
        archive.parse(_STYLES, start=start, end=end)
    return formats


class _Sheet:
    """Callbacks of one pass over a sheet. A row is at most `max_columns` cells."""

    def __init__(self, limits: Limits, sink: TextSink, shared: list[str], dates: list[bool], rows_before: int) -> None:
        self.columns = Columns(limits)
        self._limits, self._sink, self._shared, self._dates = limits, sink, shared, dates
        self._rows_before = rows_before
        self._cells: list[str] = []
        self._types: list[str] = []
        self._value: list[str] = []
        self._value_chars = 0
        self._kind, self._style, self._reading = "n", 0, False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "row":
            self._cells, self._types = [], []
        elif tag == "c":
            self._kind = attributes.get("t", "n")
            self._style = _integer(attributes.get("s"))
            self._skip_to(attributes.get("r", ""))
            self._value, self._value_chars = [], 0
        elif tag in ("v", "t"):
            self._reading = True

    def end(self, tag: str) -> None:
        if tag in ("v", "t"):
            self._reading = False
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
            return "", "empty"
        if self._kind == "s":
            index = _integer(raw)
            return (self._shared[index], "text") if index < len(self._shared) else ("", "empty")
        if self._kind == "b":
            return ("TRUE" if raw == "1" else "FALSE"), "boolean"
        if self._kind == "d":
            return raw, "date"
        if self._kind in ("str", "inlineStr", "e"):
            return raw, "text"
        if self._style < len(self._dates) and self._dates[self._style]:
            return _date(raw), "date"
        kind = type_of(raw)
        return raw, kind if kind in ("integer", "number") else "text"


def _integer(text: str | None) -> int:
    """A count or index from the file; 0 if it is invalid or negative."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 0


def _date(raw: str) -> str:
    """Excel counts days from 1899-12-30 (because of its false leap day, right only from March 1900 on)."""
    try:
        value = datetime(1899, 12, 30) + timedelta(days=float(raw))  # noqa: DTZ001 - workbooks know no time zone
    except (ValueError, OverflowError):
        return raw
    return value.isoformat(sep=" ", timespec="seconds").removesuffix(" 00:00:00")
