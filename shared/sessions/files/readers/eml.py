"""E-mail messages: who wrote to whom, the subject, the text, and the names of what is attached.

Invariant: the message is read line by line. Only the text parts are decoded, up to a bound; attachments are counted and
never decoded. Nesting is bounded, and nothing here recurses.
Source: RFC 5322 (headers), RFC 2045 to 2047 (parts and encodings).
"""

from __future__ import annotations

import binascii
import quopri
import re
from contextlib import suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

from shared.sessions.files.readers.analysis import Analysis, Job, TextSink, too_large
from shared.sessions.files.readers.markup import text_of_html
from shared.sessions.models import FileKind

_SHOWN_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_HEADER = re.compile(rb"[!-9;-~]{1,100}:")
_TELLING = (b"from", b"to", b"subject", b"date", b"message-id", b"received", b"mime-version", b"return-path")
_HEAD_BYTES = 16_384
_MAX_HEAD_BYTES = 256 * 1024
_MAX_LINE_BYTES = 1024 * 1024
_MAX_HEADER_CHARS = 4_000
_MAX_DEPTH = 30
_MAX_PARTS = 2_000
_MAX_NAMED = 100


class EmlStrategy:
    """Begins with header fields, of which at least three are those of a message."""

    def recognise(self, job: Job) -> bool:
        head = job.head(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").lower()
        if head.startswith(b"from "):  # the separator of mailboxes
            head = head.partition(b"\n")[2]
        names = set()
        for line in head.partition(b"\n\n")[0].split(b"\n"):
            if line[:1] in (b" ", b"\t"):
                continue
            if _HEADER.match(line) is None:
                break
            names.add(line.partition(b":")[0])
        return b"from" in names and len(names & set(_TELLING)) >= 3

    def analyze(self, job: Job) -> Analysis:
        message = _Reader(job)
        message.read()
        sink = TextSink(job.limits.max_text_chars)
        for name in _SHOWN_HEADERS:
            value = _header(message.headers, name)
            if value:
                sink.add(f"{name}: {value}\n")
        sink.add("\n")
        for text in message.texts():
            sink.add(f"{text.strip()}\n")
        if message.attachments:
            sink.add("\nAttachments:\n" + "".join(f"- {name}\n" for name in message.attachments[:_MAX_NAMED]))
        facts: dict[str, Any] = {
            "size_bytes": job.size_bytes,
            "subject": _header(message.headers, "Subject")[:200],
            "attachments": len(message.attachments),
        }
        warnings = []
        if message.attachments:
            warnings.append(f"{len(message.attachments)} attachments of the message were not read.")
        return Analysis(FileKind.EML, "message/rfc822", sink.text(), facts, (*warnings, *sink.warnings()))


@dataclass(slots=True)
class _Part:
    """alternatives: the number of the multipart/alternative that it stands in; 0 for none."""

    media_type: str
    encoding: str
    charset: str
    alternatives: int
    raw: list[bytes] = field(default_factory=list)
    size: int = 0


class _Reader:
    """One pass over the lines of a message."""

    def __init__(self, job: Job) -> None:
        self.headers: Message[str, str] = BytesHeaderParser().parsebytes(b"")
        self.attachments: list[str] = []
        self._job = job
        self._parts: list[_Part] = []
        self._boundaries: list[tuple[bytes, int]] = []  # and the number of the alternatives that the parts are, or 0
        self._head: list[bytes] | None = []
        self._head_size = self._count = self._kept = 0
        self._part: _Part | None = None
        self._max_bytes = job.limits.max_text_chars * 4

    def read(self) -> None:
        file = self._job.file
        file.seek(0)
        is_first = True
        number = 0
        while line := file.readline(_MAX_LINE_BYTES):
            number += 1
            if number % 1_000 == 0:
                self._job.deadline.check()
            if is_first:
                line, is_first = line.removeprefix(b"\xef\xbb\xbf"), False
                if line.startswith(b"From "):
                    continue
            self._line(line)
        if self._head:
            self._end_head()

    def texts(self) -> list[str]:
        """The text parts in order; of alternatives the plain one, or the HTML one where no plain one says anything."""
        decoded = [(part, _decoded(part)) for part in self._parts]
        plain = {
            part.alternatives
            for part, text in decoded
            if part.alternatives and part.media_type == "text/plain" and text.strip()
        }
        shown = []
        for part, text in decoded:
            if part.media_type == "text/html":
                if part.alternatives in plain and part.alternatives:
                    continue
                text = text_of_html(text)
            if text.strip():
                shown.append(text)
        return shown

    def _line(self, line: bytes) -> None:
        if line.startswith(b"--") and self._boundaries and self._at_boundary(line.rstrip()):
            return
        if self._head is not None:
            if line.strip(b"\r\n"):
                self._head_size += len(line)
                if self._head_size > _MAX_HEAD_BYTES:
                    raise too_large(f"The message has a head of more than {_MAX_HEAD_BYTES} bytes.")
                self._head.append(line)
            else:
                self._end_head()
        elif self._part is not None and self._kept < self._max_bytes:
            self._part.raw.append(line)
            self._kept += len(line)

    def _at_boundary(self, line: bytes) -> bool:
        for depth in range(len(self._boundaries) - 1, -1, -1):
            boundary = self._boundaries[depth][0]
            if line == b"--" + boundary:
                del self._boundaries[depth + 1 :]
                self._part, self._head, self._head_size = None, [], 0
                return True
            if line == b"--" + boundary + b"--":
                del self._boundaries[depth:]
                self._part, self._head = None, None
                return True
        return False

    def _end_head(self) -> None:
        self._job.deadline.check()
        headers: Message[str, str] = BytesHeaderParser().parsebytes(b"".join(self._head or []))
        self._head, self._part = None, None
        self._count += 1
        if self._count == 1:
            self.headers = headers
        if self._count > _MAX_PARTS:
            raise too_large(f"The message has more than {_MAX_PARTS} parts.")
        media_type, charset, boundary, name = _parameters(headers)
        is_attached = str(headers.get("Content-Disposition", "")).strip().lower().startswith("attachment")
        if media_type.startswith("multipart/") and boundary:
            if len(self._boundaries) >= _MAX_DEPTH:
                raise too_large(f"The message is nested deeper than {_MAX_DEPTH} levels.")
            alternatives = self._boundaries[-1][1] if self._boundaries else 0
            if media_type == "multipart/alternative":
                alternatives = self._count
            self._boundaries.append((boundary.encode("utf-8", "surrogateescape"), alternatives))
        elif media_type == "message/rfc822":
            self.attachments.append(name or "an attached message")
            self._head, self._head_size = [], 0  # its text is read as part of this message
        elif media_type in ("text/plain", "text/html") and not is_attached:
            encoding = str(headers.get("Content-Transfer-Encoding", "")).strip().lower()
            self._part = _Part(media_type, encoding, charset, self._boundaries[-1][1] if self._boundaries else 0)
            self._parts.append(self._part)
        elif len(self.attachments) < _MAX_PARTS:
            self.attachments.append(f"{name or 'without a name'} ({media_type})")


def _parameters(headers: Message[str, str]) -> tuple[str, str, str, str]:
    """Media type, charset, boundary and file name; empty where the message says nothing that can be read."""
    for field_name in ("Content-Type", "Content-Disposition"):
        value = str(headers.get(field_name, ""))
        if len(value) > _MAX_HEADER_CHARS:  # the standard library's time grows with the square of the parameters
            headers.replace_header(field_name, value[:_MAX_HEADER_CHARS])
    try:
        name = headers.get_filename("") or ""
        boundary = headers.get_boundary("") or ""
        charset = headers.get_content_charset("") or ""
        return headers.get_content_type(), charset, boundary, _words(name)[:200]
    except (MessageError, ValueError, LookupError, TypeError, AttributeError):
        return "text/plain", "", "", ""  # the standard library's parser raises all of these on damaged parameters


def _header(headers: Message[str, str], name: str) -> str:
    # Raw, since the usual access turns UTF-8 into question marks.
    values = [str(value) for key, value in headers.raw_items() if key.lower() == name.lower()]
    return ", ".join(_words(value) for value in values[:20])[:_MAX_HEADER_CHARS]


def _words(value: str) -> str:
    """A header's text with its encoded words decoded, on one line and without lone surrogates."""
    value = value[:_MAX_HEADER_CHARS]
    if not value.isascii():  # UTF-8 as it is, which RFC 6532 allows
        value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    with suppress(MessageError, ValueError, LookupError):
        value = str(make_header(decode_header(value)))
    return " ".join(value.encode("utf-8", "replace").decode().replace("\x00", "").split())


def _decoded(part: _Part) -> str:
    from shared.sessions.files.readers.legacy import legacy_encoding

    raw = b"".join(part.raw)
    if part.encoding == "quoted-printable":
        raw = quopri.decodestring(raw)
    elif part.encoding == "base64":
        letters = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
        raw = binascii.a2b_base64(letters[: len(letters) // 4 * 4] + _tail(letters))
    try:
        text = raw.decode(part.charset or "utf-8")
    except (UnicodeDecodeError, LookupError, ValueError):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode((legacy_encoding(raw[:65_536]) if not part.charset else None) or "utf-8", "replace")
    return text.encode("utf-8", "replace").decode().replace("\x00", "").replace("\r\n", "\n")


def _tail(letters: bytes) -> bytes:
    """The last group of base64 with its padding; a single letter there means nothing."""
    rest = letters[len(letters) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""
