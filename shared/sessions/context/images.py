"""Chooses the images and documents of a conversation that a model is sent, and estimates their tokens.

Pure: nothing is read here. Invariant: the number, bytes and tokens of files in one request stay within the bounds
below, the newest files first. A file that is not sent is still described in the note of its message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.sessions.files.stored_images import MAX_IMAGE_BYTES, PDF, SEEN
from shared.sessions.models import JsonObject
from shared.sessions.records.steps import ContextMessage

MAX_IMAGES = 10
"""Most files in one request: the lowest limit among Azure OpenAI's vision models."""

MAX_REQUEST_BYTES = 10 * 1024 * 1024
"""Of all files in one request, before base64: they are in memory during the model call."""

IMAGE_TOKENS = 85 + 8 * 170
"""Upper bound of an image's tokens by OpenAI's tile formula: 85 + 170 per tile of 512 px. The image is scaled to fit
2048 x 2048, then to a shortest side of 768, so it has at most 4 x 2 tiles. Models that count patches instead of tiles
use at most 1,536 tokens. Source: OpenAI's guide "Images and vision"."""


DOCUMENT_BYTES_PER_TOKEN = 30
"""Models read a PDF as the text and an image of each page. A typical page has at least 50 kB, which this divisor makes
1,700 tokens: the page's image by the formula above, and its text."""


@dataclass(slots=True)
class _Room:
    files: int
    bytes: int
    tokens: int
    shown: frozenset[str]

    def take(self, file: JsonObject) -> bool:
        size, tokens = file["size_bytes"], _tokens_of(file)
        if file["media_type"] not in self.shown or size > MAX_IMAGE_BYTES:
            return False
        if self.files < 1 or size > self.bytes or tokens > self.tokens:
            return False
        self.files -= 1
        self.bytes -= size
        self.tokens -= tokens
        return True


def with_images(
    newest_first: Sequence[ContextMessage], *, max_tokens: int, documents: bool = False
) -> list[ContextMessage]:
    """The messages with only the attachments to be sent, and with the attachments' tokens added.

    max_tokens: for all attachments together. documents: whether the model reads PDF files too.
    """
    room = _Room(MAX_IMAGES, MAX_REQUEST_BYTES, max_tokens, SEEN | {PDF} if documents else SEEN)
    seen: list[ContextMessage] = []
    for message in newest_first:
        if message.attachments:
            shown = [file for file in message.attachments if room.take(file)]
            message = message._replace(attachments=shown, tokens=message.tokens + sum(map(_tokens_of, shown)))
        seen.append(message)
    return seen


def _tokens_of(file: JsonObject) -> int:
    if file["media_type"] == PDF:
        return max(IMAGE_TOKENS, int(file["size_bytes"]) // DOCUMENT_BYTES_PER_TOKEN)
    return IMAGE_TOKENS
