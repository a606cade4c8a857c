"""Images and PDF files for models that see, read from the store. Implements `ImageReader`."""

from __future__ import annotations

from shared.errors import NotFound
from shared.sessions.files.blobs import BlobStore
from shared.sessions.llm.conversation import ModelImage
from shared.sessions.repository import AttachmentReader

MAX_IMAGE_BYTES = 5 * 1024 * 1024
"""Common size limit of one image for hosted models; it is sent as base64 in the request."""

SEEN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
PDF = "application/pdf"


class StoredImages:
    """Reads whole files into memory, so its size limit is far below that of stored files."""

    def __init__(self, rows: AttachmentReader, blobs: BlobStore) -> None:
        self._rows = rows
        self._blobs = blobs

    async def read(self, session_id: str, attachment_id: str) -> ModelImage | None:
        """Raises Transient."""
        record = (await self._rows.some(session_id, [attachment_id], max_chars=0)).get(attachment_id)
        if record is None or record.attachment.media_type not in SEEN | {PDF}:
            return None
        if record.attachment.size_bytes > MAX_IMAGE_BYTES:
            return None
        try:
            data = b"".join([piece async for piece in self._blobs.open(record.blob_name)])
        except NotFound:
            return None
        return ModelImage(record.attachment.media_type, data, record.attachment.name)
