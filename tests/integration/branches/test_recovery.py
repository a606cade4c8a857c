"""Checkpoints over PostgreSQL: when they are taken, how long they stay, and what coming back to one does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.postgres.branches.checkpoints import PostgresCheckpoints
from shared.errors import AppError, Conflict, ErrorCode
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.branches import MAX_BRANCHES
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.models import Concurrency, SessionConfig, SessionPatch, SessionStatus, TurnStatus
from shared.sessions.records.pages import Page, decode_cursor
from shared.sessions.records.turns import PostedMessage
from shared.sessions.recovery import KEPT_CHECKPOINTS, KEPT_ON_DEMAND_FOR, SessionRecoveryManager
from tests.integration.branches.branching import ANN, Conversation, conversation
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, Stores, Uncached, envelopes, utc_now

pytestmark = pytest.mark.integration


@pytest.fixture
def manager(stores: Stores, publisher: SessionEventPublisher) -> SessionRecoveryManager:
    return SessionRecoveryManager(stores.sessions, PostgresCheckpoints(stores.pool), publisher, Uncached())


async def _refused(attempt: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(AppError) as caught:
        await attempt
    return caught.value.code


async def test_there_is_a_checkpoint_before_each_turn(stores: Stores) -> None:
    talk = await conversation(stores)
    first = await talk.ask("a")
    again = await talk.answer_again(first.message.id, "A1")
    waiting = await stores.post(talk.id, "b")
    queued = await stores.post(talk.id, "c", concurrency=Concurrency.ENQUEUE)

    found = await talk.listed_checkpoints()

    turns = [first.turn.id, again.turn.id, waiting.turn.id, queued.turn.id]
    assert [item.before_turn_id for item in found] == turns
    assert [item.branch for item in found] == [0, 0, 1, 1]
    assert all(item.automatic and item.label is None for item in found)


async def test_a_session_comes_back_as_it_was_and_goes_on_from_there(
    stores: Stores, lifecycle: SessionLifecycle
) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    before = (await stores.sessions.get(talk.id, OWNER)).session
    kept = await talk.checkpoint("good")
    await talk.ask("b")
    changes = SessionPatch(
        name="Other", config=SessionConfig(max_steps=3, model="other"), tags=["t"], metadata={"k": [1, None]}
    )
    await lifecycle.patch(talk.id, changes, ANN, if_match=None)

    recovered = await talk.recover(kept.id)

    unlike = {"active_branch": 1, "updated_at": recovered.updated_at}
    assert recovered == before.model_copy(update=unlike)
    assert await talk.listed() == ["a", "A"]
    await talk.ask("c")
    assert await talk.listed() == ["a", "A", "c", "C"]
    assert await talk.listed(0) == ["a", "A", "b", "B"]


async def test_recovering_again_makes_no_second_branch(stores: Stores) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    kept = await talk.checkpoint()
    await talk.ask("b")
    first = await talk.recover(kept.id)

    assert [await talk.recover(kept.id) for _ in range(2)] == [first, first]
    await talk.activate(0)
    assert (await talk.recover(kept.id)).active_branch == 1
    assert (await talk.recover((await talk.checkpoint()).id)).active_branch == 1
    assert await stores.value(b"SELECT last_branch FROM sessions WHERE id = %(s)s", s=talk.id) == 1


async def test_a_branch_that_ends_at_the_checkpoint_is_gone_on_with(stores: Stores) -> None:
    talk = await conversation(stores)
    asked = await talk.ask("a")
    kept = await talk.checkpoint()
    await talk.answer_again(asked.message.id, "A1")

    assert (await talk.recover(kept.id)).active_branch == 0
    assert await talk.listed() == ["a", "A"]


async def test_the_first_checkpoint_leads_back_to_an_empty_conversation(stores: Stores) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    (kept,) = await talk.listed_checkpoints()

    recovered = await talk.recover(kept.id)

    assert (recovered.active_branch, recovered.status) == (1, SessionStatus.ACTIVE)
    assert await talk.listed() == []
    posted = await stores.post(talk.id, "b")
    assert await talk.context(posted.turn.id) == ["b"]
    (branch,) = (await talk.rows.list_for(talk.id, Page()))[1:]
    assert (branch.parent_branch, branch.fork_message_id) == (0, None)


async def test_one_taken_while_a_turn_runs_stands_behind_that_turn(stores: Stores) -> None:
    talk = await conversation(stores)
    posted = await stores.post(talk.id, "a")
    kept = await talk.checkpoint()
    await talk.finish(posted.turn.id, "A")
    await talk.ask("b")

    await talk.recover(kept.id)

    assert await talk.listed() == ["a", "A"]


async def test_recovery_takes_only_arrows_of_the_state_machine(stores: Stores) -> None:
    talk = await conversation(stores)
    created = await talk.checkpoint()
    await talk.ask("a")
    active = await talk.checkpoint()
    await stores.move(talk.id, SessionStatus.SUSPENDED)
    suspended = await talk.checkpoint()

    # (from, checkpoint) -> the status after it
    assert (await talk.recover(created.id)).status is SessionStatus.SUSPENDED
    assert (await talk.recover(active.id)).status is SessionStatus.ACTIVE
    assert (await talk.recover(created.id)).status is SessionStatus.ACTIVE
    assert (await talk.recover(suspended.id)).status is SessionStatus.SUSPENDED
    await stores.move(talk.id, SessionStatus.ENDED)
    assert await _refused(talk.recover(active.id)) is ErrorCode.INVALID_STATE
    assert await _refused(talk.checkpoint()) is ErrorCode.INVALID_STATE


async def test_an_expired_session_is_not_recovered(stores: Stores) -> None:
    talk = await conversation(stores)
    kept = await talk.checkpoint()
    await stores.sql(
        b"UPDATE sessions SET config = %(c)s, created_at = now() - interval '1 hour' WHERE id = %(s)s",
        c=SessionConfig(expires_after_seconds=1).model_dump_json(),
        s=talk.id,
    )

    assert await _refused(talk.recover(kept.id)) is ErrorCode.SESSION_EXPIRED
    assert await _refused(talk.checkpoint()) is ErrorCode.SESSION_EXPIRED


async def test_recovery_is_refused_while_a_turn_is_open(stores: Stores) -> None:
    talk = await conversation(stores)
    kept = await talk.checkpoint()
    posted = await stores.post(talk.id, "a")

    assert await _refused(talk.recover(kept.id)) is ErrorCode.CONFLICT
    await stores.finish(posted.turn.id, TurnStatus.CANCELLED)
    assert (await talk.recover(kept.id)).active_branch == 1


async def test_recovering_and_posting_at_once_happen_one_after_the_other(stores: Stores) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    kept = await talk.checkpoint()
    await talk.ask("b")

    recovered, posted = await asyncio.gather(talk.recover(kept.id), stores.post(talk.id, "c"), return_exceptions=True)

    assert isinstance(posted, PostedMessage)
    if isinstance(recovered, Conflict):
        expected = (0, ["a", "A", "b", "B", "c"])
    else:
        assert not isinstance(recovered, BaseException)
        expected = (1, ["a", "A", "c"])
    assert (posted.turn.branch, await talk.context(posted.turn.id)) == expected


async def test_all_who_recover_at_once_end_on_the_same_branch(stores: Stores) -> None:
    talk = await conversation(stores)
    kept = await talk.checkpoint()
    await talk.ask("a")

    recovered = await asyncio.gather(*(talk.recover(kept.id) for _ in range(5)))

    assert {session.active_branch for session in recovered} == {1}


async def test_recovery_counts_as_a_branch_like_any_other(stores: Stores) -> None:
    talk = await conversation(stores)
    kept = await talk.checkpoint()
    await talk.ask("a")
    await stores.sql(b"UPDATE sessions SET last_branch = %(n)s WHERE id = %(s)s", n=MAX_BRANCHES - 1, s=talk.id)

    assert await _refused(talk.recover(kept.id)) is ErrorCode.INVALID_STATE


async def test_a_checkpoint_is_found_in_its_own_session_by_its_owner(
    stores: Stores, manager: SessionRecoveryManager
) -> None:
    session = await stores.shared_session()
    talk = Conversation(stores, session.id)
    elsewhere = await (await conversation(stores)).checkpoint()
    kept = await talk.checkpoint()
    for unknown in (new_id(), elsewhere.id):
        assert await _refused(talk.recover(unknown)) is ErrorCode.MESSAGE_NOT_FOUND
    for user in (WRITER, READER, STRANGER):
        principal = Principal(user, frozenset({Role.USER, Role.ADMIN}))
        assert await _refused(talk.recover(kept.id, user=user)) is ErrorCode.SESSION_NOT_FOUND
        assert await _refused(manager.create_checkpoint(session.id, principal)) is ErrorCode.SESSION_NOT_FOUND
    rita, mallory = (Principal(user, frozenset({Role.USER})) for user in (READER, STRANGER))
    assert await manager.list_checkpoints(session.id, rita, Page()) == ([kept], None)
    assert await _refused(manager.list_checkpoints(session.id, mallory, Page())) is ErrorCode.SESSION_NOT_FOUND
    assert (await talk.recover(kept.id, user=OWNER)).id == session.id


async def test_clients_hear_what_a_recovery_changed(stores: Stores, manager: SessionRecoveryManager) -> None:
    talk = await conversation(stores)
    await stores.move(talk.id, SessionStatus.SUSPENDED)
    suspended = await talk.checkpoint()
    await stores.move(talk.id, SessionStatus.ACTIVE)
    await talk.ask("a")

    session, messages = await manager.recover_from_checkpoint(talk.id, suspended.id, ANN)

    assert [(event["type"], event["data"].get("active_branch")) for event in envelopes(messages)] == [
        ("session.activated", 1),
        ("session.suspended", None),
    ]
    assert all(event["data"]["session"] == session.model_dump(mode="json") for event in envelopes(messages))
    assert (await manager.recover_from_checkpoint(talk.id, suspended.id, ANN))[1] == []


async def test_checkpoint_pages_hold_each_once_newest_first(stores: Stores, manager: SessionRecoveryManager) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    for label in ("one", "two", None):
        await talk.checkpoint(label)
    labels: list[str | None] = []
    page = Page(limit=1)
    while True:
        found, cursor = await manager.list_checkpoints(talk.id, ANN, page)
        labels += [item.label for item in found]
        if cursor is None:
            break
        page = Page(1, decode_cursor(cursor, type(utc_now())))

    assert labels == [None, "two", "one", None]


async def test_of_those_on_demand_the_newest_are_kept(stores: Stores) -> None:
    talk = await conversation(stores)
    await talk.ask("a")
    await talk.checkpoint("the oldest")
    await stores.sql(
        b"INSERT INTO session_checkpoints SELECT session_id, id || n, branch, turn_number, automatic, 'later', name,"
        b" status, agent_id, config, tags, metadata, created_at + n * interval '1 us' FROM session_checkpoints,"
        b" generate_series(1, %(n)s) n WHERE session_id = %(s)s AND label = 'the oldest'",
        s=talk.id,
        n=KEPT_CHECKPOINTS - 1,
    )

    await talk.checkpoint("the newest")

    kept = await talk.listed_checkpoints()
    assert [item.automatic for item in kept].count(True) == 1
    on_demand = [item.label for item in kept if not item.automatic]
    assert (len(on_demand), on_demand[0], on_demand[-1]) == (KEPT_CHECKPOINTS, "later", "the newest")


async def test_those_that_are_too_many_or_too_old_go(stores: Stores, manager: SessionRecoveryManager) -> None:
    long, quiet, old, ancient = [await conversation(stores) for _ in range(4)]
    for talk, days in ((long, 0), (quiet, 1), (old, 91), (ancient, 366)):
        for text in "abc":
            await talk.ask(text)
        await talk.checkpoint("mine")
        await stores.sql(
            b"UPDATE session_checkpoints SET created_at = created_at - %(age)s WHERE session_id = %(s)s",
            age=timedelta(days=days),
            s=talk.id,
        )
    now = utc_now()

    await PostgresCheckpoints(stores.pool).forget(
        before=now - timedelta(days=90),
        on_demand_before=now - timedelta(days=365),
        since=now - timedelta(hours=1),
        kept=2,
    )

    counts = [len(await talk.listed_checkpoints()) for talk in (long, quiet, old, ancient)]
    assert counts == [2 + 1, 3 + 1, 0 + 1, 0]
    assert [item.automatic for item in await long.listed_checkpoints()] == [True, True, False]
    assert await manager.forget_checkpoints(now=now) == 0
    await manager.forget_checkpoints(now=utc_now() + KEPT_ON_DEMAND_FOR)
    assert await long.listed_checkpoints() == []
