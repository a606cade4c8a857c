"""Pictures for models that see, read from the store. Implements `ImageReader`."""

from __future__ import annotations

from shared.errors import NotFound
from shared.sessions.files.blobs import BlobStore
from shared.sessions.llm import Picture
from shared.sessions.repository import AttachmentReader

MAX_PICTURE_BYTES = 5 * 1024 * 1024
"""What hosted models commonly take of one picture; it travels as base64 within the request."""

SEEN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


class StoredPictures:
    """Reads whole pictures, which is why they are bounded far below what may be stored."""

    def __init__(self, rows: AttachmentReader, blobs: BlobStore) -> None:
        self._rows = rows
        self._blobs = blobs

    async def read(self, session_id: str, attachment_id: str) -> Picture | None:
        """Raises Transient."""
        record = (await self._rows.some(session_id, [attachment_id], max_chars=0)).get(attachment_id)
        if record is None or record.attachment.media_type not in SEEN:
            return None
        if record.attachment.size_bytes > MAX_PICTURE_BYTES:
            return None
        try:
            data = b"".join([piece async for piece in self._blobs.open(record.blob_name)])
        except NotFound:
            return None
        return Picture(record.attachment.media_type, data)
