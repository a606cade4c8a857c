"""An attachment as a store row."""

from __future__ import annotations

from dataclasses import dataclass

from shared.sessions.models import (
    Attachment,
)


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """An attachment as a store row. text: the requested part of its text; None if its kind has no text."""

    attachment: Attachment
    blob_name: str
    text: str | None
