"""Files in Azure Blob Storage: one container, one blob per file. Implements `BlobStore`.

Invariant: never more than one piece of a file is in memory, in either direction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from shared.adapters.azure.entra import credential
from shared.errors import ErrorCode, NotFound, Transient

if TYPE_CHECKING:
    from azure.storage.blob.aio import ContainerClient

CONTAINER = "parleyfiles"

PIECE_BYTES = 1024 * 1024
"""Small enough for many concurrent transfers; a request to the store takes about ten milliseconds."""

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 20
_RETRIES = 2


class AzureBlobStore:
    """`BlobStore` over one container, which is made on first use."""

    def __init__(self, *, connection_string: str | None, endpoint: str | None, container: str = CONTAINER) -> None:
        """endpoint: for access with a managed identity, instead of the connection string."""
        self._connection_string = connection_string
        self._endpoint = endpoint
        self._name = container
        self._container: ContainerClient | None = None
        self._opening = asyncio.Lock()

    async def put(self, name: str, file: BinaryIO, *, size_bytes: int, media_type: str) -> None:
        """Raises Transient."""
        from azure.storage.blob import ContentSettings

        with _storage_errors():
            container = self._container or await self._open()
            file.seek(0)
            await container.upload_blob(
                name,
                file,
                length=size_bytes,
                overwrite=True,
                max_concurrency=1,
                content_settings=ContentSettings(content_type=media_type),
            )

    async def open(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes]:
        """Raises NotFound, Transient."""
        with _storage_errors():
            container = self._container or await self._open()
            download = await container.download_blob(name, offset=start, length=length, max_concurrency=1)
            async for piece in download.chunks():
                yield piece

    async def delete(self, name: str) -> None:
        """Raises Transient."""
        with suppress(NotFound), _storage_errors():
            container = self._container or await self._open()
            await container.delete_blob(name)

    async def exists(self, name: str) -> bool:
        """Raises Transient."""
        with _storage_errors():
            container = self._container or await self._open()
            return await container.get_blob_client(name).exists()

    async def ping(self) -> None:
        """Raises Transient or NotFound when the container cannot be read."""
        with _storage_errors():
            container = self._container or await self._open()
            await container.get_container_properties()

    async def _open(self) -> ContainerClient:
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.blob.aio import ContainerClient, LinearRetry

        # Transfers are split into pieces. By default the driver buffers 64 MB and retries for a minute.
        options: dict[str, Any] = {
            "max_single_put_size": PIECE_BYTES,
            "max_block_size": PIECE_BYTES,
            "max_single_get_size": PIECE_BYTES,
            "max_chunk_get_size": PIECE_BYTES,
            "connection_timeout": _CONNECT_TIMEOUT_S,
            "read_timeout": _READ_TIMEOUT_S,
            "retry_policy": LinearRetry(backoff=1, retry_total=_RETRIES, random_jitter_range=1),
        }
        async with self._opening:
            if self._container is None:
                if self._endpoint:
                    container = ContainerClient(self._endpoint, self._name, credential=credential(), **options)
                else:
                    container = ContainerClient.from_connection_string(
                        self._connection_string or "", self._name, **options
                    )
                try:
                    with suppress(ResourceExistsError):
                        await container.create_container()
                except BaseException:
                    await container.close()
                    raise
                self._container = container
            return self._container

    async def aclose(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            await container.close()


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Translate the driver's errors: NotFound for a missing blob, Transient for all others."""
    from azure.core.exceptions import AzureError, ResourceNotFoundError

    try:
        yield
    except ResourceNotFoundError as exc:
        raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "The content of this file no longer exists.") from exc
    except (AzureError, TimeoutError, ValueError) as exc:
        # ValueError: an invalid connection string, which has the same effect as no storage.
        raise Transient(ErrorCode.DATABASE_ERROR, "The file store cannot be reached at the moment.") from exc
