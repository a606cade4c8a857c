"""The port of the file store. Azure Blob Storage implements it in `shared/adapters/azure/blobs.py`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import BinaryIO, Protocol


class BlobStore(Protocol):
    """Stores bytes by name and streams them. Every method raises Transient while the store is unavailable."""

    async def put(self, name: str, file: BinaryIO, *, size_bytes: int, media_type: str) -> None:
        """Store the file from its beginning; replaces an existing blob of that name."""
        ...

    def open(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes from `start`, at most `length`, in pieces. Raises NotFound when there is no such blob."""
        ...

    async def delete(self, name: str) -> None:
        """Idempotent: no error when the blob does not exist."""
        ...

    async def exists(self, name: str) -> bool: ...
