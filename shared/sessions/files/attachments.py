"""AttachmentService: stores a session's files: the bytes as a blob, the analysis as a row.

Invariant: a row exists only for an existing blob. A blob is announced in the database before it is written; storing its
row removes the announcement. If an upload is interrupted, the announcement remains, and the blob is found by it and
deleted (`loose.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from shared.errors import AppError, ErrorCode, InvalidInput, InvalidState, Transient, no_such_session
from shared.ids import new_id
from shared.principal import Principal
from shared.rights import Action
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.blobs import BlobStore
from shared.sessions.files.names import display_name
from shared.sessions.files.readers.analysis import Analysis
from shared.sessions.files.spool import Spool
from shared.sessions.models import Attachment, AttachmentDetail, SessionStatus
from shared.sessions.records.attachments import AttachmentRecord
from shared.sessions.records.expiry import refuse_expired
from shared.sessions.records.pages import Page
from shared.sessions.repository import SessionRepository
from shared.storable import storable_json, storable_text

MAX_FILES = 500
MAX_SESSION_BYTES = 1024 * 1024 * 1024
"""Of one session; bounds what one user can store."""

SHOWN_CHARS = 20_000
"""Extracted text returned with an attachment; tools can read the rest."""

WRITE_TIME = timedelta(minutes=15)
"""An announced blob without a row after this time was interrupted: no function runs longer than ten minutes."""


class MadeBy(NamedTuple):
    """The tool call that made a file. number: of its files, from 0."""

    tool_call_id: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """The row of a file: everything but its bytes."""

    session_id: str
    id: str
    created_by: str
    name: str
    size_bytes: int
    sha256: str
    blob_name: str
    analysis: Analysis
    made_by: MadeBy | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    files: int
    bytes: int


class AttachmentRepository(Protocol):
    async def usage(self, session_id: str) -> Usage: ...

    async def announce(self, session_id: str, blob_name: str, *, due_at: datetime) -> bool:
        """Record that a blob is about to be written; False when the session does not exist."""
        ...

    async def release(self, session_id: str, blob_name: str) -> None:
        """Make an announced blob that gets no row due for deletion now."""
        ...

    async def insert(self, new: NewAttachment, *, max_files: int, max_bytes: int) -> AttachmentRecord | None:
        """Store the row of an announced blob, or return the existing row if its tool call has one already.

        None when the announcement was removed meanwhile. Raises NotFound when the user may no longer write to the
        session, InvalidInput (MESSAGE_TOO_LONG) when the session is full.
        """
        ...

    async def for_user(self, attachment_id: str, user_id: str, *, max_chars: int) -> AttachmentRecord:
        """The attachment with the beginning of its text. Raises NotFound if the user may not read it."""
        ...

    async def list_for(self, session_id: str, page: Page) -> list[AttachmentRecord]:
        """Oldest first, without text, one more than `page.limit` when there are more, or CutRows."""
        ...

    async def some(self, session_id: str, ids: Sequence[str], *, max_chars: int) -> dict[str, AttachmentRecord]:
        """Attachments by id, with the beginning of their text; unknown ids are left out."""
        ...

    async def part(self, session_id: str, attachment_id: str, *, start: int, chars: int) -> AttachmentRecord | None:
        """The attachment with `chars` characters of its text from `start` (from 0)."""
        ...

    async def of_call(self, session_id: str, made_by: MadeBy) -> AttachmentRecord | None:
        """The file that a tool call made."""
        ...

    async def of_content(self, session_id: str, user_id: str, *, sha256: str, name: str) -> AttachmentRecord | None:
        """The first that a user has sent with these bytes and this name; without its text."""
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An attachment whose bytes can be read."""

    record: AttachmentRecord
    blobs: BlobStore

    def read(self, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """Raises NotFound, Transient."""
        return self.blobs.open(self.record.blob_name, start=start, length=length)


class AttachmentService:
    """Checks access in every method that takes a principal."""

    def __init__(
        self,
        sessions: SessionRepository,
        rows: AttachmentRepository,
        blobs: BlobStore,
        analyzer: FileAnalyzer,
        *,
        max_bytes: int,
    ) -> None:
        self._sessions = sessions
        self._rows = rows
        self._blobs = blobs
        self._analyzer = analyzer
        self.max_bytes = max_bytes

    async def admit(self, session_id: str, principal: Principal) -> None:
        """Check that the session accepts files, before the bytes of one are read.

        Raises NotFound, Gone, InvalidState, InvalidInput (MESSAGE_TOO_LONG: the session is full), Transient
        (RATE_LIMITED: too many files wait to be analysed).
        """
        record = await self._sessions.get(session_id, principal.user_id)
        record.require(Action.POST)
        refuse_expired(record.session, datetime.now(UTC))
        if record.session.status is SessionStatus.ENDED:
            raise InvalidState("A session that is ENDED accepts no files.")
        used = await self._rows.usage(session_id)
        if used.files >= MAX_FILES or used.bytes >= MAX_SESSION_BYTES:
            raise session_full()
        self._analyzer.admit(principal.user_id)

    def spool(self) -> Spool:
        """A buffer for the bytes of one file."""
        return Spool(self.max_bytes)

    async def add(
        self, session_id: str, principal: Principal, spool: Spool, claimed_name: str | None
    ) -> AttachmentDetail:
        """Analyse and store a file. Raises NotFound, InvalidInput (AnalysisError, a full session), Transient."""
        record = await self.keep(session_id, principal.user_id, spool, claimed_name)
        return detail(record)

    async def add_once(
        self, session_id: str, principal: Principal, spool: Spool, claimed_name: str | None
    ) -> AttachmentDetail:
        """`admit` and `add`, or the file that the caller has sent to the session before: the same bytes under the same
        name. For requests that carry their files, so that one that comes twice is the same one."""
        record = await self._sessions.get(session_id, principal.user_id)
        record.require(Action.POST)
        name = display_name(claimed_name)
        same = await self._rows.of_content(session_id, principal.user_id, sha256=spool.sha256, name=name)
        if same is not None:
            return detail(same)
        await self.admit(session_id, principal)
        return await self.add(session_id, principal, spool, claimed_name)

    async def keep(
        self, session_id: str, user_id: str, spool: Spool, claimed_name: str | None, *, made_by: MadeBy | None = None
    ) -> AttachmentRecord:
        """`add` for callers that have checked access. If `made_by` is on record, returns the file that it made."""
        analysis = storable(await self._analyzer.analyze_async(spool.file, user_id))
        now = datetime.now(UTC)
        attachment_id = new_id()
        new = NewAttachment(
            session_id=session_id,
            id=attachment_id,
            created_by=user_id,
            name=display_name(claimed_name),
            size_bytes=spool.size_bytes,
            sha256=spool.sha256,
            blob_name=f"{session_id}/{attachment_id}",
            analysis=analysis,
            made_by=made_by,
            created_at=now,
        )
        if not await self._rows.announce(session_id, new.blob_name, due_at=now + WRITE_TIME):
            raise no_such_session()
        try:
            await self._blobs.put(new.blob_name, spool.file, size_bytes=new.size_bytes, media_type=analysis.media_type)
            record = await self._rows.insert(new, max_files=MAX_FILES, max_bytes=MAX_SESSION_BYTES)
        except AppError:
            with suppress(Transient):  # then the blob is deleted after WRITE_TIME
                await self._rows.release(session_id, new.blob_name)
            raise
        if record is None:
            raise Transient(ErrorCode.DATABASE_ERROR, "Storing the file took too long; send it again.")
        return record

    async def get(self, attachment_id: str, principal: Principal) -> AttachmentDetail:
        """Raises NotFound."""
        record = await self._rows.for_user(attachment_id, principal.user_id, max_chars=SHOWN_CHARS)
        return detail(record)

    async def list_for(self, session_id: str, principal: Principal, page: Page) -> tuple[list[Attachment], str | None]:
        """A session's files, oldest first, and the next cursor. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        found = await self._rows.list_for(session_id, page)
        records, cursor = page.cut(found, lambda record: (record.attachment.created_at, record.attachment.id))
        return [record.attachment for record in records], cursor

    async def open(self, attachment_id: str, principal: Principal) -> StoredFile:
        """Raises NotFound."""
        return StoredFile(await self._rows.for_user(attachment_id, principal.user_id, max_chars=0), self._blobs)


def session_full() -> AppError:
    return InvalidInput(
        ErrorCode.MESSAGE_TOO_LONG,
        f"A session can hold at most {MAX_FILES} files and {MAX_SESSION_BYTES // 1024 // 1024} MB in total.",
    )


def detail(record: AttachmentRecord) -> AttachmentDetail:
    return AttachmentDetail(**record.attachment.model_dump(), text=record.text)


def storable(analysis: Analysis) -> Analysis:
    """The analysis with every text made safe for the database."""
    facts = storable_json(dict(analysis.facts))
    assert isinstance(facts, dict)
    return Analysis(
        analysis.kind,
        analysis.media_type,
        None if analysis.text is None else storable_text(analysis.text),
        facts,
        tuple(storable_text(warning) for warning in analysis.warnings),
    )
