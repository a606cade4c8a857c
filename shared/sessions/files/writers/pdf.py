"""Content as PDF, with embedded fonts.

Invariants: only the glyphs used are embedded. A character that no font has is written as its code, never dropped. The
date in the file comes from the content or is a constant, so equal content gives equal bytes. A PDF is laid out in
memory, so its length is bounded; streamed formats have no such bound.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from shared.sessions.files.writers.blocks import (
    Block,
    Code,
    Folded,
    Heading,
    Paragraph,
    Rule,
    Run,
    Table,
    blocks_of,
    table_rows,
)
from shared.sessions.files.writers.content import Content, ConversationExport, GenerationError, clean

if TYPE_CHECKING:
    from fpdf import FPDF

MAX_CHARS = 500_000  # about 100 pages, and 12 s of one core
_FONTS = Path(__file__).with_name("fonts")
_SANS, _CJK = "DejaVuSans", "DroidSansFallback"
_SANS_FILE, _CJK_FILE = "DejaVuSans.ttf", "DroidSansFallback.ttf"
_NO_DATE = datetime(2000, 1, 1, tzinfo=UTC)
_POINTS = (18, 15, 13, 12, 11, 11)  # sizes of headings 1..6
_BODY_POINTS, _LINE_MM, _INDENT_MM = 10, 5.5, 6
_MAX_DEPTH = 8  # of indents, limited by the page width
_MAX_COLUMNS = 12  # of a drawn table; wider ones are written as lines of text
_COST_CHARS = 16  # added to the length of each cell or run, even an empty one, since each has a fixed cost
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Joiners, direction marks and variation selectors: they have no glyphs."""

_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")  # Hebrew, Arabic and related scripts


def write_pdf(content: Content, out: BinaryIO) -> None:
    """Raises GenerationError beyond `MAX_CHARS` characters."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it logs each font table that it drops
    pdf = _new_pdf(content)
    layout = _Layout(pdf)
    for block in blocks_of(content):
        layout.add(block)
    pdf.output(out)


def _new_pdf(content: Content) -> FPDF:
    from fpdf import FPDF

    pdf = FPDF(format="A4")
    date = content.exported_at if isinstance(content, ConversationExport) else None
    pdf.set_creation_date(date or _NO_DATE)
    pdf.set_title(clean(content.title))
    pdf.set_auto_page_break(True, margin=18)
    pdf.add_font(_SANS, "", _FONTS / _SANS_FILE)
    pdf.add_font(_SANS, "B", _FONTS / "DejaVuSans-Bold.ttf")
    # The bold font lacks some glyphs; with exact_match=False the regular fonts replace them.
    pdf.set_fallback_fonts([_SANS], exact_match=False)
    pdf.set_font(_SANS, size=_BODY_POINTS)
    pdf.add_page()
    return pdf


@cache
def _covered(file_name: str) -> frozenset[int]:
    """All characters that the font can draw."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it carries no types

    with TTFont(_FONTS / file_name, lazy=True) as font:
        return frozenset({0x9, 0xA, *font.getBestCmap()})


def drawable(text: str) -> str:
    """The text with a code such as `[U+1F680]` for each character that no font has."""
    text = _INVISIBLE.sub("", clean(text)).replace("\t", "    ")
    if text.isascii():
        return text
    return "".join(char if _is_drawable(ord(char)) else f"[U+{ord(char):04X}]" for char in text)


def _is_drawable(code: int) -> bool:
    return code in _covered(_SANS_FILE) or code in _covered(_CJK_FILE)


def _needs_cjk(text: str) -> bool:
    return not text.isascii() and any(ord(char) not in _covered(_SANS_FILE) for char in text)


