"""AzureBlobStore on a real Azurite, and with storage away."""

from __future__ import annotations

import asyncio
import io
import tempfile
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from shared.adapters.azure.blobs import PIECE_BYTES, AzureBlobStore
from shared.errors import NotFound, Transient
from shared.ids import new_id

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
async def blobs(storage_url: str) -> AsyncIterator[AzureBlobStore]:
    store = AzureBlobStore(connection_string=storage_url, endpoint=None)
    yield store
    await store.aclose()


async def read(blobs: AzureBlobStore, name: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in blobs.open(name, start=start, length=length)])


async def test_bytes_come_back_whole_and_in_part(blobs: AzureBlobStore) -> None:
    name, content = f"s/{new_id()}", bytes(range(256)) * (PIECE_BYTES // 100)  # two pieces and some more
    assert not await blobs.exists(name)

    await blobs.put(name, io.BytesIO(content), size_bytes=len(content), media_type="text/plain")

    assert await blobs.exists(name)
    assert await read(blobs, name) == content
    assert await read(blobs, name, 1000, 20) == content[1000:1020]
    assert await read(blobs, name, len(content) - 5) == content[-5:]


async def test_name_holds_what_was_put_last(blobs: AzureBlobStore) -> None:
    name = f"s/{new_id()}"
    for content in (b"first and longer", b"second"):
        await blobs.put(name, io.BytesIO(content), size_bytes=len(content), media_type="text/plain")
    assert await read(blobs, name) == b"second"


async def test_deleting_is_harmless_when_there_is_nothing(blobs: AzureBlobStore) -> None:
    name = f"s/{new_id()}"
    await blobs.put(name, io.BytesIO(b"x"), size_bytes=1, media_type="text/plain")
    for _ in range(2):
        await blobs.delete(name)
    assert not await blobs.exists(name)
    with pytest.raises(NotFound):
        await read(blobs, name)


async def test_several_first_users_make_one_container(storage_url: str, unique_name: str) -> None:
    stores = [AzureBlobStore(connection_string=storage_url, endpoint=None, container=unique_name) for _ in range(3)]
    names = [new_id() for _ in range(6)]
    await asyncio.gather(
        *(
            stores[i % 3].put(name, io.BytesIO(b"x"), size_bytes=1, media_type="text/plain")
            for i, name in enumerate(names)
        )
    )
    assert [await stores[0].exists(name) for name in names] == [True] * 6
    for store in stores:
        await store.aclose()


async def test_large_file_is_never_whole_in_memory(blobs: AzureBlobStore) -> None:
    size, name = 20 * PIECE_BYTES, f"s/{new_id()}"
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        await blobs.exists(name)  # whatever the driver imports
        tracemalloc.start()
        try:
            await blobs.put(name, file, size_bytes=size, media_type="application/octet-stream")
            received = sum([len(piece) async for piece in blobs.open(name)])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert received == size
    assert peak < 8 * PIECE_BYTES
    await blobs.delete(name)


@pytest.mark.parametrize("storage", ["refuses", "unset", "malformed"])
async def test_storage_that_is_away_is_an_error_that_may_pass(storage: str) -> None:
    account = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=bm90IGEgcmVhbCBrZXk=;"
    urls = {"refuses": f"{account}BlobEndpoint=http://127.0.0.1:1/a;", "unset": None, "malformed": "nonsense"}
    store = AzureBlobStore(connection_string=urls[storage], endpoint=None)
    attempts = {
        "put": lambda: store.put("s/x", io.BytesIO(b"x"), size_bytes=1, media_type="text/plain"),
        "exists": lambda: store.exists("s/x"),
        "delete": lambda: store.delete("s/x"),
        "read": lambda: read(store, "s/x"),
    }
    for name, attempt in attempts.items():
        if storage == "refuses" and name != "read":
            continue  # each takes its retries' time
        with pytest.raises(Transient) as error:
            await attempt()
        assert "bm90" not in error.value.safe_message
    await store.aclose()
