"""History in the order of the conversation, page by page, also where messages were queued behind a wait."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.adapters.postgres.pool import PostgresPool
from shared.errors import ErrorCode, InvalidInput
from shared.principal import Principal, Role
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.generator import FileGenerator
from shared.sessions.files.writers.content import FileFormat
from shared.sessions.history.export import ExportService
from shared.sessions.history.manager import HistoryManager
from shared.sessions.models import Concurrency, MessageRole
from shared.sessions.records.pages import MessageFilter, Page, decode_cursor
from shared.sessions.records.turns import PostedMessage
from tests.integration.branches.branching import Conversation, conversation
from tests.integration.domain import OWNER, Stores, call

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset({Role.USER}))
SAID = ["Q1", "A1?", "A1!", "A1", "Q2", "A2"]


async def _waits(talk: Conversation) -> tuple[PostedMessage, PostedMessage, str]:
    """A turn that waits for an approval, a message queued behind it, and the id of the call."""
    first = await talk.stores.post(talk.id, "Q1")
    proposal = call(needs_approval=True)
    await talk.stores.answer(first.turn.id, content="A1?", calls=[proposal])
    await talk.stores.request_approval(proposal)
    second = await talk.stores.post(talk.id, "Q2", concurrency=Concurrency.ENQUEUE)
    return first, second, proposal.id


async def _goes_on(talk: Conversation, first: PostedMessage, second: PostedMessage, call_id: str) -> None:
    assert await talk.stores.tool_result(call_id, content="A1!")
    await talk.stores.answer(first.turn.id, 2, content="A1")
    await talk.stores.finish(first.turn.id)
    await talk.finish(second.turn.id, "A2")


@pytest.fixture
async def queued(stores: Stores) -> Conversation:
    talk = await conversation(stores)
    await _goes_on(talk, *await _waits(talk))
    return talk


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
@pytest.mark.parametrize("descending", [False, True])
async def test_history_is_in_the_order_of_the_conversation_also_when_a_message_was_queued(
    queued: Conversation, limit: int, descending: bool
) -> None:
    expected = SAID[::-1] if descending else SAID
    assert await queued.listed(limit=limit, descending=descending) == expected


async def test_a_queued_message_stands_behind_the_turn_that_it_waits_for(stores: Stores) -> None:
    talk = await conversation(stores)
    first, second, call_id = await _waits(talk)
    assert await talk.listed() == ["Q1", "A1?", "Q2"]
    page, cursor = await _page(talk, Page(limit=2))

    await _goes_on(talk, first, second, call_id)

    assert page == ["Q1", "A1?"]
    assert (await _page(talk, Page(after=decode_cursor(cursor or "", int))))[0] == ["A1!", "A1", "Q2", "A2"]


async def _page(talk: Conversation, page: Page, **wanted: Any) -> tuple[list[str], str | None]:
    history = HistoryManager(talk.stores.sessions, talk.stores.turns)
    messages, cursor = await history.list_messages(talk.id, ANN, MessageFilter(**wanted), page)
    return [message.content for message in messages], cursor


@pytest.mark.parametrize("limit", [1, 2, 50])
@pytest.mark.parametrize("descending", [False, True])
async def test_a_branch_is_in_the_order_of_the_conversation(queued: Conversation, limit: int, descending: bool) -> None:
    question = (await queued.last_question()) or ""
    again = await queued.regenerate(question)
    await queued.stores.post(queued.id, "Q3", concurrency=Concurrency.ENQUEUE)
    await queued.finish(again.turn.id, "A2'")

    expected = [*SAID[:5], "A2'", "Q3"]
    found = await queued.listed(limit=limit, descending=descending)
    assert found == (expected[::-1] if descending else expected)
    assert await queued.listed(0, limit=limit) == SAID


async def test_a_filtered_history_is_in_the_order_of_the_conversation(queued: Conversation) -> None:
    assert (await _page(queued, Page(), role=MessageRole.USER))[0] == ["Q1", "Q2"]
    assert (await _page(queued, Page(), role=MessageRole.ASSISTANT, descending=True))[0] == ["A2", "A1", "A1?"]
    assert (await _page(queued, Page(), q="2"))[0] == ["Q2", "A2"]


async def test_a_fork_and_a_recovered_session_keep_the_order_of_the_conversation(queued: Conversation) -> None:
    fork = await queued.fork()
    await queued.recover((await queued.listed_checkpoints())[-1].id)

    assert await fork.listed(limit=2) == SAID
    assert await queued.listed(limit=2) == SAID[:4]


@pytest.mark.parametrize("file_format", FileFormat)
async def test_every_export_is_in_the_order_of_the_conversation(queued: Conversation, file_format: FileFormat) -> None:
    stores = queued.stores
    words = ["Alpha", "Bravo", "Charlie", "Delta", "Echo", "Foxtrot"]
    for said, word in zip(SAID, words, strict=True):
        await stores.sql(
            b"UPDATE messages SET content = %(w)s WHERE session_id = %(s)s AND content = %(c)s",
            w=word,
            s=queued.id,
            c=said,
        )
    exports = ExportService(stores.sessions, HistoryManager(stores.sessions, stores.turns), FileGenerator())

    text = await _text(exports, queued.id, file_format)

    places = [text.index(word) for word in words]
    assert places == sorted(places)


async def _text(exports: ExportService, session_id: str, file_format: FileFormat) -> str:
    export = await exports.export(session_id, ANN, file_format)
    data = b"".join([piece async for piece in export.pieces])
    if file_format in (FileFormat.PDF, FileFormat.DOCX):
        return (await FileAnalyzer().analyze_async(io.BytesIO(data), "olga")).text or ""
    return data.decode()


async def test_a_cursor_of_no_message_is_refused(queued: Conversation) -> None:
    for branch in (0, None):
        with pytest.raises(InvalidInput) as refusal:
            await _page(queued, Page(after=(1_000_000, "0")), branch=branch)
        assert refusal.value.code is ErrorCode.VALIDATION_ERROR


# What a page reads. --------------------------------------------------------------------------

LONG = 10_000
"""Messages of the long session: two of each turn, the later half on a branch."""
PAGE = 50

_FILL = b"""
WITH turned AS (
    INSERT INTO turns (id, session_id, number, branch, message_id, requested_by, status, plan, created_at, started_at,
                       ended_at)
    SELECT 'long-t' || n, %(s)s, n, (n > %(half)s)::integer, 'long-m' || n || '-0', 'ann', 'completed', '{}', now(),
           now(), now()
    FROM generate_series(1, %(turns)s) n
), branched AS (
    INSERT INTO session_branches (session_id, branch, parent_branch, fork_turn_number, fork_step, created_at)
    VALUES (%(s)s, 1, 0, %(half)s, 1, now())
)
INSERT INTO messages (id, session_id, turn_id, number, branch, turn_number, step, ordinal, role, content, status,
                      tokens, created_at)
