"""Text and JSON from outside, made fit for PostgreSQL, which takes neither U+0000 nor lone surrogates."""

from __future__ import annotations

from pydantic import JsonValue


def storable_text(text: str) -> str:
    """The text with U+FFFD (or "?" for lone surrogates) in place of what cannot be stored."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def storable_json(value: JsonValue) -> JsonValue:
    """The value with every text in it storable."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, list):
        return [storable_json(item) for item in value]
    if isinstance(value, dict):
        return {storable_text(key): storable_json(item) for key, item in value.items()}
    return value
