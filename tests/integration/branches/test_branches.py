"""Branches over PostgreSQL: regenerate, activate, and what a model and a reader see of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.adapters.postgres.turns.steps import PostgresSteps
from shared.errors import AppError, Conflict, ErrorCode
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.history.manager import HistoryManager
from shared.sessions.life.branches import MAX_BRANCHES, BranchService
from shared.sessions.models import Concurrency, Regeneration, SessionConfig, SessionStatus, TurnStatus
from shared.sessions.records.pages import MessageFilter, Page, decode_cursor
from shared.sessions.records.turns import PostedMessage
from tests.integration.branches.branching import ANN, conversation
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, Stores, Uncached, envelopes, key, turn_planner

pytestmark = pytest.mark.integration


@pytest.fixture
def service(stores: Stores, publisher: SessionEventPublisher) -> BranchService:
    planner = turn_planner(stores)
    return BranchService(stores.sessions, PostgresBranches(stores.pool), publisher, planner, Uncached())


async def _refused(attempt: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(AppError) as caught:
        await attempt
    return caught.value.code


async def test_a_regenerated_answer_reads_up_to_its_question_and_the_old_answer_stays(stores: Stores) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    asked = await talk.ask("b")
    await talk.ask("c")

    again = await talk.regenerate(asked.message.id)

    assert (again.turn.branch, again.turn.message_id, again.message) == (1, asked.message.id, asked.message)
    assert await talk.context(again.turn.id) == ["a", "A", "b"]
    await talk.finish_started(again.turn.id, "B2")
    assert await talk.active_branch() == 1
    assert await talk.listed() == ["a", "A", "b", "B2"]
    assert await talk.listed(0) == ["a", "A", "b", "B", "c", "C"]
    next_turn = await talk.ask("d")
    assert (next_turn.turn.branch, next_turn.message.branch) == (1, 1)
    assert await talk.listed(1) == ["a", "A", "b", "B2", "d", "D"]


async def test_a_branch_of_a_branch_reads_through_both_forks(stores: Stores) -> None:
    talk = await conversation(stores)
    first = await talk.ask_with_a_tool("a", "A")
    await talk.answer_again(first.message.id, "A1")
    second = await talk.ask_with_a_tool("b", "B")
    await talk.answer_again(second.message.id, "B2")
    await talk.ask("c")

    assert await talk.listed(2) == ["a", "A1", "b", "B2", "c", "C"]
    assert await talk.listed(1) == ["a", "A1", "b", "B?", "B!", "B"]
    assert await talk.listed(0) == ["a", "A?", "A!", "A"]
    assert await talk.listed(2, limit=1) == await talk.listed(2)
    assert await talk.listed(2, limit=2, descending=True) == (await talk.listed(2))[::-1]
    posted = await stores.post(talk.id, "d")
    assert await talk.context(posted.turn.id) == ["a", "A1", "b", "B2", "c", "C", "d"]


async def test_a_message_of_another_branch_forks_the_branch_it_is_on(stores: Stores) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    asked = await talk.ask("b")
    await talk.answer_again(asked.message.id, "B1")

    await talk.answer_again(asked.message.id, "B2")

    branches = await talk.rows.list_for(talk.id, Page())
    assert [(item.branch, item.parent_branch, item.fork_message_id, item.message_count) for item in branches] == [
        (0, None, None, 4),
        (1, 0, asked.message.id, 1),
        (2, 0, asked.message.id, 1),
    ]
    assert [item.branch for item in branches if item.active] == [2]
    assert [item.branch for item in await talk.rows.list_for(talk.id, Page(1, after=(0, "")))] == [1, 2]


async def test_another_branch_can_be_gone_on_with(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    await talk.answer_again(asked.message.id, "A1")

    assert [await talk.activate(0), await talk.activate(0)] == [True, False]

    await talk.ask("b")
    assert await talk.listed() == ["a", "A", "b", "B"]
    assert await talk.listed(1) == ["a", "A1"]


async def test_a_turn_keeps_the_branch_it_was_posted_on(stores: Stores) -> None:
    talk = await conversation(stores)
    first = await stores.post(talk.id, "a")
    queued = await stores.post(talk.id, "b", concurrency=Concurrency.ENQUEUE)
    again = await talk.regenerate(first.message.id, concurrency=Concurrency.ENQUEUE)
    last = await stores.post(talk.id, "c", concurrency=Concurrency.ENQUEUE)

    assert [turn.turn.branch for turn in (queued, again, last)] == [0, 1, 1]
    await talk.finish(first.turn.id, "A")
    assert await talk.context(queued.turn.id) == ["a", "A", "b"]
    await talk.finish_started(queued.turn.id, "B")
    assert await talk.context(again.turn.id) == ["a"]
    await talk.finish_started(again.turn.id, "A1")
    assert await talk.context(last.turn.id) == ["a", "A1", "c"]


async def test_a_question_that_still_waits_is_asked_again_behind_all_before_it(stores: Stores) -> None:
    talk = await conversation(stores)
    first = await stores.post(talk.id, "a")
    queued = await stores.post(talk.id, "b", concurrency=Concurrency.ENQUEUE)

    again = await talk.regenerate(queued.message.id, concurrency=Concurrency.ENQUEUE)

    await talk.finish(first.turn.id, "A")
    await talk.finish(queued.turn.id, "B")
    assert await talk.context(again.turn.id) == ["a", "A", "b"]


async def test_the_window_of_a_model_goes_back_over_forks(stores: Stores) -> None:
    talk = await conversation(replace(stores, steps=PostgresSteps(stores.pool, context_rows=5)))
    for text in "abc":
        asked = await talk.ask(text)
    await talk.answer_again(asked.message.id, "C1")
    posted = await stores.post(talk.id, "d")

    assert await talk.context(posted.turn.id) == ["b", "B", "c", "C1", "d"]


async def test_regenerate_follows_the_choice_of_concurrency(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await stores.post(talk.id, "a")

    assert await _refused(talk.regenerate(asked.message.id)) is ErrorCode.CONFLICT
    queued = await talk.regenerate(asked.message.id, concurrency=Concurrency.ENQUEUE)
    assert (queued.dispatched, queued.interrupted) == (False, None)
    last = await talk.regenerate(asked.message.id, concurrency=Concurrency.INTERRUPT)

    assert last.interrupted is not None
    assert (last.interrupted.turn_ids, last.interrupted.closed_turn_ids) == ([asked.turn.id], [queued.turn.id])
    assert last.dispatched is False
    assert (await stores.finish(asked.turn.id, TurnStatus.CANCELLED)).next_turn_id == last.turn.id


async def test_only_a_users_message_of_the_session_is_answered_again(stores: Stores) -> None:
    talk, other = await conversation(stores), await conversation(stores)
    await talk.ask("a")
    elsewhere = await other.ask("b")
    answer = await stores.value(b"SELECT id FROM messages WHERE session_id = %(s)s AND role = 'assistant'", s=talk.id)

    assert await _refused(talk.regenerate(answer)) is ErrorCode.INVALID_MESSAGE
    for missing in (elsewhere.message.id, new_id()):
        assert await _refused(talk.regenerate(missing)) is ErrorCode.MESSAGE_NOT_FOUND
    assert await talk.active_branch() == 0


async def test_who_may_only_read_changes_no_branch(stores: Stores) -> None:
    session = await stores.shared_session()
    asked = await stores.post(session.id, "a")
    await stores.answer(asked.turn.id)
    await stores.finish(asked.turn.id)
    branches = PostgresBranches(stores.pool)
    talk = await conversation(stores)
    talk = type(talk)(stores, session.id)
    for user in (READER, STRANGER):
        assert await _refused(talk.regenerate(asked.message.id, user=user)) is ErrorCode.SESSION_NOT_FOUND
        assert await _refused(branches.activate(session.id, user, 0, now=session.created_at)) is (
            ErrorCode.SESSION_NOT_FOUND
        )
    assert (await talk.regenerate(asked.message.id, user=WRITER)).turn.branch == 1


async def test_a_branch_changes_only_while_the_session_may(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    await talk.answer_again(asked.message.id, "A1")
    for unknown in (2, -1, 2**40):
        assert await _refused(talk.activate(unknown)) is ErrorCode.MESSAGE_NOT_FOUND
    await stores.move(talk.id, SessionStatus.SUSPENDED)
    assert await _refused(talk.regenerate(asked.message.id)) is ErrorCode.INVALID_STATE
    assert await talk.activate(0)
    await stores.move(talk.id, SessionStatus.ENDED)
    assert await _refused(talk.regenerate(asked.message.id)) is ErrorCode.INVALID_STATE
    assert await _refused(talk.activate(1)) is ErrorCode.INVALID_STATE


async def test_the_active_branch_stays_while_a_turn_is_open(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    again = await talk.regenerate(asked.message.id)

    assert await _refused(talk.activate(0)) is ErrorCode.CONFLICT
    assert await talk.activate(1) is False
    await talk.finish(again.turn.id, "A1")
    assert await talk.activate(0)


async def test_an_expired_session_takes_no_other_branch(stores: Stores, service: BranchService) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    await talk.answer_again(asked.message.id, "A1")
    await stores.sql(
        b"UPDATE sessions SET config = %(c)s, created_at = now() - interval '1 hour' WHERE id = %(s)s",
        c=SessionConfig(expires_after_seconds=1).model_dump_json(),
        s=talk.id,
    )

    again = service.regenerate(talk.id, asked.message.id, Regeneration(), ANN, idempotency_key=None)
    assert await _refused(again) is ErrorCode.SESSION_EXPIRED
    assert await _refused(service.activate(talk.id, 0, ANN)) is ErrorCode.SESSION_EXPIRED


async def test_a_session_has_so_many_branches_at_most(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    await stores.sql(b"UPDATE sessions SET last_branch = %(n)s WHERE id = %(s)s", n=MAX_BRANCHES - 2, s=talk.id)

    assert (await talk.answer_again(asked.message.id, "A1")).turn.branch == MAX_BRANCHES - 1
    assert await _refused(talk.regenerate(asked.message.id)) is ErrorCode.INVALID_STATE


async def test_the_same_key_regenerates_once(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    first = await talk.regenerate(asked.message.id, idempotency=key("k"))
    again = await talk.regenerate(asked.message.id, idempotency=key("k"))

    assert (again.replayed, again.turn, again.message) == (True, first.turn, asked.message)
    assert await _refused(talk.regenerate(asked.message.id, idempotency=key("k", "other"))) is ErrorCode.CONFLICT
    assert await stores.value(b"SELECT count(*) FROM session_branches WHERE session_id = %(s)s", s=talk.id) == 1


async def test_of_all_who_ask_again_or_post_at_once_exactly_one_is_taken(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")

    outcomes = await asyncio.gather(
        *(talk.regenerate(asked.message.id) for _ in range(3)),
        *(stores.post(talk.id, "b") for _ in range(3)),
        return_exceptions=True,
    )

    (taken,) = (outcome for outcome in outcomes if isinstance(outcome, PostedMessage))
    assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome is not taken)
    expected = ["a", "A", "b"] if taken.turn.branch == 0 else ["a"]
    assert await talk.context(taken.turn.id) == expected
    assert await talk.active_branch() == taken.turn.branch


async def test_all_who_ask_again_and_queue_get_a_branch_of_their_own(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")

    posted = await asyncio.gather(
        *(talk.regenerate(asked.message.id, concurrency=Concurrency.ENQUEUE) for _ in range(6))
    )

    assert sorted(item.turn.branch for item in posted) == [1, 2, 3, 4, 5, 6]
    assert sum(item.dispatched for item in posted) == 1


async def test_pages_stay_on_the_branch_they_began_with(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    await talk.ask("b")
    history = HistoryManager(stores.sessions, stores.turns)
    first, cursor = await history.list_messages(talk.id, ANN, MessageFilter(), Page(limit=2))
    assert cursor is not None

    await talk.answer_again(asked.message.id, "A1")

    rest, _ = await history.list_messages(talk.id, ANN, MessageFilter(), Page(2, decode_cursor(cursor, int)))
    assert [message.content for message in first + rest] == ["a", "A", "b", "B"]
    for forged in ("", "x", "9" * 4_000, new_id()):
        after = decode_cursor(cursor, int)[0]
        if forged.isdecimal():
            attempt = history.list_messages(talk.id, ANN, MessageFilter(), Page(2, (after, forged)))
            assert await _refused(attempt) is ErrorCode.MESSAGE_NOT_FOUND
        else:
            of_active, _ = await history.list_messages(talk.id, ANN, MessageFilter(), Page(2, (after, forged)))
            assert [message.content for message in of_active] == ["A1"]
    nowhere = history.list_messages(talk.id, ANN, MessageFilter(branch=2), Page())
    assert await _refused(nowhere) is ErrorCode.MESSAGE_NOT_FOUND


async def test_clients_hear_of_the_branch_and_of_the_message_that_is_asked_again(
    stores: Stores, service: BranchService
) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")

    posted = await service.regenerate(talk.id, asked.message.id, Regeneration(), ANN, idempotency_key=None)

    activated, again = envelopes(posted.messages)
    assert (activated["type"], activated["data"]["active_branch"]) == ("session.activated", 1)
    record = await stores.sessions.get(talk.id, OWNER)
    assert activated["data"]["session"] == record.session.model_dump(mode="json")
    assert (again["type"], again["turn_id"], again["message_id"]) == (
        "message.updated",
        posted.result.turn.id,
        asked.message.id,
    )
    await talk.finish(posted.result.turn.id, "A1")
    session, messages = await service.activate(talk.id, 0, ANN)
    assert [event["data"]["active_branch"] for event in envelopes(messages)] == [0]
    assert session.active_branch == 0
    assert (await service.activate(talk.id, 0, ANN))[1] == []


async def test_a_stranger_sees_no_branches(stores: Stores, service: BranchService) -> None:
    talk = await conversation(stores)
    mallory = Principal(STRANGER, frozenset({Role.USER, Role.ADMIN}))

    assert await _refused(service.list_for(talk.id, mallory, Page())) is ErrorCode.SESSION_NOT_FOUND
    branches, cursor = await service.list_for(talk.id, ANN, Page())
    assert ([item.branch for item in branches], cursor) == ([0], None)


async def test_branches_go_with_their_session(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    await talk.answer_again(asked.message.id, "A1")
    await stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=talk.id)

    for table in (b"session_branches", b"session_checkpoints", b"messages", b"turns"):
        assert await stores.value(b"SELECT count(*) FROM " + table + b" WHERE session_id = %(s)s", s=talk.id) == 0
