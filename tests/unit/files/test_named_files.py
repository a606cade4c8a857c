"""Files that are not read say what they are."""

from __future__ import annotations

import io

import pytest

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.models import FileKind
from tests.unit.files import documents


def _media(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(200)


@pytest.mark.parametrize(
    ("data", "kind", "media_type", "name"),
    [
        (_media(b"heic", b"mif1", b"heic"), FileKind.IMAGE, "image/heic", "a HEIC image"),
        (_media(b"mif1", b"heic"), FileKind.IMAGE, "image/heic", "a HEIC image"),
        (_media(b"avif", b"mif1"), FileKind.IMAGE, "image/avif", "an AVIF image"),
        (_media(b"isom", b"mp42"), FileKind.BINARY, "video/mp4", "an MPEG-4 video"),
        (b"\x1f\x8b\x08\x00" + bytes(50), FileKind.BINARY, "application/gzip", "a gzip archive"),
        (b"name.txt".ljust(257, b"\x00") + b"ustar\x00", FileKind.BINARY, "application/x-tar", "a TAR archive"),
        (documents.zipped({"a.txt": "a"}).getvalue(), FileKind.BINARY, "application/zip", "a ZIP archive"),
        (
            documents.zipped({"mimetype": "application/vnd.oasis.opendocument.text"}, stored=True).getvalue(),
            FileKind.BINARY,
            "application/vnd.oasis.opendocument.text",
            "an OpenDocument text",
        ),
    ],
)
def test_a_file_that_is_not_read_says_what_it_is(data: bytes, kind: FileKind, media_type: str, name: str) -> None:
    analysis = FileAnalyzer().analyze(io.BytesIO(data))
    assert (analysis.kind, analysis.media_type, analysis.text) == (kind, media_type, None)
    assert analysis.warnings == (f"This is {name}, not read.",)


@pytest.mark.parametrize("text", ["ID3 is a word here", "BZh, too", "PAR1 begins it", "ftyp"])
def test_text_that_begins_like_a_signature_is_text(text: str) -> None:
    assert FileAnalyzer().analyze(io.BytesIO(text.encode())).kind is FileKind.TEXT
