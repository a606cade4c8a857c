"""Content as a sequence of blocks, which the writers of html, pdf and docx lay out.

Invariant: a block holds plain text only. Markup is parsed here, or it is text. A link's URL is shown as text after its
words and is never followed; an image is replaced by its description.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from shared.sessions.files.writers.content import (
    Cell,
    Content,
    ConversationExport,
    MarkdownContent,
    RowsContent,
    TextContent,
    text_of,
)
from shared.sessions.models import FinishReason, JsonObject, Message, MessageRole, MessageStatus

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_MAX_NESTING = 20  # of lists and quotes in Markdown; deeper ones are not indented further


@dataclass(frozen=True, slots=True)
class Run:
    """A run of text in one style. Line breaks in it are kept."""

    text: str
    bold: bool = False
    italic: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    level: int  # 1..6
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """depth: number of enclosing lists and quotes. marker: of a list item ("•" or "3."), on its first block only."""

    runs: Sequence[Run]
    depth: int = 0
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line."""


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Iterable[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that are collapsed under a label; they can be read once. PDF and DOCX leave them out."""

    label: str
    blocks: Iterable[Block]


type Block = Heading | Paragraph | Code | Rule | Table | Folded

_ROLE_NAMES = {
    MessageRole.USER: "User",
    MessageRole.ASSISTANT: "Assistant",
    MessageRole.TOOL: "Tool",
}
_ENDS = {
    FinishReason.LENGTH: "Cut at the output limit.",
    FinishReason.CONTENT_FILTER: "Stopped by the content filter.",
    FinishReason.REFUSAL: "The model declined.",
    FinishReason.CANCELLED: "Cancelled.",
}
_LEFT_OUT = "No model reads this any more: the provider's content filter refused it."
REASONING = "Reasoning"
RAN_WITH = "Approved with changes by a person; it ran with:"


def blocks_of(content: Content) -> Iterator[Block]:
    """Title and body, in order. Reads the messages or rows of `content` as it goes."""
    if content.title:
        yield Heading(1, [Run(content.title)])
    match content:
        case ConversationExport():
            yield from _conversation(content)
        case MarkdownContent():
            yield from markdown_blocks(content.text)
        case TextContent():
            yield Paragraph([Run(content.text)])
        case RowsContent():
            yield Table(content.columns, content.rows)


def _conversation(export: ConversationExport) -> Iterator[Block]:
    session = export.session
    about = f"Session {session.id}, created {session.created_at.isoformat()}"
    if export.exported_at is not None:
        about += f", exported {export.exported_at.isoformat()}"
    yield Paragraph([Run(about, italic=True)])
    for message in export.messages:
        yield from _message(message)


def _message(message: Message) -> Iterator[Block]:
    yield Heading(3, [Run(f"{speaker(message)} · {message.created_at.isoformat()}")])
    if message.reasoning:
        yield Folded(REASONING, markdown_blocks(message.reasoning))
    if message.output is not None:
        yield Code(output_json(message))
    elif message.role is MessageRole.TOOL:
        yield Code(message.content)
    elif message.role is MessageRole.ASSISTANT:
        yield from markdown_blocks(message.content)
    elif message.content:
        yield Paragraph([Run(message.content)])  # as typed: users usually do not mean to write Markdown
    if message.from_subagent is not None:
        yield Code(message.from_subagent.content)
    for note in notes(message):
        yield Paragraph([Run(note, italic=True)])
    for call in message.tool_calls:
        yield Paragraph([Run("Tool call ", italic=True), Run(call.name, code=True), Run(f" ({call.status.value})")])
        yield Code(arguments_json(call.arguments))
        if call.decided_arguments is not None:
            yield Paragraph([Run(RAN_WITH, italic=True)])
            yield Code(arguments_json(call.decided_arguments))
    for name in attachment_names(message):
        yield Paragraph([Run("Attachment: ", italic=True), Run(name)])


def speaker(message: Message) -> str:
    """The role, with the author of a user's message if known; of a subagent's result, the subagent."""
    if message.from_subagent is not None:
        return f"Agent in the background ({message.from_subagent.agent_id})"
    role = _ROLE_NAMES.get(message.role, message.role.value.capitalize())
    return role if message.author is None else f"{role} ({message.author})"


def notes(message: Message) -> list[str]:
    """Notes beside a message's text: that its answer is incomplete, or that no model reads it."""
    found = []
    if message.finish_reason in _ENDS:
        found.append(_ENDS[message.finish_reason])
    elif message.status is MessageStatus.CANCELLED:
        found.append(_ENDS[FinishReason.CANCELLED])
    elif message.status is MessageStatus.FAILED:
        found.append("Failed: this answer is incomplete.")
    if message.left_out is not None:
        found.append(_LEFT_OUT)
    return found


def output_json(message: Message) -> str:
    """The answer to a schema, formatted for people; it is shown instead of the content, which says the same."""
    return orjson.dumps(message.output, option=orjson.OPT_INDENT_2).decode()


def arguments_json(arguments: JsonObject) -> str:
    """The arguments of a tool call, formatted for people."""
    return orjson.dumps(arguments, option=orjson.OPT_INDENT_2).decode()


def attachment_names(message: Message) -> list[str]:
    return [attachment.name for attachment in message.attachments]


def markdown_blocks(text: str) -> Iterator[Block]:
    """Markdown as blocks. Raw HTML in it is treated as text."""
    yield from _Walk(_parser().parse(text)).blocks()


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False, "maxNesting": _MAX_NESTING * 2}).enable("table")


