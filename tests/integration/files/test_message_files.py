"""Files of a message and files of tools, on real stores: what is linked, what the model reads, what is made once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import orjson
import pytest

from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.postgres.attachments import PostgresAttachments
from shared.errors import AppError, ErrorCode, InvalidInput, ToolFailed
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.context.window import estimate_tokens, to_conversation
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.attachments import AttachmentService
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.stored_images import StoredImages
from shared.sessions.history.export import LAYOUTS
from shared.sessions.llm.conversation import ModelImage, UserSaid
from shared.sessions.models import FileKind, NewMessage, SessionConfig, TurnStatus
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import StepStart
from shared.sessions.service import SessionService
from shared.sessions.tools.base import ToolContext, ToolFile, ToolOutput, validate_arguments
from shared.sessions.tools.builtin.generate_file import generate_file
from shared.sessions.tools.builtin.read_attachment import read_attachment
from shared.sessions.tools.files import ToolFiles, with_files
from shared.sessions.tools.services import ToolServices
from shared.work_pool import WorkPool
from tests.integration.domain import OWNER, STRANGER, Stores, envelopes
from tests.unit.files.documents import png

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ANN = Principal(OWNER, frozenset({Role.USER}))
CSV = b"city,people\nBrno,400000\nPraha,1300000\n"


@pytest.fixture
async def blobs(storage_url: str) -> AsyncIterator[AzureBlobStore]:
    store = AzureBlobStore(connection_string=storage_url, endpoint=None)
    yield store
    await store.aclose()


@pytest.fixture
def rows(stores: Stores) -> PostgresAttachments:
    return PostgresAttachments(stores.pool)


@pytest.fixture
def attachments(stores: Stores, rows: PostgresAttachments, blobs: AzureBlobStore) -> AttachmentService:
    return AttachmentService(stores.sessions, rows, blobs, FileAnalyzer(), max_bytes=1_000_000)


async def send(attachments: AttachmentService, session_id: str, content: bytes = CSV, name: str = "a.csv") -> str:
    with attachments.spool() as spool:
        spool.write(content)
        return (await attachments.add(session_id, ANN, spool, name)).id


# Messages. ---------------------------------------------------------------------------------------


async def test_message_shows_its_files_in_order_and_the_model_reads_them(
    stores: Stores, service: SessionService, attachments: AttachmentService
) -> None:
    session = await stores.session()
    first, second = await send(attachments, session.id), await send(attachments, session.id, b"plain words", "b.txt")
    body = NewMessage(content="compare them", attachment_ids=[second, first, second])

    posted = await service.post_message(session.id, body, ANN, idempotency_key=None)

    shown = posted.result.message.attachments
    assert [(item.id, item.name, item.kind) for item in shown] == [
        (second, "b.txt", FileKind.TEXT),
        (first, "a.csv", FileKind.CSV),
    ]
    ((_, stored),) = await stores.turns.list_messages(session.id, MessageFilter(), Page())
    assert stored.attachments == shown
    assert (await stores.turns.get_message(session.id, stored.id)).attachments == shown
    told = [event for event in envelopes(posted.messages) if event["type"] == "message.created"]
    assert [item["id"] for item in told[0]["data"]["attachments"]] == [second, first]

    start = await stores.started(posted.result.turn.id)
    (user,) = start.context
    (said,) = to_conversation(start.context)
    assert isinstance(said, UserSaid)
    (note,) = said.before
    assert (said.text, said.images) == ("compare them", ())
    entries = orjson.loads(note.split("\n")[1])["attachments"]
    assert [(entry["id"], entry["untrusted_text"]) for entry in entries] == [
        (second, "plain words"),
        (first, CSV.decode()),
    ]
    assert user.tokens == estimate_tokens("compare them") + estimate_tokens(note)
    assert [item["id"] for item in user.attachments or []] == [second, first]


async def test_files_that_are_not_the_sessions_are_refused_and_nothing_is_stored(
    stores: Stores, service: SessionService, attachments: AttachmentService
) -> None:
    session, other = await stores.session(), await stores.session()
    mine, elsewhere = await send(attachments, session.id), await send(attachments, other.id)
    for ids in ([elsewhere], [mine, elsewhere], [new_id()], ["no id\x00"], ["x" * 65], ["\ud800"]):
        with pytest.raises(InvalidInput) as refusal:
            await service.post_message(
                session.id, NewMessage(content="x", attachment_ids=ids), ANN, idempotency_key=None
            )
        assert refusal.value.code is ErrorCode.INVALID_MESSAGE
        assert refusal.value.errors[0]["field"] == "attachment_ids"
    assert await stores.turns.list_messages(session.id, MessageFilter(), Page()) == []


@pytest.mark.parametrize("idempotency_key", [None, "key"])
async def test_files_come_along_when_the_message_waits_its_turn(
    stores: Stores, service: SessionService, attachments: AttachmentService, idempotency_key: str | None
) -> None:
    session = await stores.session()
    file = await send(attachments, session.id)
    first = await stores.post(session.id)
    body = NewMessage(content="and this", attachment_ids=[file], concurrency="enqueue")

    posted = [
        await service.post_message(session.id, body, ANN, idempotency_key=idempotency_key)
        for _ in range(2 if idempotency_key else 1)
    ]

    assert all([item.id for item in one.result.message.attachments] == [file] for one in posted)
    assert len({one.result.turn.id for one in posted}) == 1
    await stores.answer(first.turn.id)
    await stores.finish(first.turn.id, TurnStatus.COMPLETED)
    start: StepStart = await stores.started(posted[0].result.turn.id)
    assert start.context[0].note is not None


async def test_text_gives_way_to_a_small_window_and_too_many_files_do_not_fit_it(
    stores: Stores, service: SessionService, attachments: AttachmentService
) -> None:
    session = await stores.session(config=SessionConfig(max_context_tokens=600))
    large = await send(attachments, session.id, b"word " * 20_000, "large.txt")
    posted = await service.post_message(
        session.id, NewMessage(content="short", attachment_ids=[large]), ANN, idempotency_key=None
    )
    (user,) = (await stores.started(posted.result.turn.id)).context
    assert user.tokens <= 600
    assert '"more_chars"' in (user.note or "")

    tiny = await stores.session(config=SessionConfig(max_context_tokens=256))
    many = [await send(attachments, tiny.id, b"x", f"{n}.txt") for n in range(6)]
    with pytest.raises(InvalidInput) as refusal:
        await service.post_message(tiny.id, NewMessage(content="x", attachment_ids=many), ANN, idempotency_key=None)
    assert refusal.value.code is ErrorCode.MESSAGE_TOO_LONG


async def test_images_are_read_for_models_that_see_and_nothing_else_is(
    stores: Stores, rows: PostgresAttachments, attachments: AttachmentService, blobs: AzureBlobStore
) -> None:
    session, other = await stores.session(), await stores.session()
    content = png(4, 3).getvalue()
    image, table = await send(attachments, session.id, content, "p.png"), await send(attachments, session.id)
    reader = StoredImages(rows, blobs)
    assert await reader.read(session.id, image) == ModelImage("image/png", content, "p.png")
    assert await reader.read(session.id, table) is None
    assert await reader.read(other.id, image) is None
    large = await send(attachments, session.id, content, "large.png")
    await stores.sql(b"UPDATE attachments SET size_bytes = 6000000 WHERE id = %(id)s", id=large)
    assert await reader.read(session.id, large) is None
    await blobs.delete(f"{session.id}/{image}")
    assert await reader.read(session.id, image) is None


# Tools. ------------------------------------------------------------------------------------------


@pytest.fixture
def files(rows: PostgresAttachments, attachments: AttachmentService) -> ToolFiles:
    return ToolFiles(rows, attachments, FileGenerator(), WorkPool("files", LAYOUTS))


def context(files: ToolFiles, session_id: str, call_id: str = "call-1", user: str = OWNER) -> ToolContext:
    return ToolContext(call_id, session_id, "turn-1", user, datetime.now(UTC), ToolServices(files=files))


async def read(files: ToolFiles, session_id: str, **arguments: object) -> ToolOutput:
    return await read_attachment.run(validate_arguments(read_attachment, arguments), context(files, session_id))


async def test_attachment_is_read_page_by_page_to_its_end(
    stores: Stores, files: ToolFiles, attachments: AttachmentService
) -> None:
    session = await stores.session()
    text = "".join(f"line {n} ž😀\n" for n in range(3_000))
    file = await send(attachments, session.id, text.encode(), "long.txt")
    pieces, start = [], 0
    while start is not None:
        page = await read(files, session.id, attachment_id=file, start=start, max_chars=20_000)
        assert isinstance(page.data, dict)
        pieces.append(page.content.split("\n\n", 1)[1])
        start = page.data["next_start"]
    assert "".join(pieces) == text
    beyond = await read(files, session.id, attachment_id=file, start=1_000_000)
    assert "none from 1000000 on" in beyond.content


async def test_attachment_of_another_session_is_not_there(
    stores: Stores, files: ToolFiles, attachments: AttachmentService
) -> None:
    session, other = await stores.session(), await stores.session()
    file = await send(attachments, other.id)
    for attachment_id in (file, new_id(), "x"):
        with pytest.raises(ToolFailed):
            await read(files, session.id, attachment_id=attachment_id)


async def test_image_is_described_without_text(
    stores: Stores, files: ToolFiles, attachments: AttachmentService
) -> None:
    session = await stores.session()
    file = await send(attachments, session.id, png(4, 3).getvalue(), "p.png")
    output = await read(files, session.id, attachment_id=file)
    assert '"width": 4' in output.content
    assert "No text can be read out of it." in output.content


@pytest.mark.parametrize(
    ("file_format", "content", "kind", "text"),
    [
        ("json", '{"a": [1, 2]}', FileKind.JSON, '"a"'),
        ("md", "# Head\n\n- a\n- b\n\n```\ncode\n```\n\n[x](y) **z**", FileKind.MARKDOWN, "# Head"),
        ("html", "# Head", FileKind.TEXT, ">Head</h1>"),
        ("csv", "a,b\n1,=2+3", FileKind.CSV, "'=2+3"),
        ("csv", "| a | b |\n| --- | --- |\n| 1 | 2 |", FileKind.CSV, "1,2"),
        ("pdf", "# Head\n\n- item ž", FileKind.PDF, "item ž"),
        ("docx", "# Head\n\n**bold**", FileKind.DOCX, "bold"),
    ],
)
async def test_file_is_made_in_each_format_and_kept_with_the_session(
    stores: Stores,
    files: ToolFiles,
    attachments: AttachmentService,
    file_format: str,
    content: str,
    kind: FileKind,
    text: str,
) -> None:
    session = await stores.session()
    arguments = validate_arguments(generate_file, {"format": file_format, "content": content, "name": "../my report"})
    output = await generate_file.run(arguments, context(files, session.id))
    assert isinstance(output.data, dict)
    made = output.data["attachment"]
    assert isinstance(made, dict)
    assert made["name"] == f"my report.{file_format}"
    kept = await attachments.get(str(made["id"]), ANN)
    assert kept.kind is kind
    assert text in (kept.text or "")
    assert kept.media_type == made["media_type"]


async def test_call_that_is_run_again_makes_no_second_file(
    stores: Stores, files: ToolFiles, attachments: AttachmentService
) -> None:
    session = await stores.session()
    arguments = validate_arguments(generate_file, {"format": "md", "content": "once"})

    async def run(call_id: str) -> object:
        return (await generate_file.run(arguments, context(files, session.id, call_id))).data

    first = await run("call-a")
    assert [await run("call-a"), *await asyncio.gather(run("call-a"), run("call-a"))] == [first] * 3
    assert await run("call-b") != first
    assert len((await attachments.list_for(session.id, ANN, Page()))[0]) == 2


def returned(*files: ToolFile, data: Any = None) -> ToolOutput:
    return ToolOutput("Here.", data, files)


async def test_files_that_a_tool_returns_are_kept_once_each_however_often_it_is_repeated(
    stores: Stores, files: ToolFiles, attachments: AttachmentService
) -> None:
    session = await stores.session()
    call = {"session_id": session.id, "user_id": OWNER, "tool_call_id": "call-f"}
    output = returned(ToolFile("../a.csv", "x,y\n1,2\n"), ToolFile("b.png", png(4, 3).getvalue()), data={"rows": 1})

    first = await with_files(output, files, **call)
    again = await asyncio.gather(*(with_files(output, files, **call) for _ in range(3)))

    assert [each.data for each in again] == [first.data] * 3
    assert isinstance(first.data, dict)
    table, picture = cast(Any, first.data["attachments"])
    assert (table["name"], table["kind"], picture["media_type"]) == ("a.csv", "csv", "image/png")
    assert first.data["rows"] == 1
    assert f"Its attachment id is {picture['id']}." in first.content
    assert first.content.endswith("\n\nHere.")
    kept, _ = await attachments.list_for(session.id, ANN, Page())
    assert {file.id for file in kept} == {table["id"], picture["id"]}


async def test_a_file_that_cannot_be_kept_is_told_and_the_rest_of_the_result_stands(
    stores: Stores, files: ToolFiles, attachments: AttachmentService
) -> None:
    session = await stores.session()
    call = {"session_id": session.id, "user_id": OWNER, "tool_call_id": "call-g"}
    large = ToolFile("large.bin", bytes(attachments.max_bytes + 1))

    output = await with_files(returned(large, ToolFile("b.txt", "b"), data=[1]), files, **call)
    nowhere = await with_files(returned(ToolFile("b.txt", "b")), None, **call)

    assert isinstance(output.data, dict)
    assert (output.data["result"], len(cast(Any, output.data["attachments"]))) == ([1], 1)
    assert output.content.startswith("The file 'large.bin' was not kept: A file may have")
    assert nowhere.content.startswith("The file 'b.txt' was not kept: This deployment keeps no files")
    assert nowhere.data == {"attachments": []}


async def test_content_that_does_not_fit_the_format_and_users_without_access_are_refused(
    stores: Stores, files: ToolFiles
) -> None:
    session = await stores.session()
    table = validate_arguments(generate_file, {"format": "csv", "content": "| no table"})
    with pytest.raises(AppError) as refusal:
        await generate_file.run(table, context(files, session.id))
    assert "rows" in refusal.value.safe_message
    fine = validate_arguments(generate_file, {"format": "md", "content": "x"})
    with pytest.raises(AppError):
        await generate_file.run(fine, context(files, session.id, user=STRANGER))


async def test_what_the_model_writes_is_bounded() -> None:
    for wrong in (
        {"format": "exe", "content": "x"},
        {"format": "pdf", "content": ""},
        {"format": "pdf", "content": "x" * 100_001},
        {"format": "pdf", "content": "x", "path": "/etc"},
    ):
        with pytest.raises(InvalidInput):
            validate_arguments(generate_file, wrong)
    for unread in (
        {},
        {"attachment_id": ""},
        {"attachment_id": "a", "start": -1},
        {"attachment_id": "a", "max_chars": 0},
    ):
        with pytest.raises(InvalidInput):
            validate_arguments(read_attachment, unread)


async def test_pdf_in_the_making_lets_everything_else_go_on(stores: Stores, files: ToolFiles) -> None:
    session = await stores.session()
    content = "\n\n".join(f"Paragraph {n} of a long report." for n in range(400))
    arguments = validate_arguments(generate_file, {"format": "pdf", "content": content})
    making = asyncio.create_task(generate_file.run(arguments, context(files, session.id)))
    turns = 0
    while not making.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert isinstance((await making).data, dict)
    assert turns > 5
