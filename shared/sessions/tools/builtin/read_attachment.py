"""The tool `read_attachment`: reads a file of the session, piece by piece.

Invariant: it reads only files of the session that the turn runs in. The text is untrusted input, passed on as data.
"""

from __future__ import annotations

import json

from pydantic import Field

from shared.errors import ToolFailed, ToolRefused
from shared.sessions.tools.base import READS, ToolArguments, ToolContext, ToolOutput, tool
from shared.sessions.tools.services import FileText

MAX_CHARS = 20_000
MAX_START = 10_000_000
_MAX_FACTS_CHARS = 4_000


class ReadAttachmentArguments(ToolArguments):
    attachment_id: str = Field(min_length=1, max_length=64, description="The id of a file of this conversation")
    start: int = Field(default=0, ge=0, le=MAX_START, description="From which character of its text on")
    max_chars: int = Field(default=8_000, ge=1, le=MAX_CHARS, description="Most characters of text to return")


@tool(idempotent=True, risks=READS, timeout_s=15)
async def read_attachment(arguments: ReadAttachmentArguments, call: ToolContext) -> ToolOutput:
    """Read a file that came with this conversation: what kind it is, facts about it, and its text, page by page."""
    if call.services.files is None:
        raise ToolRefused("This deployment keeps no files for tools.")
    file = await call.services.files.read(
        call.session_id, arguments.attachment_id, start=arguments.start, chars=arguments.max_chars
    )
    if file is None:
        raise ToolFailed("This conversation has no file with that id.")
    end = arguments.start + len(file.text or "")
    next_start = end if file.text is not None and end < file.text_chars else None
    return ToolOutput(
        _shown(file, arguments.start, end, next_start),
        {
            "attachment_id": file.attachment_id,
            "name": file.name,
            "kind": file.kind,
            "start": arguments.start,
            "chars": end - arguments.start,
            "text_chars": file.text_chars,
            "next_start": next_start,
        },
    )


def _shown(file: FileText, start: int, end: int, next_start: int | None) -> str:
    lines = [f"{file.name!r}: {file.kind}, {file.media_type}, {file.size_bytes} bytes"]
    facts = json.dumps(dict(file.facts), ensure_ascii=False)
    lines.append(f"Facts: {facts[:_MAX_FACTS_CHARS]}")
    lines += [f"Warning: {warning}" for warning in file.warnings[:5]]
    if file.text is None:
        lines.append("No text can be read out of it.")
    elif not file.text:
        lines.append(f"It has {file.text_chars} characters of text, none from {start} on.")
    else:
        more = "" if next_start is None else f" Go on with start={next_start}."
        lines += [f"Characters {start} to {end} of {file.text_chars}.{more}", "", file.text]
    return "\n".join(lines)
