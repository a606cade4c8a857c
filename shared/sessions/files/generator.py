"""Makes files from a conversation, or from content given to a tool, in any of six formats.

`FileGenerator` looks up the writer of a format in a table. Invariants: the same content gives the same bytes. A file
has no active content: opening it runs no code, loads nothing and computes no formula. All formats preserve any Unicode
text.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import BinaryIO

from shared.sessions.files.writers.content import Content, FileFormat
from shared.sessions.files.writers.csv import write_csv
from shared.sessions.files.writers.docx import write_docx
from shared.sessions.files.writers.html import write_html
from shared.sessions.files.writers.json import write_json
from shared.sessions.files.writers.markdown import write_markdown
from shared.sessions.files.writers.pdf.writer import write_pdf

type Chunks = Callable[[Content], Iterator[bytes]]
type Whole = Callable[[Content, BinaryIO], None]

# Formats that are written from front to back ...
_STREAMED: Mapping[FileFormat, Chunks] = {
    FileFormat.JSON: write_json,
    FileFormat.MD: write_markdown,
    FileFormat.HTML: write_html,
    FileFormat.CSV: write_csv,
}
# ... and formats with an index at the end, which need a whole file to write to.
_WHOLE: Mapping[FileFormat, Whole] = {
    FileFormat.PDF: write_pdf,
    FileFormat.DOCX: write_docx,
}
_CHUNK_BYTES = 64 * 1024
_SPOOLED_BYTES = 1024 * 1024


class FileGenerator:
    """Stateless. Both methods block; for PDF long enough to need a thread."""

    def write(self, content: Content, file_format: FileFormat, out: BinaryIO) -> None:
        """Write the file to `out`, which stays open. Only DOCX needs a seekable `out`.

        Raises GenerationError if the format cannot hold the content; `out` may then hold a partial file.
        """
        whole = _WHOLE.get(file_format)
        if whole is not None:
            whole(content, out)
            return
        for chunk in _STREAMED[file_format](content):
            out.write(chunk)

    def chunks(self, content: Content, file_format: FileFormat) -> Generator[bytes]:
        """The file in pieces of about 64 KiB, generated on demand if the format allows it."""
        streamed = _STREAMED.get(file_format)
        if streamed is not None:
            yield from _gathered(streamed(content))
            return
        with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as spool:
            _WHOLE[file_format](content, spool)  # type: ignore[arg-type]  # in typeshed it lacks one method of BinaryIO
            spool.seek(0)
            while chunk := spool.read(_CHUNK_BYTES):
                yield chunk


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Joins small pieces, since each piece costs a pass through the HTTP stack."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= _CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
