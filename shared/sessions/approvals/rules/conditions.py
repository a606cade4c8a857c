"""Judges conditions on the arguments of a tool call. Pure functions, total: they answer for all JSON.

A condition is true, false, or cannot be told: the argument is missing or null, is of another type than it is compared
with, is no number that every reader of JSON shows alike, or is text that only looks like the other. A rule holds unless
its condition is false, so what cannot be told takes the stricter branch; `none_of` keeps it untold (Kleene's logic), so
that no negation turns "cannot be told" into "false".

Invariant: the time is bounded by the limits below and those of `records/conditions.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

from shared.sessions.records.conditions import (
    MAX_EXACT,
    MAX_PATTERN_BYTES,
    AllOfThem,
    AnyOfThem,
    Argument,
    Comparison,
    Condition,
    NoneOfThem,
)
from shared.sessions.tools.builtin.http_rules import parse_url

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

type Truth = bool | None
"""None: cannot be told."""

MAX_TEXT_CHARS = 4_096
"""Longer text, of all values that a path leads to, is not searched."""
MAX_ITEMS = 1_000
"""Values that one path may lead to."""

_PRINTABLE_ASCII = re.compile(r"[\x20-\x7e]*")
_SIGNS = {"eq": "=", "ne": "is not", "gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


class _Absent(Enum):
    MISSING = "is missing"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a condition came to. why: in words, the part that decided."""

    truth: Truth
    why: str


def judged(condition: Condition, arguments: Mapping[str, Any]) -> Finding:
    """arguments: as the tool gets them (`in_force.arguments_as_run`)."""
    match condition:
        case AllOfThem():
            return _first([judged(part, arguments) for part in condition.all_of], decides=False)
        case AnyOfThem():
            return _first([judged(part, arguments) for part in condition.any_of], decides=True)
        case NoneOfThem():
            found = _first([judged(part, arguments) for part in condition.none_of], decides=True)
            return Finding(None if found.truth is None else not found.truth, f"none of: {found.why}")
        case Comparison():
            return _compared(condition, arguments)


def described(condition: Condition) -> str:
    """The condition as people read it: `amount > 1000`."""
    match condition:
        case AllOfThem():
            return _joined(condition.all_of, " and ")
        case AnyOfThem():
            return _joined(condition.any_of, " or ")
        case NoneOfThem():
            return f"none of ({_joined(condition.none_of, ', ')})"
        case Comparison():
            told = [_operator_in_words(name, operand) for name, operand in condition.operators()]
            return f"{named(condition)} {' and '.join(told)}"


def named(argument: Argument) -> str:
    path = argument.argument.removeprefix("/").replace("/", ".") if argument.argument[0] == "/" else argument.argument
    return path if argument.part is None else f"{argument.part} of {path}"


def values_at(argument: Argument, arguments: Mapping[str, Any]) -> list[Any] | None:
    """The values that an argument names, as JSON; [None] for one that is missing or null. None: cannot be told."""
    found = _found(argument, arguments)
    if _Absent.UNREADABLE in found:
        return None
    try:
        return [None if value is _Absent.MISSING else json.loads(json.dumps(value, default=_plain)) for value in found]
    except (TypeError, ValueError, PydanticSerializationError):
        return None


def _joined(parts: Sequence[Condition], word: str) -> str:
    return word.join(
        f"({described(part)})" if isinstance(part, AllOfThem | AnyOfThem) else described(part) for part in parts
    )


def _operator_in_words(name: str, operand: Any) -> str:
    match name:
        case "one_of":
            return f"is one of {', '.join(map(_shown, operand))}"
        case "matches":
            return f"matches {operand}"
        case "exists":
            return "is given" if operand else "is not given"
        case _:
            return f"{_SIGNS[name]} {_shown(operand)}"


def _shown(operand: Any) -> str:
    if isinstance(operand, bool):
        return "true" if operand else "false"
    return f"“{operand}”" if isinstance(operand, str) else f"{operand}"


def _first(findings: list[Finding], *, decides: bool) -> Finding:
    """Kleene's `or` (decides: True) or `and` (False): one that decides, else one that cannot be told, else all."""
    for truth in (decides, None):
        for found in findings:
            if found.truth is truth:
                return found
    return Finding(not decides, ", ".join(found.why for found in findings))


def _compared(condition: Comparison, arguments: Mapping[str, Any]) -> Finding:
    values = _found(condition, arguments)
    findings: list[Finding] = []
    for name, operand in condition.operators():
        said = f"{named(condition)} {_operator_in_words(name, operand)}"
        if name == "exists":
            findings.append(_existing(operand, values, said))
            continue
        if name == "matches" and sum(len(value) for value in values if isinstance(value, str)) > MAX_TEXT_CHARS:
            findings.append(Finding(None, f"{said} cannot be told: it is longer than {MAX_TEXT_CHARS} characters"))
            continue
        # Of several values one is enough.
        each = [_one(name, operand, value, said) for value in values]
        findings.append(_first(each, decides=True) if each else Finding(False, f"{named(condition)} has no items"))
    return _first(findings, decides=False)


def _existing(operand: bool, values: list[Any], said: str) -> Finding:
    if any(not isinstance(value, _Absent) for value in values):
        return Finding(operand, said)
    if _Absent.UNREADABLE in values:
        return Finding(None, f"{said} cannot be told: it {_Absent.UNREADABLE.value}")
    return Finding(not operand, said)


def _one(name: str, operand: Any, value: Any, said: str) -> Finding:
    if isinstance(value, _Absent):
        return Finding(None, f"{said} cannot be told: it {value.value}")
    truth, trouble = _TESTS[name](value, operand)
    return Finding(truth, f"{said} cannot be told: {trouble}" if truth is None else said)


