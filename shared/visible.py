"""Removes or reveals invisible characters in untrusted text.

A model reads code points. Tag characters spell out ASCII, variation selectors carry a byte each, and zero-width or
bidirectional controls hide or reorder words. So a page can give the model text that no person sees. Sources: Unicode
TR 36 and 39; "ASCII smuggling" (J. Rehberger, 2024); OWASP LLM01.

Invariant: stored text stays unchanged; these functions apply to text that is sent to a model or shown to an approver.
"""

from __future__ import annotations

import re
import unicodedata

# Soft hyphen, joiners and fillers, Mongolian and other variation selectors, zero-width and directional controls, tags.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""But for tab and line feed."""
_JOINERS = frozenset("\u200c\u200d")
_PRESENTATION = frozenset("\ufe0e\ufe0f")
_KEYCAP = "\u20e3"


def visible_text(text: str) -> str:
    """The text without invisible characters, except single ones that emoji or joining scripts need."""
    if text.isascii():
        return text
    return _INVISIBLE.sub(_kept, text)


def revealed(text: str) -> str:
    """JSON text with every invisible character as its JSON escape, for people who approve exactly this text."""
    return text if text.isascii() else _INVISIBLE.sub(lambda run: "".join(map(_escape, run.group())), text)


def revealed_text(text: str) -> str:
    """Text for people who judge it: controls, and invisible characters that its script does not need, as escapes."""
    if text.isascii() and text.isprintable():
        return text
    told = _INVISIBLE.sub(lambda run: _kept(run) or "".join(map(_escape, run.group())), text)
    return _CONTROLS.sub(lambda found: _escape(found.group()), told)


def _kept(run: re.Match[str]) -> str:
    """The part of a run of invisible characters that its neighbours need."""
    before = run.string[run.start() - 1 : run.start()]
    after = run.string[run.end() : run.end() + 1]
    found = run.group()
    if found in _PRESENTATION and (_is_symbol(before) or after == _KEYCAP):
        return found
    joiner = found.removeprefix("\ufe0f")
    if joiner in _JOINERS and (
        (_is_symbol(before) and _is_symbol(after)) or (found == joiner and _joins(before) and _joins(after))
    ):
        return found
    return ""


def _is_symbol(character: str) -> bool:
    """Emoji and similar symbols, skin tone modifiers included."""
    return bool(character) and unicodedata.category(character) in {"So", "Sk", "Sm"}


def _joins(character: str) -> bool:
    """A letter or mark of the scripts that use joiners in spelling: from Hebrew and Arabic to Mongolian."""
    return bool(character) and 0x0590 <= ord(character) < 0x1900 and unicodedata.category(character)[0] in "LM"


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
