"""What tools may use of the outside world: protocols here, adapters elsewhere.

Invariant: a tool reaches nothing that is not a field of `ToolServices`; a missing service refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from shared.sessions.files.writers.content import Content, FileFormat


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
    asked_in: str
    """The session it is asked in: what is found is said there, to everyone who takes part in it."""
    only_there: bool = False
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


@dataclass(frozen=True, slots=True)
class HistoryAnswer:
    found: list[FoundText]
    """Best first."""
    only_there: bool
    """Nothing but the session it was asked in was searched."""


class HistorySearcher(Protocol):
    """Finds messages that a user may read."""

    async def find(self, question: HistoryQuestion) -> HistoryAnswer:
        """Raises InvalidInput for a question that cannot be asked, Transient."""
        ...


@dataclass(frozen=True, slots=True)
class FileText:
    """A file of the session and a stretch of its text."""

    attachment_id: str
    name: str
    kind: str
    media_type: str
    size_bytes: int
    facts: Mapping[str, Any]
    warnings: Sequence[str]
    text: str | None
    """None: its kind holds no text."""
    text_chars: int
    """Of the whole."""


@dataclass(frozen=True, slots=True)
class FileToMake:
    """What a tool wants made into a file of its session. tool_call_id: a repeat makes no second one."""

    session_id: str
    user_id: str
    tool_call_id: str
    name: str
    content: Content
    file_format: FileFormat


@dataclass(frozen=True, slots=True)
class MadeFile:
    attachment_id: str
    name: str
    kind: str
    media_type: str
    size_bytes: int


class SessionFiles(Protocol):
    """The files of the session a tool runs in."""

    async def read(self, session_id: str, attachment_id: str, *, start: int, chars: int) -> FileText | None:
        """The file with up to `chars` characters of its text from `start`; None when the session has no such file."""
        ...

    async def make(self, wanted: FileToMake) -> MadeFile:
        """Raises InvalidInput (GenerationError, a full session), NotFound, Transient."""
        ...


@dataclass(frozen=True, slots=True)
class ToolServices:
    """Passed into each call by the composition root. None: not available in this process."""

    http: HttpFetcher | None = None
    history: HistorySearcher | None = None
    files: SessionFiles | None = None


NO_SERVICES = ToolServices()
