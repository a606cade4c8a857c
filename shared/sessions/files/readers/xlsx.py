"""Excel workbooks: every sheet as rows of text with the types of its columns, and the comments of its cells.

Invariant: sheets are streamed row by row; only the table of shared texts is in memory as a whole, and it is bounded.
Formulas are not computed and links are not followed: the saved values are read, and the formula where none is saved.
A value reads as its cell shows it (`cellformats.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.sessions.files.readers.analysis import (
    Analysis,
    Job,
    Limits,
    TextSink,
    malformed,
    too_large,
)
from shared.sessions.files.readers.cellformats import CellFormat, built_in, format_of
from shared.sessions.files.readers.relations import Relation, relations
from shared.sessions.files.readers.sheet import Sheet, integer, unescaped
from shared.sessions.files.readers.sheet_comments import write_comments
from shared.sessions.files.readers.zipped import Archive, holds_part
from shared.sessions.models import FileKind

_WORKBOOK = "xl/workbook.xml"
_SHARED = "xl/sharedStrings.xml"
_STYLES = "xl/styles.xml"
_MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_MAX_SHEETS = 200
_MAX_FORMATS = 65_000  # Excel's own limit is 65 490


@dataclass(frozen=True, slots=True)
class _Listed:
    """A sheet of the workbook and its part in the archive."""

    name: str
    part: str
    is_hidden: bool


class XlsxStrategy:
    def recognise(self, job: Job) -> bool:
        return holds_part(job, _WORKBOOK)

    def analyze(self, job: Job) -> Analysis:
        archive = Archive(job)
        sheets, is_1904 = _sheets(archive)
        shared = _shared_texts(archive, job.limits)
        formats = _formats(archive)
        sink = TextSink(job.limits.max_text_chars)
        facts: list[dict[str, Any]] = []
        rows = uncomputed = hidden_rows = 0
        for listed in sheets:
            sink.add(f"## {listed.name}{' (hidden)' if listed.is_hidden else ''}\n")
            sheet = Sheet(job.limits, sink, shared, formats, is_1904=is_1904, rows_before=rows)
            archive.parse(listed.part, start=sheet.start, end=sheet.end, data=sheet.data)
            rows += sheet.columns.rows
            uncomputed += sheet.uncomputed
            hidden_rows += sheet.hidden_rows
            comments = write_comments(archive, listed.part, sink)
            fact: dict[str, Any] = {"name": listed.name, **sheet.columns.facts()}
            facts.append(
                fact | ({"hidden": True} if listed.is_hidden else {}) | ({"comments": comments} if comments else {})
            )
        return Analysis(
            FileKind.XLSX,
            _MEDIA_TYPE,
            sink.text(),
            {"size_bytes": job.size_bytes, "sheets": facts},
            (*_warnings(sheets, archive, uncomputed, hidden_rows), *sink.warnings()),
        )


def _warnings(sheets: list[_Listed], archive: Archive, uncomputed: int, hidden_rows: int) -> list[str]:
    found = []
    hidden = [sheet.name for sheet in sheets if sheet.is_hidden]
    if hidden:
        found.append(f"Hidden sheets were read, too: {', '.join(hidden[:10])}{', ...' if len(hidden) > 10 else ''}.")
    if hidden_rows:
        found.append(f"{hidden_rows} hidden {'row was' if hidden_rows == 1 else 'rows were'} read, too.")
    if uncomputed:
        found.append(
            f"Formulas without values: {uncomputed}. The file has no results for them; the formulas are shown."
        )
    if any(name.endswith("vbaProject.bin") for name in archive.names):
        found.append("The workbook holds macros; they were not read.")
    return found


def _sheets(archive: Archive) -> tuple[list[_Listed], bool]:
    """The sheets in the order of the workbook, and whether its days count from 1904."""
    listed: list[tuple[str, str, bool]] = []
    is_1904 = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal is_1904
        if tag == "workbookPr":
            is_1904 = attributes.get("date1904", "").lower() in ("1", "true", "on")
        if tag != "sheet":
            return
        if len(listed) >= _MAX_SHEETS:
            raise too_large(f"The workbook has more than {_MAX_SHEETS} sheets.")
        is_hidden = attributes.get("state", "visible") != "visible"
        listed.append((attributes.get("name", "")[:100], attributes.get("id", ""), is_hidden))

    targets = {relation.id: relation for relation in relations(archive, _WORKBOOK)}
    if not targets:
        raise malformed("The workbook does not say where its sheets are.")
    archive.parse(_WORKBOOK, start=start)
    nowhere = Relation("", "", "")
    found = [_Listed(name, targets.get(key, nowhere).part, hidden) for name, key, hidden in listed]
    # Chart sheets have no cells.
    return [sheet for sheet in found if sheet.part in archive.names and "/worksheets/" in sheet.part], is_1904


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
            texts.append(unescaped("".join(parts)))
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


def _formats(archive: Archive) -> list[CellFormat]:
    """For each cell format, by its number, how it shows a value."""
    custom: dict[int, CellFormat] = {}
    formats: list[CellFormat] = []
    inside = {"cellXfs": False}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "numFmt" and len(custom) < _MAX_FORMATS:
            custom[integer(attributes.get("numFmtId"))] = format_of(attributes.get("formatCode", ""))
        elif tag == "cellXfs":
            inside["cellXfs"] = True
        elif tag == "xf" and inside["cellXfs"]:
            if len(formats) >= _MAX_FORMATS:
                raise too_large(f"The workbook has more than {_MAX_FORMATS} cell formats.")
            number = integer(attributes.get("numFmtId"))
            formats.append(custom.get(number) or built_in(number))

    def end(tag: str) -> None:
        if tag == "cellXfs":
            inside["cellXfs"] = False

    if _STYLES in archive.names:
        archive.parse(_STYLES, start=start, end=end)
    return formats
