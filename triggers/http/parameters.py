"""Query and header parameters that several routes share, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

from shared.sessions.records.pages import DEFAULT_LIMIT, MAX_LIMIT
from triggers.http.endpoints import Parameter

__all__ = ["IDEMPOTENCY_KEY", "IF_NONE_MATCH", "PAGING", "SINCE_UNTIL", "Parameter", "if_match", "instant", "text"]


def text(max_length: int) -> dict[str, Any]:
    """A string schema."""
    return {"type": "string", "maxLength": max_length}


def instant() -> dict[str, Any]:
    """The schema of an RFC 3339 time. An empty value counts as absent, as in every query parameter; clients that are
    made from the document have no use for it."""
    return {"type": "string", "format": "date-time"}


def if_match(about: str) -> Parameter:
    """The header that makes a write conditional. about: what its ETag is of, and when there is a conflict."""
    return Parameter("If-Match", about, text(1024), place="header")


IF_NONE_MATCH = Parameter("If-None-Match", "The `ETag` of what the caller has", {"type": "string"}, place="header")

PAGING = (
    Parameter(
        "limit",
        "Items per page. Fewer where they are large (about 1 MB): only `next_cursor` tells whether there are more",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Parameter("cursor", "`next_cursor` of the previous page", text(512)),
)

SINCE_UNTIL = (
    Parameter("from", "Created at or after", instant()),
    Parameter("to", "Created before", instant()),
)

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "A repeat with the same key and body gets the first response; with another body CONFLICT",
    {"type": "string", "minLength": 1, "maxLength": 255},
    place="header",
)
