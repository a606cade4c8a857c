"""Which images of a conversation a model is shown, and what they cost of its window. Pure: nothing is read here.

Invariant: a request carries no more images, bytes or tokens of them than the bounds below, the newest first; what is
not shown is still told of in the note that stands with its message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.sessions.files.stored_images import MAX_IMAGE_BYTES, SEEN
from shared.sessions.models import JsonObject
from shared.sessions.records import ContextMessage

MAX_IMAGES = 10
"""Of one request; the least that the vision models of Azure OpenAI take."""

MAX_REQUEST_BYTES = 10 * 1024 * 1024
"""Of all images of one request, before base64: they are in memory while the model is called."""

IMAGE_TOKENS = 85 + 8 * 170
"""The most an image costs by OpenAI's tile formula (their guide "Images and vision"): 85, and 170 for each
tile of 512 px of the image scaled into 2048 x 2048 and then to a shortest side of 768: 4 x 2 tiles at most. Most cost
less; models that count patches instead of tiles take 1,536 at most."""


@dataclass(slots=True)
class _Room:
    images: int
    bytes: int

    def take(self, file: JsonObject) -> bool:
        size = file["size_bytes"]
        if file["media_type"] not in SEEN or size > MAX_IMAGE_BYTES or self.images < 1 or size > self.bytes:
            return False
        self.images -= 1
        self.bytes -= size
        return True


def with_images(newest_first: Sequence[ContextMessage], *, max_tokens: int) -> list[ContextMessage]:
    """The messages with only those attachments that are images to be shown, and with their tokens.

    max_tokens: of all images together.
    """
    room = _Room(min(MAX_IMAGES, max_tokens // IMAGE_TOKENS), MAX_REQUEST_BYTES)
    seen: list[ContextMessage] = []
    for message in newest_first:
        if message.attachments:
            shown = [file for file in message.attachments if room.take(file)]
            message = message._replace(  # the same message, as the model sees it
                attachments=shown, tokens=message.tokens + len(shown) * IMAGE_TOKENS
            )
        seen.append(message)
    return seen
