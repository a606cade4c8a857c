"""Content as Markdown.

Invariant: Markdown content stays unchanged; data (names, cells, tool results) is escaped or fenced, so that it is shown
literally.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from shared.sessions.files.writers.blocks import (
    RAN_WITH,
    REASONING,
    arguments_json,
    attachment_names,
    notes,
    output_json,
    speaker,
)
from shared.sessions.files.writers.content import Content, ConversationExport, RowsContent, TextContent, clean, text_of
from shared.sessions.models import Message, MessageRole

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


def write_markdown(content: Content) -> Iterator[bytes]:
    for part in _parts(content):
        yield clean(part).encode()


def _parts(content: Content) -> Iterator[str]:
    if content.title:
        yield f"# {_line(content.title)}\n\n"
    match content:
        case ConversationExport():
            session = content.session
            yield f"*Session {_line(session.id)}, created {session.created_at.isoformat()}*\n"
            if content.exported_at is not None:
                yield f"*Exported {content.exported_at.isoformat()}*\n"
            for message in content.messages:
                yield from _message(message)
        case RowsContent():
            yield "| " + " | ".join(_line(name) for name in content.columns) + " |\n"
            yield "|" + " --- |" * len(content.columns) + "\n"
            for row in content.rows:
                yield "| " + " | ".join(_line(text_of(cell)) for cell in row) + " |\n"
        case TextContent():
            yield content.text.rstrip("\n") + "\n"
        case _:
            yield content.text.rstrip("\n") + "\n"


def _message(message: Message) -> Iterator[str]:
    yield f"\n## {_line(speaker(message))} · {message.created_at.isoformat()}\n\n"
    if message.reasoning:
        yield _quoted(f"**{REASONING}**\n\n{message.reasoning}") + "\n"
    if message.output is not None:
        yield _fenced(output_json(message), "json")
    elif message.role is MessageRole.TOOL:
        yield _fenced(message.content)
    elif message.content:
        yield message.content.rstrip("\n") + "\n"
    if message.from_subagent is not None:
        yield "\n" + _fenced(message.from_subagent.content)
    for note in notes(message):
        yield f"\n*{note}*\n"
    for call in message.tool_calls:
        yield f"\n*Tool call* `{call.name}` ({call.status.value})\n\n{_fenced(arguments_json(call.arguments), 'json')}"
        if call.decided_arguments is not None:
            yield f"\n*{RAN_WITH}*\n\n{_fenced(arguments_json(call.decided_arguments), 'json')}"
    for name in attachment_names(message):
        yield f"\n*Attachment:* {_line(name)}\n"


def _line(text: str) -> str:
    """One line of literal text."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks within."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def _quoted(text: str) -> str:
    """A block quote that ends where the text ends: every line of it is marked."""
    lines = clean(text).strip("\n").split("\n")  # cleaned first, since cleaning can create line breaks
    return "".join(f"> {line}\n" if line else ">\n" for line in lines)
