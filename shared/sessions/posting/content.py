"""Checks of a new message: it has content, its attachments exist, and it fits the context window of its turn's model.

Invariant: a stored message fits the window together with the note on its attachments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.errors import AppError, ErrorCode, InvalidInput
from shared.ids import is_valid_id
from shared.sessions.approvals.containment import PAYLOADS
from shared.sessions.context.note import MAX_NOTE_CHARS, note_for, payload_note, reference
from shared.sessions.context.window import estimate_tokens
from shared.sessions.models import MAX_CONTENT_CHARS, AttachmentRef, NewMessage
from shared.sessions.records.attachments import AttachmentRecord
from shared.sessions.repository import AttachmentReader


@dataclass(frozen=True, slots=True)
class CheckedContent:
    """What a message holds beside its text. tokens: of text and note together."""

    tokens: int
    attachments: list[AttachmentRef] = field(default_factory=list)
    note: str | None = None
    """What a model reads of what came with it."""
    sources: tuple[str, ...] = ()
    """Of the note, where it does not tell of files."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What came with a message from outside, and nobody vouches for. data: JSON."""

    data: Any


async def check_content(
    session_id: str,
    body: NewMessage,
    files: AttachmentReader,
    *,
    max_context_tokens: int,
    payload: Payload | None = None,
) -> CheckedContent:
    """payload: comes in place of files. Raises InvalidInput (INVALID_MESSAGE, MESSAGE_TOO_LONG)."""
    tokens = _checked_tokens(body, max_context_tokens)
    if payload is not None:
        note = payload_note(payload.data)
        tokens += estimate_tokens(note)
        if tokens > max_context_tokens:
            raise _too_long(tokens, max_context_tokens)
        return CheckedContent(tokens, note=note, sources=(PAYLOADS,))
    if not body.attachment_ids:
        return CheckedContent(tokens)
    attached = await _attached(session_id, body.attachment_ids, files)
    note = note_for(attached, max_tokens=max_context_tokens - tokens)
    tokens += estimate_tokens(note)
    if tokens > max_context_tokens:
        raise _too_long(tokens, max_context_tokens)
    return CheckedContent(tokens, [reference(file) for file in attached], note)


def _checked_tokens(body: NewMessage, max_context_tokens: int) -> int:
    if not body.content.strip():
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "A message needs content.")
    if "\x00" in body.content:
        raise InvalidInput(ErrorCode.INVALID_MESSAGE, "A message cannot hold the character U+0000.")
    if len(body.content) > MAX_CONTENT_CHARS:
        raise InvalidInput(ErrorCode.MESSAGE_TOO_LONG, f"A message may have {MAX_CONTENT_CHARS} characters.")
    tokens = estimate_tokens(body.content)
    if tokens > max_context_tokens:
        raise _too_long(tokens, max_context_tokens)
    return tokens


async def _attached(session_id: str, ids: list[str], files: AttachmentReader) -> list[AttachmentRecord]:
    """The files a message comes with, in its order, each once."""
    found = {}
    if all(is_valid_id(item) for item in ids):
        found = await files.some(session_id, ids, max_chars=MAX_NOTE_CHARS)
    for item in ids:
        if item not in found:
            raise _unknown_attachment(item)
    return [found[item] for item in dict.fromkeys(ids)]


def _too_long(tokens: int, max_context_tokens: int) -> AppError:
    return InvalidInput(
        ErrorCode.MESSAGE_TOO_LONG,
        f"The message is about {tokens} tokens; this session's model reads {max_context_tokens}.",
    )


def _unknown_attachment(attachment_id: str) -> AppError:
    return InvalidInput(
        ErrorCode.INVALID_MESSAGE,
        f"This session has no attachment {attachment_id[:64]!r}.",
        errors=[{"field": "attachment_ids", "message": "unknown attachment"}],
    )
