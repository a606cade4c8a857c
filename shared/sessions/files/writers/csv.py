"""Content as CSV (RFC 4180), with a byte order mark so that spreadsheets read it as UTF-8.

Invariant: no cell is a formula. Text that a spreadsheet would interpret as a formula is prefixed with an apostrophe.
Plain numbers, also negative ones, stay numbers. Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from shared.sessions.files.writers.blocks import Table, attachment_names, markdown_blocks, table_rows
from shared.sessions.files.writers.content import (
    Cell,
    Content,
    ConversationExport,
    GenerationError,
    MarkdownContent,
    RowsContent,
    text_of,
)
from shared.sessions.models import Message

_FORMULA = re.compile(r"\s*[=+\-@|%＝＋－＠]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)*([eE][+-]?\d+)?%?")
_MESSAGE_COLUMNS = (
    "id", "turn_id", "role", "status", "created_at", "content", "tool_calls", "tool_call_id", "attachments", "author",
    "finish_reason", "output", "left_out", "arguments", "decided_arguments",
)  # fmt: skip


def write_csv(content: Content) -> Iterator[bytes]:
    """Raises GenerationError for Markdown without a table."""
    yield "\ufeff".encode()
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in _rows(content):
        writer.writerow([guarded(cell) for cell in row])
        yield buffer.getvalue().encode("utf-8", "replace")
        buffer.seek(0)
        buffer.truncate()


def guarded(cell: Cell) -> str:
    """The cell as text that no spreadsheet evaluates as a formula."""
    text = text_of(cell).replace("\x00", "")
    return "'" + text if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _rows(content: Content) -> Iterable[Iterable[Cell]]:
    match content:
        case ConversationExport():
            yield _MESSAGE_COLUMNS
            for message in content.messages:
                yield _message_row(message)
        case RowsContent():
            yield content.columns
            yield from content.rows
        case MarkdownContent():
            yield from _tables(content.text)
        case _:
            # Text from a model is often CSV already: parse it and write it again with guarded cells.
            try:
                yield from csv.reader(content.text.replace("\x00", "").splitlines(keepends=True))
            except csv.Error as exc:
                raise GenerationError.because("The text is not a table; give rows, or choose another format.") from exc


def _tables(markdown: str) -> Iterator[Iterable[Cell]]:
    tables = [block for block in markdown_blocks(markdown) if isinstance(block, Table)]
    if not tables:
        raise GenerationError.because("The Markdown holds no table; give rows, or choose another format.")
    for table in tables:
        yield table.columns
        yield from table_rows(table)


def _message_row(message: Message) -> list[Cell]:
    """Arguments are JSON lists with an item for each call; of the decided ones null where they were not changed."""
    decided = [call.decided_arguments for call in message.tool_calls]
    told = message.from_subagent
    return [
        message.id,
        message.turn_id,
        message.role.value,
        message.status.value,
        message.created_at.isoformat(),
        message.content if told is None else f"{message.content}\n{told.content}",
        "; ".join(call.name for call in message.tool_calls),
        message.tool_call_id,
        "; ".join(attachment_names(message)),
        message.author,
        message.finish_reason,
        None if message.output is None else _json(message.output),
        message.left_out,
        _json([call.arguments for call in message.tool_calls]) if message.tool_calls else None,
        _json(decided) if any(arguments is not None for arguments in decided) else None,
    ]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
