"""What the fonts draw, the direction of a text, and where words that are too long may break.

Invariant: no character is dropped. One that no font has is replaced by its code, such as `[U+1F680]`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

from shared.sessions.files.writers.content import clean, is_right_to_left

FONTS = Path(__file__).with_name("fonts")
_BREAK = "\u200b"  # zero-width space: allows a line break
_JOINER = "\u200d"
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0001-\U000e01ef]"
)
"""Joiners, direction marks, variation selectors and tags: they shape their neighbours and are not drawn themselves."""

_LINES = {0x0B: "\n", 0x0C: "\n", 0x85: "\n", 0x2028: "\n", 0x2029: "\n", 0x09: "    "}
_BREAKS_BY_ITSELF = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U0001f000-\U0003ffff]"
)
"""Scripts in which lines break between or inside words anyway (UAX #14), and emoji."""

_NARROW = frozenset("ijlIJ.,:;!|'`()[]{}frt /\\-\"")
_WIDE = frozenset("mwMW@%&")


def drawable(text: str) -> str:
    """The text with a code such as `[U+1F680]` for each character that no font has."""
    if text.isascii() and text.isprintable():
        return text
    text = clean(text.translate(_LINES))
    return "".join(char if _is_drawable(char) else f"[U+{ord(char):04X}]" for char in text)


@cache
def _covered() -> frozenset[int]:
    """All characters that any of the fonts has."""
    codes: set[int] = {0xA}
    for line in (FONTS / "coverage.txt").read_text("ascii").splitlines():
        first, last = line.split()
        codes.update(range(int(first, 16), int(last, 16) + 1))
    return frozenset(codes)


def _is_drawable(char: str) -> bool:
    return ord(char) in _covered() or _UNSEEN.match(char) is not None


def right_to_left_font(text: str) -> str:
    """The font to set a right-to-left text in; empty for other text."""
    if not is_right_to_left(text):
        return ""
    first = next(char for char in text if unicodedata.bidirectional(char) in ("R", "AL"))
    if "\u0780" <= first <= "\u07bf":
        return "Noto Sans Thaana"
    return "Noto Sans Hebrew" if unicodedata.bidirectional(first) == "R" else "Noto Sans Arabic"


def with_breaks(text: str, room_em: float, *, is_mono: bool = False) -> str:
    """The text with places to break in each word that is wider than a line. room_em: the line's width, in em."""
    if len(text) <= room_em:  # hardly a character is wider than one em
        return text
    return re.sub(
        rf"\S{{{max(2, int(room_em))},}}", lambda found: _broken(found.group(), room_em, is_mono=is_mono), text
    )


def _broken(word: str, room_em: float, *, is_mono: bool) -> str:
    if sum(_width_em(char, is_mono=is_mono) for char in word) <= room_em:
        return word
    parts: list[str] = []
    width = 0.0
    for before, char in zip(" " + word, word, strict=False):
        width += _width_em(char, is_mono=is_mono)
        if width > room_em / 10 and _may_break(before, char):
            parts.append(_BREAK)
            width = 0.0
        parts.append(char)
    return "".join(parts)


def _width_em(char: str, *, is_mono: bool) -> float:
    """At least the width in the text font; a guess that is too wide only allows a break that is not needed."""
    if not char.isascii():
        return 0.0 if unicodedata.combining(char) else 1.0
    if is_mono:
        return 0.61
    return 0.45 if char in _NARROW else 0.95 if char in _WIDE else 0.75 if char.isupper() else 0.63


def _may_break(before: str, char: str) -> bool:
    """Never before a mark, nor around a joiner; other scripts break by themselves."""
    return not (
        before in (" ", _JOINER)
        or unicodedata.combining(before) == 9  # a virama joins the letters around it
        or unicodedata.category(char).startswith("M")
        or _UNSEEN.match(char)
        or _BREAKS_BY_ITSELF.match(before)
        or _BREAKS_BY_ITSELF.match(char)
    )
