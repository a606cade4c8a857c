"""An attachment as a store row."""

from __future__ import annotations

from dataclasses import dataclass

from shared.sessions.models import (
    Attachment,
)


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """An attachment as a store row. text: as much of it as was asked for; None if its kind holds none."""

    attachment: Attachment
    blob_name: str
    text: str | None
