"""Route constraints of ASP.NET: `{id:int}`, `{name:length(2,8)}` and their kin.

Invariant: a constraint checks the decoded text of one route value, ignores culture, and never raises.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable
from datetime import datetime

from devhost.extensions.contract import HostError

_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})*|\d+)?(\.\d*)?([eE][+-]?\d+)?")
_DATE_FORMATS = ("%m/%d/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M %p", "%m-%d-%Y", "%d %b %Y", "%b %d %Y")
_GUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def constraint(text: str, where: str) -> Callable[[str], bool]:
    """The check for one constraint as written after a colon. Raises HostError when it is unknown."""
    match = re.fullmatch(r"(?P<name>[A-Za-z]+)(?:\((?P<args>.*)\))?", text, re.DOTALL)
    name = match["name"].lower() if match else ""
    args = match["args"] if match else None
    if name in _PLAIN and args is None:
        return _PLAIN[name]
    if name == "regex" and args is not None:
        return _regex(args, where)
    if name in _NUMERIC and args is not None:
        numbers = [part.strip() for part in args.split(",")]
        counts, build = _NUMERIC[name]
        if len(numbers) in counts and all(re.fullmatch(r"-?\d+", part) for part in numbers):
            return build(*(int(part) for part in numbers))
    raise HostError(f"{where}: route constraint {text!r} is not supported")


def _regex(args: str, where: str) -> Callable[[str], bool]:
    # Braces are doubled in a template, and the expression may match anywhere in the value.
    try:
        pattern = re.compile(args.replace("{{", "{").replace("}}", "}"), re.IGNORECASE)
    except re.error as exc:
        raise HostError(f"{where}: route constraint regex({args}) is not a valid expression: {exc}") from exc
    return lambda value: pattern.search(value) is not None


def _is_integer(bits: int) -> Callable[[str], bool]:
    limit = 1 << (bits - 1)
    return lambda value: re.fullmatch(r"[+-]?\d+", value) is not None and -limit <= int(value) < limit


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value) is not None and any(char.isdigit() for char in value)


def _is_finite(value: str) -> bool:
    return _is_number(value) and math.isfinite(float(value.replace(",", "")))


def _is_decimal(value: str) -> bool:
    return _is_number(value) and "e" not in value.lower() and abs(float(value.replace(",", ""))) < 7.9228e28


def _is_datetime(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
        return not value.isdigit()
    except ValueError:
        return any(_parses(value, form) for form in _DATE_FORMATS)


def _parses(value: str, form: str) -> bool:
    try:
        datetime.strptime(value, form)  # noqa: DTZ007 - only whether it is a date matters, not which instant
    except ValueError:
        return False
    return True


def _is_guid(value: str) -> bool:
    bare = value[1:-1] if value[:1] + value[-1:] in ("{}", "()") else value
    return _GUID.fullmatch(bare) is not None and uuid.UUID(bare) is not None


def _length(low: int, high: int | None = None) -> Callable[[str], bool]:
    return lambda value: low <= len(value) <= (low if high is None else high)


def _at_least(low: int) -> Callable[[str], bool]:
    return lambda value: _is_integer(64)(value) and int(value) >= low


def _at_most(high: int) -> Callable[[str], bool]:
    return lambda value: _is_integer(64)(value) and int(value) <= high


def _within(low: int, high: int) -> Callable[[str], bool]:
    return lambda value: _is_integer(64)(value) and low <= int(value) <= high


_PLAIN: dict[str, Callable[[str], bool]] = {
    "int": _is_integer(32),
    "long": _is_integer(64),
    "guid": _is_guid,
    "alpha": lambda value: re.fullmatch(r"[A-Za-z]*", value) is not None,
    "bool": lambda value: value.lower() in {"true", "false"},
    "datetime": _is_datetime,
    "decimal": _is_decimal,
    "double": _is_finite,
    "float": _is_finite,
    "required": bool,
}
_NUMERIC: dict[str, tuple[tuple[int, ...], Callable[..., Callable[[str], bool]]]] = {
    "length": ((1, 2), _length),
    "minlength": ((1,), lambda low: lambda value: len(value) >= low),
    "maxlength": ((1,), lambda high: lambda value: len(value) <= high),
    "min": ((1,), _at_least),
    "max": ((1,), _at_most),
    "range": ((2,), _within),
}
