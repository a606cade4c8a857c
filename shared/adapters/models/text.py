"""Joins the text that models stream, so that it can be stored and shown.

Invariant: the text is unchanged, except that U+0000 and unpaired surrogates, which our stores refuse, become U+FFFD.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

_MAX_DEPTH = 64
"""Of stored JSON: the encoder's limit is 254 levels, and the JSON is nested in rows and requests."""
_MAX_LABEL = 200


def decode(payload: bytes) -> Any:
    """The JSON of one event. Raises ValueError.

    The fast decoder refuses an unpaired surrogate, which occurs when an emoji is split between two events.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        if b"\\u" not in payload:
            raise
    try:
        return json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Joiner:
    """One stream of text, piece by piece."""

    __slots__ = ("_high",)

    def __init__(self) -> None:
        self._high = ""

    def take(self, text: str) -> str:
        """The text that can be shown now; half a surrogate pair is held until the other half arrives."""
        if self._high:
            text, self._high = self._high + text, ""
        if not text.isascii():
            if "\ud800" <= text[-1] <= "\udbff":
                text, self._high = text[:-1], text[-1]
            text = _whole(text)
        return text.replace("\x00", "\ufffd") if "\x00" in text else text

    def end(self) -> str:
        """U+FFFD for a half whose other half never came, else empty."""
        left, self._high = self._high, ""
        return "\ufffd" if left else ""


def joined(parts: list[str]) -> str:
    """All pieces of one text, joined."""
    return _whole("".join(parts))


def storable(value: Any, depth: int = 0) -> Any:
    """A server's JSON made safe for the store, to be sent back to it later. Raises ValueError if nested too deeply."""
    if isinstance(value, str):
        return _whole(value).replace("\x00", "\ufffd")
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        return {storable(key): storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item, depth + 1) for item in value]
    return value


def as_text(value: object) -> str:
    """Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def label(value: object) -> str:
    """A server's name for something, for logs and traces; empty when it has none. Raises TypeError."""
    return _whole(as_text(value or "")).replace("\x00", "")[:_MAX_LABEL]


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
