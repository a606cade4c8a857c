"""Parses requests of the management API: bodies, flags, times, continuation tokens.

Invariant: a mistake in a body or token raises an error with a message. A query value that cannot be read counts as
absent, as in the extension (`TryGet…QueryParameterValue` in its HttpApiHandler).
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping

from starlette.requests import Request

from devhost.durable.engine import BadRequest
from devhost.durable.store import jsontext
from devhost.durable.store.history import parse_timestamp
from devhost.durable.store.records import Status


class NotJson(Exception):
    """The body is not JSON; `str()` says where, as the extension's reader does."""


PAGE_HEADER = "x-ms-continuation-token"
_PAGE_SIZE = 100
"""Without `top`: of the extension's `OrchestrationStatusQueryCondition` and `EntityQuery`."""
_LARGEST_INT = 2**31 - 1
"""Of .NET's `int`, as which the extension reads `top`."""


async def json_body(request: Request, *, may_be_empty: bool) -> str | None:
    """The body as JSON text; None when it is empty and may be. Raises NotJson."""
    text = ""
    try:
        text = (await request.body()).decode("utf-8-sig").strip()
        if not text and may_be_empty:
            return None
        jsontext.loads(text)
    except ValueError as error:
        lines = text.splitlines()
        raise NotJson(f"line {len(lines)}, position {len(lines[-1]) if lines else 0}.") from error
    return text


def flag(query: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    value = query.get(name, "").lower()
    return default if value not in ("true", "false") else value == "true"


def seconds_of(query: Mapping[str, str], name: str) -> float | None:
    try:
        seconds = float(query.get(name, ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def page_size(query: Mapping[str, str]) -> int:
    """`top`, or the extension's page."""
    try:
        size = int(query.get("top", ""))
    except ValueError:
        return _PAGE_SIZE
    if size < 1:
        raise BadRequest("top must be a whole number of at least 1.")
    return size if size <= _LARGEST_INT else _PAGE_SIZE


def time_of(query: Mapping[str, str], name: str) -> int | None:
    """Microseconds since the epoch, or None when it is not given."""
    try:
        # An unencoded "+00:00" reaches us as " 00:00".
        return parse_timestamp(query.get(name, "").replace(" ", "+"))
    except ValueError:
        return None


def statuses_of(query: Mapping[str, str]) -> list[Status]:
    """The runtime statuses of a filter; unknown ones are ignored, as by the extension."""
    known = {status.value.lower(): status for status in Status}
    wanted = [part.strip().lower() for part in query.get("runtimestatus", "").split(",")]
    return [known[part] for part in wanted if part in known]


def token_after(last_id: str) -> str:
    """The continuation token of a page that ends with an id."""
    return base64.urlsafe_b64encode(last_id.encode()).decode()


def start_after(request: Request) -> str:
    """The id after which the requested page begins; empty for the first page."""
    token = request.headers.get(PAGE_HEADER)
    if not token:
        return ""
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError) as error:
        raise BadRequest("The continuation token is not valid.") from error
