"""Encodings that no mark declares: code pages of one script, and UTF-16.

Invariant: a guess is among what text files are written in today; a rare code page never wins by a hair. What decodes to
noise is not text.
"""

from __future__ import annotations

import codecs
import unicodedata

_SUPERSETS = {  # what is written under the name of the smaller one often uses the larger one
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "tis-620": "cp874",
    "tis_620": "cp874",
    "iso8859-1": "cp1252",
    "iso8859-8": "cp1255",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "ascii": "cp1252",
}
_UNICODE = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-7")
_FEW_LETTERS = 0.7
_MOSTLY_FOREIGN = 0.3
_MAX_NOISE = 0.05
_MAX_CUT_BYTES = 3  # GB18030 has characters of four bytes


def legacy_encoding(sample: bytes) -> str | None:
    """The Python codec of a code page; None if the bytes are no text. sample: lines that are not ASCII."""
    from chardet import EncodingEra  # 60 ms to import, and only odd files need it

    found = _guess(sample, EncodingEra.MODERN_WEB)
    decoded = sample.decode(found, errors="replace")
    foreign = [char for char in decoded if char > "\x7f"]
    letters = _share_of_letters(foreign)
    if letters < _FEW_LETTERS and len(foreign) > len(decoded) * _MOSTLY_FOREIGN:
        # Words in DOS's code pages, read as today's, are full of signs.
        other = _guess(sample, EncodingEra.MODERN_WEB | EncodingEra.DOS)
        if _share_of_letters([char for char in sample.decode(other, errors="replace") if char > "\x7f"]) > letters:
            return other
    noise = sum(char == "\ufffd" or "\x80" <= char <= "\x9f" for char in foreign)
    return None if noise > max(1, len(foreign) * _MAX_NOISE) else found


def utf16_without_mark(sample: bytes, *, is_western: bool) -> str | None:
    """The byte order of text in UTF-16, or None.

    Western text has a zero at nearly every second byte, and none between. Other text has zeros only in its spaces and
    line ends: it is told by decoding to assigned characters from few blocks.
    """
    half = len(sample) // 2
    if is_western:
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if odd > half * 0.6 and even < half * 0.02:
            return "utf-16-le"
        return "utf-16-be" if even > half * 0.6 and odd < half * 0.02 else None
    scores = {
        name: len(set(sample[high : half * 2 : 2]))
        for name, high in (("utf-16-be", 0), ("utf-16-le", 1))
        if _is_plausible_utf16(sample[: half * 2], name)
    }
    return min(scores, key=lambda name: scores[name]) if scores else None


def _is_plausible_utf16(sample: bytes, name: str) -> bool:
    try:
        text = codecs.getincrementaldecoder(name)().decode(sample)
    except UnicodeDecodeError:
        return False
    if not set(text) & set(" \n"):
        return False
    odd = sum(unicodedata.category(char) in ("Cn", "Co", "Cc") and char not in "\t\n\r" for char in text)
    return odd <= len(text) // 100


def _guess(sample: bytes, era: int) -> str:
    """Trimmed in turn, since the sample may end inside a character."""
    import chardet

    best, confidence = "cp1252", 0.0
    is_cut = not sample.endswith(b"\n") and len(sample) > 1024
    for trim in range(_MAX_CUT_BYTES + 1 if is_cut else 1):
        found = chardet.detect(
            sample[: len(sample) - trim],
            encoding_era=chardet.EncodingEra(era),
            exclude_encodings=_UNICODE,
        )
        name = found["encoding"]
        if name is not None and found["confidence"] > confidence:
            best, confidence = _codec(name), found["confidence"]
    return best


def _codec(name: str) -> str:
    try:
        python = codecs.lookup(name).name
    except LookupError:
        return "cp1252"
    return _SUPERSETS.get(python, python)


def _share_of_letters(chars: list[str]) -> float:
    return sum(char.isalpha() or unicodedata.category(char)[0] == "M" for char in chars) / max(1, len(chars))
