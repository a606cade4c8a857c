"""ExportService: exports a conversation as a file, generated while it is downloaded.

Invariant: streamed formats hold one page of messages and one piece of the file in memory. PDF and DOCX are laid out as
a whole: they accept a bounded conversation, and refuse a longer one before the first byte.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.errors import ErrorCode, InvalidInput, Transient
from shared.principal import Principal
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.names import display_name
from shared.sessions.files.writers.blocks import arguments_json, output_json
from shared.sessions.files.writers.content import ConversationExport, FileFormat
from shared.sessions.history.manager import HistoryManager
from shared.sessions.models import Message
from shared.sessions.records.pages import MAX_LIMIT, MessageFilter, Page, decode_cursor
from shared.sessions.repository import SessionRepository
from shared.work_pool import PoolLimits, WorkPool

MAX_LAID_OUT_MESSAGES = 1_000
MAX_LAID_OUT_CHARS = 400_000
"""Of a PDF or DOCX: about a hundred pages, and seconds of work."""

_LAID_OUT = frozenset({FileFormat.PDF, FileFormat.DOCX})
LAYOUTS = PoolLimits(threads=2, per_user=1, waiting=64, waiting_per_user=8, wait_s=30, retry_after_s=10)
"""Files that are written: exports, and files that tools make. A streamed export takes a thread for each piece."""

_PAGE_TIMEOUT_S = 30.0
LAYOUT_S = 120.0
"""Longest time to lay out a PDF or DOCX: ten times what the longest one takes (`pdf.MAX_CHARS`)."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file being generated. pieces: the first may raise InvalidInput and Transient (RATE_LIMITED), any
    Transient."""

    name: str
    media_type: str
    pieces: AsyncGenerator[bytes]


class ExportService:
    """Exports conversations. Access is checked by the reads through `HistoryManager`."""

    def __init__(
        self,
        sessions: SessionRepository,
        history: HistoryManager,
        generator: FileGenerator,
        pool: WorkPool | None = None,
        *,
        layout_s: float = LAYOUT_S,
    ) -> None:
        """pool: where files are written; None: a pool of its own."""
        self._layout_s = layout_s
        self._sessions = sessions
        self._history = history
        self._generator = generator
        self._pool = pool or WorkPool("exports", LAYOUTS)

    async def export(self, session_id: str, principal: Principal, file_format: FileFormat) -> Export:
        """Export the active branch. Raises NotFound."""
        session = (await self._sessions.get(session_id, principal.user_id)).session
        messages = self._messages(session_id, principal, asyncio.get_running_loop())
        closed = threading.Event()
        if file_format in _LAID_OUT:
            messages = _until(_bounded(messages), closed, self._layout_s)
        content = ConversationExport(session, messages, exported_at=datetime.now(UTC))
        name = display_name(f"{session.name or f'session {session_id}'}.{file_format.value}")
        pieces = self._pieces(_Pieces(self._generator.chunks(content, file_format), closed), principal.user_id)
        return Export(name, file_format.media_type, pieces)

    async def _pieces(self, pieces: _Pieces, user_id: str) -> AsyncGenerator[bytes]:
        is_admitted = False
        try:
            while piece := await self._pool.run(user_id, pieces.next, is_admitted=is_admitted):
                is_admitted = True
                yield piece
        finally:
            pieces.close()

    def _messages(self, session_id: str, principal: Principal, loop: asyncio.AbstractEventLoop) -> Iterator[Message]:
        """All messages, page by page. Runs in a thread; the reads run in the event loop."""
        page = Page(limit=MAX_LIMIT)
        while True:
            reading = self._history.list_messages(session_id, principal, MessageFilter(), page)
            try:
                items, cursor = asyncio.run_coroutine_threadsafe(reading, loop).result(_PAGE_TIMEOUT_S)
            except TimeoutError as exc:
                raise Transient(ErrorCode.DATABASE_ERROR, "Reading the conversation takes too long.") from exc
            yield from items
            if cursor is None:
                return
            page = Page(limit=MAX_LIMIT, after=decode_cursor(cursor, int))


class _Pieces:
    """A file's generator, which one thread at a time runs."""

    def __init__(self, pieces: Generator[bytes], closed: threading.Event) -> None:
        """closed: set by `close`."""
        self._pieces = pieces
        self._is_running = threading.Lock()
        self._closed = closed

    def next(self) -> bytes:
        """The next piece; empty at the end."""
        with self._is_running:
            piece = next(self._pieces, b"")
        if self._closed.is_set():
            self.close()
        return piece

    def close(self) -> None:
        """Does not block. When the client left while a thread runs the generator, that thread closes it."""
        self._closed.set()
        if self._is_running.acquire(blocking=False):
            try:
                self._pieces.close()
            finally:
                self._is_running.release()


def _until(messages: Iterator[Message], closed: threading.Event, limit_s: float) -> Iterator[Message]:
    """The messages, for as long as somebody waits and the time lasts. Raises InvalidInput (MESSAGE_TOO_LONG)."""
    ends_at = time.monotonic() + limit_s
    for message in messages:
        if closed.is_set() or time.monotonic() >= ends_at:
            raise InvalidInput(
                ErrorCode.MESSAGE_TOO_LONG,
                f"The file takes longer than {limit_s:g} seconds to make; json, md, html and csv are quicker.",
            )
        yield message


def _bounded(messages: Iterator[Message]) -> Iterator[Message]:
    """All messages, read before the layout begins. Raises InvalidInput (MESSAGE_TOO_LONG)."""
    found: list[Message] = []
    chars = 0
    for message in messages:
        found.append(message)
        chars += len(message.content if message.output is None else output_json(message))
        chars += sum(
            len(arguments_json(arguments))
            for call in message.tool_calls
            for arguments in (call.arguments, call.decided_arguments)
            if arguments is not None
        )
        if len(found) > MAX_LAID_OUT_MESSAGES or chars > MAX_LAID_OUT_CHARS:
            raise InvalidInput(
                ErrorCode.MESSAGE_TOO_LONG,
                f"pdf and docx support at most {MAX_LAID_OUT_MESSAGES} messages and {MAX_LAID_OUT_CHARS} characters in"
                " total; json, md, html and csv support conversations of any length.",
            )
    yield from found
