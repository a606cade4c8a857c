"""The correlation id of the current invocation.

Invariant: an id from outside is only kept when it is short and printable, since it goes into logs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from contextvars import ContextVar

current_invocation: ContextVar[tuple[str, str] | None] = ContextVar("current_invocation", default=None)
"""(function name, correlation id) while user code runs; log lines carry it."""

_ACCEPTED = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def correlation_id_of(headers: Mapping[str, str]) -> str:
    """From `x-correlation-id`, else the trace id of `traceparent`, else a new one."""
    given = headers.get("x-correlation-id")
    if given is not None and _ACCEPTED.fullmatch(given):
        return given
    trace = headers.get("traceparent")
    if trace is not None and (match := _TRACEPARENT.fullmatch(trace)):
        return match[1]
    return new_correlation_id()


def new_correlation_id() -> str:
    """32 random hex digits. They only have to be unique, so the slower secure source is not needed."""
    return f"{random.getrandbits(128):032x}"
