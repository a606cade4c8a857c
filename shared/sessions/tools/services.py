"""The ports through which tools use external services; the adapters are elsewhere.

Invariant: a tool can use only the fields of `ToolServices`; a tool whose service is missing refuses the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from shared.errors import ToolFailed
from shared.sessions.files.writers.content import Content, FileFormat
from shared.sessions.mcp.reading import McpServers


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """An HTTP request a tool wants made."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Set by the caller; checked by the fetcher."""
    body: bytes | None = None
    idempotency_key: str | None = None
    timeout_s: float = 20.0
    """For the whole fetch: name lookup, redirects, body."""
    max_body_bytes: int = 20_000
    """Of the decompressed response; the rest is not read. About 5,000 tokens."""


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """A response, bounded and decoded."""

    status: int
    url: str
    """The final URL after redirects."""
    headers: Mapping[str, str]
    """Names in lower case; only headers that help to understand the response."""
    text: str
    """The body as text; empty for binary content."""
    body_bytes: int
    """Bytes read of the decompressed body."""
    is_truncated: bool
    is_binary: bool
    redirects: tuple[str, ...] = ()
    """URLs that redirected, first to last, without the final one."""


class HttpFetcher(Protocol):
    """Makes HTTP requests that the policy allows."""

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """Raises ToolRefused when the policy forbids the request, ToolFailed when there was no response."""
        ...


@dataclass(frozen=True, slots=True)
class HistoryQuestion:
    """A tool's search of earlier messages. user_id: the user whose access it searches with."""

    user_id: str
    query: str
    limit: int
    asked_in: str
    """The session of the tool call. All its participants can read the results."""
    only_there: bool = False
    role: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    not_turn_id: str | None = None
    """Leave out messages of this turn."""


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
    """Only the session of the tool call was searched."""


class HistorySearcher(Protocol):
    """Finds messages that a user may read."""

    async def find(self, question: HistoryQuestion) -> HistoryAnswer:
        """Raises InvalidInput for an invalid question, Transient."""
        ...


@dataclass(frozen=True, slots=True)
class FileText:
    """A file of the session, with a part of its text."""

    attachment_id: str
    name: str
    kind: str
    media_type: str
    size_bytes: int
    facts: Mapping[str, Any]
    warnings: Sequence[str]
    text: str | None
    """None: its kind has no text."""
    text_chars: int
    """Length of the whole text."""


@dataclass(frozen=True, slots=True)
class FileToMake:
    """A file that a tool wants to make in its session. tool_call_id: makes a repeat return the same file."""

    session_id: str
    user_id: str
    tool_call_id: str
    name: str
    content: Content
    file_format: FileFormat


@dataclass(frozen=True, slots=True)
class FileToKeep:
    """A file that a tool returned. number: of the files of its call, from 0; a repeat of the call finds it by that."""

    session_id: str
    user_id: str
    tool_call_id: str
    number: int
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class MadeFile:
    attachment_id: str
    name: str
    kind: str
    media_type: str
    size_bytes: int


class SessionFiles(Protocol):
    """The files of the session that a tool runs in."""

    async def read(self, session_id: str, attachment_id: str, *, start: int, chars: int) -> FileText | None:
        """The file with up to `chars` characters of its text from `start`; None when the session has no such file."""
        ...

    async def make(self, wanted: FileToMake) -> MadeFile:
        """Raises InvalidInput (GenerationError, a full session), NotFound, Transient."""
        ...

    async def keep(self, wanted: FileToKeep) -> MadeFile:
        """Raises InvalidInput (MESSAGE_TOO_LONG: the file is too large or the session full), NotFound, Transient."""
        ...


class Secrets(Protocol):
    """The secrets of tools, by name."""

    def read(self, name: str) -> str:
        """Raises ToolFailed, which names the setting, when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class NoSecrets:
    def read(self, name: str) -> str:
        raise ToolFailed(f"This process has no secrets for tools: {name} cannot be read.")


class BlockingWork(Protocol):
    """Where sync tools run."""

    async def run[T](self, tool: str, user_id: str, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Raises ToolFailed when every thread is blocked."""
        ...


@dataclass(frozen=True, slots=True)
class ToolServices:
    """Passed into each call by the composition root. None: not available in this process."""

    http: HttpFetcher | None = None
    history: HistorySearcher | None = None
    files: SessionFiles | None = None
    secrets: Secrets = NoSecrets()
    threads: BlockingWork | None = None
    """None: a thread for each call, such as in a test."""
    mcp: McpServers | None = None


NO_SERVICES = ToolServices()
