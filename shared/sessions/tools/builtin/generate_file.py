"""The tool `generate_file`: makes a file from content and stores it with the session.

Invariant: one call makes one file, however often it is run: a repeat finds the file by its tool call id.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shared.errors import ToolRefused
from shared.sessions.files.writers.content import Content, FileFormat, MarkdownContent, TextContent
from shared.sessions.tools.base import ToolArguments, ToolContext, ToolOutput, tool
from shared.sessions.tools.files import made_data, made_text
from shared.sessions.tools.services import FileToMake

MAX_CONTENT_CHARS = 100_000

_LAID_OUT = frozenset({FileFormat.HTML, FileFormat.PDF, FileFormat.DOCX, FileFormat.MD})
_SLOW = frozenset({FileFormat.PDF, FileFormat.DOCX})
"""Take seconds."""


class GenerateFileArguments(ToolArguments):
    format: FileFormat = Field(description="What kind of file to make")
    content: Annotated[str, Field(min_length=1, max_length=MAX_CONTENT_CHARS)] = Field(
        description="Markdown for md, html, pdf, docx; for csv comma-separated lines or a Markdown table; JSON for json"
    )
    name: str | None = Field(default=None, max_length=200, description="Name of the file")
    title: str | None = Field(default=None, max_length=200, description="Title within the file")


# No risks: the file stays in the session, and the result contains only what the model wrote.
@tool(idempotent=True, risks=(), timeout_s=60)
async def generate_file(arguments: GenerateFileArguments, call: ToolContext) -> ToolOutput:
    """Make a file (json, md, html, csv, pdf or docx) from content; the user can download it from the conversation."""
    if call.services.files is None:
        raise ToolRefused("This deployment keeps no files for tools.")
    name = _named(arguments)
    if arguments.format in _SLOW:
        call.progress(f"Laying out {name}")
    made = await call.services.files.make(
        FileToMake(
            session_id=call.session_id,
            user_id=call.user_id,
            tool_call_id=call.tool_call_id,
            name=name,
            content=_content(arguments),
            file_format=arguments.format,
        )
    )
    return ToolOutput(made_text(made), {"attachment": made_data(made)})


def _named(arguments: GenerateFileArguments) -> str:
    suffix = f".{arguments.format.value}"
    name = (arguments.name or arguments.title or "document").strip()
    return name if name.lower().endswith(suffix) else name[: 200 - len(suffix)] + suffix


def _content(arguments: GenerateFileArguments) -> Content:
    title = arguments.title or ""
    is_table = arguments.format is FileFormat.CSV and arguments.content.lstrip().startswith("|")
    if arguments.format in _LAID_OUT or is_table:
        return MarkdownContent(arguments.content, title)
    return TextContent(arguments.content, title)