type _Told = tuple[Truth, str]
"""And why, if it cannot be told."""


def _equal(value: Any, operand: Any) -> _Told:
    if isinstance(operand, bool):
        return (value is operand, "") if isinstance(value, bool) else (None, "it is neither true nor false")
    if isinstance(operand, str):
        return _same_text(value, operand)
    number = _number(value)
    return (None, _NO_NUMBER) if number is None else (number == _number(operand), "")


def _unequal(value: Any, operand: Any) -> _Told:
    truth, trouble = _equal(value, operand)
    return (None if truth is None else not truth), trouble


def _one_of(value: Any, operands: Iterable[Any]) -> _Told:
    told = [_equal(value, operand) for operand in operands]
    for truth in (True, None):
        for found in told:
            if found[0] is truth:
                return found
    return False, ""


def _same_text(value: Any, operand: str) -> _Told:
    if not isinstance(value, str):
        return None, "it is no text"
    if value == operand:
        return True, ""
    if _PRINTABLE_ASCII.fullmatch(value) is None:
        return None, "it has characters that can look like others"
    if _folded(value) == _folded(operand):
        return None, "it differs in case or white space only"
    return False, ""


def _folded(text: str) -> str:
    return "".join(text.split()).casefold()


def _ordered(test: Callable[[Decimal, Decimal], bool]) -> Callable[[Any, Any], _Told]:
    def told(value: Any, operand: Any) -> _Told:
        number, limit = _number(value), _number(operand)
        return (None, _NO_NUMBER) if number is None or limit is None else (test(number, limit), "")

    return told


_NO_NUMBER = "it is no number of at most 2^53"


def _number(value: Any) -> Decimal | None:
    """Numbers as they are written: 0.1 is a tenth. Text is none, and neither is a truth value."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return number if number.is_finite() and abs(number) <= MAX_EXACT else None


def _matching(value: Any, pattern: str) -> _Told:
    if not isinstance(value, str):
        return None, "it is no text"
    if _PRINTABLE_ASCII.fullmatch(value) is None:
        return None, "it has characters that can look like others"
    search = _searched(pattern)
    if search.is_valid(value):
        return True, ""
    if search.is_valid(value.lower()) or search.is_valid(value.upper()):
        return None, "it differs in case only"
    return False, ""


@lru_cache(maxsize=256)
def _searched(pattern: str) -> Draft202012Validator:
    """An engine that does not backtrack, as `structured_output` uses it."""
    from jsonschema_rs import Draft202012Validator, RegexOptions

    options = RegexOptions(size_limit=MAX_PATTERN_BYTES)
    return Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=options)


_TESTS: Mapping[str, Callable[[Any, Any], _Told]] = {
    "eq": _equal,
    "ne": _unequal,
    "gt": _ordered(Decimal.__gt__),
    "ge": _ordered(Decimal.__ge__),
    "lt": _ordered(Decimal.__lt__),
    "le": _ordered(Decimal.__le__),
    "one_of": _one_of,
    "matches": _matching,
}


def _found(argument: Argument, arguments: Mapping[str, Any]) -> list[Any]:
    """The values that an argument names: none for a list without items, _Absent for what is not there."""
    path = argument.argument
    steps = [path] if path[0] != "/" else [step.replace("~1", "/").replace("~0", "~") for step in path[1:].split("/")]
    found: list[Any] = [arguments]
    for step in steps:
        found = [inner for value in found for inner in _inside(value, step, is_name=path[0] != "/")]
        if len(found) > MAX_ITEMS:
            return [_Absent.UNREADABLE]
    return [_part(_scalar(value), argument.part) for value in found]


def _inside(value: Any, step: str, *, is_name: bool) -> list[Any]:
    if isinstance(value, _Absent):
        return [value]
    if isinstance(value, Mapping):
        if step == "*" and not is_name:
            return list(value.values())
        return [value[step]] if step in value else [_Absent.MISSING]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        if step == "*":
            return list(value)
        if step.isdecimal() and step.isascii():
            # Compared in length first: a very long index is no reason to make a very large number.
            return [value[int(step)]] if len(step) < 7 and int(step) < len(value) else [_Absent.MISSING]
    return [_Absent.MISSING if value is None else _Absent.UNREADABLE]


def _scalar(value: Any) -> Any:
    """As it is in JSON, but for numbers, which stay exact."""
    if value is None:
        return _Absent.MISSING
    if isinstance(value, Enum) and not isinstance(value, _Absent):
        value = value.value
    if isinstance(value, str | bool | int | float | Decimal | Mapping | list | _Absent):
        return value
    try:
        return _plain(value)
    except (TypeError, PydanticSerializationError):
        return _Absent.UNREADABLE


def _plain(value: Any) -> Any:
    """Raises TypeError, PydanticSerializationError for what JSON cannot tell, or tells of all values alike."""
    if isinstance(value, SecretStr | SecretBytes):
        raise TypeError("a secret")
    return to_jsonable_python(value)


def _part(value: Any, part: str | None) -> Any:
    if part is None or isinstance(value, _Absent):
        return value
    try:
        url = parse_url(value) if isinstance(value, str) else None
    except ValueError:
        url = None
    if url is None or url.raw_host is None:
        return _Absent.UNREADABLE
    host = url.raw_host.rstrip(".")
    host = f"[{host}]" if ":" in host else host
    host = host if url.is_default_port() else f"{host}:{url.port}"
    return host if part == "host" else f"{url.scheme}://{host}"
