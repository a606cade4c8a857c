"""What ends a wait, at the same moment: one of the two counts, everybody is told the same, and the turn goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.errors import Conflict, Gone
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.models import ApprovalStatus, ToolCallStatus, TurnStatus, WaitStatus
from tests.integration.domain import OWNER, call, session_erasure, until, utc_now, vote_on
from tests.integration.turns.test_deferred_results import Workshop, workshop
from tests.integration.turns.test_subagents import Office, office

__all__ = ["office", "workshop"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

ME = Principal(OWNER, frozenset({Role.USER}))
type Act = Callable[[], Awaitable[Any]]


async def _in_order(workshop: Workshop, turn_id: str, *acts: Act) -> list[Any]:
    """What both acts say, who meet at the lock of their turn in this order."""
    stores = workshop.stores
    tasks: list[asyncio.Task[Any]] = []

    async def waiting(count: int) -> bool:
        found = await stores.value(
            b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(found >= count)

    async with stores.pool.transaction() as holder:
        query = b"SELECT FROM sessions WHERE id = (SELECT session_id FROM turns WHERE id = %(id)s) FOR UPDATE"
        await holder.execute(query, {"id": turn_id})
        for count, act in enumerate(acts, start=1):
            tasks.append(asyncio.ensure_future(act()))
            await until(lambda count=count: waiting(count))  # type: ignore[misc]
    return await asyncio.gather(*tasks, return_exceptions=True)


async def _wait(workshop: Workshop, call_id: str) -> Any:
    record = await workshop.stores.waits.of_call(call_id)
    assert record is not None
    return record.wait


@pytest.mark.parametrize("is_posted_first", [True, False], ids=["result first", "deadline first"])
async def test_a_result_that_is_posted_as_its_time_ends(workshop: Workshop, *, is_posted_first: bool) -> None:
    posted, call_id = await workshop.asked()
    wait = await _wait(workshop, call_id)
    acts: list[Act] = [lambda: workshop.post(call_id), lambda: workshop.handle(call_id, late_wait=wait.id)]

    said = await _in_order(workshop, posted.turn.id, *(acts if is_posted_first else acts[::-1]))

    answered, report = said if is_posted_first else said[::-1]
    stands = await _wait(workshop, call_id)
    told = await workshop.told(posted)
    if stands.status is WaitStatus.ANSWERED:
        assert answered.wait.id == wait.id
        assert (report.status, told["status"]) == (ToolCallStatus.COMPLETED, "completed")
    else:
        assert isinstance(answered, Gone)
        assert (report.status, told["status"]) == (ToolCallStatus.FAILED, "failed")
    assert (await workshop.handle(call_id)).status is report.status
    assert await workshop.stores.value(b"SELECT count(*) FROM tool_waits WHERE status = 'pending'") == 0


@pytest.mark.parametrize("is_posted_first", [True, False], ids=["result first", "cancel first"])
async def test_a_result_that_is_posted_as_its_turn_is_cancelled(workshop: Workshop, *, is_posted_first: bool) -> None:
    posted, call_id = await workshop.asked()
    session_id, turn_id = posted.turn.session_id, posted.turn.id
    acts: list[Act] = [
        lambda: workshop.post(call_id),
        lambda: workshop.stores.turns.cancel(session_id, turn_id, OWNER, now=utc_now()),
    ]

    said = await _in_order(workshop, turn_id, *(acts if is_posted_first else acts[::-1]))

    answered = said[0] if is_posted_first else said[1]
    stands = await _wait(workshop, call_id)
    assert isinstance(answered, Conflict) == (stands.status is WaitStatus.CANCELLED)
    assert (await workshop.handle(call_id)).status is ToolCallStatus.FAILED, "a cancelled turn goes on with nothing"
    for told in ({"content": "another"}, {"progress": {"text": "still there"}}):
        with pytest.raises(Conflict):
            await workshop.post(call_id, **told)


async def test_progress_after_the_deadline_is_told_to_nobody(workshop: Workshop) -> None:
    _posted, call_id = await workshop.asked()
    await workshop.stores.sql(b"UPDATE tool_waits SET expires_at = now() WHERE tool_call_id = %(id)s", id=call_id)

    with pytest.raises(Conflict):
        await workshop.post(call_id, progress={"text": "half"})


async def test_a_wait_that_is_older_than_any_may_be_ends_and_its_turn_goes_on(workshop: Workshop) -> None:
    """As after a hub that nobody served for two months."""
    posted, call_id = await workshop.asked()
    await workshop.stores.sql(
        b"UPDATE tool_waits SET opened_at = opened_at - i, expires_at = expires_at - i"
        b" FROM (SELECT interval '60 days' AS i) x WHERE tool_call_id = %(id)s",
        id=call_id,
    )
    await workshop.stores.sql(
        b"UPDATE turns SET created_at = created_at - i, started_at = started_at - i, dispatched_at = dispatched_at - i"
        b" FROM (SELECT interval '60 days' AS i) x WHERE id = %(id)s",
        id=posted.turn.id,
    )
    waits = await workshop.handle(call_id)
    assert waits.wait is not None
    assert waits.wait.expires_at < utc_now(), "a wait until a time that has passed ends at once"
    looked = await workshop.stores.turns.to_look_at(running_before=utc_now(), waiting_before=utc_now(), limit=1_000)
    assert posted.turn.id in {turn.turn_id for turn in looked}, "the sweep looks after it"

    with pytest.raises(Gone):
        await workshop.post(call_id)
    assert (await workshop.handle(call_id, late_wait=waits.wait.id)).status is ToolCallStatus.FAILED
    turn = await workshop.stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert (turn.status, turn.waits) == (TurnStatus.RUNNING, [])


async def test_while_and_after_its_session_is_erased_no_result_is_taken(
    workshop: Workshop, publisher: SessionEventPublisher
) -> None:
    posted, call_id = await workshop.asked()
    erasing = session_erasure(workshop.stores, publisher)
    await erasing.mark(posted.turn.session_id, ME, if_match=None)
    with pytest.raises(Conflict):
        await workshop.post(call_id)

    await erasing.erase_stores(posted.turn.session_id)
    with pytest.raises(Conflict):
        await workshop.post(call_id)

    query = b"SELECT count(*) FROM tool_waits WHERE tool_call_id = %(id)s"
    assert await workshop.stores.value(query, id=call_id) == 0


@pytest.mark.parametrize("order", [1, -1], ids=["decision first", "cancel first"])
async def test_an_approval_of_a_child_that_is_decided_as_its_caller_is_cancelled_lets_nothing_run(
    office: Office, order: int
) -> None:
    stores = office.stores
    for _ in range(3):
        posted, call_id = await office.asked()
        child = await office.child(call_id)
        inner = call("http_request", needs_approval=True)
        await stores.answer(child.turn_id, calls=[inner])
        approval = await stores.request_approval(inner)

        async def cancel(posted: Any = posted) -> None:
            await stores.turns.cancel(posted.turn.session_id, posted.turn.id, OWNER, now=utc_now())
            await office.agents.stop_below(posted.turn.id, now=utc_now())

        decision = stores.decide(approval, vote_on(approval))
        async with asyncio.timeout(30):
            await asyncio.gather(*[decision, cancel()][::order])

        report = await office.handle(inner.id)
        assert report.status in {ToolCallStatus.FAILED, ToolCallStatus.REJECTED}
        assert await stores.value(b"SELECT begun_at IS NULL FROM tool_calls WHERE id = %(id)s", id=inner.id)
        stands = await stores.approvals.get(approval.id, "anna")
        assert stands is not None
        assert stands.status in {ApprovalStatus.APPROVED, ApprovalStatus.CANCELLED}
        assert await stores.turns.cancel_requested([child.turn_id]) == {child.turn_id}
        assert (await office.handle(call_id)).status is ToolCallStatus.FAILED
