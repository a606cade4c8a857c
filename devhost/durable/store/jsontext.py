"""Reads and writes JSON text, fast where possible and exact where necessary.

Invariant: the engine never changes JSON from user code. orjson is used for speed; text that it would refuse
or round (lone surrogates, NaN, integers beyond 64 bits) goes through the standard library, which preserves it.
"""

from __future__ import annotations

import json
import re

import orjson

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None

_LONG_NUMBER = re.compile(r"\d{19}")


def dumps(value: object) -> str:
    """Compact JSON text of a value made of JSON types."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # Lone surrogates and integers beyond 64 bits.
        return json.dumps(value, separators=(",", ":"))


def dumps_like(text: str, value: object) -> str:
    """JSON text of a value read from `text`. Keeps NaN and infinities, which orjson would turn into null."""
    if "NaN" in text or "Infinity" in text:
        return json.dumps(value, separators=(",", ":"))
    return dumps(value)


def loads(text: str) -> Json:
    """The value of a JSON text. Raises ValueError when it is not JSON."""
    if _LONG_NUMBER.search(text):
        return json.loads(text)  # type: ignore[no-any-return]  # json.loads yields JSON types only
    try:
        return orjson.loads(text)  # type: ignore[no-any-return]  # so does orjson
    except orjson.JSONDecodeError:
        return json.loads(text)  # type: ignore[no-any-return]
