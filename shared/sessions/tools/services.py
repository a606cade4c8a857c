"""What tools may use of the outside world: protocols here, adapters elsewhere.

Invariant: a tool reaches nothing that is not a field of `ToolServices`; a missing service refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """An HTTP request a tool wants made."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """The caller's own; checked by the fetcher."""
    body: bytes | None = None
    idempotency_key: str | None = None
    timeout_s: float = 20.0
    """For everything: name lookup, redirects, body."""
    max_body_bytes: int = 20_000
    """Of the decompressed answer; the rest is not read. About 5,000 tokens."""


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """What came back, bounded and decoded."""

    status: int
    url: str
    """Where it came from after redirects."""
    headers: Mapping[str, str]
    """Lower-cased names; only those that help to understand the answer."""
    text: str
    """The body as text; empty for binary content."""
    body_bytes: int
    """Bytes read of the decompressed body."""
    is_truncated: bool
    is_binary: bool
    redirects: tuple[str, ...] = ()
    """URLs that were followed to get here, first to last, the final one excluded."""


class HttpFetcher(Protocol):
    """Makes requests that policy allows."""

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """Raises ToolRefused when policy says no, ToolFailed when the request got no answer."""
        ...


@dataclass(frozen=True, slots=True)
class HistoryQuestion:
    """What a tool wants to know of earlier messages. user_id: who it searches as."""

    user_id: str
    query: str
    limit: int
    session_id: str | None = None
    """Only in this session."""
    role: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    not_turn_id: str | None = None
    """Messages of this turn are left out."""


@dataclass(frozen=True, slots=True)
class FoundText:
    """A passage of a message."""

    session_id: str
    session_name: str | None
    message_id: str
    role: str
    created_at: datetime
    text: str


class HistorySearcher(Protocol):
    """Finds messages that a user may read."""

    async def find(self, question: HistoryQuestion) -> list[FoundText]:
        """Best first. Raises InvalidInput for a question that cannot be asked, Transient."""
        ...


@dataclass(frozen=True, slots=True)
class ToolServices:
    """Passed into each call by the composition root. None: not available in this process."""

    http: HttpFetcher | None = None
    history: HistorySearcher | None = None


NO_SERVICES = ToolServices()
