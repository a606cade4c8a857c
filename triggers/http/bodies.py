"""Reads request bodies, and refuses JSON that two readers could understand differently (RFC 7493, I-JSON)."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from azurefunctions.extensions.http.fastapi import Request
from starlette.requests import ClientDisconnect

from shared.errors import ErrorCode, InvalidInput

_TWICE = "is given twice"
_NOT_FINITE = "must be a finite number"


async def body_chunks(req: Request) -> AsyncIterator[bytes]:
    """The body's chunks as they arrive. Raises InvalidInput(INVALID_MESSAGE) when the caller leaves before its end."""
    try:
        async for chunk in req.stream():
            yield chunk
    except ClientDisconnect:
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "The request body was cut off.") from None


@dataclass(frozen=True, slots=True)
class JsonFault:
    """The first value of a JSON text that is not understood in one way only."""

    field: str
    """Dotted path; empty for the text as a whole."""
    message: str


@dataclass(frozen=True, slots=True)
class _Twice:
    """Stands for an object that has a key twice."""

    key: str


def json_fault(text: str) -> JsonFault | None:
    """A key that an object has twice, or a number that is not finite (NaN, Infinity, 1e999); None without any.

    text: valid JSON, in which those two count as valid, and nested no deeper than the interpreter's recursion limit.
    """
    is_suspect = False

    def members(pairs: list[tuple[str, object]]) -> object:
        nonlocal is_suspect
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        is_suspect = True
        return _Twice(_repeated(name for name, _ in pairs))

    def number(digits: str) -> float:
        nonlocal is_suspect
        value = float(digits)
        is_suspect = is_suspect or not math.isfinite(value)
        return value

    # Whole numbers stay text: one of many digits would take long to convert.
    value = json.loads(text, object_pairs_hook=members, parse_float=number, parse_constant=number, parse_int=str)
    return _first_fault(value, ()) if is_suspect else None


def without_nulls(data: bytes, places: Iterable[Sequence[int | str]]) -> bytes | None:
    """The JSON without the null fields at these places; None if one of them is no field of an object.

    places: where a validator found null; parts that are no key (it names the choices of a union) are passed over.
    """
    try:
        value = json.loads(data)
    except ValueError:
        return None  # a number of more digits than the interpreter reads
    found = {_resolved(value, place) for place in places}
    for path in found:
        if path is None or isinstance(path[-1], int):
            return None
        *above, last = path
        parent: Any = value
        for part in above:
            parent = parent[part]
        del parent[last]
    return json.dumps(value).encode()


def _resolved(value: Any, place: Sequence[int | str]) -> tuple[int | str, ...] | None:
    """The path of a null in the value; None if none is there."""
    path: list[int | str] = []
    for part in place:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            value = value[part]  # type: ignore[index]
            path.append(part)
    return tuple(path) if value is None and path else None


def _repeated(names: Iterable[str]) -> str:
    """The first name that comes a second time. In one pass: a body may have a hundred thousand."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("there is one")


def _first_fault(value: object, path: Sequence[str]) -> JsonFault | None:
    if isinstance(value, _Twice):
        return JsonFault(".".join([*path, value.key]), _TWICE)
    if isinstance(value, float) and not math.isfinite(value):
        return JsonFault(".".join(path), _NOT_FINITE)
    children: list[tuple[str, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = [(str(index), child) for index, child in enumerate(value)]
    found = (_first_fault(child, [*path, name]) for name, child in children)
    return next((fault for fault in found if fault is not None), None)
