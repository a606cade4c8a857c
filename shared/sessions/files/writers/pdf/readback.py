"""Makes the text of a PDF readable by every program, not only by those that know `ActualText`.

Typst tells for each glyph which character it stands for. Where several glyphs stand for a cluster of characters, as in
Devanagari, Thai or pointed Hebrew, it tells only the text of the whole cluster, as `ActualText`, which many programs
that extract text ignore. So each such glyph gets a code of its own here, whose text is its part of the cluster. The
page looks the same: a code is only another name for the glyph.

Invariants: what is drawn stays as it was. The result is the given file plus an update at its end (ISO 32000-1, 7.5.6).
Of what this program does not know (another kind of font, another form of operators) it changes nothing.
"""

from __future__ import annotations

import io
import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import batched
from typing import Any

from pypdf import PdfReader
from pypdf.generic import ArrayObject, IndirectObject, NameObject, NumberObject

_STRING = rb"\((?:[^()\\]|\\[\s\S]|\((?:[^()\\]|\\[\s\S])*\))*\)"
_FONT = rb"\d Tr/(?P<font>\w+) (?P<size>\S+) Tf"
_SPAN = rb"/Span<</ActualText(?P<text><[0-9A-F]+>|" + _STRING + rb")>>BDC(?P<inside>(?:" + _STRING + rb"|[^()])*?)EMC"
_PIECES = re.compile(rb"(?P<string>" + _STRING + rb")|" + _SPAN + rb"|" + _FONT + rb"|(?P<begin>\bBT\b)")
_STRINGS = re.compile(_STRING)
_STRINGS_AND_FONTS = re.compile(_STRING + rb"|" + _FONT)
_LINE_PART = re.compile(
    rb"(?P<tag>/\w+<</MCID \d+>>BDC\n)?q 1 0 0 -1 (?P<x>\S+) (?P<y>\S+) cm(?P<paint>[^\n]*)\n"
    rb"BT(?P<shown>(?:" + _STRING + rb"|[^()])*?)\bET\nQ\n(?(tag)EMC\n?)"
)
_PLACE = re.compile(rb"1 0 0 -1 (\S+) (\S+) Tm")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|[\s\S])")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b""}
_SECTION = re.compile(rb"beginbfchar(.*?)endbfchar", re.DOTALL)
_MAPPED = re.compile(rb"<([0-9A-Fa-f]{4})>\s*<([0-9A-Fa-f]+)>")
_PER_SECTION = 100  # entries of one section of a CMap: Adobe Technical Note 5014, 1.4.1
_UNSEEN = (*range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9))
"""Codes for glyphs without a text. Some programs take the code itself for a character: these have nothing to show."""

_MARK_PT = 7.0  # a mark is not further from its line; lines are at least 13 apart
_BREAK = "\u200b"  # allows a line break in a word that is too long; it belongs to no text


def readable(pdf: bytes) -> bytes:
    """The same pages, with the text of each glyph."""
    reader = PdfReader(io.BytesIO(pdf))
    update = _Update(pdf, reader)
    fonts: dict[int, _Font] = {}
    for page in reader.pages:
        names: dict[str, _Font] = {}
        resources: Any = page["/Resources"]
        listed: Any = resources.get("/Font", {})
        for name in listed:
            reference = listed.raw_get(name)
            if reference.idnum not in fonts:
                fonts[reference.idnum] = _Font(reference)
            names[name[1:]] = fonts[reference.idnum]
        contents = page.raw_get("/Contents")
        data = contents.get_object().get_data()
        rewritten = _Page(names).rewritten(data)
        if rewritten != data:
            update.stream(contents.idnum, rewritten)
    for font in fonts.values():
        font.write(update)
    return update.finished()


