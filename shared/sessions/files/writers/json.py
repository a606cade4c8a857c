"""Content as JSON, written one message or row at a time.

Invariant: always a valid UTF-8 document. A conversation is `{"session", "messages"}` with the API's values. Rows are
objects by column name, or lists if the column names are not unique.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from shared.sessions.files.writers.content import Content, ConversationExport, RowsContent, clean


def write_json(content: Content) -> Iterator[bytes]:
    match content:
        case ConversationExport():
            head = b'{"session":' + orjson.dumps(content.session.model_dump(mode="json"))
            if content.exported_at is not None:
                head += b',"exported_at":' + orjson.dumps(content.exported_at)
            yield head + b',"messages":'
            yield from _array(message.model_dump(mode="json") for message in content.messages)
            yield b"}\n"
        case RowsContent():
            yield from _array(_rows(content))
            yield b"\n"
        case _:
            yield _document(content.title, content.text)


def _document(title: str, text: str) -> bytes:
    """Text that is valid JSON stays unchanged; other text is wrapped in a JSON document."""
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2) + b"\n"
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return orjson.dumps({"title": clean(title), "text": clean(text)}, option=orjson.OPT_INDENT_2) + b"\n"


def _rows(content: RowsContent) -> Iterator[Any]:
    columns = [clean(name) for name in content.columns]
    is_unique = len(set(columns)) == len(columns)
    for row in content.rows:
        values = [clean(cell) if isinstance(cell, str) else cell for cell in row]
        yield dict(zip(columns, values, strict=True)) if is_unique and len(values) == len(columns) else values


def _array(items: Iterable[Any]) -> Iterator[bytes]:
    separator = b"["
    for item in items:
        yield separator + orjson.dumps(item)
        separator = b",\n"
    yield b"[]" if separator == b"[" else b"]"
