"""What a call returns: text for the model, JSON for programs, and files.

Invariant: an output is bounded and storable, whatever untrusted input it is made of, and a value of any size is bounded
before it is copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import islice

import pydantic_core
from pydantic import BaseModel, JsonValue

from shared.storable import MAX_JSON_LEVELS, NestedTooDeeply, storable_json, storable_text

MAX_CONTENT_CHARS = 32_000
"""About 8-10k tokens: one result must not fill the model's window."""
MAX_DATA_BYTES = 64 * 1024
MAX_FILES = 10
"""Of one call."""
_COPIED_CHARS = 4 * MAX_DATA_BYTES
"""Data that is larger is left out without being encoded."""
_DONE = "Done."
_TOO_DEEP = f"[The result was left out: it is nested deeper than {MAX_JSON_LEVELS} levels.]"


@dataclass(frozen=True, slots=True)
class ToolFile:
    """A file to be stored with the session, where its people find it. Its type is detected from its content."""

    name: str
    content: bytes | str


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The result of a call. `content` is text for the model, `data` the same facts as JSON for programs.

    Made storable on construction: `content` is cut to MAX_CONTENT_CHARS, NUL and lone surrogates are replaced
    (PostgreSQL accepts neither), whole numbers beyond 64 bits in `data` become text, and `data` is dropped if it
    encodes to more than MAX_DATA_BYTES or has more than MAX_JSON_LEVELS. Raises ValueError for `data` that is not JSON
    and for more than MAX_FILES files.
    """

    content: str
    data: JsonValue = None
    files: Sequence[ToolFile] = ()

    def __post_init__(self) -> None:
        left_out = len(self.content) - MAX_CONTENT_CHARS
        content = storable_text(self.content[:MAX_CONTENT_CHARS])
        if left_out > 0:
            content = f"{content}\n[cut: {left_out} more characters]"
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "data", _bounded(self.data))
        if len(self.files) > MAX_FILES:
            raise ValueError(f"a call makes at most {MAX_FILES} files")
        object.__setattr__(self, "files", tuple(self.files))


def output_of(value: object) -> ToolOutput:
    """What a tool returned as an output: text, anything that is JSON (models, dataclasses, dates, too), or nothing.

    Raises ValueError for what is not JSON.
    """
    if isinstance(value, ToolOutput):
        return value
    if value is None:
        return ToolOutput(_DONE)
    if isinstance(value, str):
        return ToolOutput(value)
    least = _least_chars(value)
    if least > _COPIED_CHARS:
        return ToolOutput(f"[The result was left out: it has more than {_COPIED_CHARS} characters.]", _left_out(least))
    try:
        # Before, since what makes JSON of models refuses lone surrogates; and after, of what it has made.
        plain = storable_json(value) if isinstance(value, list | dict) else value
        clean = storable_json(pydantic_core.to_jsonable_python(plain))
        data = json.loads(json.dumps(clean), parse_constant=lambda _nan: None)
    except NestedTooDeeply:
        return ToolOutput(_TOO_DEEP, _left_out(least))
    except (pydantic_core.PydanticSerializationError, TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"it returned {type(value).__name__}, which is not JSON: {exc}") from None
    return ToolOutput(json.dumps(data, ensure_ascii=False), data)


def _bounded(data: JsonValue) -> JsonValue:
    least = _least_chars(data)
    if least > _COPIED_CHARS:
        return _left_out(least)
    try:
        clean = storable_json(data)
        size_bytes = len(json.dumps(clean, ensure_ascii=False, allow_nan=False).encode())
    except NestedTooDeeply:
        return _left_out(least)
    except (AttributeError, TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"the data of a ToolOutput must be JSON: {exc}") from None
    return clean if size_bytes <= MAX_DATA_BYTES else _left_out(size_bytes)


def _left_out(size_bytes: int) -> JsonValue:
    return {"left_out": True, "size_bytes": size_bytes}


def _least_chars(value: object) -> int:
    """Characters that its JSON has at least. Counts no further than to what is enough to know."""
    waiting, chars = [value], 0
    while waiting and chars <= _COPIED_CHARS:
        one = waiting.pop()
        chars += 1
        if isinstance(one, (str, bytes, bytearray)):
            chars += len(one)
        elif isinstance(one, Mapping):
            few = islice(one.items(), _COPIED_CHARS)
            waiting.extend(part for pair in few for part in pair)
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting.extend(islice(one, _COPIED_CHARS))
        elif isinstance(one, BaseModel):
            waiting.append(vars(one))
        elif is_dataclass(one):
            waiting.extend(getattr(one, part.name, None) for part in fields(one))
    return chars