class _Font:
    """A font of the file, and the codes that it gets in addition."""

    def __init__(self, reference: IndirectObject) -> None:
        self.reference = reference
        font: Any = reference.get_object()
        self._map = font.get("/ToUnicode")
        below = font.get("/DescendantFonts")
        self._below: Any = below[0].get_object() if below else {}
        self.has_codes = (
            self._below.get("/Subtype") == "/CIDFontType2"
            and self._below.get("/CIDToGIDMap") == "/Identity"
            and self._map is not None
        )
        self._widths = _widths(self._below.get("/W", ())) if self.has_codes else {}
        self._texts = _texts(self._map) if self.has_codes else {}
        self._first = _glyph_count(self._below) if self.has_codes else 0
        self._codes: dict[tuple[int, str], int] = {}
        self._next: int = self._first
        self._unseen = (code for code in _UNSEEN if code >= self._first)

    def has_room(self, count: int) -> bool:
        return self.has_codes and self._next + count < _UNSEEN[0]

    def is_repeated(self, glyph: int, text: str | None = None) -> bool:
        """Whether a mark stands for the text of the letter it belongs to, which the letter has, too.

        text: what it stands for at this place; else what it stands for everywhere.
        """
        text = self._texts.get(glyph, "") if text is None else text
        return self._widths.get(glyph, 0) == 0 and _has_letter(text)

    def code(self, glyph: int, text: str) -> int:
        """The code of this glyph where it stands for this text."""
        if (glyph, text) not in self._codes:
            code = next(self._unseen, None) if not text else None
            if code is None:
                code, self._next = self._next, self._next + 1
            self._codes[glyph, text] = code
        return self._codes[glyph, text]

    def recoded(self, string: bytes) -> bytes:
        """A string without repeated texts."""
        if not self.has_codes:
            return string
        glyphs = _glyphs(string)
        if not any(map(self.is_repeated, glyphs)):
            return string
        return _string(self.code(glyph, "") if self.is_repeated(glyph) else glyph for glyph in glyphs)

    def write(self, update: _Update) -> None:
        if not self.has_codes:
            return
        texts = {code: text.replace(_BREAK, "") for code, text in self._texts.items()}
        texts |= {code: text for (_, text), code in self._codes.items()}
        if texts == self._texts:
            return
        font: Any = self.reference.get_object()
        update.stream(font.raw_get("/ToUnicode").idnum, _cmap(texts))
        if self._codes:
            self._write_codes(update)

    def _write_codes(self, update: _Update) -> None:
        glyphs = [0] * (max(self._codes.values()) + 1)
        glyphs[: self._first] = range(self._first)
        widths: list[Any] = [*self._below["/W"]]
        for (glyph, _), code in self._codes.items():
            glyphs[code] = glyph
            if self._widths.get(glyph, 0) != 0:  # the width of codes that are not in the list
                widths += [NumberObject(code), ArrayObject([NumberObject(self._widths[glyph])])]
        below = dict(self._below)
        added = update.added(b"".join(glyph.to_bytes(2, "big") for glyph in glyphs))
        below[NameObject("/CIDToGIDMap")] = IndirectObject(added, 0, update.reader)
        below[NameObject("/W")] = ArrayObject(widths)
        font: Any = self.reference.get_object()
        update.dictionary(next(iter(font["/DescendantFonts"])), below)


class _Page:
    """Rewrites the operators of one page."""

    def __init__(self, fonts: dict[str, _Font]) -> None:
        self._fonts = fonts
        self._font: _Font | None = None
        self._set = b""

    def rewritten(self, data: bytes) -> bytes:
        return _PIECES.sub(self._piece, _joined(data))

    def _piece(self, found: re.Match[bytes]) -> bytes:
        if found["string"] is not None:
            return found[0] if self._font is None else self._font.recoded(found[0])
        if found["begin"] is not None:
            self._set = b""
            return found[0]
        return self._font_set(found) if found["text"] is None else self._span(found)

    def _span(self, found: re.Match[bytes]) -> bytes:
        inside = _STRINGS_AND_FONTS.sub(
            lambda piece: self._font_set(piece) if piece["font"] else piece[0], found["inside"]
        )
        text = _meant(found["text"]).replace(_BREAK, "")
        glyphs = [glyph for string in _STRINGS.findall(inside) for glyph in _glyphs(string)]
        font = self._font
        if font is None or not glyphs or not font.has_room(len(glyphs)):
            return found[0].replace(found["inside"], inside)
        if all(font.is_repeated(glyph, text) for glyph in glyphs):
            text = ""
        codes = iter([font.code(glyph, share) for glyph, share in zip(glyphs, shares(text, len(glyphs)), strict=True)])
        recoded = _STRINGS.sub(lambda string: _string(next(codes) for _ in _glyphs(string[0])), inside)
        # With as many characters as glyphs, or more, the codes say it all.
        return recoded if len(text) >= len(glyphs) or not text else found[0].replace(found["inside"], recoded)

    def _font_set(self, found: re.Match[bytes]) -> bytes:
        """Leave out a font that is set already: programs that extract text take it for the end of a run."""
        if found[0] == self._set:
            return b""
        self._set = found[0]
        self._font = self._fonts.get(found["font"].decode())
        return found[0]


