"""LooseBlobs: deletes the bytes that no attachment refers to.

Invariant: a blob is deleted only after its record was claimed, and only if no row names it at that moment; from then on
no row can be stored for it. A record goes after its blob, so that what is cut is done again.
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
    """A claimed record. is_used: a row names the blob all the same, of a session that was copied from this one."""

    blob_name: str
    session_id: str
    is_used: bool


class LooseBlobRepository(Protocol):
    async def claim(self, *, now: datetime, limit: int, session_id: str | None = None) -> list[LooseBlob]:
        """Records whose time has come, of one session or of all."""
        ...

    async def forget(self, blobs: Sequence[LooseBlob]) -> None: ...

    async def remain(self, session_id: str) -> bool:
        """Whether there is still a record of the session."""
        ...


class LooseBlobs:
    """An `ErasableStore`: what is left of an erased session's files; and the sweep of what was cut."""

    def __init__(self, rows: LooseBlobRepository, blobs: BlobStore) -> None:
        self._rows = rows
        self._blobs = blobs

    async def erase(self, session_id: str) -> None:
        """Delete the bytes of a session whose rows are gone. Raises Transient while some cannot be deleted yet."""
        while await self._delete(await self._rows.claim(now=datetime.now(UTC), limit=_AT_ONCE, session_id=session_id)):
            pass
        if await self._rows.remain(session_id):
            # A file was on its way when the session went; whoever brings it finds no session, or was cut.
            raise Transient(ErrorCode.DATABASE_ERROR, "A file of the session is still being written.")

    async def sweep(self, *, now: datetime) -> int:
        """Delete what is due, some of it; returns how many records were dealt with. Raises Transient."""
        return await self._delete(await self._rows.claim(now=now, limit=_AT_ONCE))

    async def _delete(self, found: Sequence[LooseBlob]) -> int:
        for blob in found:
            if not blob.is_used:
                await self._blobs.delete(blob.blob_name)
        await self._rows.forget(found)
        return len(found)
