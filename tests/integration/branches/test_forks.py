"""Forks over PostgreSQL: what a copy holds, what it leaves out, and that nothing ties it to where it came from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from shared.adapters.postgres.branches.forks import PostgresForks
from shared.adapters.postgres.history.search import PostgresSearch
from shared.errors import AppError, ErrorCode
from shared.ids import is_valid_id, new_id
from shared.principal import Principal, Role
from shared.sessions.context.window import fit, to_conversation
from shared.sessions.events import SessionEventPublisher
from shared.sessions.history.search import SearchFilter, SearchService
from shared.sessions.life.forks import ForkService, NewFork
from shared.sessions.llm.conversation import AssistantSaid, ToolAnswered, UserSaid
from shared.sessions.models import Message, Session, SessionStatus, TurnStatus
from shared.sessions.records.pages import MessageFilter, Page
from tests.integration.branches.branching import ANN, Conversation, conversation
from tests.integration.domain import OWNER, READER, STRANGER, Stores, call, envelopes

pytestmark = pytest.mark.integration

RITA = Principal(READER, frozenset({Role.USER}))


@pytest.fixture
def forks(stores: Stores, publisher: SessionEventPublisher) -> ForkService:
    return ForkService(PostgresForks(stores.pool), publisher)


async def _refused(attempt: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(AppError) as caught:
        await attempt
    return caught.value.code


async def _fork(forks: ForkService, session_id: str, principal: Principal = ANN, **body: str) -> Session:
    session, _ = await forks.fork(session_id, NewFork(**body), principal, idempotency_key=None)
    return session


async def _messages(stores: Stores, session_id: str) -> list[Message]:
    found = await stores.turns.list_messages(session_id, MessageFilter(), Page(limit=200))
    return [message for _, message in found]


async def test_a_fork_holds_the_active_branch_under_new_ids(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    first = await talk.ask_with_a_tool("a", "A")
    await talk.answer_again(first.message.id, "A1")
    await talk.ask_with_a_tool("b", "B")

    fork = await _fork(forks, talk.id)

    there, here = await talk.listed(), [message.content for message in await _messages(stores, fork.id)]
    assert here == there == ["a", "A1", "b", "B?", "B!", "B"]
    old = {message.content: message for message in await _messages(stores, talk.id)}
    copies = await _messages(stores, fork.id)
    for copy in copies:
        assert is_valid_id(copy.id)
        assert copy.id[:15] == old[copy.content].id[:15]
        assert copy.id != old[copy.content].id
        assert (copy.branch, copy.created_at, copy.status) == (
            0,
            old[copy.content].created_at,
            old[copy.content].status,
        )
    assert len({copy.id for copy in copies}) == len(copies)
    (called,) = copies[3].tool_calls
    (original,) = old["B?"].tool_calls
    assert called == original.model_copy(update={"id": called.id, "message_id": copies[3].id})
    assert (called.id != original.id, copies[4].tool_call_id) == (True, called.id)


async def test_a_question_in_a_fork_is_of_the_turn_that_answers_it_there(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    first = await talk.ask("a")
    again = await talk.answer_again(first.message.id, "A1")

    fork = await _fork(forks, talk.id)

    question, answer = await _messages(stores, fork.id)
    turn = await stores.turns.get_turn(fork.id, question.turn_id or "")
    assert (answer.turn_id, turn.message_id, turn.status) == (turn.id, question.id, TurnStatus.COMPLETED)
    assert turn.created_at == again.turn.created_at
    assert (turn.steps, turn.usage.input_tokens, turn.usage.output_tokens) == (1, 0, 0)
    assert await stores.value(b"SELECT count(*) FROM turns WHERE session_id = %(s)s", s=fork.id) == 1


async def test_a_fork_goes_on_by_itself(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    fork = Conversation(stores, (await _fork(forks, talk.id)).id)

    posted = await stores.post(fork.id, "b")
    assert posted.activated
    assert await fork.context(posted.turn.id) == ["a", "A", "b"]
    await fork.finish_started(posted.turn.id, "B")
    await fork.answer_again((await _messages(stores, fork.id))[0].id, "A1")
    assert await fork.listed() == ["a", "A1"]
    assert await talk.listed() == ["a", "A"]
    await stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=talk.id)
    assert await fork.listed(0) == ["a", "A", "b", "B"]
    assert (await stores.sessions.get(fork.id, OWNER)).session.forked_from == talk.id


async def test_a_message_is_the_last_one_taken_with_its_whole_step(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    await talk.ask_with_a_tool("b", "B")
    await talk.ask("c")
    by_text = {message.content: message.id for message in await _messages(stores, talk.id)}

    taken = {}
    for text in ("a", "A", "b", "B?", "B!", "B", "c"):
        fork = await _fork(forks, talk.id, message_id=by_text[text])
        taken[text] = "".join(message.content for message in await _messages(stores, fork.id))

    assert taken == {
        "a": "a",
        "A": "aA",
        "b": "aAb",
        "B?": "aAbB?B!",
        "B!": "aAbB?B!",
        "B": "aAbB?B!B",
        "c": "aAbB?B!Bc",
    }


async def test_a_model_reads_a_fork_as_a_valid_conversation(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    await talk.ask_with_a_tool("a", "A")
    by_text = {message.content: message.id for message in await _messages(stores, talk.id)}
    fork = await _fork(forks, talk.id, message_id=by_text["A?"])

    posted = await stores.post(fork.id, "b")

    said = to_conversation(fit((await stores.started(posted.turn.id)).context, 10_000))
    asked, called, told, asked_again = said
    assert (asked, asked_again) == (UserSaid("a"), UserSaid("b"))
    assert isinstance(called, AssistantSaid)
    assert isinstance(told, ToolAnswered)
    assert [item.id for item in called.calls] == [told.call_id]


async def test_a_message_of_another_branch_is_forked_there(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    first = await talk.ask("a")
    await talk.ask("b")
    await talk.answer_again(first.message.id, "A1")
    by_text = {message.content: message.id for message in await _messages(stores, talk.id)}

    fork = await _fork(forks, talk.id, message_id=by_text["B"])

    assert [message.content for message in await _messages(stores, fork.id)] == ["a", "A", "b", "B"]


async def test_a_checkpoint_is_forked_with_what_the_session_was_like(stores: Stores, forks: ForkService) -> None:
    session = await stores.session(name="Then", tags=["t"], metadata={"k": 1})
    talk = Conversation(stores, session.id)
    await talk.ask("a")
    kept = await talk.checkpoint()
    await talk.ask("b")
    await stores.sql(b"UPDATE sessions SET name = 'Now', tags = '{}', metadata = '{}' WHERE id = %(s)s", s=talk.id)

    then, now = await _fork(forks, talk.id, checkpoint_id=kept.id), await _fork(forks, talk.id)

    assert (then.name, then.tags, then.metadata) == ("Then (fork)", ["t"], {"k": 1})
    assert (now.name, now.tags, now.metadata) == ("Now (fork)", [], {})
    assert (then.status, then.active_branch, then.config) == (SessionStatus.CREATED, 0, session.config)
    assert [message.content for message in await _messages(stores, then.id)] == ["a", "A"]


async def test_what_is_open_is_left_out(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    posted = await stores.post(talk.id, "b")
    await stores.answer(posted.turn.id, content="B?", calls=[call(needs_approval=True)])
    by_text = {message.content: message.id for message in await _messages(stores, talk.id)}

    everything = await _fork(forks, talk.id)
    question = await _fork(forks, talk.id, message_id=by_text["b"])

    assert [message.content for message in await _messages(stores, everything.id)] == ["a", "A"]
    copied = await _messages(stores, question.id)
    assert [(message.content, message.turn_id is None) for message in copied] == [
        ("a", False),
        ("A", False),
        ("b", True),
    ]
    assert await _refused(_fork(forks, talk.id, message_id=by_text["B?"])) is ErrorCode.CONFLICT
    assert await stores.value(b"SELECT count(*) FROM turns WHERE session_id = %(s)s", s=question.id) == 1
    again = Conversation(stores, question.id)
    assert (await again.answer_again(copied[-1].id, "B1")).turn.branch == 1
    assert await again.listed() == ["a", "A", "b", "B1"]


async def test_a_cancelled_turn_is_copied_as_it_ended(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    posted = await stores.post(talk.id, "a")
    await stores.answer(posted.turn.id, content="A?", calls=[call()])
    await stores.finish(posted.turn.id, TurnStatus.CANCELLED)

    fork = await _fork(forks, talk.id)

    question, answer = await _messages(stores, fork.id)
    turn = await stores.turns.get_turn(fork.id, answer.turn_id or "")
    assert (turn.status, turn.message_id) == (TurnStatus.CANCELLED, question.id)
    assert [item.status for item in turn.tool_calls] == [item.status for item in answer.tool_calls] == ["failed"]


async def test_a_reader_forks_into_a_session_of_their_own(stores: Stores, forks: ForkService) -> None:
    session = await stores.shared_session()
    await Conversation(stores, session.id).ask("a")

    fork = await _fork(forks, session.id, RITA)

    record = await stores.sessions.get(fork.id, READER)
    assert (record.owner_id, record.access) == (READER, "owner")
    assert await _refused(stores.sessions.get(fork.id, OWNER)) is ErrorCode.SESSION_NOT_FOUND
    for principal in (ANN, Principal(STRANGER, frozenset({Role.USER, Role.ADMIN}))):
        assert await _refused(_fork(forks, fork.id, principal)) is ErrorCode.SESSION_NOT_FOUND
    assert await stores.rows(b"SELECT 1 FROM session_participants WHERE session_id = %(s)s", s=fork.id) == []


async def test_what_has_ended_can_be_gone_on_with_in_a_fork(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    await stores.move(talk.id, SessionStatus.ENDED)

    fork = Conversation(stores, (await _fork(forks, talk.id)).id)

    await fork.ask("b")
    assert await fork.listed() == ["a", "A", "b", "B"]


async def test_the_search_finds_what_a_fork_holds(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    await talk.ask("a needle", "in the haystack")
    fork = await _fork(forks, talk.id)

    search = SearchService(PostgresSearch(stores.pool))

    for word in ("needle", "haystack"):
        (hit,), _ = await search.search(ANN, word, SearchFilter(session_id=fork.id), Page())
        assert hit.session_id == fork.id


async def test_places_that_are_not_there_are_not_found(stores: Stores, forks: ForkService) -> None:
    talk, other = await conversation(stores), await conversation(stores)
    elsewhere = (await other.ask("a")).message.id
    kept = (await other.checkpoint()).id
    for place in ({"message_id": elsewhere}, {"message_id": new_id()}, {"checkpoint_id": kept}):
        assert await _refused(_fork(forks, talk.id, **place)) is ErrorCode.MESSAGE_NOT_FOUND
    both = _fork(forks, other.id, message_id=elsewhere, checkpoint_id=kept)
    assert await _refused(both) is ErrorCode.VALIDATION_ERROR


async def test_an_empty_session_makes_an_empty_fork(stores: Stores, forks: ForkService) -> None:
    fork = Conversation(stores, (await _fork(forks, (await conversation(stores)).id)).id)
    assert await fork.listed() == []
    await fork.ask("a")
    assert await fork.listed() == ["a", "A"]


async def test_the_same_key_forks_once_and_only_it_is_announced(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    first, messages = await forks.fork(talk.id, NewFork(), ANN, idempotency_key="k")
    again, nothing = await forks.fork(talk.id, NewFork(), ANN, idempotency_key="k")

    assert (again, nothing) == (first, [])
    (created,) = envelopes(messages)
    assert (created["type"], created["session_id"], created["seq"]) == ("session.created", first.id, 1)
    assert created["data"]["session"]["forked_from"] == talk.id


async def test_more_messages_than_a_fork_takes_are_refused_and_nothing_is_left(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    forks = ForkService(PostgresForks(stores.pool, max_messages=3), publisher)
    talk = await conversation(stores)
    first = await talk.ask("a")
    await talk.ask("b")

    assert await _refused(_fork(forks, talk.id)) is ErrorCode.VALIDATION_ERROR
    assert await stores.rows(b"SELECT 1 FROM sessions WHERE forked_from = %(s)s", s=talk.id) == []
    assert (await _fork(forks, talk.id, message_id=first.message.id)).forked_from == talk.id


async def test_forks_do_not_wait_for_each_other_or_keep_the_source_from_going_on(
    stores: Stores, forks: ForkService
) -> None:
    talk = await conversation(stores)
    await talk.ask("a")

    *copies, posted = await asyncio.gather(*(_fork(forks, talk.id) for _ in range(4)), stores.post(talk.id, "b"))

    assert posted.dispatched
    for copy in copies:
        assert [message.content for message in await _messages(stores, copy.id)] == ["a", "A"]


async def test_files_come_with_what_they_were_sent_with_or_made_by(stores: Stores, forks: ForkService) -> None:
    talk = await conversation(stores)
    asked = await talk.ask_with_a_tool("a", "A")
    await talk.ask("b")
    (made_by,) = (await _messages(stores, talk.id))[1].tool_calls
    for name, tool_call_id, number in (
        ("sent", None, 0),
        ("made", made_by.id, 0),
        ("more", made_by.id, 1),
        ("unused", None, 0),
    ):
        await stores.sql(
            b"INSERT INTO attachments (session_id, id, created_by, name, kind, media_type, size_bytes, sha256,"
            b" blob_name, text_chars, facts, warnings, tool_call_id, tool_call_file, created_at)"
            b" VALUES (%(s)s, %(n)s, 'ann', %(n)s, 'text', 'text/plain', 1, 'x', 'blob-' || %(n)s, 0,"
            b" '{}', '{}', %(c)s, %(f)s, now())",
            s=talk.id,
            n=f"{name}-{talk.id}",
            c=tool_call_id,
            f=number,
        )
    await stores.sql(
        b"UPDATE messages SET attachments = jsonb_build_array(jsonb_build_object('id', %(a)s::text)),"
        b" attachment_note = 'a file' WHERE id = %(m)s",
        a=f"sent-{talk.id}",
        m=asked.message.id,
    )

    fork = await _fork(forks, talk.id)

    files = await stores.rows(
        b"SELECT a.name, a.blob_name, c.session_id AS called_in FROM attachments a"
        b" LEFT JOIN tool_calls c ON c.id = a.tool_call_id WHERE a.session_id = %(s)s ORDER BY a.name",
        s=fork.id,
    )
    assert [tuple(file.values()) for file in files] == [
        (f"made-{talk.id}", f"blob-made-{talk.id}", fork.id),
        (f"more-{talk.id}", f"blob-more-{talk.id}", fork.id),
        (f"sent-{talk.id}", f"blob-sent-{talk.id}", None),
    ]
    question = await stores.rows(
        b"SELECT attachments -> 0 ->> 'id' AS id, attachment_note FROM messages WHERE session_id = %(s)s AND step = 0"
        b" ORDER BY number LIMIT 1",
        s=fork.id,
    )
    assert question == [{"id": f"sent-{talk.id}", "attachment_note": "a file"}]


async def test_every_column_of_what_is_copied_is_copied_or_left_out_on_purpose(stores: Stores) -> None:
    """A migration that adds a column or a table to a session has to decide what a fork does with it."""
    from shared.adapters.postgres.queries import load_queries

    copying = load_queries("branches/forks")["copy_history"].decode()
    left_out = {
        "attachments": set[str](),
        # What they cost was spent there.
        "turns": {
            "branch",
            "input_tokens",
            "output_tokens",
            "cached_input_tokens",
            "reasoning_tokens",
            "cost_usd",
            # Only of a turn that runs.
            "quiet_until",
            "hub",
            "restarts",
            "joined_step",
            "counted_tokens",
            # A copy answers nobody's call.
            "ancestors",
            "in_background",
        },
        # What an API wants back, it wants within the turn, and a copied turn has ended.
        "messages": {"branch", "kept"},
        # Only of a call that runs.
        "tool_calls": {"begun_by"},
        "conversation_summaries": set[str](),
    }
    for table, on_purpose in left_out.items():
        rows = await stores.rows(
            b"SELECT column_name FROM information_schema.columns WHERE table_name = %(t)s AND is_generated = 'NEVER'",
            t=table,
        )
        listed = copying.split(f"INSERT INTO {table}(")[1].split(")")[0].split(",")
        missing = {row["column_name"] for row in rows} - {name.strip() for name in listed} - on_purpose
        assert missing == set(), f"forks.sql does not copy {table}.{missing}"