def _joined(data: bytes) -> bytes:
    """Joins the parts of a line.

    Typst begins a new part for each mark above or below a letter, such as the dots of Arabic letters, and programs that
    extract text take each part for text of its own.
    """
    out = bytearray()
    end = 0
    line: _Line | None = None
    for part in _LINE_PART.finditer(data):
        if line is None or part.start() != end or not line.goes_on(part):
            if line is not None:
                out += line.written()
            out += data[end : part.start()]
            line = _Line(part)
        line.add(part)
        end = part.end()
    if line is not None:
        out += line.written()
    return bytes(out + data[end:])


class _Line:
    """Parts of one line with the same colour. The first one is the origin of the others."""

    def __init__(self, first: re.Match[bytes]) -> None:
        self._first = first
        self._x, self._y = float(first["x"]), float(first["y"])
        self._last_y = first["y"]
        self._parts: list[bytes] = []

    def goes_on(self, part: re.Match[bytes]) -> bool:
        """Whether the part is a mark, or follows one. At the same height it may belong to the next cell of a table."""
        is_near = abs(float(part["y"]) - self._y) < _MARK_PT
        return is_near and part["y"] != self._last_y and part["paint"] == self._first["paint"]

    def add(self, part: re.Match[bytes]) -> None:
        right, down = float(part["x"]) - self._x, self._y - float(part["y"])
        shown = _PLACE.sub(
            lambda place: b"1 0 0 -1 %.9g %.9g Tm" % (float(place[1]) + right, float(place[2]) + down), part["shown"]
        )
        self._last_y = part["y"]
        self._parts.append(part["tag"] + shown + b"EMC\n" if part["tag"] else shown)

    def written(self) -> bytes:
        head = b"\nq 1 0 0 -1 %b %b cm%b\n" % (self._first["x"], self._first["y"], self._first["paint"])
        return head + b"BT\n" + b"".join(self._parts) + b"ET\nQ\n"


def shares(text: str, count: int) -> Sequence[str]:
    """The text in as many parts as there are glyphs, in the order of the glyphs; some are empty if it is too short."""
    surplus = max(0, len(text) - count)
    parts = [text[: surplus + 1], *text[surplus + 1 :]] if text else []
    parts += [""] * (count - len(parts))
    # Glyphs are drawn from the left.
    return parts[::-1] if any(unicodedata.bidirectional(char) in ("R", "AL") for char in text) else parts


def _has_letter(text: str) -> bool:
    """Whether the text has more than marks and joiners."""
    return any(unicodedata.category(char) not in ("Mn", "Mc", "Me", "Cf") for char in text)


def _glyph_count(font: Any) -> int:
    """The number of glyphs in the file of the font: OpenType's table `maxp`."""
    data: bytes = font["/FontDescriptor"]["/FontFile2"].get_data()
    for at in range(12, 12 + 16 * int.from_bytes(data[4:6], "big"), 16):
        if data[at : at + 4] == b"maxp":
            table = int.from_bytes(data[at + 8 : at + 12], "big")
            return int.from_bytes(data[table + 4 : table + 6], "big")
    return int(_UNSEEN[0])  # none: then no glyph gets another code


def _glyphs(string: bytes) -> list[int]:
    raw = _unescaped(string)
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


def _string(codes: Iterable[int]) -> bytes:
    return b"<" + b"".join(b"%04X" % code for code in codes) + b">"


