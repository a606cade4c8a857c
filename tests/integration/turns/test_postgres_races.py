"""Races inside the database, made certain: a connection of the test holds a row while the others run into it.

Every writer takes its locks in the order session, turn, approval, tool call; two that meet then wait for each other,
and none is killed as a deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from shared.adapters.postgres.queries import load_queries
from shared.ids import new_id
from shared.sessions.models import Concurrency, SessionStatus, TurnStatus
from shared.sessions.records.steps import StepClosed
from tests.integration.domain import OWNER, Stores, call, result_of, until, utc_now, vote_on

pytestmark = pytest.mark.integration


class Holder:
    """A transaction of the test's own, in another connection."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], stores: Stores) -> None:
        self._connection = connection
        self._stores = stores

    async def run(self, query: bytes, **parameters: Any) -> None:
        await self._connection.execute(query, parameters)

    async def release(self) -> None:
        await self._connection.commit()

    async def blocked[T](self, *work: Awaitable[T]) -> list[asyncio.Task[T]]:
        """Start `work`; returns once all of it waits for a lock."""
        tasks = [asyncio.ensure_future(item) for item in work]

        async def all_wait() -> bool:
            waiting = await self._stores.value(
                b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                b" AND application_name = 'parley' AND wait_event_type = 'Lock'"
            )
            return bool(waiting == len(tasks))

        await until(all_wait)
        return tasks


@pytest.fixture
async def holder(postgres_url: str, stores: Stores) -> AsyncIterator[Holder]:
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        yield Holder(connection, stores)


async def _idle_queue(stores: Stores) -> tuple[str, str]:
    """(session, its queued turn) after a hand-over that was cut."""
    first = await stores.turn()
    queued = await stores.post(first.message.session_id, concurrency=Concurrency.ENQUEUE)
    await stores.move(first.message.session_id, SessionStatus.SUSPENDED)
    await stores.finish(first.turn.id)
    await stores.move(first.message.session_id, SessionStatus.ACTIVE)
    return first.message.session_id, queued.turn.id


async def test_two_who_claim_the_next_turn_at_once_do_not_both_get_it(stores: Stores, holder: Holder) -> None:
    session_id, queued = await _idle_queue(stores)
    await holder.run(b"SELECT id FROM turns WHERE id = %(id)s FOR UPDATE", id=queued)
    claims = await holder.blocked(*(stores.turns.claim_next(session_id, now=utc_now()) for _ in range(3)))

    await holder.release()

    got = await asyncio.gather(*claims)
    assert [claim for claim in got if claim is not None] == [queued]


async def test_a_turn_closed_while_it_was_being_claimed_is_not_started(stores: Stores, holder: Holder) -> None:
    session_id, queued = await _idle_queue(stores)
    await holder.run(b"UPDATE turns SET ended_at = now(), status = 'cancelled' WHERE id = %(id)s", id=queued)
    (claim,) = await holder.blocked(stores.turns.claim_next(session_id, now=utc_now()))

    await holder.release()

    assert await claim is None


async def test_a_step_that_begins_while_its_turn_is_cancelled_is_closed(stores: Stores, holder: Holder) -> None:
    posted = await stores.turn()
    await holder.run(b"SELECT id FROM sessions WHERE id = %(id)s FOR UPDATE", id=posted.turn.session_id)
    (begun,) = await holder.blocked(stores.begin(posted.turn.id))

    await holder.run(b"UPDATE turns SET cancel_requested_at = now() WHERE id = %(id)s", id=posted.turn.id)
    await holder.release()

    assert await begun == StepClosed(cancelled=True)
    assert await stores.value(b"SELECT count(*) FROM messages WHERE turn_id = %(id)s", id=posted.turn.id) == 1


async def test_a_tool_result_that_meets_the_end_of_its_turn_waits(stores: Stores, holder: Holder) -> None:
    proposal = call()
    posted = await stores.proposed(proposal)
    await holder.run(b"SELECT id FROM sessions WHERE id = %(id)s FOR UPDATE", id=posted.turn.session_id)
    (saved,) = await holder.blocked(_save(stores, proposal.id))

    await holder.run(b"UPDATE tool_calls SET ended_at = now(), status = 'failed' WHERE id = %(id)s", id=proposal.id)
    await holder.release()

    assert await saved is False
    assert (
        await stores.value(b"SELECT count(*) FROM messages WHERE role = 'tool' AND turn_id = %(id)s", id=posted.turn.id)
        == 0
    )


async def test_a_decision_that_meets_a_cancel_waits_and_comes_too_late(stores: Stores, holder: Holder) -> None:
    proposal = call("http_request", needs_approval=True)
    posted = await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)
    await holder.run(b"SELECT id FROM turns WHERE id = %(id)s FOR UPDATE", id=posted.turn.id)
    (decided,) = await holder.blocked(_decide(stores, approval.id))

    await holder.run(b"UPDATE approvals SET status = 'cancelled' WHERE id = %(id)s", id=approval.id)
    await holder.release()

    assert await decided is False


