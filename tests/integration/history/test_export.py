"""Exporting conversations of any length: complete, in order, in bounded memory, or refused with a reason."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
from collections.abc import AsyncIterator, Generator
from dataclasses import replace

import orjson
import pytest

from shared.errors import ErrorCode, InvalidInput, NotFound
from shared.principal import Principal, Role
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.writers.content import Content, FileFormat
from shared.sessions.history.export import LAYOUTS, MAX_LAID_OUT_MESSAGES, ExportService
from shared.sessions.history.manager import HistoryManager
from shared.sessions.models import FinishReason, Message
from shared.sessions.records.pages import MessageFilter, Page
from shared.work_pool import WorkPool, in_new_thread
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, Stores, result_of

pytestmark = pytest.mark.integration


def who(name: str) -> Principal:
    return Principal(name, frozenset({Role.USER}))


ANN = who(OWNER)


class CountedHistory(HistoryManager):
    """The real one, counting pages."""

    pages = 0

    async def list_messages(
        self, session_id: str, principal: Principal, wanted: MessageFilter, page: Page
    ) -> tuple[list[Message], str | None]:
        self.pages += 1
        return await super().list_messages(session_id, principal, wanted, page)


@pytest.fixture
def history(stores: Stores) -> CountedHistory:
    return CountedHistory(stores.sessions, stores.turns)


@pytest.fixture
def exports(stores: Stores, history: CountedHistory) -> ExportService:
    return ExportService(stores.sessions, history, FileGenerator())


async def long_session(stores: Stores, messages: int, chars: int = 10) -> str:
    """A session of `messages` messages, whose texts begin with their number."""
    session = await stores.session(name="Long")
    posted = await stores.post(session.id, "0 ")
    await stores.sql(
        b"INSERT INTO messages (id, session_id, turn_id, number, turn_number, step, ordinal, role, content, status,"
        b" tokens, created_at)"
        b" SELECT m.id || n, m.session_id, m.turn_id, m.number + n, m.turn_number, n, 0, 'assistant',"
        b" n || repeat(' x', %(chars)s / 2), 'completed', 1, m.created_at"
        b" FROM messages m, generate_series(1, %(more)s) n WHERE m.turn_id = %(turn)s",
        chars=chars,
        more=messages - 1,
        turn=posted.turn.id,
    )
    return session.id


async def whole(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_long_conversation_is_complete_and_in_order(stores: Stores, exports: ExportService) -> None:
    session_id = await long_session(stores, 650)
    export = await exports.export(session_id, ANN, FileFormat.JSON)
    document = orjson.loads(await whole(export.pieces))
    assert [int(message["content"].split()[0]) for message in document["messages"]] == list(range(650))
    table = (await whole((await exports.export(session_id, ANN, FileFormat.CSV)).pieces)).decode("utf-8-sig")
    assert len(list(csv.reader(io.StringIO(table)))) == 651
    assert export.name == "Long.json"


async def test_pages_are_read_as_the_file_is_taken(
    stores: Stores, exports: ExportService, history: CountedHistory
) -> None:
    session_id = await long_session(stores, 1_000, chars=2_000)
    export = await exports.export(session_id, ANN, FileFormat.MD)
    assert history.pages == 0
    first = await anext(export.pieces)
    assert len(first) < 200_000
    assert history.pages <= 2
    await export.pieces.aclose()  # the reader went
    assert history.pages <= 2


async def test_a_file_that_takes_too_long_to_lay_out_is_refused_and_frees_its_thread(
    stores: Stores, history: CountedHistory
) -> None:
    session_id = await long_session(stores, 2)
    exports = ExportService(stores.sessions, history, FileGenerator(), layout_s=0)
    for _ in range(3):
        with pytest.raises(InvalidInput, match="longer than 0 seconds"):
            await anext((await exports.export(session_id, ANN, FileFormat.PDF)).pieces)


class GatedGenerator(FileGenerator):
    """A file of two pieces; the first is ready when the gate opens."""

    def __init__(self) -> None:
        self.began, self.gate, self.closed = threading.Event(), threading.Event(), threading.Event()

    def chunks(self, content: Content, file_format: FileFormat) -> Generator[bytes]:
        try:
            self.began.set()
            assert self.gate.wait(60)
            yield b"one"
            yield b"two"
        finally:
            self.closed.set()


async def test_one_users_exports_hold_up_nobody_elses_and_are_refused_beyond_their_queue(
    stores: Stores, history: CountedHistory
) -> None:
    mine = await stores.session(name="Mine")
    await stores.share(mine.id, WRITER, "write")
    gated, pool = GatedGenerator(), WorkPool("exports", LAYOUTS)
    slow = ExportService(stores.sessions, history, gated, pool)
    quick = ExportService(stores.sessions, history, FileGenerator(), pool)
    taken = LAYOUTS.per_user + LAYOUTS.waiting_per_user

    async def first_piece() -> bytes:
        return await anext((await slow.export(mine.id, ANN, FileFormat.MD)).pieces)

    waiting, refused = {asyncio.create_task(first_piece()) for _ in range(24)}, []
    while len(refused) < 24 - taken:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        refused += [task.exception() for task in done]
    others = await quick.export(mine.id, Principal(WRITER, frozenset()), FileFormat.MD)

    assert b"".join([piece async for piece in others.pieces]).startswith(b"# Mine")
    assert {(error.code, error.retry_after_s) for error in refused} == {(ErrorCode.RATE_LIMITED, LAYOUTS.retry_after_s)}
    gated.gate.set()
    assert await asyncio.gather(*waiting) == [b"one"] * taken
    pool.close()


async def test_an_export_whose_reader_left_closes_its_file_when_its_thread_is_done(
    stores: Stores, history: CountedHistory
) -> None:
    session_id = await long_session(stores, 2)
    gated = GatedGenerator()
    export = await ExportService(stores.sessions, history, gated).export(session_id, ANN, FileFormat.MD)
    reading = asyncio.ensure_future(anext(export.pieces))
    assert await in_new_thread(lambda: gated.began.wait(30))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not gated.closed.is_set()
    gated.gate.set()
    assert await in_new_thread(lambda: gated.closed.wait(30))


@pytest.mark.parametrize("file_format", [FileFormat.PDF, FileFormat.DOCX])
@pytest.mark.parametrize(("messages", "chars"), [(MAX_LAID_OUT_MESSAGES + 1, 10), (41, 10_000)])
async def test_conversation_too_long_to_be_laid_out_is_refused_before_the_first_byte(
    stores: Stores, exports: ExportService, file_format: FileFormat, messages: int, chars: int
) -> None:
    session_id = await long_session(stores, messages, chars)
    export = await exports.export(session_id, ANN, file_format)
    with pytest.raises(InvalidInput) as refusal:
        await anext(export.pieces)
    assert refusal.value.code is ErrorCode.MESSAGE_TOO_LONG
    assert "json" in refusal.value.safe_message


async def test_what_is_laid_out_of_an_answer_in_json_counts_not_what_was_written(
    stores: Stores, exports: ExportService
) -> None:
    session_id = await long_session(stores, 2)
    # 150,000 characters in one line, 525,000 with each number on a line of its own; the bound is 400,000.
    await stores.sql(
        b"UPDATE messages SET content = '{}', output = jsonb_build_object('n', (SELECT jsonb_agg(1) FROM"
        b" generate_series(1, 75000))) WHERE session_id = %(s)s AND role = 'assistant'",
        s=session_id,
    )
    with pytest.raises(InvalidInput) as refusal:
        await anext((await exports.export(session_id, ANN, FileFormat.DOCX)).pieces)
    assert refusal.value.code is ErrorCode.MESSAGE_TOO_LONG


async def test_file_tells_of_the_messages_what_the_store_holds(stores: Stores, exports: ExportService) -> None:
    session = await stores.shared_session()
    posted = await stores.post(session.id, "How many?", user=WRITER)
    start = await stores.started(posted.turn.id)
    answer = replace(
        result_of(start, content='{"n": 2}'),
        finish_reason=FinishReason.LENGTH,
        reasoning="One and one.",
        output={"n": 2},
    )
    await stores.steps.leave_out(posted.turn.id, 1, start.attempt)
    assert await stores.steps.save_step(answer)

    document = orjson.loads(await whole((await exports.export(session.id, ANN, FileFormat.JSON)).pieces))
    asked, answered = document["messages"]
    assert (asked["author"], asked["left_out"]) == (WRITER, "content_filter")
    told = {"finish_reason": "length", "reasoning": "One and one.", "output": {"n": 2}, "content": '{"n": 2}'}
    assert told.items() <= answered.items()
    text = (await whole((await exports.export(session.id, ANN, FileFormat.MD)).pieces)).decode()
    for said in (f"User ({WRITER})", "No model reads this", "> One and one.", '"n": 2', "Cut at the output limit"):
        assert said in text


async def test_author_of_an_older_message_is_who_its_turn_ran_for(stores: Stores, exports: ExportService) -> None:
    session = await stores.shared_session()
    posted = await stores.post(session.id, user=WRITER)
    await stores.sql(b"UPDATE messages SET author = NULL WHERE id = %(m)s", m=posted.message.id)
    table = (await whole((await exports.export(session.id, ANN, FileFormat.CSV)).pieces)).decode("utf-8-sig")
    assert [row["author"] for row in csv.DictReader(io.StringIO(table))] == [WRITER]


async def test_many_exports_at_once_all_end(stores: Stores, exports: ExportService) -> None:
    session_id = await long_session(stores, 300)
    most = LAYOUTS.per_user + LAYOUTS.waiting_per_user
    files = [await exports.export(session_id, ANN, FileFormat.HTML) for _ in range(most)]
    made = await asyncio.gather(*(whole(file.pieces) for file in files))
    assert len({len(file) for file in made}) == 1


async def test_readers_export_and_strangers_find_nothing(stores: Stores, exports: ExportService) -> None:
    session = await stores.shared_session()
    export = await exports.export(session.id, who(READER), FileFormat.JSON)
    assert orjson.loads(await whole(export.pieces))["messages"] == []
    with pytest.raises(NotFound):
        await exports.export(session.id, who(STRANGER), FileFormat.JSON)