class _Layout:
    """Puts blocks below each other on as many pages as they need."""

    def __init__(self, pdf: FPDF) -> None:
        self._pdf = pdf
        self._room = MAX_CHARS
        self._has_cjk = False

    def add(self, block: Block) -> None:
        match block:
            case Heading(level, runs):
                self._pdf.ln(2)
                self._write([Run(run.text, bold=True) for run in runs], points=_POINTS[level - 1])
            case Paragraph(runs, depth, marker):
                indent = min(depth, _MAX_DEPTH) * _INDENT_MM
                self._write([Run(marker + " "), *runs] if marker else runs, indent_mm=indent)
            case Code(text):
                self._write([Run(text)], points=_BODY_POINTS - 1, indent_mm=_INDENT_MM)
            case Rule():
                y = self._pdf.get_y() + 1
                self._pdf.line(self._pdf.l_margin, y, self._pdf.w - self._pdf.r_margin, y)
                self._pdf.ln(3)
            case Table():
                self._table(block)
            case Folded():
                pass

    def _write(self, runs: Sequence[Run], *, points: int = _BODY_POINTS, indent_mm: float = 0) -> None:
        pdf = self._pdf
        margin = pdf.l_margin
        pdf.set_left_margin(margin + indent_mm)
        pdf.set_x(margin + indent_mm)
        for run in runs:
            pdf.set_font(_SANS, "B" if run.bold else "", points)
            # Line by line: the cost of line breaking grows faster than the length of the text.
            for number, line in enumerate(self._taken(run.text).split("\n")):
                if number:
                    pdf.ln(_LINE_MM * points / _BODY_POINTS)
                if line:
                    pdf.write(_LINE_MM * points / _BODY_POINTS, line)
        pdf.set_left_margin(margin)
        pdf.ln(_LINE_MM * points / _BODY_POINTS + 1.5)

    def _table(self, table: Table) -> None:
        if not 0 < len(table.columns) <= _MAX_COLUMNS:
            self._write([Run(" | ".join(table.columns), bold=True)])
            for row in table_rows(table):
                self._write([Run(" | ".join(row))])
            return
        self._row(table.columns, is_bold=True)
        for row in table_rows(table):
            # A row may differ in length from the header: missing cells are empty, surplus ones join the last cell.
            width = len(table.columns)
            self._row([*row[: width - 1], " | ".join(row[width - 1 :])] + [""] * (width - len(row) - 1), is_bold=False)
        self._pdf.ln(3)

    def _row(self, cells: Sequence[str], *, is_bold: bool) -> None:
        """One row of equally wide cells, as high as its highest cell. A cell is at most one page high."""
        pdf = self._pdf
        pdf.set_font(_SANS, "B" if is_bold else "", _BODY_POINTS - 1)
        width = pdf.epw / len(cells)
        texts = [pdf.multi_cell(width, _LINE_MM, self._taken(cell), dry_run=True, output="LINES", align="L")
                 for cell in cells]  # fmt: skip
        position = 0
        while position == 0 or any(position < len(lines) for lines in texts if isinstance(lines, list)):
            free = int((pdf.h - pdf.b_margin - pdf.get_y()) / _LINE_MM)
            highest = max(1, max(len(lines) - position for lines in texts if isinstance(lines, list)))
            if free < min(highest, 3):
                pdf.add_page()
                continue
            count = min(free, highest)
            self._band(texts, width, position, count)
            position += count

    def _band(self, texts: Sequence[object], width: float, position: int, count: int) -> None:
        """The lines `position` .. `position + count` of each cell of a row, with a frame."""
        pdf = self._pdf
        top = pdf.get_y()
        for column, lines in enumerate(texts):
            assert isinstance(lines, list)
            left = pdf.l_margin + column * width
            pdf.rect(left, top, width, count * _LINE_MM)
            for number, line in enumerate(lines[position : position + count]):
                pdf.set_xy(left, top + number * _LINE_MM)
                self._shape(line)
                pdf.cell(width, _LINE_MM, line)
        pdf.set_xy(pdf.l_margin, top + count * _LINE_MM)

    def _taken(self, text: str) -> str:
        self._room -= len(text) + _COST_CHARS
        if self._room < 0:
            raise GenerationError.because(
                f"A PDF can hold about {MAX_CHARS} characters; choose docx, html or md instead."
            )
        text = drawable(text)
        if not self._has_cjk and _needs_cjk(text):
            # Loaded only when needed: reading this font takes most of the time of a short PDF.
            self._pdf.add_font(_CJK, "", _FONTS / _CJK_FILE)
            self._pdf.set_fallback_fonts([_SANS, _CJK], exact_match=False)
            self._has_cjk = True
        self._shape(text)
        return text

    def _shape(self, text: str) -> None:
        """Enable text shaping (Arabic joining, right-to-left order) only for text that needs it: it is slow."""
        self._pdf.set_text_shaping(_RIGHT_TO_LEFT.search(text) is not None)
