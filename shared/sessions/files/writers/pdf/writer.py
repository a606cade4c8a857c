"""Content as PDF, with embedded fonts, laid out by Typst in a child process.

Typst shapes text, orders it in both directions, breaks lines in every script and tags the structure for screen readers.

Invariants: only the glyphs used are embedded. A character that no font has is written as its code, never dropped. No
text is read as Typst's markup. The date in the file comes from the content or is a constant, so equal content gives
equal bytes. A PDF is laid out in memory, so its length is bounded, and so are the memory and time of the child process;
streamed formats have no such bounds.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import orjson

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
from shared.sessions.files.writers.content import Content, ConversationExport, GenerationError
from shared.sessions.files.writers.pdf.characters import drawable, right_to_left_font, with_breaks

MAX_CHARS = 500_000  # about 150 pages
_CHILD = Path(__file__).with_name("child.py")
_MAX_MEMORY_BYTES = 3 * 1024**3  # of addresses; of them it uses about 500 MiB for MAX_CHARS of mixed scripts
_MAX_CPU_S = 60  # MAX_CHARS of mixed scripts take about 5 s
_TIMEOUT_S = 120
_NO_DATE = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_DEPTH = 8  # of indents, limited by the page width
_MAX_COLUMNS = 12  # of a drawn table; wider ones are written as lines of text
_COST_CHARS = 16  # added to the length of each cell or run, even an empty one, since each has a fixed cost
_POINTS = (18, 15, 13, 12, 11, 11)  # sizes of headings 1..6, as in page.typ
_TEXT_PT = 493.2  # width of the text: A4 less the margins in page.typ
_INDENT_PT = 17.0  # 6 mm
_BODY_POINTS = 10
_SMALL_POINTS = 9  # of code and tables
_CELL_INSET_PT = 8.0

_log = logging.getLogger(__name__)


def write_pdf(content: Content, out: BinaryIO) -> None:
    """Raises GenerationError beyond `MAX_CHARS` characters, or if the layout needs more memory or time than allowed."""
    date = (content.exported_at if isinstance(content, ConversationExport) else None) or _NO_DATE
    document = orjson.dumps({"title": drawable(content.title), "blocks": document_of(content)})
    out.write(_laid_out(document, made_at=date))


def document_of(content: Content) -> list[dict[str, Any]]:
    """The blocks as `page.typ` reads them. Raises GenerationError beyond `MAX_CHARS` characters."""
    layout = _Document()
    return [drawn for block in blocks_of(content) for drawn in layout.drawn(block)]


def _laid_out(document: bytes, *, made_at: datetime) -> bytes:
    orders = {
        "made_at": int(made_at.timestamp()),
        "max_memory_bytes": _MAX_MEMORY_BYTES,
        "max_cpu_s": _MAX_CPU_S,
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own program, no shell, no user input in the arguments
            # The platform adds packages to the path at run time, so the child needs to be told.
            [sys.executable, "-I", "-X", "utf8", str(_CHILD), orjson.dumps(orders).decode(), *filter(None, sys.path)],
            input=document,
            capture_output=True,
            env={},  # no secrets of this application
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise _too_much() from exc
    if done.returncode < 0:  # ended by a signal: at its limit of memory or time
        _log.warning("the layout of a PDF ended with signal %d", -done.returncode)
        raise _too_much()
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(f"the layout of a PDF failed: {lines[-1] if lines else 'no message'}")
    return done.stdout


def _too_much() -> GenerationError:
    return GenerationError.because("The PDF needs more memory or time than allowed; choose docx, html or md instead.")


class _Document:
    """Blocks as the data that `page.typ` draws. Counts characters."""

    def __init__(self) -> None:
        self._room = MAX_CHARS

    def drawn(self, block: Block) -> Iterator[dict[str, Any]]:
        match block:
            case Heading(level, runs):
                bold = [Run(run.text, bold=True) for run in runs]
                room_em = _TEXT_PT / _POINTS[level - 1]
                yield {"is": "heading", "level": level, **self._runs(bold, room_em)}
            case Paragraph(runs, depth, marker):
                depth = min(depth, _MAX_DEPTH)
                room_em = (_TEXT_PT - depth * _INDENT_PT) / _BODY_POINTS
                marked = [Run(marker + " "), *runs] if marker else runs
                yield {"is": "paragraph", "depth": depth, **self._runs(marked, room_em)}
            case Code(text):
                room_em = (_TEXT_PT - 2 * 6) / _SMALL_POINTS
                yield {"is": "code", **self._text(text, room_em, is_mono=True)}
            case Rule():
                yield {"is": "rule", "rtl": False}
            case Table():
                yield from self._table(block)
            case Folded():
                pass

    def _table(self, table: Table) -> Iterator[dict[str, Any]]:
        width = len(table.columns)
        if not 0 < width <= _MAX_COLUMNS:
            for number, row in enumerate(chain([table.columns], table_rows(table))):
                line = Run(" | ".join(row), bold=number == 0)
                yield {"is": "paragraph", "depth": 0, **self._runs([line], _TEXT_PT / _BODY_POINTS)}
            return
        room_em = (_TEXT_PT / width - _CELL_INSET_PT) / _SMALL_POINTS
        columns = [self._text(name, room_em) for name in table.columns]
        rows = []
        for row in table_rows(table):
            # A row may differ in length from the header: missing cells are empty, surplus ones join the last cell.
            cells = [*row[: width - 1], " | ".join(row[width - 1 :])] + [""] * (width - len(row) - 1)
            rows.append([self._text(cell, room_em) for cell in cells])
        yield {"is": "table", "rtl": bool(columns[0]["rtl"]), "columns": columns, "rows": rows}

    def _runs(self, runs: Sequence[Run], room_em: float) -> dict[str, Any]:
        texts = [self._taken(run.text) for run in runs]
        parts = [
            {
                "text": with_breaks(text, room_em, is_mono=run.code),
                "bold": run.bold,
                "italic": run.italic,
                "code": run.code,
            }
            for run, text in zip(runs, texts, strict=True)
        ]
        return {"runs": parts, **_direction("".join(texts))}

    def _text(self, text: str, room_em: float, *, is_mono: bool = False) -> dict[str, Any]:
        drawn = self._taken(text)
        return {"text": with_breaks(drawn, room_em, is_mono=is_mono), **_direction(drawn)}

    def _taken(self, text: str) -> str:
        self._room -= len(text) + _COST_CHARS
        if self._room < 0:
            raise GenerationError.because(
                f"A PDF can hold about {MAX_CHARS} characters; choose docx, html or md instead."
            )
        return drawable(text)


def _direction(text: str) -> dict[str, Any]:
    font = right_to_left_font(text)
    return {"rtl": bool(font), "lead": [font] if font else []}
