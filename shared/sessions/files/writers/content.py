"""The content that files are made from, and the file formats.

Invariant: a value here contains everything that ends up in the file, times included. So the same value gives the same
bytes, on any machine and at any time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.models import Message, Session


class FileFormat(StrEnum):
    """The value is also the usual suffix of the file name."""

    JSON = "json"
    MD = "md"
    HTML = "html"
    CSV = "csv"
    PDF = "pdf"
    DOCX = "docx"

    @property
    def media_type(self) -> str:
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    FileFormat.JSON: "application/json",
    FileFormat.MD: "text/markdown; charset=utf-8",
    FileFormat.HTML: "text/html; charset=utf-8",
    FileFormat.CSV: "text/csv; charset=utf-8",
    FileFormat.PDF: "application/pdf",
    FileFormat.DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}

type Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ConversationExport:
    """A session and its messages, oldest first; the messages may come from a cursor and are read once.

    exported_at: aware UTC, written into the file; None leaves it out.
    """

    session: Session
    messages: Iterable[Message]
    exported_at: datetime | None = None

    @property
    def title(self) -> str:
        return self.session.name or f"Session {self.session.id}"


@dataclass(frozen=True, slots=True)
class TextContent:
    """Plain text, shown unchanged in every format."""

    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class MarkdownContent:
    """Markdown (CommonMark and tables): laid out in html, pdf and docx. HTML in it is shown as text."""

    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class RowsContent:
    """A table. Rows may be shorter or longer than `columns`; read once."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Cell]]
    title: str = ""


type Content = ConversationExport | TextContent | MarkdownContent | RowsContent


class GenerationError(InvalidInput):
    """The content cannot be written in this format; `safe_message` says why and which format would work."""

    @classmethod
    def because(cls, message: str) -> GenerationError:
        return cls(ErrorCode.VALIDATION_ERROR, message)


def text_of(cell: Cell) -> str:
    """A cell as text: empty for None, `true` and `false` in lower case."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)


def clean(text: str) -> str:
    """The text without characters that XML and PDF cannot hold: controls, lone surrogates, non-characters."""
    if text.isprintable():
        return text
    return "".join(
        char if _is_allowed(ord(char)) else "\ufffd" for char in text.replace("\r\n", "\n").replace("\r", "\n")
    )


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction is written from right to left, as with `dir=auto` in HTML."""
    if text.isascii():
        return False
    kinds = (unicodedata.bidirectional(char) for char in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"


def _is_allowed(code: int) -> bool:
    # The Char production of XML 1.0, without the C1 controls
    if code < 0x20:
        return code in (0x9, 0xA)
    return not (0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code in (0xFFFE, 0xFFFF))
