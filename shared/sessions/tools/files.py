"""Access of tools to the files of their session. Implements `SessionFiles`."""

from __future__ import annotations

import asyncio
import logging

from pydantic import JsonValue

from shared.errors import AppError, ToolRefused, Transient
from shared.sessions.files.attachments import AttachmentRepository, AttachmentService, MadeBy
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.names import display_name
from shared.sessions.files.spool import Spool
from shared.sessions.records.attachments import AttachmentRecord
from shared.sessions.tools.output import ToolOutput
from shared.sessions.tools.services import FileText, FileToKeep, FileToMake, MadeFile, SessionFiles
from shared.work_pool import WorkPool

log = logging.getLogger(__name__)

_TRIES = 3


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
        made_by = MadeBy(wanted.tool_call_id)
        made = await self._rows.of_call(wanted.session_id, made_by)
        if made is None:
            with self._attachments.spool() as spool:
                # Laying out a PDF takes seconds.
                await self._pool.run(wanted.user_id, lambda: self._write(wanted, spool))
                made = await self._attachments.keep(
                    wanted.session_id, wanted.user_id, spool, wanted.name, made_by=made_by
                )
        return _made(made)

    async def keep(self, wanted: FileToKeep) -> MadeFile:
        """Raises InvalidInput, NotFound, Transient."""
        made_by = MadeBy(wanted.tool_call_id, wanted.number)
        made = await self._rows.of_call(wanted.session_id, made_by)
        if made is None:
            with self._attachments.spool() as spool:
                spool.write(wanted.content)
                made = await self._attachments.keep(
                    wanted.session_id, wanted.user_id, spool, wanted.name, made_by=made_by
                )
        return _made(made)

    def _write(self, wanted: FileToMake, spool: Spool) -> None:
        for piece in self._generator.chunks(wanted.content, wanted.file_format):
            spool.write(piece)


def _made(record: AttachmentRecord) -> MadeFile:
    file = record.attachment
    return MadeFile(file.id, file.name, file.kind, file.media_type, file.size_bytes)


async def with_files(
    output: ToolOutput,
    files: SessionFiles | None,
    *,
    session_id: str,
    user_id: str,
    tool_call_id: str,
    retry_s: float = 1.0,
) -> ToolOutput:
    """The output with its files stored. It says of each what became of it, and the rest of it stands whatever that is:
    the tool has done its work, and might not be run again."""
    if not output.files:
        return output
    said: list[str] = []
    kept: list[JsonValue] = []
    for number, file in enumerate(output.files):
        content = file.content.encode("utf-8", "replace") if isinstance(file.content, str) else file.content
        wanted = FileToKeep(session_id, user_id, tool_call_id, number, file.name, content)
        try:
            if files is None:
                raise ToolRefused("This deployment keeps no files for tools.")
            made = await _kept(files, wanted, retry_s)
        except AppError as exc:
            log.warning("file %d of tool call %s was not kept: %s", number, tool_call_id, exc)
            said.append(f"The file {display_name(file.name)!r} was not kept: {exc.safe_message}")
        else:
            said.append(made_text(made))
            kept.append(made_data(made))
    data: dict[str, JsonValue] = dict(output.data) if isinstance(output.data, dict) else {}
    if output.data is not None and not isinstance(output.data, dict):
        data["result"] = output.data
    return ToolOutput("\n".join([*said, "", output.content]), data | {"attachments": kept})


async def _kept(files: SessionFiles, wanted: FileToKeep, retry_s: float) -> MadeFile:
    for _ in range(_TRIES - 1):
        try:
            return await files.keep(wanted)
        except Transient as exc:
            log.info("file %d of tool call %s is tried again: %s", wanted.number, wanted.tool_call_id, exc)
            await asyncio.sleep(retry_s)
    return await files.keep(wanted)


def made_text(made: MadeFile) -> str:
    """For the model."""
    return (
        f"Made {made.name!r} ({made.media_type}, {made.size_bytes} bytes). Its attachment id is {made.attachment_id}."
    )


def made_data(made: MadeFile) -> dict[str, JsonValue]:
    """For programs."""
    return {
        "id": made.attachment_id,
        "name": made.name,
        "kind": made.kind,
        "media_type": made.media_type,
        "size_bytes": made.size_bytes,
    }