async def test_a_timeout_that_meets_a_cancel_waits_and_comes_too_late(stores: Stores, holder: Holder) -> None:
    proposal = call("http_request", needs_approval=True)
    posted = await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)
    await holder.run(b"SELECT id FROM turns WHERE id = %(id)s FOR UPDATE", id=posted.turn.id)
    (timed_out,) = await holder.blocked(stores.time_out(proposal.id))

    await holder.run(b"UPDATE approvals SET status = 'cancelled' WHERE id = %(id)s", id=approval.id)
    await holder.release()

    assert await timed_out is False


async def test_a_turn_whose_last_two_approvals_are_decided_at_once_runs_again(stores: Stores, holder: Holder) -> None:
    proposals = [call("http_request", needs_approval=True, ordinal=ordinal) for ordinal in range(3)]
    posted = await stores.turn()
    await stores.answer(posted.turn.id, calls=proposals)
    approvals = [await stores.request_approval(proposal) for proposal in proposals]
    await holder.run(b"SELECT id FROM turns WHERE id = %(id)s FOR UPDATE", id=posted.turn.id)
    work = await holder.blocked(
        _decide(stores, approvals[0].id),
        _decide(stores, approvals[1].id),
        stores.time_out(proposals[2].id),
    )

    await holder.release()

    assert await asyncio.gather(*work) == [True, True, True]
    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert turn.status is TurnStatus.RUNNING


async def _decide(stores: Stores, approval_id: str) -> bool:
    approval = await stores.approvals.get(approval_id, "anna")
    assert approval is not None
    return await stores.decide(approval, vote_on(approval))


async def _save(stores: Stores, tool_call_id: str) -> bool:
    return await stores.tool_result(tool_call_id, result=None, message_id=f"message-of-{tool_call_id}", tokens=1)


async def test_a_cancel_does_not_deadlock_with_an_approval_that_is_asked_for(stores: Stores, holder: Holder) -> None:
    """Its audit line wants the session's row, which the cancel has: it waits for that before it locks the turn's."""
    proposal = call("http_request", needs_approval=True)
    posted = await stores.proposed(proposal)
    turn_id = posted.turn.id
    turns = load_queries("turns/turns")
    await holder.run(turns["lock_turn_for_user"], session_id=posted.turn.session_id, turn_id=turn_id, user_id=OWNER)
    (asking,) = await holder.blocked(stores.request_approval(proposal))

    await holder.run(b"SELECT id FROM turns WHERE id = %(id)s FOR UPDATE", id=turn_id)
    await holder.release()

    assert await asking


async def test_a_step_that_is_stored_waits_for_a_cancel_and_is_not_killed(stores: Stores, holder: Holder) -> None:
    """It counts what it used in the session, and so wants its row before the turn's, as the cancel does."""
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    turn_id = posted.turn.id
    turns = load_queries("turns/turns")
    await holder.run(turns["lock_turn_for_user"], session_id=posted.turn.session_id, turn_id=turn_id, user_id=OWNER)
    (saving,) = await holder.blocked(stores.steps.save_step(result_of(start, calls=[call("http_request")])))

    await holder.run(turns["request_cancel"], turn_ids=[turn_id], now=utc_now())
    await holder.release()

    assert await saving
    assert (await stores.turns.get_turn(posted.turn.session_id, turn_id)).usage.input_tokens == 10


async def test_a_turn_that_ends_takes_back_what_was_asked_of_people(stores: Stores) -> None:
    proposal = call("http_request", needs_approval=True)
    posted = await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)

    await stores.finish(posted.turn.id, TurnStatus.FAILED)

    assert not await stores.decide(approval, vote_on(approval))
    status = await stores.value(b"SELECT status FROM approvals WHERE id = %(id)s", id=approval.id)
    assert status == "cancelled"
    status = await stores.value(b"SELECT status FROM tool_calls WHERE id = %(id)s", id=proposal.id)
    assert status == "failed"
    # Whoever waits for the answer is told by the sweep.
    told = await stores.approvals.undelivered(before=utc_now() + timedelta(minutes=1), limit=1000)
    assert approval.id in {approval_id for approval_id, _ in told}


async def test_what_is_queued_while_a_last_step_waits_to_be_stored_is_handed_over(
    stores: Stores, holder: Holder
) -> None:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    session_id = posted.turn.session_id
    await holder.run(b"UPDATE sessions SET updated_at = now() WHERE id = %(s)s", s=session_id)
    (saving,) = await holder.blocked(stores.steps.save_last_step(posted.turn.id, result_of(start)))
    queued = new_id()
    await holder.run(
        b"INSERT INTO turns (id, session_id, number, branch, message_id, requested_by, status, plan, created_at)"
        b" SELECT %(id)s, session_id, number + 1, branch, message_id, requested_by, 'queued', plan, now()"
        b" FROM turns WHERE id = %(t)s",
        id=queued,
        t=posted.turn.id,
    )

    await holder.release()

    finished = (await saving).finished
    assert finished is not None
    assert finished.next_turn_id == queued
