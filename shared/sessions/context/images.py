"""Which images and documents of a conversation a model is shown, and what they cost of its window.

Pure: nothing is read here. Invariant: a request carries no more of them, of their bytes or their tokens than the bounds
below, the newest first; what is not shown is still told of in the note that stands with its message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.sessions.files.stored_images import MAX_IMAGE_BYTES, PDF, SEEN
from shared.sessions.models import JsonObject
from shared.sessions.records.steps import ContextMessage

MAX_IMAGES = 10
"""Of one request; the least that the vision models of Azure OpenAI take."""

MAX_REQUEST_BYTES = 10 * 1024 * 1024
"""Of all files of one request, before base64: they are in memory while the model is called."""

IMAGE_TOKENS = 85 + 8 * 170
"""The most an image costs by OpenAI's tile formula (their guide "Images and vision"): 85, and 170 for each
tile of 512 px of the image scaled into 2048 x 2048 and then to a shortest side of 768: 4 x 2 tiles at most. Most cost
less; models that count patches instead of tiles take 1,536 at most."""


DOCUMENT_BYTES_PER_TOKEN = 30
"""A PDF is read as the text and an image of each page. Of usual ones a page has 50 kB at least, which this makes 1,700
tokens: a page's image by the formula above, and its text."""


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
    """The messages with only those attachments that are to be shown, and with their tokens.

    max_tokens: of all of them together; documents: the model reads PDF files, too.
    """
    room = _Room(MAX_IMAGES, MAX_REQUEST_BYTES, max_tokens, SEEN | {PDF} if documents else SEEN)
    seen: list[ContextMessage] = []
    for message in newest_first:
        if message.attachments:
            shown = [file for file in message.attachments if room.take(file)]
            message = message._replace(  # the same message, as the model sees it
                attachments=shown, tokens=message.tokens + sum(map(_tokens_of, shown))
            )
        seen.append(message)
    return seen


def _tokens_of(file: JsonObject) -> int:
    if file["media_type"] == PDF:
        return max(IMAGE_TOKENS, int(file["size_bytes"]) // DOCUMENT_BYTES_PER_TOKEN)
    return IMAGE_TOKENS
