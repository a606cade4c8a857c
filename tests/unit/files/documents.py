"""Documents and bombs, built by hand so that each says exactly what it means."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.sessions.models import (
    Message,
    MessageRole,
    MessageStatus,
    Session,
    SessionConfig,
    SessionStatus,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EVERY_SCRIPT = "Grüße, Ελλάδα, Привет, שלום, مرحبا, 中文, ひらがな, 한국어, हिन्दी, ☃ 😀 🚀"

_RELS = "http://schemas.openxmlformats.org/package/2006/relationships"


def zipped(parts: Mapping[str, str | bytes], *, stored: bool = False) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for name, body in parts.items():
            archive.writestr(name, body)
    return out


def docx(body: str | bytes) -> io.BytesIO:
    return zipped({"word/document.xml": body})


def paragraphs(*texts: str) -> str:
    inner = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in texts)
    return f'<w:document xmlns:w="urn:w"><w:body>{inner}</w:body></w:document>'


def xlsx(
    rows: str,
    *,
    shared: str = "",
    styles: str = "",
    stored: bool = False,
    properties: str = "",
    sheet: str = 'name="Data"',
    parts: Mapping[str, str] | None = None,
) -> io.BytesIO:
    """A workbook with one sheet; `rows` is the XML inside of `sheetData`, `sheet` the attributes of the sheet."""
    return zipped(
        {
            "xl/workbook.xml": f'<workbook xmlns:r="urn:r">{properties}<sheets><sheet {sheet} r:id="r1"/></sheets>'
            "</workbook>",
            "xl/_rels/workbook.xml.rels": rels(r1="worksheet worksheets/sheet1.xml"),
            "xl/worksheets/sheet1.xml": f"<worksheet><sheetData>{rows}</sheetData></worksheet>",
            **({"xl/sharedStrings.xml": f"<sst>{shared}</sst>"} if shared else {}),
            **({"xl/styles.xml": f"<styleSheet>{styles}</styleSheet>"} if styles else {}),
            **(parts or {}),
        },
        stored=stored,
    )


def rels(**targets: str) -> str:
    """The part that relates ids to targets: `r1="header header1.xml"`."""
    inner = "".join(
        f'<Relationship Id="{key}" Type="urn:relationships/{target.split()[0]}" Target="{target.split()[1]}"/>'
        for key, target in targets.items()
    )
    return f'<Relationships xmlns="{_RELS}">{inner}</Relationships>'


def png(width: int, height: int) -> io.BytesIO:
    """An image whose header claims a size; its pixels are not there."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def pdf(*objects: bytes) -> io.BytesIO:
    """Objects numbered from 1, the first being the catalogue, with a table of where they are."""
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table)
    return io.BytesIO(bytes(out))


def pdf_stream(body: bytes, extra: bytes = b"") -> bytes:
    return b"<</Length %d%s>>stream\n" % (len(body), extra) + body + b"\nendstream"


def session(name: str | None = "A talk") -> Session:
    return Session(
        id="s-1",
        name=name,
        status=SessionStatus.ACTIVE,
        agent_id=None,
        config=SessionConfig(),
        tags=[],
        metadata={},
        created_at=NOW,
        updated_at=NOW,
    )


def message(content: str, role: MessageRole = MessageRole.USER, number: int = 1, **changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": f"m-{number}",
        "session_id": "s-1",
        "turn_id": "t-1",
        "role": role,
        "content": content,
        "status": MessageStatus.COMPLETED,
        "created_at": NOW,
    }
    return Message(**values | changes)
