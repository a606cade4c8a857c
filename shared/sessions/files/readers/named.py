"""Files whose kind is known but that are not read: named, so that a person knows what to send instead.

Invariant: only signatures are compared; nothing is unpacked. An encrypted office document is refused, as an encrypted
PDF is: nobody could read it here.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.sessions.files.readers.analysis import Analysis, Job, malformed
from shared.sessions.models import FileKind

_OCTETS = "application/octet-stream"
_HEAD_BYTES = 512
_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (  # offset, bytes, name with its article, media type
    (257, b"ustar", "a TAR archive", "application/x-tar"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "a RAR archive", "application/vnd.rar"),
    (0, b"\x1f\x8b\x08", "a gzip archive", "application/gzip"),
    (0, b"BZh", "a bzip2 archive", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "an XZ archive", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", "application/zstd"),
    (0, b"SQLite format 3\x00", "an SQLite database", "application/vnd.sqlite3"),
    (0, b"ID3", "an MP3 recording", "audio/mpeg"),
    (0, b"OggS\x00", "an Ogg recording", "audio/ogg"),
    (0, b"fLaC\x00", "a FLAC recording", "audio/flac"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video", "video/x-matroska"),
    (0, b"PAR1", "a Parquet file", "application/vnd.apache.parquet"),
    (0, b"\x7fELF", "a program", _OCTETS),
    (0, b"\xff\x0a", "a JPEG XL image", "image/jxl"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image", "image/jxl"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 image", "image/jp2"),
    (0, b"8BPS\x00\x01", "a Photoshop image", "image/vnd.adobe.photoshop"),
    (0, b"\x00\x00\x01\x00", "an icon", "image/vnd.microsoft.icon"),
)
_BRANDS = {  # of ISO base media files, whose first box is `ftyp`
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), ("a HEIC image", "image/heic")),
    **dict.fromkeys((b"mif1", b"msf1"), ("a HEIF image", "image/heif")),
    **dict.fromkeys((b"avif", b"avis"), ("an AVIF image", "image/avif")),
    b"M4A ": ("an MPEG-4 recording", "audio/mp4"),
    b"qt  ": ("a QuickTime video", "video/quicktime"),
}
_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
_STREAMS = (  # names of streams within a compound file, which stand in it as UTF-16
    ("WordDocument", "a Word document of the old format (.doc)", "application/msword"),
    ("Workbook", "an Excel workbook of the old format (.xls)", "application/vnd.ms-excel"),
    ("PowerPoint Document", "a PowerPoint presentation of the old format (.ppt)", "application/vnd.ms-powerpoint"),
    ("__properties_version1.0", "an Outlook message (.msg)", "application/vnd.ms-outlook"),
)
_ENCRYPTED = "EncryptedPackage"
_OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
_DECLARED = (  # by the first part of OpenDocument and EPUB files
    (f"{_OPEN_DOCUMENT}text", "an OpenDocument text"),
    (f"{_OPEN_DOCUMENT}spreadsheet", "an OpenDocument spreadsheet"),
    (f"{_OPEN_DOCUMENT}presentation", "an OpenDocument presentation"),
    ("application/epub+zip", "an EPUB book"),
)


class NamedStrategy:
    """Comes after the formats that are read and before text, which could hold any bytes."""

    def recognise(self, job: Job) -> bool:
        return _name(job) is not None

    def analyze(self, job: Job) -> Analysis:
        name, media_type = _name(job) or ("a file of an unknown kind", _OCTETS)
        kind = FileKind.IMAGE if media_type.startswith("image/") else FileKind.BINARY
        advice = " Save it in today's format to have it read." if "old format" in name else ""
        return Analysis(
            kind,
            media_type,
            facts={"size_bytes": job.size_bytes},
            warnings=(f"This is {name}, not read.{advice}",),
        )


def _name(job: Job) -> tuple[str, str] | None:
    head = job.head(_HEAD_BYTES)
    if head[4:8] == b"ftyp":
        return _brand(head)
    if head.startswith(_COMPOUND):
        return _compound(job)
    if head.startswith(b"PK\x03\x04"):
        declared = ((name, kind) for kind, name in _DECLARED if b"mimetype" + kind.encode() in head)
        return next(declared, ("a ZIP archive", "application/zip"))
    if head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"AVI "):
        return ("a WAV recording", "audio/wav") if head[8:12] == b"WAVE" else ("an AVI video", "video/x-msvideo")
    for offset, mark, name, media_type in _SIGNATURES:
        if head.startswith(mark, offset) and (len(mark) > 4 or not head.isascii() or b"\x00" in head):
            return name, media_type
    return None


def _brand(head: bytes) -> tuple[str, str]:
    """By the main brand, or by a compatible one where the main brand is that of the container."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] in (b"mif1", b"msf1"):
        brands = [*brands[1:], brands[0]]
    found = (_BRANDS[brand] for brand in brands if brand in _BRANDS)
    return next(found, ("an MPEG-4 video", "video/mp4"))


def _compound(job: Job) -> tuple[str, str]:
    found = _streams(job)
    for stream, name, media_type in _STREAMS:
        if stream in found:
            return name, media_type
    if _ENCRYPTED in found:
        raise malformed("The document is protected by a password.")
    return "an Office document of an old format", _OCTETS


def _streams(job: Job) -> set[str]:
    """The names of known streams that occur in the file, wherever its directory is."""
    wanted = {name: name.encode("utf-16-le") for name in (*(stream for stream, *_ in _STREAMS), _ENCRYPTED)}
    found: set[str] = set()
    for window in _windows(job):
        found |= {name for name, mark in wanted.items() if mark in window}
    return found


def _windows(job: Job) -> Iterator[bytes]:
    """The file in pieces that overlap by more than the longest name."""
    job.file.seek(0)
    rest = b""
    while chunk := job.file.read(256 * 1024):
        job.deadline.check()
        yield rest + chunk
        rest = chunk[-64:]
