"""Access of tools to the files of their session. Implements `SessionFiles`."""

from __future__ import annotations

from shared.sessions.files.attachments import AttachmentRepository, AttachmentService
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.spool import Spool
from shared.sessions.records.attachments import AttachmentRecord
from shared.sessions.tools.services import FileText, FileToMake, MadeFile
from shared.work_pool import WorkPool


class ToolFiles:
    """Does not check access: a tool runs for a user whose access was checked when the turn began."""

    def __init__(
        self, rows: AttachmentRepository, attachments: AttachmentService, generator: FileGenerator, pool: WorkPool
    ) -> None:
        """pool: where files are laid out."""
        self._rows = rows
        self._attachments = attachments
        self._generator = generator
        self._pool = pool

    async def read(self, session_id: str, attachment_id: str, *, start: int, chars: int) -> FileText | None:
        record = await self._rows.part(session_id, attachment_id, start=start, chars=chars)
        if record is None:
            return None
        file = record.attachment
        return FileText(
            attachment_id=file.id,
            name=file.name,
            kind=file.kind,
            media_type=file.media_type,
            size_bytes=file.size_bytes,
            facts=file.facts,
            warnings=file.warnings,
            text=record.text,
            text_chars=file.text_chars,
        )

    async def make(self, wanted: FileToMake) -> MadeFile:
        """Raises InvalidInput, NotFound, Transient."""
        made = await self._rows.of_call(wanted.session_id, wanted.tool_call_id)
        if made is None:
            with self._attachments.spool() as spool:
                # Laying out a PDF takes seconds.
                await self._pool.run(wanted.user_id, lambda: self._write(wanted, spool))
                made = await self._attachments.keep(
                    wanted.session_id, wanted.user_id, spool, wanted.name, tool_call_id=wanted.tool_call_id
                )
        return _made(made)

    def _write(self, wanted: FileToMake, spool: Spool) -> None:
        for piece in self._generator.chunks(wanted.content, wanted.file_format):
            spool.write(piece)


def _made(record: AttachmentRecord) -> MadeFile:
    file = record.attachment
    return MadeFile(file.id, file.name, file.kind, file.media_type, file.size_bytes)
