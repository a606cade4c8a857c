"""One request as a value, and what its answer means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote, urlsplit

from ..errors import ApiError, error_class
from ..models import File

T = TypeVar("T")
API = "/api/v1"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Upload:
    """A file to send as a form's field `file`."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Request:
    """path: below the API's root, with its parts quoted. is_repeatable: sent twice, it has the effect of once."""

    method: str
    path: str
    is_repeatable: bool
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    upload: Upload | None = None


@dataclass(frozen=True)
class Reply:
    """An answer that was read to its end. headers: lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Operation(Generic[T]):
    """A request, and how to read the answer of one that succeeded."""

    request: Request
    read: Callable[[Reply], T]


def path_of(*parts: str) -> str:
    """A path of quoted parts."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def query_of(**given: Any) -> dict[str, str]:
    """The parameters that are given. `from_` is sent as `from`."""
    return {name.rstrip("_"): _text(value) for name, value in given.items() if value is not None}


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def json_body(value: Mapping[str, Any]) -> bytes:
    # allow_nan: NaN is no JSON, and the service would refuse it with less to say.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def root_of(base_url: str, *, has_token: bool) -> str:
    """The API's root below the address of a service. Raises ValueError for what is no address of one.

    has_token: credentials go there, so only over https, or to this machine.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"no address of a service: {base_url!r}")
    if has_token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("a token is only sent over https, or to this machine")
    return base_url.rstrip("/").removesuffix(API) + API


def problem_of(reply: Reply) -> ApiError:
    """The error that an unsuccessful answer is."""
    retry_after_s = seconds_of(reply.headers.get("retry-after"))
    correlation_id = reply.headers.get("x-correlation-id")
    kind = error_class(reply.status)
    try:
        told = reply.json()
        code, detail = str(told["code"]), str(told.get("detail", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        # A proxy answered, not the service; its text is not useful.
        detail = _unreadable(reply).detail
        return kind(reply.status, "HTTP", detail, correlation_id, retry_after_s=retry_after_s)
    return kind(
        reply.status,
        code,
        detail,
        told.get("correlation_id") or correlation_id,
        errors=told.get("errors") or (),
        retry_after_s=retry_after_s,
    )


def result_of(operation: Operation[T], reply: Reply) -> T:
    """What the operation gives. Raises ApiError when it was refused, or when the answer is not the service's."""
    if reply.status >= 300:
        raise problem_of(reply)
    try:
        return operation.read(reply)
    except ValueError as error:  # a page to sign in, say; pydantic's errors are of this kind, too
        raise _unreadable(reply) from error


def _unreadable(reply: Reply) -> ApiError:
    about = reply.headers.get("content-type", "nothing")
    detail = f"The answer was {reply.status} with {about}, and not the service's."
    return ApiError(reply.status, "HTTP", detail, reply.headers.get("x-correlation-id"))


def seconds_of(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds, the only form that the service sends; None for any other."""
    return float(retry_after) if retry_after and re.fullmatch(r"\d{1,9}", retry_after) else None


def file_of(reply: Reply) -> File:
    media_type = reply.headers.get("content-type", "application/octet-stream")
    return File(
        name=_file_name(reply.headers.get("content-disposition", "")), media_type=media_type, content=reply.body
    )


def _file_name(disposition: str) -> str | None:
    """The name in Content-Disposition (RFC 6266): the extended one if there is one."""
    extended = re.search(r"filename\*=UTF-8''([^;]+)", disposition, re.IGNORECASE)
    if extended is not None:
        return unquote(extended[1].strip())
    plain = re.search(r'filename="((?:[^"\\]|\\.)*)"', disposition)
    return None if plain is None else re.sub(r"\\(.)", r"\1", plain[1])
