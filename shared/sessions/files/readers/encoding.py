"""Detects a text file's encoding, and decodes the file in pieces.

Invariant: a file counts as text only if it decodes. A guessed encoding gives a warning. Never more than one piece of
the file is in memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from shared.sessions.files.readers.analysis import Job, too_large

SAMPLE_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_TIED_CHAOS = 0.06  # in the guesser's measure of disorder, 0..1
_BOMS = (  # in this order: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\b\x1b")


@dataclass(frozen=True, slots=True)
class Encoding:
    name: str  # a Python codec
    is_guess: bool = False

    def warnings(self) -> list[str]:
        return [f"The encoding is not declared; {self.name} was assumed."] if self.is_guess else []


def detect_encoding(job: Job) -> Encoding | None:
    """The encoding of a text file; None if it is not text."""
    sample = job.head(SAMPLE_BYTES)
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return Encoding(name)
    if b"\x00" in sample:
        return _utf16_without_mark(sample)
    if sum(sample.count(control) for control in _CONTROLS) > len(sample) // 200:
        return None  # legacy code pages decode nearly anything, but text has hardly any control characters
    if _decodes(job, "utf-8"):
        return Encoding("utf-8")
    return _guessed(sample)


def pieces(job: Job, encoding: Encoding) -> Iterator[str]:
    """The text in pieces of at most 64 KiB. Invalid bytes become U+FFFD."""
    decoder = codecs.getincrementaldecoder(encoding.name)(errors="replace")
    job.file.seek(0)
    while chunk := job.file.read(_CHUNK_BYTES):
        job.deadline.check()
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


def lines(job: Job, encoding: Encoding, *, max_chars: int = 1_000_000) -> Iterator[str]:
    """The text in lines with their ends. Raises AnalysisError for a line beyond `max_chars`."""
    rest = ""
    for piece in pieces(job, encoding):
        *whole, rest = (rest + piece).split("\n")
        yield from (line + "\n" for line in whole)
        if len(rest) > max_chars:
            raise too_large(f"The file has a line of more than {max_chars} characters.")
    if rest:
        yield rest


def _decodes(job: Job, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    job.file.seek(0)
    try:
        while chunk := job.file.read(_CHUNK_BYTES):
            job.deadline.check()
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _guessed(sample: bytes) -> Encoding | None:
    from charset_normalizer import from_bytes  # 40 ms to import, and only odd files need it

    matches = from_bytes(sample)
    best = matches.best()
    if best is None:
        return None
    # Short texts often fit several European code pages equally well; then the most common one is chosen.
    tied = {
        name
        for match in matches
        if match.chaos <= best.chaos + _TIED_CHAOS
        for name in (match.encoding, *match.could_be_from_charset)
    }
    return Encoding("cp1252" if "cp1252" in tied else best.encoding, is_guess=True)


def _utf16_without_mark(sample: bytes) -> Encoding | None:
    """Western text in UTF-16 has a zero at nearly every second byte, and none between."""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > half * 0.6 and even < half * 0.02:
        return Encoding("utf-16-le", is_guess=True)
    if even > half * 0.6 and odd < half * 0.02:
        return Encoding("utf-16-be", is_guess=True)
    return None
