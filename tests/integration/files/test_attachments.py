"""Attachments on real stores: what is kept, who may see it, and what every cut leaves behind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import BinaryIO

import pytest

from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.postgres.attachments import PostgresAttachments, PostgresLooseBlobs
from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.errors import ErrorCode, Gone, InvalidInput, InvalidState, NotFound, Transient
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.attachments import MAX_FILES, MAX_SESSION_BYTES, WRITE_TIME, AttachmentService, MadeBy
from shared.sessions.files.loose import LooseBlobs
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.models import AttachmentDetail, FileKind, SessionConfig, SessionStatus
from shared.sessions.records.pages import Page, decode_cursor
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, RecordingAudit, Stores, session_erasure, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def who(name: str) -> Principal:
    return Principal(name, frozenset({Role.USER}))


ANN = who(OWNER)
CSV = b"city,people\nBrno,400000\nPraha,1300000\n"


class Blobs(AzureBlobStore):
    """The real store, in which a test may let something happen just before or after the bytes are written."""

    before_put: Callable[[], Awaitable[object]] | None = None
    after_put: Callable[[], Awaitable[object]] | None = None

    async def put(self, name: str, file: BinaryIO, *, size_bytes: int, media_type: str) -> None:
        if self.before_put is not None:
            await self.before_put()
        await super().put(name, file, size_bytes=size_bytes, media_type=media_type)
        if self.after_put is not None:
            await self.after_put()


@pytest.fixture
async def blobs(storage_url: str) -> AsyncIterator[Blobs]:
    store = Blobs(connection_string=storage_url, endpoint=None)
    yield store
    await store.aclose()


@pytest.fixture
def service(stores: Stores, blobs: Blobs) -> AttachmentService:
    rows = PostgresAttachments(stores.pool)
    return AttachmentService(stores.sessions, rows, blobs, FileAnalyzer(), max_bytes=1_000_000)


@pytest.fixture
def loose(stores: Stores, blobs: Blobs) -> LooseBlobs:
    return LooseBlobs(PostgresLooseBlobs(stores.pool), blobs)


async def add(
    service: AttachmentService, session_id: str, content: bytes = CSV, name: str | None = "a.csv", *, user: str = OWNER
) -> AttachmentDetail:
    with service.spool() as spool:
        spool.write(content)
        return await service.add(session_id, who(user), spool, name)


async def blob_name(stores: Stores, attachment_id: str) -> str:
    return str(await stores.value(b"SELECT blob_name FROM attachments WHERE id = %(id)s", id=attachment_id))


async def loose_names(stores: Stores, session_id: str) -> set[str]:
    found = await stores.rows(b"SELECT blob_name FROM loose_blobs WHERE session_id = %(s)s", s=session_id)
    return {row["blob_name"] for row in found}


async def content_of(service: AttachmentService, attachment_id: str, user: str = OWNER) -> bytes:
    stored = await service.open(attachment_id, who(user))
    return b"".join([piece async for piece in stored.read()])


# What is kept. -----------------------------------------------------------------------------------


async def test_file_is_known_by_its_content_and_its_bytes_come_back(stores: Stores, service: AttachmentService) -> None:
    session = await stores.session()

    added = await add(service, session.id, name="../evil\u202efdp.pdf")

    assert (added.kind, added.media_type, added.name) == (FileKind.CSV, "text/csv", "evil fdp.pdf")
    assert (added.size_bytes, added.sha256) == (len(CSV), hashlib.sha256(CSV).hexdigest())
    assert (added.text, added.text_chars) == (CSV.decode(), len(CSV))
    assert added.facts["columns"]
    assert await service.get(added.id, ANN) == added
    assert await content_of(service, added.id) == CSV
    assert await loose_names(stores, session.id) == set()


async def test_unknown_kind_is_kept_with_a_warning(stores: Stores, service: AttachmentService) -> None:
    session = await stores.session()
    added = await add(service, session.id, b"\x00\x01\x02\xff" * 100, "data.bin")
    assert (added.kind, added.media_type, added.text) == (FileKind.BINARY, "application/octet-stream", None)
    assert added.warnings


async def test_what_a_file_says_is_storable_whatever_it_says(stores: Stores, service: AttachmentService) -> None:
    session = await stores.session()
    for content in (
        b'{"\\u0000": "\\ud800", "a\\u0000b": 1}',
        b"a\x1bb,c\nd,e\n",
        "a,\ufffe\n1,2\n".encode(),
        "\u202ex,y\n1,2\n".encode("utf-16"),
    ):
        added = await add(service, session.id, content)
        assert await service.get(added.id, ANN) == added


async def test_only_the_beginning_of_a_long_text_is_shown(stores: Stores, service: AttachmentService) -> None:
    session = await stores.session()
    added = await add(service, session.id, b"line of text\n" * 10_000, "long.txt")
    assert added.text_chars == 130_000
    shown = await service.get(added.id, ANN)
    assert shown.text is not None
    assert len(shown.text) == 20_000


async def test_bomb_empty_and_damaged_files_are_refused_and_nothing_is_kept(
    stores: Stores, service: AttachmentService
) -> None:
    session = await stores.session()
    for content, code in (
        (b"", ErrorCode.VALIDATION_ERROR),
        (b"%PDF-1.7\nnot really", ErrorCode.VALIDATION_ERROR),
        (b"x" * 1_000_001, ErrorCode.MESSAGE_TOO_LONG),
    ):
        with pytest.raises(InvalidInput) as refusal:
            await add(service, session.id, content)
        assert refusal.value.code is code
    assert await service.list_for(session.id, ANN, Page()) == ([], None)
    assert await loose_names(stores, session.id) == set()


async def test_list_is_in_order_page_by_page_and_without_texts(stores: Stores, service: AttachmentService) -> None:
    session = await stores.session()
    ids = [(await add(service, session.id, f"file {n}".encode())).id for n in range(5)]
    found: list[str] = []
    page = Page(limit=2)
    while True:
        items, cursor = await service.list_for(session.id, ANN, page)
        found += [item.id for item in items]
        assert not any(hasattr(item, "text") for item in items)
        if cursor is None:
            break
        page = Page(limit=2, after=decode_cursor(cursor, datetime))
    assert found == ids


# Who. --------------------------------------------------------------------------------------------


async def test_readers_read_writers_send_and_strangers_find_nothing(stores: Stores, service: AttachmentService) -> None:
    session = await stores.shared_session()
    added = await add(service, session.id, user=WRITER)
    assert added.created_by == WRITER
    for user in (OWNER, WRITER, READER):
        assert await service.get(added.id, who(user)) == added
        assert await content_of(service, added.id, user) == CSV
        assert len((await service.list_for(session.id, who(user), Page()))[0]) == 1
    for user in (READER, STRANGER):
        for refused in (service.admit(session.id, who(user)), add(service, session.id, user=user)):
            with pytest.raises(NotFound) as error:
                await refused
            assert error.value.code is ErrorCode.SESSION_NOT_FOUND
    for hidden in (service.get(added.id, who(STRANGER)), service.open(added.id, who(STRANGER))):
        with pytest.raises(NotFound) as error:
            await hidden
        assert error.value.code is ErrorCode.MESSAGE_NOT_FOUND
    with pytest.raises(NotFound):
        await service.list_for(session.id, who(STRANGER), Page())


async def test_session_that_ended_or_expired_takes_no_file(stores: Stores, service: AttachmentService) -> None:
    session = await stores.session()
    await stores.move(session.id, SessionStatus.ENDED)
    with pytest.raises(InvalidState):
        await service.admit(session.id, ANN)
    config = SessionConfig(expires_after_seconds=1)
    expired = await stores.session(config=config, created_at=utc_now() - timedelta(seconds=5))
    with pytest.raises(Gone):
        await service.admit(expired.id, ANN)


@pytest.mark.parametrize("limit", ["files", "bytes"])
async def test_full_session_takes_no_more_even_of_two_at_once(
    stores: Stores, service: AttachmentService, limit: str
) -> None:
    session = await stores.session()
    await add(service, session.id)
    copies, size = (MAX_FILES - 2, 1) if limit == "files" else (1, MAX_SESSION_BYTES - 2 * len(CSV))
    await stores.sql(
        b"INSERT INTO attachments SELECT (jsonb_populate_record(a, jsonb_build_object('id', a.id || n,"
        b" 'size_bytes', %(size)s::bigint))).* FROM attachments a, generate_series(1, %(copies)s) n"
        b" WHERE a.session_id = %(s)s",
        s=session.id,
        copies=copies,
        size=size,
    )
    ended = await asyncio.gather(add(service, session.id), add(service, session.id), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ended) == ["AttachmentDetail", "InvalidInput"]
    with pytest.raises(InvalidInput) as refusal:
        await (service.admit(session.id, ANN) if limit == "files" else add(service, session.id))
    assert refusal.value.code is ErrorCode.MESSAGE_TOO_LONG


# What is cut. ------------------------------------------------------------------------------------


class _Cut(Exception):
    """The process is killed here: nothing else of it runs."""


async def killed() -> None:
    raise _Cut


async def cut_upload(service: AttachmentService, blobs: Blobs, session_id: str, where: str) -> None:
    blobs.before_put, blobs.after_put = (killed, None) if where == "before the blob" else (None, killed)
    with pytest.raises(_Cut):
        await add(service, session_id)
    blobs.before_put = blobs.after_put = None


@pytest.mark.parametrize("where", ["before the blob", "between blob and row"])
async def test_upload_that_was_killed_leaves_nothing_once_its_time_is_over(
    stores: Stores,
    service: AttachmentService,
    loose: LooseBlobs,
    blobs: Blobs,
    where: str,
) -> None:
    session = await stores.session()
    await cut_upload(service, blobs, session.id, where)
    (name,) = await loose_names(stores, session.id)
    assert await blobs.exists(name) == (where == "between blob and row")
    assert await service.list_for(session.id, ANN, Page()) == ([], None)

    await loose.sweep(now=utc_now())
    assert await loose_names(stores, session.id) == {name}, "it may still be written"

    await loose.sweep(now=utc_now() + WRITE_TIME + timedelta(seconds=1))
    assert await loose_names(stores, session.id) == set()
    assert not await blobs.exists(name)


async def test_sweep_that_was_killed_is_done_again(
    stores: Stores,
    service: AttachmentService,
    loose: LooseBlobs,
    blobs: Blobs,
) -> None:
    session = await stores.session()
    await cut_upload(service, blobs, session.id, "between blob and row")
    (name,) = await loose_names(stores, session.id)
    later = utc_now() + WRITE_TIME + timedelta(seconds=1)
    claimed = await PostgresLooseBlobs(stores.pool).claim(now=later, limit=10)  # and killed
    assert [blob.blob_name for blob in claimed] == [name]

    assert await loose.sweep(now=later) == 1

    assert not await blobs.exists(name)
    assert await loose_names(stores, session.id) == set()


async def test_file_that_took_too_long_is_refused_and_not_stored_without_its_bytes(
    stores: Stores, service: AttachmentService, loose: LooseBlobs, blobs: Blobs
) -> None:
    session = await stores.session()
    blobs.after_put = lambda: loose.sweep(now=utc_now() + WRITE_TIME + timedelta(seconds=1))
    with pytest.raises(Transient):
        await add(service, session.id)
    assert await service.list_for(session.id, ANN, Page()) == ([], None)


async def test_file_that_is_refused_after_it_was_written_may_go_at_once(
    stores: Stores,
    service: AttachmentService,
    loose: LooseBlobs,
    blobs: Blobs,
) -> None:
    session = await stores.shared_session()
    blobs.after_put = lambda: PostgresLifecycle(stores.pool).remove_participant(
        session.id, WRITER, OWNER, now=utc_now()
    )
    with pytest.raises(NotFound):
        await add(service, session.id, user=WRITER)
    (name,) = await loose_names(stores, session.id)
    assert await loose.sweep(now=utc_now()) == 1
    assert not await blobs.exists(name)


# Erasure. ----------------------------------------------------------------------------------------


@pytest.fixture
def erasing(
    stores: Stores, publisher: SessionEventPublisher, audit: RecordingAudit, loose: LooseBlobs
) -> SessionErasure:
    return session_erasure(stores, publisher, [loose])


async def erase(erasing: SessionErasure, session_id: str) -> bool:
    """Whether every store has forgotten it."""
    await erasing.mark(session_id, ANN, if_match=None)
    found = await erasing.erase_stores(session_id)
    assert found is not None
    return found[1]


async def test_erasing_a_session_erases_its_bytes(
    stores: Stores, service: AttachmentService, blobs: Blobs, erasing: SessionErasure
) -> None:
    session, other = await stores.session(), await stores.session()
    names = [await blob_name(stores, (await add(service, session.id)).id) for _ in range(3)]
    kept = await add(service, other.id)

    assert await erase(erasing, session.id)

    assert [await blobs.exists(name) for name in names] == [False] * 3
    assert await loose_names(stores, session.id) == set()
    assert await content_of(service, kept.id) == CSV


async def copy_files(stores: Stores, session_id: str) -> str:
    """A session copied from another: rows of its own, ids and blobs of the first."""
    copied = await stores.session()
    await stores.sql(
        b"INSERT INTO attachments SELECT (jsonb_populate_record(a, jsonb_build_object('session_id', %(to)s::text))).*"
        b" FROM attachments a WHERE session_id = %(s)s",
        s=session_id,
        to=copied.id,
    )
    return copied.id


async def test_bytes_that_a_copied_session_shares_stay_until_both_are_erased(
    stores: Stores, service: AttachmentService, blobs: Blobs, erasing: SessionErasure
) -> None:
    session = await stores.session()
    added = await add(service, session.id)
    name = await blob_name(stores, added.id)
    copy_id = await copy_files(stores, session.id)

    assert await erase(erasing, session.id)
    assert await content_of(service, added.id) == CSV
    assert (await service.get(added.id, ANN)).session_id == copy_id

    assert await erase(erasing, copy_id)
    assert not await blobs.exists(name)
    assert await loose_names(stores, session.id) == set()


async def test_sessions_that_share_bytes_and_are_erased_at_once_leave_none(
    stores: Stores, service: AttachmentService, blobs: Blobs, erasing: SessionErasure
) -> None:
    for _ in range(5):
        session = await stores.session()
        name = await blob_name(stores, (await add(service, session.id)).id)
        copy_id = await copy_files(stores, session.id)
        assert await asyncio.gather(erase(erasing, session.id), erase(erasing, copy_id)) == [True, True]
        assert not await blobs.exists(name)


async def test_erasure_waits_for_a_file_that_was_on_its_way(
    stores: Stores,
    service: AttachmentService,
    loose: LooseBlobs,
    blobs: Blobs,
    erasing: SessionErasure,
) -> None:
    session = await stores.session()
    await cut_upload(service, blobs, session.id, "between blob and row")
    (name,) = await loose_names(stores, session.id)

    assert not await erase(erasing, session.id), "it is not said to be erased while bytes of it may be left"

    await loose.sweep(now=utc_now() + WRITE_TIME + timedelta(seconds=1))
    found = await erasing.erase_stores(session.id)
    assert found is not None
    assert found[1]
    assert not await blobs.exists(name)


async def test_file_that_arrives_after_its_session_went_is_refused_and_its_bytes_go(
    stores: Stores,
    service: AttachmentService,
    blobs: Blobs,
    erasing: SessionErasure,
) -> None:
    session = await stores.session()
    blobs.after_put = lambda: erase(erasing, session.id)
    with pytest.raises(NotFound):
        await add(service, session.id)
    blobs.after_put = None
    found = await erasing.erase_stores(session.id)
    assert found is not None
    assert found[1], "the upload has given its bytes free"
    assert await loose_names(stores, session.id) == set()
    with pytest.raises(NotFound):
        await add(service, session.id)


async def test_storage_that_is_away_keeps_the_erasure_open(
    stores: Stores, service: AttachmentService, publisher: SessionEventPublisher
) -> None:
    session = await stores.session()
    await add(service, session.id)
    away = AzureBlobStore(connection_string=None, endpoint=None)
    stranded = LooseBlobs(PostgresLooseBlobs(stores.pool), away)
    erasing = session_erasure(stores, publisher, [stranded])
    assert not await erase(erasing, session.id)
    assert len(await loose_names(stores, session.id)) == 1


# Tool calls. -------------------------------------------------------------------------------------


async def test_tool_call_that_is_repeated_finds_the_file_it_made(
    stores: Stores, service: AttachmentService, loose: LooseBlobs
) -> None:
    session = await stores.session()
    call_id = new_id()

    async def made() -> str:
        with service.spool() as spool:
            spool.write(b"made")
            return (await service.keep(session.id, OWNER, spool, "m.txt", made_by=MadeBy(call_id))).attachment.id

    first = await made()
    assert await asyncio.gather(made(), made()) == [first, first]
    assert len((await service.list_for(session.id, ANN, Page()))[0]) == 1
    await loose.sweep(now=utc_now() + WRITE_TIME + timedelta(seconds=1))
    assert await content_of(service, first) == b"made"
    assert await loose_names(stores, session.id) == set()