SELECT 'long-m' || n || '-' || step, %(s)s, 'long-t' || n, (2 * n + step) * 7919 %% 1000003, (n > %(half)s)::integer, n,
       step, 0, CASE step WHEN 0 THEN 'user' ELSE 'assistant' END, 'x', 'completed', 1, now()
FROM generate_series(1, %(turns)s) n, generate_series(0, 1) step
"""
"""In another order by number than by turn."""


@pytest.fixture
async def long_talk(postgres_url: str) -> AsyncIterator[Conversation]:
    """Over a single connection, whose statistics are therefore all there are."""
    pool = PostgresPool(postgres_url, size=1)
    stores = Stores.over(pool)
    talk = Conversation(stores, "long")
    if not await stores.value(b"SELECT count(*) FROM sessions WHERE id = 'long'"):
        await stores.session(id="long")
        await stores.sql(_FILL, s=talk.id, turns=LONG // 2, half=LONG // 4)
        await stores.sql(b"UPDATE sessions SET last_branch = 1, active_branch = 1 WHERE id = %(s)s", s=talk.id)
        await stores.sql(b"ANALYZE messages")
    yield talk
    await _rows_read(stores)  # told before the connection ends, or it counts for the next test
    await pool.aclose()


async def _rows_read(stores: Stores) -> int:
    """Rows of messages read so far, by reading the table and through indexes."""
    await stores.rows(b"SELECT pg_stat_force_next_flush()::text")
    return int(
        await stores.value(
            b"SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables"
            b" WHERE relname = 'messages'"
        )
    )


@pytest.mark.parametrize("branch", [0, 1])
@pytest.mark.parametrize("descending", [False, True])
async def test_a_page_of_a_long_session_reads_and_sorts_no_more_than_itself(
    long_talk: Conversation, branch: int, descending: bool
) -> None:
    stores = long_talk.stores
    middle = await stores.value(
        b"SELECT number FROM messages WHERE session_id = %(s)s AND turn_number = %(t)s AND step = 0",
        s=long_talk.id,
        t=LONG // 8,
    )
    pages = [Page(PAGE), Page(PAGE, after=(middle, str(branch)))]
    for page in pages:
        before = await _rows_read(stores)
        for _ in range(8):  # more often than PostgreSQL plans a statement anew for its parameters
            found, _ = await _page(long_talk, page, branch=branch, descending=descending)
            assert len(found) == PAGE
        # One look-up of the cursor, and a page of each of the branch's two parts.
        assert await _rows_read(stores) - before <= 8 * (3 * (PAGE + 1) + 2)
