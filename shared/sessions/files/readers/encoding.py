"""Detects a text file's encoding, and decodes the file in pieces.

Invariant: one bad byte never decides. UTF-8 with some damage stays UTF-8, and what is damaged becomes U+FFFD; NUL bytes
within text are left out. Everything that was guessed, damaged or left out gives a warning. Never more than one piece of
the file is in memory.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared.sessions.files.readers.analysis import Job, too_large
from shared.sessions.files.readers.legacy import legacy_encoding, utf16_without_mark

SAMPLE_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_BOMS = (  # in this order: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = frozenset(range(1, 32)) - frozenset(b"\t\n\r\f\b\x1a\x1b")  # DOS ended its text files with 0x1A
_HIGH_BYTES = bytes(range(128, 256))
_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
# The beginning of a character of four bytes, or of punctuation or a currency sign. No code page writes words like this.
_CLEARLY_CUT = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{2}|\xe2[\x80-\x84]")
_CUT = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{1,2}|[\xe0-\xef][\x80-\xbf]")
_CUT_AT_THE_END = re.compile(rb"(?:[\xf0-\xf4][\x80-\xbf]{1,2}|[\xe0-\xef][\x80-\xbf])\Z")
_CUT_AT_THE_BEGINNING = re.compile(rb"\A[\x80-\xbf]{2,3}(?![\x80-\xff])")


@dataclass(frozen=True, slots=True)
class Encoding:
    """name: a Python codec. damaged: places that do not decode and become U+FFFD."""

    name: str
    is_guess: bool = False
    damaged: int = 0
    nul_bytes: int = 0

    def warnings(self) -> list[str]:
        found = [f"The encoding is not declared; {self.name} was assumed."] if self.is_guess else []
        if self.damaged:
            places = "place is" if self.damaged == 1 else "places are"
            found.append(f"{self.damaged} {places} not valid {self.name}; U+FFFD stands there.")
        if self.nul_bytes:
            found.append(f"{self.nul_bytes} NUL {'byte was' if self.nul_bytes == 1 else 'bytes were'} left out.")
        return found


def detect_encoding(job: Job) -> Encoding | None:
    """The encoding of a text file; None if it is not text. The first call reads the file, later ones remember."""
    if "encoding" not in job.known:
        job.known["encoding"] = _detected(job)
    found = job.known["encoding"]
    return found if isinstance(found, Encoding) else None


def pieces(job: Job, encoding: Encoding) -> Iterator[str]:
    """The text in pieces of at most 64 KiB, without NUL. Invalid bytes become U+FFFD."""
    decoder = codecs.getincrementaldecoder(encoding.name)(errors="replace")
    for chunk in _chunks(job):
        yield decoder.decode(chunk).replace("\x00", "")
    yield decoder.decode(b"", final=True).replace("\x00", "")


def beginning(job: Job, encoding: Encoding, chars: int) -> str:
    """The first characters of the text, whatever the size of a piece; whole characters only."""
    found = ""
    for piece in pieces(job, encoding):
        found += piece
        if len(found) >= chars:
            break
    return found[:chars]


def lines(job: Job, encoding: Encoding, *, max_chars: int = 1_000_000) -> Iterator[str]:
    """The text in lines that end with one newline, whether LF, CR LF or CR ended them in the file.

    Raises AnalysisError for a line beyond `max_chars`.
    """
    decoder = _Newlines()
    rest = ""
    for piece in pieces(job, encoding):
        *whole, rest = (rest + decoder.decode(piece)).split("\n")
        yield from (line + "\n" for line in whole)
        if len(rest) > max_chars:
            raise too_large(f"The file has a line of more than {max_chars} characters.")
    rest += decoder.decode("", final=True)
    if rest:
        yield rest


class _Newlines:
    """Makes every line end a newline; a CR at the end of a piece waits for the LF that may follow."""

    def __init__(self) -> None:
        self._waiting = ""

    def decode(self, text: str, *, final: bool = False) -> str:
        text, self._waiting = self._waiting + text, ""
        if text.endswith("\r") and not final:
            text, self._waiting = text[:-1], "\r"
        return one_newline(text)


def one_newline(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _detected(job: Job) -> Encoding | None:
    sample = job.head(SAMPLE_BYTES)
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return _checked(job, Encoding(name))
    is_cut = job.size_bytes > len(sample)
    if b"\x00" in sample:
        wide = utf16_without_mark(sample, is_western=True)
        if wide is None and not _is_text_around_nul(sample, is_cut=is_cut):
            wide = utf16_without_mark(sample, is_western=False)
            if wide is None:
                return None
        if wide is not None:
            return _checked(job, Encoding(wide, is_guess=True))
    if _controls(sample) > len(sample) // 200 + (len(sample) > 20):
        return None  # legacy code pages decode nearly anything, but text has hardly any control character
    if (b"\x1b$B" in sample or b"\x1b$@" in sample) and _decodes(job, "iso2022_jp"):
        return Encoding("iso2022_jp", is_guess=True)
    utf8 = _as_utf8(job)
    if utf8 is not None:
        return utf8
    page = legacy_encoding(_telling(job))
    return None if page is None else _checked(job, Encoding(page, is_guess=True))


def _controls(sample: bytes) -> int:
    return sum(sample.count(control) for control in _CONTROLS)


def _is_text_around_nul(sample: bytes, *, is_cut: bool) -> bool:
    """Whether NUL bytes are damage or padding of a text, and not part of a binary format."""
    text = sample.replace(b"\x00", b"")
    if not text:
        return False
    if len(sample) - len(text) <= len(sample) // 10:
        return _controls(text) <= len(text) // 200
    inside = sample.strip(b"\x00")
    is_padding = b"\x00" not in inside
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text, not is_cut)
    except UnicodeDecodeError:
        return is_padding and _controls(text) == 0 and len(text) > 20
    return _controls(text) == 0 and (is_padding or len(text) * 4 >= len(sample))


def _as_utf8(job: Job) -> Encoding | None:
    """UTF-8 if all of the file is, or nearly all: then what is damaged is counted."""
    good = damaged = clearly_cut = nul_bytes = 0
    carried, has_high, is_edge_cut = b"", False, False
    first = job.head(8)
    chunks = _chunks(job)
    chunk = next(chunks, b"")
    while chunk:
        following = next(chunks, b"")
        data = carried + chunk
        carried = b""
        nul_bytes += chunk.count(0)
        if not data.isascii():
            has_high = True
            if following:  # a character may go on in the next chunk
                for back in range(1, 4):
                    if data[-back] >= 0xC0:
                        data, carried = data[:-back], data[-back:]
                        break
            left, sequences = _SEQUENCE.subn(b"", data)
            good += sequences
            if not left.isascii():
                if not following:
                    is_edge_cut = _CUT_AT_THE_END.search(data) is not None
                clearly_cut += len(_CLEARLY_CUT.findall(left))
                left, cut = _CUT.subn(b"", left)
                damaged += cut + len(left) - len(left.translate(None, _HIGH_BYTES))
        chunk = following
    if not has_high or damaged == 0:
        return Encoding("utf-8", nul_bytes=nul_bytes)
    at_beginning = _CUT_AT_THE_BEGINNING.match(first)
    edges = int(is_edge_cut) + (len(at_beginning[0]) if at_beginning else 0)
    # Text in a code page has hardly a valid sequence: at most one for every two bytes that are not.
    if good >= 2 * damaged or clearly_cut == damaged or (good == 0 and edges == damaged):
        return Encoding("utf-8", damaged=damaged, nul_bytes=nul_bytes)
    return None


def _telling(job: Job) -> bytes:
    """The lines with bytes beyond ASCII, up to 64 KiB. They say which code page it is, wherever they are."""
    parts: list[bytes] = []
    size, rest = 0, b""
    for chunk in _chunks(job):
        *whole, rest = (rest + chunk.replace(b"\x00", b"")).split(b"\n")
        for line in whole:
            if not line.isascii():
                parts.append(line)
                size += len(line) + 1
        if size + len(rest) >= SAMPLE_BYTES:
            break
    if not rest.isascii() and size < SAMPLE_BYTES:
        parts.append(rest)
    return b"\n".join(parts)[:SAMPLE_BYTES]


def _checked(job: Job, encoding: Encoding) -> Encoding:
    """The encoding with what does not decode in the whole file."""
    if _decodes(job, encoding.name):
        nul_bytes = sum(chunk.count(0) for chunk in _chunks(job)) if "16" not in encoding.name else 0
        return Encoding(encoding.name, encoding.is_guess, nul_bytes=0 if "32" in encoding.name else nul_bytes)
    decoder = codecs.getincrementaldecoder(encoding.name)(errors="replace")
    damaged = sum(decoder.decode(chunk).count("\ufffd") for chunk in _chunks(job))
    damaged += decoder.decode(b"", final=True).count("\ufffd")
    return Encoding(encoding.name, encoding.is_guess, damaged=damaged)


def _decodes(job: Job, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        for chunk in _chunks(job):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _chunks(job: Job) -> Iterator[bytes]:
    """The file's bytes. Each chunk is sought: passes over the file may be interleaved."""
    at = 0
    while True:
        job.deadline.check()
        job.file.seek(at)
        chunk = job.file.read(_CHUNK_BYTES)
        if not chunk:
            return
        at += len(chunk)
        yield chunk
