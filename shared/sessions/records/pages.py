"""Keyset pages: opaque cursors, limits, and what lists may be filtered and sorted by."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.models import ApprovalStatus, MessageRole, SessionStatus

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
PAGE_BYTES = 1024 * 1024
"""A page ends early once its rows have so many bytes; it has one row at least. Twenty rows of 50 kB, or a thousand of
ordinary size."""

_INSTANT = TypeAdapter(datetime)


@dataclass(frozen=True, slots=True)
class Page:
    """The requested part of a list. after: sort key and id of the previous page's last item."""

    limit: int = DEFAULT_LIMIT
    after: tuple[Any, str] | None = None

    def cut[Row](
        self, found: Sequence[Row], place: Callable[[Row], tuple[datetime | int | str, str]]
    ) -> tuple[list[Row], str | None]:
        """The rows of this page, and the next cursor if there are more.

        found: from the store, one row more than the page if there are more, or CutRows. place: the sort key and id of a
        row.
        """
        rows = list(found[: self.limit])
        return rows, encode_cursor(*place(rows[-1])) if self.has_more(found) else None

    def has_more[Row](self, found: Sequence[Row]) -> bool:
        """Whether there are rows after this page."""
        return len(found) > self.limit or isinstance(found, CutRows)


class CutRows[Row](list[Row]):
    """The rows of a page that ended early (PAGE_BYTES): there are more."""


@dataclass(frozen=True, slots=True)
class Sort:
    """A column to sort by; newest or largest first if `descending`."""

    column: str
    descending: bool


class SessionSort(StrEnum):
    NEWEST_FIRST = "-created_at"
    OLDEST_FIRST = "created_at"
    LAST_CHANGED_FIRST = "-updated_at"
    LAST_CHANGED_LAST = "updated_at"


SESSION_SORTS = {
    SessionSort.NEWEST_FIRST: Sort("created_at", True),
    SessionSort.OLDEST_FIRST: Sort("created_at", False),
    SessionSort.LAST_CHANGED_FIRST: Sort("updated_at", True),
    SessionSort.LAST_CHANGED_LAST: Sort("updated_at", False),
}


class Order(StrEnum):
    ASC = "asc"
    DESC = "desc"


@dataclass(frozen=True, slots=True)
class SessionFilter:
    status: SessionStatus | None = None
    tag: str | None = None
    agent_id: str | None = None
    q: str | None = None
    parent_session_id: str | None = None
    """The sessions of its subagents; None: sessions that are of no subagent."""
    pinned: bool | None = None
    """By the user."""
    sort: Sort = SESSION_SORTS[SessionSort.NEWEST_FIRST]


@dataclass(frozen=True, slots=True)
class MessageFilter:
    role: MessageRole | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None
    descending: bool = False
    turn_id: str | None = None
    branch: int | None = None
    """Only messages that are visible on this branch; None: the messages of all branches."""


class ApprovalScope(StrEnum):
    TO_DECIDE = "to_decide"  # what the caller may decide
    OWN_TURNS = "own_turns"  # what the caller's own turns wait for, or waited


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    status: ApprovalStatus | None = None
    session_id: str | None = None
    turn_id: str | None = None
    tool: str | None = None


def encode_cursor(key: datetime | int | str, item_id: str) -> str:
    """An opaque cursor for the position after the item with this sort key and id."""
    return base64.urlsafe_b64encode(orjson.dumps([key, item_id])).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[datetime] | type[int]) -> tuple[Any, str]:
    """The sort key and id of a cursor. Raises InvalidInput(VALIDATION_ERROR) if it is not from `encode_cursor`."""
    try:
        key, item_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(item_id, str):
            raise TypeError("id")
        if kind is datetime:
            return _INSTANT.validate_python(key, strict=False), item_id
        if not isinstance(key, int) or isinstance(key, bool) or abs(key) >= 2**63:
            raise TypeError("number")
        return key, item_id
    except (ValueError, TypeError, binascii.Error, ValidationError):
        raise invalid_cursor() from None


def invalid_cursor() -> InvalidInput:
    """For a cursor that names no place in the list."""
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        "The cursor is not valid.",
        errors=[{"field": "cursor", "message": "use next_cursor of the previous page unchanged"}],
    )
