"""LooseBlobs: deletes blobs that no attachment refers to.

Invariant: a blob is deleted only after its record was claimed, and only if no row refers to it at that moment; after
the claim no row can be stored for it. The record is deleted after the blob, so that an interrupted deletion is retried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import ErrorCode, Transient
from shared.sessions.files.blobs import BlobStore

_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class LooseBlob:
    """A claimed record. is_used: a row of a session that was copied from this one still refers to the blob."""

    blob_name: str
    session_id: str
    is_used: bool


class LooseBlobRepository(Protocol):
    async def claim(self, *, now: datetime, limit: int, session_id: str | None = None) -> list[LooseBlob]:
        """Claim due records, of one session or of all."""
        ...

    async def forget(self, blobs: Sequence[LooseBlob]) -> None: ...

    async def remain(self, session_id: str) -> bool:
        """Whether any record of the session is left."""
        ...


class LooseBlobs:
    """An `ErasableStore` for the files of an erased session, and the sweep of interrupted uploads."""

    def __init__(self, rows: LooseBlobRepository, blobs: BlobStore) -> None:
        self._rows = rows
        self._blobs = blobs

    async def erase(self, session_id: str) -> None:
        """Delete the blobs of a session whose rows are deleted. Raises Transient while some cannot be deleted yet."""
        while await self._delete(await self._rows.claim(now=datetime.now(UTC), limit=_AT_ONCE, session_id=session_id)):
            pass
        if await self._rows.remain(session_id):
            # An upload was running when the session was deleted. It will find no session, or it was interrupted.
            raise Transient(ErrorCode.DATABASE_ERROR, "A file of the session is still being written.")

    async def sweep(self, *, now: datetime) -> int:
        """Delete one batch of due blobs; returns the number of records processed. Raises Transient."""
        return await self._delete(await self._rows.claim(now=now, limit=_AT_ONCE))

    async def _delete(self, found: Sequence[LooseBlob]) -> int:
        for blob in found:
            if not blob.is_used:
                await self._blobs.delete(blob.blob_name)
        await self._rows.forget(found)
        return len(found)
