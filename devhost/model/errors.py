"""The error response of OpenAI's API, and JSON validation that raises it.

Invariant: an error uses OpenAI's own words where they are known and names the parameter, so that clients
that parse messages are tested against the real ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import orjson

type Json = bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None

_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def names(text: str) -> frozenset[str]:
    """A set of names, written with spaces between them."""
    return frozenset(text.split())


class RequestRefused(Exception):
    """The request gets an error answer; the fields are those of OpenAI's error object.

    raw: the whole JSON of the response instead, for servers with another error format.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind
        self.headers = dict(headers or {})
        self.raw = raw

    def body(self) -> bytes:
        """The JSON of the error answer."""
        if self.raw is not None:
            return self.raw
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


def read_object(body: bytes) -> Mapping[str, Json]:
    """Parse a body as a JSON object. Raises RequestRefused."""
    try:
        raw: Json = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise RequestRefused(f"The body is not valid JSON: {exc}") from None
    if not isinstance(raw, Mapping):
        raise RequestRefused("The body must be a JSON object.")
    return raw


def missing(where: str) -> RequestRefused:
    return RequestRefused(f"Missing required parameter: '{where}'.", param=where, code="missing_required_parameter")


def wrong_type(where: str, expected: str, got: Json) -> RequestRefused:
    """expected: "a string", "an array", ..."""
    kind = "null" if got is None else _KINDS.get(type(got), "another type")
    return RequestRefused(
        f"Invalid type for '{where}': expected {expected}, but got {kind} instead.", param=where, code="invalid_type"
    )


def wrong_value(where: str, value: Json, supported: Collection[str]) -> RequestRefused:
    names = [f"'{name}'" for name in sorted(supported)]
    listed = f"{', '.join(names[:-1])}, and {names[-1]}" if len(names) > 2 else " and ".join(names)
    shown = f"'{value}'" if isinstance(value, str) else orjson.dumps(value).decode()
    return RequestRefused(f"Invalid value: {shown}. Supported values are: {listed}.", param=where, code="invalid_value")


def object_at(raw: Json, where: str) -> Mapping[str, Json]:
    if not isinstance(raw, Mapping):
        raise wrong_type(where, "an object", raw)
    return raw


def text_at(raw: Json, where: str) -> str:
    """A required string."""
    if raw is None:
        raise missing(where)
    if not isinstance(raw, str):
        raise wrong_type(where, "a string", raw)
    return raw


def choice_at(raw: Json, where: str, supported: Collection[str]) -> str:
    """A required string with one of the supported values."""
    if raw is None:
        raise missing(where)
    if not isinstance(raw, str) or raw not in supported:
        raise wrong_value(where, raw, supported)
    return raw


def boolean_at(raw: Json, where: str, *, default: bool) -> bool:
    if raw is None:
        return default
    if not isinstance(raw, bool):
        raise wrong_type(where, "a boolean", raw)
    return raw


def refuse_unknown(raw: Mapping[str, Json], known: Collection[str], where: str = "") -> None:
    """Refuse field names that the API does not have. where: the object's path; empty for the whole request."""
    unknown = [name for name in raw if name not in known]
    if unknown:
        path = f"{where}.{min(unknown)}" if where else min(unknown)
        raise RequestRefused(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")


def check_sampling(raw: Mapping[str, Json]) -> None:
    """Check `temperature` and `top_p`, which both APIs have."""
    for name, upper in (("temperature", 2.0), ("top_p", 1.0)):
        value = raw.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= upper:
            raise RequestRefused(f"Invalid '{name}': expected a number from 0 to {upper:g}.", param=name)
