"""Reads one file from a `multipart/form-data` body as it arrives (RFC 7578).

Invariant: only the current chunk is in memory. A body that is not a form with exactly one file is refused as soon as
that shows. Only the file's bytes and its name are used.
"""

from __future__ import annotations

from azurefunctions.extensions.http.fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.files.spool import Spool
from triggers.http.bodies import body_chunks

FILE_FIELD = "file"

FORM_BYTES = 64 * 1024
"""Bytes allowed around the file: boundaries, headers, preamble and epilogue."""

_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})


async def receive_file(req: Request, spool: Spool, max_bytes: int) -> str | None:
    """Write the form's one file to the spool and return the file name that the sender gave.

    Raises InvalidInput: INVALID_MESSAGE, MESSAGE_TOO_LONG.
    """
    form = _OneFile(spool, _boundary(req))
    received = 0
    try:
        async for chunk in body_chunks(req):
            received += len(chunk)
            if received > max_bytes + FORM_BYTES:
                raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A file may have at most {max_bytes} bytes.")
            form.parser.write(chunk)
    except FormParserError:
        raise _malformed("The body is not valid multipart/form-data.") from None
    return form.file_name()


def _boundary(req: Request) -> bytes:
    content_type, options = parse_options_header(req.headers.get("content-type", ""))
    if content_type != b"multipart/form-data" or not options.get(b"boundary"):
        raise _malformed("Send the file as multipart/form-data with a boundary.")
    return options[b"boundary"]


class _OneFile:
    """The state of the form, kept by the parser's callbacks."""

    def __init__(self, spool: Spool, boundary: bytes) -> None:
        self._spool = spool
        self._headers: dict[bytes, bytes] = {}
        self._field = b""
        self._value = b""
        self._name: str | None = None
        self._has_file = False
        self._is_complete = False
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError:
            raise _malformed("The boundary of the form is too long.") from None

    def file_name(self) -> str | None:
        """Call after the last chunk. Raises InvalidInput for a form that is cut off or holds no file."""
        if not self._is_complete:
            raise _malformed("The body ends before the form does.")
        if not self._has_file:
            raise _malformed(f"The form holds no file: send one as the field {FILE_FIELD!r}.")
        return self._name

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _on_headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if disposition != b"form-data" or b"filename" not in options:
            raise _malformed(f"The form takes one file as the field {FILE_FIELD!r} and nothing else.", field)
        if field != FILE_FIELD or self._has_file:
            raise _malformed(f"The form takes one file, as the field {FILE_FIELD!r}.", field)
        encoding = self._headers.get(b"content-transfer-encoding", b"").decode("latin-1").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise _malformed("Files are sent as they are, without a transfer encoding.", field)
        self._has_file = True
        self._name = _text(options[b"filename"])

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._spool.write(data[start:end])

    def _on_end(self) -> None:
        self._is_complete = True


def _text(name: bytes) -> str:
    """UTF-8, as browsers send it; otherwise Latin-1, which decodes any bytes."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _malformed(message: str, field: str = FILE_FIELD) -> InvalidInput:
    shown = field if field.isprintable() and len(field) <= 64 else FILE_FIELD
    return InvalidInput(ErrorCode.INVALID_MESSAGE, message, errors=[{"field": shown or FILE_FIELD, "message": message}])
