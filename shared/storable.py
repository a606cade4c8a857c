"""Text and JSON from outside, made fit for PostgreSQL, which takes neither U+0000 nor lone surrogates, and for every
reader of JSON that it passes on its way, of which some take no whole number beyond 64 bits and no deep nesting."""

from __future__ import annotations

from pydantic import JsonValue

MAX_JSON_LEVELS = 48
"""Of lists and objects in each other. Newtonsoft.Json and System.Text.Json, with which the Functions host reads what it
sends on, take 64 by default, and what is bounded here is sent inside of events."""
_LEAST, _MOST = -(2**63), 2**64 - 1


class NestedTooDeeply(ValueError):
    """A value has more than MAX_JSON_LEVELS."""


def storable_text(text: str) -> str:
    """The text with U+FFFD (or "?" for lone surrogates) in place of what cannot be stored."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def storable_json(value: JsonValue, levels: int = MAX_JSON_LEVELS) -> JsonValue:
    """The value with every text in it storable, and whole numbers beyond 64 bits as text, as RFC 7493 advises.

    Raises NestedTooDeeply, ValueError for a number of more digits than the interpreter writes.
    """
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        return str(int(value))
    if not isinstance(value, list | dict):
        return value
    if levels == 0:
        raise NestedTooDeeply(f"it is nested deeper than {MAX_JSON_LEVELS} levels")
    if isinstance(value, list):
        return [storable_json(item, levels - 1) for item in value]
    return {
        storable_text(key) if isinstance(key, str) else key: storable_json(item, levels - 1)
        for key, item in value.items()
    }
