"""Office documents as zip archives of XML, both treated as untrusted input.

Invariants: the archive's directory is measured before it is read. A part is unpacked in small pieces and their actual
size is counted, whatever the archive claims. XML is parsed as a stream, without entities, and with bounded names,
tokens and depth. So memory use does not depend on the content.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import cast
from xml.parsers import expat

from shared.sessions.files.readers.analysis import AnalysisError, Job, malformed, too_large

_CHUNK_BYTES = 32 * 1024
_MAX_TOKEN_BYTES = 1024 * 1024
_RATIO_FREE_BYTES = 1024 * 1024  # small parts of blanks compress extremely well and do no harm
_MAX_DIRECTORY_BYTES_PER_ENTRY = 1024
_END_SIZE = 22
_END_MARK = b"PK\x05\x06"
_END_MARK_64 = b"PK\x06\x07"

type Start = Callable[[str, dict[str, str]], None]
type End = Callable[[str], None]
type Data = Callable[[str], None]


def is_archive(job: Job) -> bool:
    return job.head(4) in (b"PK\x03\x04", _END_MARK)


def holds_part(job: Job, name: str) -> bool:
    """Whether the file is an archive with this part. Raises AnalysisError for a hostile archive."""
    return is_archive(job) and name in Archive(job).names


class Archive:
    """A zip archive whose parts are XML. It opens no file besides the caller's."""

    def __init__(self, job: Job) -> None:
        self._job = job
        _check_directory(job)
        try:
            self._zip = zipfile.ZipFile(job.file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as exc:
            raise malformed("The archive is damaged.") from exc
        claimed = sum(info.file_size for info in self._zip.infolist())
        if claimed > job.limits.max_unpacked_bytes:
            raise self._unpacks_to_too_much()
        self._unpacked = 0
        self.names = frozenset(self._zip.namelist())

    def parse(self, part: str, *, start: Start, end: End | None = None, data: Data | None = None) -> None:
        """Run the XML of `part` through the callbacks. Names come without namespace prefix."""
        _Xml(self._job, start, end, data).parse(self._chunks(part))

    def _chunks(self, part: str) -> Iterator[bytes]:
        limits = self._job.limits
        info = self._zip.getinfo(part)
        if info.flag_bits & 0x1:
            raise malformed("The document is protected by a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise malformed("The document uses an unsupported compression method.")
        size = 0
        try:
            with self._zip.open(info) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    self._job.deadline.check()
                    size += len(chunk)
                    self._unpacked += len(chunk)
                    if self._unpacked > limits.max_unpacked_bytes:
                        raise self._unpacks_to_too_much()
                    if size > max(_RATIO_FREE_BYTES, info.compress_size * limits.max_compression_ratio):
                        raise too_large("The document is compressed more than any real document.")
                    yield chunk
        except AnalysisError:
            raise
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError, zlib.error) as exc:
            raise malformed("The archive is damaged.") from exc

    def _unpacks_to_too_much(self) -> AnalysisError:
        return too_large(f"The document unpacks to more than {self._job.limits.max_unpacked_bytes} bytes.")


class _Xml:
    """One pass of expat, with bounds on the names, tokens and depth that it would otherwise store without limit."""

    def __init__(self, job: Job, start: Start, end: End | None, data: Data | None) -> None:
        self._job = job
        self._start, self._end = start, end
        self._depth = 0
        self._local: dict[str, str] = {}
        # Without intern=None, expat's wrapper would store every different name for the lifetime of the parser.
        self._parser = expat.ParserCreate(intern=cast("dict[str, str]", None))
        self._parser.StartElementHandler = self._on_start
        self._parser.EndElementHandler = self._on_end
        self._parser.CharacterDataHandler = data
        self._parser.StartDoctypeDeclHandler = self._on_doctype
        self._parser.buffer_text = True

    def parse(self, chunks: Iterator[bytes]) -> None:
        fed = 0
        try:
            for chunk in chunks:
                self._parser.Parse(chunk, False)
                fed += len(chunk)
                if fed - self._parser.CurrentByteIndex > _MAX_TOKEN_BYTES:
                    raise too_large("The document has a single tag of more than a mebibyte.")
            self._parser.Parse(b"", True)
        except expat.ExpatError as exc:
            raise malformed(f"The document's XML is damaged (line {exc.lineno}).") from exc
        finally:
            # The handlers are bound methods: without this, parser and object form a reference cycle.
            self._parser.StartElementHandler = self._parser.EndElementHandler = None
            self._parser.CharacterDataHandler = self._parser.StartDoctypeDeclHandler = None

    def _on_start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > self._job.limits.max_xml_depth:
            raise too_large(f"The document's XML is nested deeper than {self._job.limits.max_xml_depth} levels.")
        self._start(self._name(tag), {self._name(key): value for key, value in attributes.items()})

    def _on_end(self, tag: str) -> None:
        self._depth -= 1
        if self._end is not None:
            self._end(self._name(tag))

    def _name(self, name: str) -> str:
        local = self._local.get(name)
        if local is None:
            if len(self._local) >= self._job.limits.max_xml_names:
                raise too_large("The document's XML uses too many different names.")
            local = self._local[name] = name.rpartition(":")[2]
        return local

    def _on_doctype(self, *_: object) -> None:
        # Office documents have no DOCTYPE; XML bombs need its entity declarations.
        raise malformed("The document declares a document type, which office documents never do.")


def _check_directory(job: Job) -> None:
    """Bound the central directory, which `zipfile` reads and turns into objects as a whole."""
    size, file = job.size_bytes, job.file
    window = min(size, 65_536 + _END_SIZE)
    file.seek(size - window)
    tail = file.read(window)
    at = tail.rfind(_END_MARK)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise malformed("The archive is damaged.")
    if _END_MARK_64 in tail:
        raise malformed("The archive is in ZIP64 format (for more than 4 GB), which is not supported.")
    directory_bytes = max(
        struct.unpack_from("<L", tail, found + 12)[0]
        for found in _occurrences(tail, _END_MARK)
        if len(tail) - found >= _END_SIZE
    )
    limit = job.limits.max_zip_entries
    # The number of entries is only a claim; the size of the directory is what gets read.
    if directory_bytes > limit * _MAX_DIRECTORY_BYTES_PER_ENTRY or directory_bytes // 46 > limit * 4:
        raise too_large(f"The archive has more than {limit} entries.")


def _occurrences(data: bytes, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)
