"""Condition, as data: what must be true of a tool call's arguments for a rule of an approval policy to hold.

A condition compares one argument, or combines others:

    {"argument": "amount", "gt": 1000}
    {"all_of": [{"argument": "currency", "ne": "EUR"}, {"argument": "/lines/*/price", "ge": 50}]}

It is data, not code: closed shapes without loops, functions or a clock. How it is judged, and why what cannot be told
counts as true: `approvals/rules/conditions.py`.

Invariant: the work to judge one is bounded by MAX_PARTS, MAX_PLACES and the limits there, whatever the arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
    Tag,
    ValidationInfo,
    model_validator,
)

from shared.sessions.structured_output.pattern_size import places_of

MAX_EXACT = 2**53
"""Above it, a reader of JSON that uses doubles (each browser) shows another whole number than the one that runs."""
MAX_DEPTH = 5
MAX_PARTS = 100
"""Comparisons, values of `one_of`, and combinations in all rules of a policy."""
MAX_PLACES = 500
"""Of all patterns of a policy together, as `places_of` counts them."""
MAX_PATTERN_BYTES = 128 * 1024
"""Of one compiled pattern."""


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


LEFT_OUT: Any = {"exclude_if": lambda value: value is None or value == [], "json_schema_extra": _without_default}
"""For fields that are left out of JSON while they say nothing: people read conditions; and older code refuses fields
that it does not know, which it must do only where they mean something."""


class Closed(BaseModel):
    """A part of a policy: understood as a whole or not at all. Fields that newer code added are refused in stored
    values, too, which other models leave out: without them the policy would be another one."""

    # Like `models.Value`, which cannot be imported here: its module imports policies.
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any, info: ValidationInfo) -> Any:
        is_stored = info.context is not None and info.context.get("is_stored")  # `Value.of_store`
        if is_stored and isinstance(value, dict) and value.keys() - cls.model_fields.keys():
            raise ValueError("was stored by newer code, with fields that are not known here")
        return value


def _path(text: str) -> str:
    if text.startswith("/") and re.search(r"~(?![01])", text):
        raise ValueError("is a JSON Pointer with a ~ that is neither ~0 nor ~1")
    return text


def _exact(number: float) -> float:
    if not abs(number) <= MAX_EXACT:  # also for NaN
        raise ValueError("must be a number of at most 2^53")
    return number


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> str:
    from jsonschema_rs import Draft202012Validator, RegexOptions

    try:
        places_of(pattern)
    except ValueError as exc:
        raise ValueError(f"it {exc}") from None
    try:
        options = RegexOptions(size_limit=MAX_PATTERN_BYTES)
        Draft202012Validator({"pattern": pattern}, offline=True, pattern_options=options)
    except Exception:
        # The library raises several classes, all of them about the pattern.
        raise ValueError("is no regular expression, or too large a one") from None
    return pattern


type ArgumentPath = Annotated[StrictStr, StringConstraints(min_length=1, max_length=200), AfterValidator(_path)]
"""The name of an argument; or, with a slash in front, a JSON Pointer (RFC 6901) into the arguments, in which `*` stands
for each item of a list."""
type UrlPart = Literal["host", "origin"]
"""Of a URL: its host, with the port unless that is the scheme's own; or scheme, host and port."""
type Number = Annotated[StrictInt | StrictFloat, AfterValidator(_exact)]
type Text = Annotated[StrictStr, StringConstraints(max_length=200)]
type Scalar = StrictBool | Number | Text


class Argument(Closed):
    """Names an argument of a tool call, or a part of one."""

    argument: ArgumentPath = Field(
        description="Its name; with a slash in front a JSON Pointer, in which * stands for each item of a list"
    )
    part: UrlPart | None = Field(None, **LEFT_OUT, description="Only this part of a URL")


class Comparison(Argument):
    """Compares one argument; with several operators, all have to be true. With `*`, one item is enough."""

    eq: Scalar | None = Field(None, **LEFT_OUT, description="Equal to this")
    ne: Scalar | None = Field(None, **LEFT_OUT, description="Not equal to this")
    gt: Number | None = Field(None, **LEFT_OUT, description="Greater than this")
    ge: Number | None = Field(None, **LEFT_OUT, description="Greater than this or equal to it")
    lt: Number | None = Field(None, **LEFT_OUT, description="Less than this")
    le: Number | None = Field(None, **LEFT_OUT, description="Less than this or equal to it")
    one_of: list[Scalar] | None = Field(
        None, min_length=1, max_length=50, **LEFT_OUT, description="Equal to one of these"
    )
    matches: Annotated[StrictStr, StringConstraints(min_length=1, max_length=500), AfterValidator(_pattern)] | None = (
        Field(
            None,
            **LEFT_OUT,
            description="A text in which this regular expression is found; without look-around",
        )
    )
    exists: StrictBool | None = Field(None, **LEFT_OUT, description="Whether it is given and not null")

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if not self.operators():
            raise ValueError(f"name an operator: one of {', '.join(OPERATORS)}")
        return self

    def operators(self) -> list[tuple[str, Any]]:
        """(operator, operand) of those that are set."""
        return [(name, value) for name in OPERATORS if (value := getattr(self, name)) is not None]


OPERATORS = ("eq", "ne", "gt", "ge", "lt", "le", "one_of", "matches", "exists")


class AllOfThem(Closed):
    """True when all are."""

    all_of: list[Condition] = Field(min_length=1, max_length=20)


class AnyOfThem(Closed):
    """True when one is."""

    any_of: list[Condition] = Field(min_length=1, max_length=20)


class NoneOfThem(Closed):
    """True when none is."""

    none_of: list[Condition] = Field(min_length=1, max_length=20)


def _shape(value: Any) -> str:
    has = value.__contains__ if isinstance(value, dict) else lambda name: hasattr(value, name)
    return next((name for name in ("all_of", "any_of", "none_of") if has(name)), "argument")


type Condition = Annotated[
    Annotated[Comparison, Tag("argument")]
    | Annotated[AllOfThem, Tag("all_of")]
    | Annotated[AnyOfThem, Tag("any_of")]
    | Annotated[NoneOfThem, Tag("none_of")],
    Discriminator(_shape),
]


def inner(condition: Condition) -> Sequence[Condition]:
    """The conditions that one combines."""
    match condition:
        case AllOfThem():
            return condition.all_of
        case AnyOfThem():
            return condition.any_of
        case NoneOfThem():
            return condition.none_of
        case _:
            return ()


def check_size(conditions: Sequence[Condition]) -> None:
    """Raises ValueError when those of one policy are too many, too deep or their patterns too large."""
    parts = [part for condition in conditions for part in _parts(condition, 1)]
    places = sum(places_of(part.matches) for part in parts if isinstance(part, Comparison) and part.matches)
    values = sum(len(part.one_of) for part in parts if isinstance(part, Comparison) and part.one_of)
    if len(parts) + values > MAX_PARTS or places > MAX_PLACES:
        raise ValueError(f"its rules have more than {MAX_PARTS} conditions, or {MAX_PLACES} places in their patterns")


def _parts(condition: Condition, depth: int) -> Iterator[Condition]:
    if depth > MAX_DEPTH:
        raise ValueError(f"a condition is nested deeper than {MAX_DEPTH} levels")
    yield condition
    for part in inner(condition):
        yield from _parts(part, depth + 1)


for _model in (AllOfThem, AnyOfThem, NoneOfThem):
    _model.model_rebuild()
