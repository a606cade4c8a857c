"""ExportService: exports a conversation as a file, generated while it is downloaded.

Invariant: streamed formats hold one page of messages and one piece of the file in memory. PDF and DOCX are laid out as
a whole: they accept a bounded conversation, and refuse a longer one before the first byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
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

MAX_LAID_OUT_MESSAGES = 1_000
MAX_LAID_OUT_CHARS = 400_000
"""Of a PDF or DOCX: about a hundred pages, and seconds of work."""

_LAID_OUT = frozenset({FileFormat.PDF, FileFormat.DOCX})
_THREADS = 4
_PAGE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Export:
    """A file being generated. pieces: may raise InvalidInput on the first piece, Transient on any."""

    name: str
    media_type: str
    pieces: AsyncGenerator[bytes]


class ExportService:
    """Exports conversations. Access is checked by the reads through `HistoryManager`."""

    def __init__(self, sessions: SessionRepository, history: HistoryManager, generator: FileGenerator) -> None:
        self._sessions = sessions
        self._history = history
        self._generator = generator
        # A pool of its own: these threads wait for the event loop, which needs the default pool to serve them.
        self._threads = ThreadPoolExecutor(_THREADS, "export")

    async def export(self, session_id: str, principal: Principal, file_format: FileFormat) -> Export:
        """Export the active branch. Raises NotFound."""
        session = (await self._sessions.get(session_id, principal.user_id)).session
        messages = self._messages(session_id, principal, asyncio.get_running_loop())
        if file_format in _LAID_OUT:
            messages = _bounded(messages)
        content = ConversationExport(session, messages, exported_at=datetime.now(UTC))
        name = display_name(f"{session.name or f'session {session_id}'}.{file_format.value}")
        return Export(name, file_format.media_type, self._pieces(content, file_format))

    async def _pieces(self, content: ConversationExport, file_format: FileFormat) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        pieces = self._generator.chunks(content, file_format)
        try:
            while piece := await loop.run_in_executor(self._threads, next, pieces, b""):
                yield piece
        finally:
            # Closed in a thread: when the client disconnects, another thread may still be running the generator.
            self._threads.submit(pieces.close)

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