class _Walk:
    """Turns the flat list of opening and closing tokens into blocks."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._depth = 0
        self._marker = ""
        self._numbers: list[int | None] = []  # of the enclosing lists: the next number, None for bullets

    def blocks(self) -> Iterator[Block]:
        rows: list[list[str]] = []
        heading: int | None = None
        in_table = False
        for token in self._tokens:
            kind = token.type
            if kind == "heading_open":
                heading = int(token.tag[1])
            elif kind == "heading_close":
                heading = None
            elif kind == "inline" and in_table:
                rows[-1].append("".join(run.text for run in runs_of(token)))
            elif kind == "inline" and heading is not None:
                yield Heading(heading, runs_of(token))
            elif kind == "inline":
                yield Paragraph(runs_of(token), min(self._depth, _MAX_NESTING), self._take_marker())
            elif kind in ("fence", "code_block"):
                yield Code(token.content.rstrip("\n"))
            elif kind == "hr":
                yield Rule()
            elif kind == "table_open":
                in_table, rows = True, []
            elif kind == "tr_open":
                rows.append([])
            elif kind == "table_close":
                in_table = False
                yield Table(rows[0], rows[1:])
            else:
                self._enter_or_leave(token)

    def _enter_or_leave(self, token: Token) -> None:
        kind = token.type
        if kind == "bullet_list_open":
            self._depth += 1
            self._numbers.append(None)
        elif kind == "ordered_list_open":
            self._depth += 1
            self._numbers.append(int(token.attrs.get("start", 1)))
        elif kind in ("bullet_list_close", "ordered_list_close"):
            self._depth -= 1
            self._numbers.pop()
        elif kind == "list_item_open":
            number = self._numbers[-1]
            self._marker = "•" if number is None else f"{number}."
            if number is not None:
                self._numbers[-1] = number + 1
        elif kind == "blockquote_open":
            self._depth += 1
        elif kind == "blockquote_close":
            self._depth -= 1

    def _take_marker(self) -> str:
        marker, self._marker = self._marker, ""
        return marker


def runs_of(token: Token) -> list[Run]:
    """The inline content of one block."""
    runs: list[Run] = []
    bold = italic = 0
    address = ""
    for child in token.children or []:
        kind = child.type
        if kind == "strong_open":
            bold += 1
        elif kind == "strong_close":
            bold -= 1
        elif kind == "em_open":
            italic += 1
        elif kind == "em_close":
            italic -= 1
        elif kind == "link_open":
            address = str(child.attrs.get("href", ""))
        elif kind == "link_close":
            if address and (not runs or runs[-1].text != address):
                runs.append(Run(f" ({address})"))
            address = ""
        elif kind == "image":
            runs.append(Run(f"[image: {child.content} ({child.attrs.get('src', '')})]", italic=True))
        elif kind == "softbreak":
            runs.append(Run(" "))
        elif kind == "hardbreak":
            runs.append(Run("\n"))
        elif child.content:
            runs.append(Run(child.content, bold > 0, italic > 0, kind == "code_inline"))
    return runs


def table_rows(table: Table) -> Iterator[list[str]]:
    """The rows below the header, as text."""
    for row in table.rows:
        yield [text_of(cell) for cell in row]