def _meant(string: bytes) -> str:
    """The text of a PDF string: in UTF-16 with a mark at its beginning, else in Latin-1."""
    raw = _unescaped(string) if string.startswith(b"(") else bytes.fromhex(string[1:-1].decode("ascii"))
    return raw.decode("utf-16") if raw.startswith(b"\xfe\xff") else raw.decode("latin-1")


def _unescaped(string: bytes) -> bytes:
    """The bytes of a literal string, given with its parentheses: ISO 32000-1, 7.3.4.2."""
    return _ESCAPE.sub(
        lambda found: bytes([int(found[1], 8) & 0xFF]) if found[1].isdigit() else _ESCAPED.get(found[1], found[1]),
        string[1:-1],
    )


def _widths(listed: Sequence[Any]) -> dict[int, Any]:
    """Widths by code: ISO 32000-1, 9.7.4.3."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(listed):
        first, second = int(listed[at]), listed[at + 1]
        if isinstance(second, list):
            found |= dict(enumerate(second, first))
            at += 2
        else:
            found |= dict.fromkeys(range(first, int(second) + 1), listed[at + 2])
            at += 3
    return found


def _texts(cmap: Any) -> dict[int, str]:
    """Texts by code: Adobe Technical Note 5411, of which Typst uses the form for single codes."""
    return {
        int(code, 16): bytes.fromhex(text.decode()).decode("utf-16-be")
        for section in _SECTION.findall(cmap.get_object().get_data())
        for code, text in _MAPPED.findall(section)
    }


def _cmap(texts: Mapping[int, str]) -> bytes:
    lines = ["/CIDInit /ProcSet findresource begin", "12 dict begin", "begincmap"]
    lines += ["/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def"]
    lines += ["/CMapName /Adobe-Identity-UCS def", "/CMapType 2 def"]
    lines += ["1 begincodespacerange", "<0000> <FFFF>", "endcodespacerange"]
    for section in batched(sorted(texts.items()), _PER_SECTION, strict=False):
        lines += [f"{len(section)} beginbfchar"]
        lines += [f"<{code:04X}> <{text.encode('utf-16-be').hex().upper()}>" for code, text in section]
        lines += ["endbfchar"]
    lines += ["endcmap", "CMapName currentdict /CMap defineresource pop", "end", "end"]
    return "\n".join(lines).encode("ascii")


class _Update:
    """New versions of objects, which are added to the end of a file."""

    def __init__(self, pdf: bytes, reader: PdfReader) -> None:
        self.reader = reader
        self._pdf = pdf
        size: Any = reader.trailer["/Size"]
        self._next = int(size)
        self._objects: dict[int, bytes] = {}

    def stream(self, number: int, data: bytes) -> None:
        packed = zlib.compress(data)
        self._objects[number] = b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(packed), packed)

    def added(self, data: bytes) -> int:
        """Add a stream; its number."""
        number, self._next = self._next, self._next + 1
        self.stream(number, data)
        return number

    def dictionary(self, reference: IndirectObject, entries: dict[Any, Any]) -> None:
        self._objects[reference.idnum] = (
            b"<<" + b"\n".join(_written(key) + b" " + _written(value) for key, value in entries.items()) + b">>"
        )

    def finished(self) -> bytes:
        if not self._objects:
            return self._pdf
        out = bytearray(self._pdf)
        table = bytearray(b"xref\n")
        for number, body in sorted(self._objects.items()):
            table += b"%d 1\n%010d 00000 n \n" % (number, len(out))
            out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
        start = len(out)
        trailer = dict(self.reader.trailer)
        kept = b"".join(
            b"%b %b" % (_written(NameObject(key)), _written(trailer[key]))
            for key in ("/Root", "/Info", "/ID")
            if key in trailer
        )
        previous = int(self._pdf.rpartition(b"startxref")[2].split()[0])
        out += table
        out += b"trailer\n<</Size %d/Prev %d%b>>\nstartxref\n%d\n%%%%EOF\n" % (self._next, previous, kept, start)
        return bytes(out)


def _written(value: Any) -> bytes:
    buffer = io.BytesIO()
    value.write_to_stream(buffer)
    return buffer.getvalue()
