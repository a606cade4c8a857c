"""Where the bytes of files are kept. Azure Blob Storage implements it in `shared/adapters/azure/blobs.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import BinaryIO, Protocol


class BlobStore(Protocol):
    """Bytes by name, moved in pieces. Every method raises Transient while the store is away."""

    async def put(self, name: str, file: BinaryIO, *, size_bytes: int, media_type: str) -> None:
        """Store the file, from its beginning, in place of what the name held."""
        ...

    def open(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes from `start`, at most `length`, in pieces. Raises NotFound when there is no such blob."""
        ...

    async def delete(self, name: str) -> None:
        """Harmless when there is none."""
        ...

    async def exists(self, name: str) -> bool: ...
