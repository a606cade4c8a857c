"""The last step of a turn closes it: one transaction stores the answer, ends the turn and hands over to the next one.

When that transaction was cut, or is said again, the orchestrator goes on to `finish_turn`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.ids import new_id
from shared.sessions.limits.budgets import DailyLimits
from shared.sessions.models import Concurrency, FinishReason, SessionStatus, TurnStatus
from shared.sessions.records.steps import SavedStep, StepOutcome, StepStart, StoredStep
from tests.integration.bench import Bench
from tests.integration.domain import Stores, call, envelopes, result_of, script

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


async def _save_last(stores: Stores, start: StepStart, **changes: Any) -> SavedStep:
    return await stores.steps.save_last_step(start.turn_id, replace(result_of(start), **changes))


async def test_the_turn_ends_as_finish_turn_would_end_it(stores: Stores) -> None:
    """Both closed a turn of the same plan and the same answer."""
    closed, finished = await stores.turn(), await stores.turn()
    saved = await _save_last(stores, await stores.started(closed.turn.id), finish_reason=FinishReason.STOP)
    await stores.answer(finished.turn.id, finish_reason=FinishReason.STOP)
    other = await stores.finish(finished.turn.id)

    assert saved.finished is not None
    own = {"target": other.target, "began_at": other.began_at, "ended_at": other.ended_at}
    assert replace(saved.finished, **own) == other
    assert saved.finished.target == replace(closed.target, may_seed=False, made_at=None)
    turns = [await stores.turns.get_turn(one.turn.session_id, one.turn.id) for one in (closed, finished)]
    own_of_turn = {"id", "session_id", "message_id", "created_at", "started_at", "ended_at"}
    assert turns[0].model_dump(exclude=own_of_turn) == turns[1].model_dump(exclude=own_of_turn)
    assert turns[0].ended_at == saved.finished.ended_at


async def test_the_next_turn_is_claimed_with_it_and_named_again_until_it_has_begun(stores: Stores) -> None:
    first = await stores.turn()
    start = await stores.started(first.turn.id)
    second, third = [await stores.post(first.turn.session_id, concurrency=Concurrency.ENQUEUE) for _ in range(2)]

    saved = await _save_last(stores, start)
    again = await stores.finish(first.turn.id)

    assert saved.finished is not None
    assert (saved.finished.next_turn_id, again.next_turn_id) == (second.turn.id, second.turn.id)
    assert (again.closed_now, again.status) == (False, TurnStatus.COMPLETED)
    start = await stores.started(second.turn.id)
    assert (await stores.finish(first.turn.id)).next_turn_id is None, "it has begun"
    following = await _save_last(stores, start)
    assert following.finished is not None
    assert following.finished.next_turn_id == third.turn.id


async def test_a_suspended_session_is_not_handed_over(stores: Stores) -> None:
    first = await stores.turn()
    start = await stores.started(first.turn.id)
    await stores.post(first.turn.session_id, concurrency=Concurrency.ENQUEUE)
    await stores.move(first.turn.session_id, SessionStatus.SUSPENDED)

    saved = await _save_last(stores, start)

    assert saved.finished is not None
    assert saved.finished.next_turn_id is None


async def test_an_attempt_that_was_overtaken_neither_stores_nor_closes(stores: Stores) -> None:
    posted = await stores.turn()
    old, new = await stores.started(posted.turn.id), await stores.started(posted.turn.id)
    queued = await stores.post(posted.turn.session_id, concurrency=Concurrency.ENQUEUE)

    assert await _save_last(stores, old) == SavedStep(is_stored=False)
    assert (await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).status is TurnStatus.RUNNING
    saved = await _save_last(stores, new)
    assert saved.finished is not None
    assert saved.finished.next_turn_id == queued.turn.id
    assert await _save_last(stores, new) == SavedStep(is_stored=False), "said again, it claims nothing again"


async def test_what_older_code_stored_and_did_not_count_is_left_to_finish_turn(stores: Stores) -> None:
    posted = await stores.turn()
    await stores.answer(posted.turn.id, calls=[call()])
    await stores.sql(b"UPDATE turns SET counted_tokens = 0 WHERE id = %(t)s", t=posted.turn.id)
    await stores.sql(b"UPDATE sessions SET used_tokens = 0 WHERE id = %(s)s", s=posted.turn.session_id)

    saved = await _save_last(stores, await stores.started(posted.turn.id, 2))

    assert saved == SavedStep(is_stored=True)
    assert (await stores.finish(posted.turn.id)).closed_now
    used = await stores.value(b"SELECT used_tokens FROM sessions WHERE id = %(s)s", s=posted.turn.session_id)
    assert used == 30


@pytest.mark.parametrize("seconds", [-1, 0], ids=["before midnight", "at midnight"])
async def test_it_frees_what_the_turn_reserved_on_whichever_day(stores: Stores, seconds: int) -> None:
    user, midnight = new_id(), datetime(2026, 3, 2, tzinfo=UTC)
    session = await stores.session(owner=user)
    posted = await stores.post(session.id, user=user)
    began = midnight + timedelta(seconds=seconds)
    until = began + timedelta(seconds=480)
    start = await stores.steps.begin_step(
        posted.turn.id, 1, message_id=new_id(), now=began, quiet_until=until, limits=DailyLimits(1_000)
    )
    assert isinstance(start, StepStart)

    saved = await _save_last(stores, start, ended_at=midnight + timedelta(seconds=5))

    assert saved.finished is not None
    rows = await stores.rows(b"SELECT reserved FROM token_usage WHERE user_id = %(u)s", u=user)
    assert [row["reserved"] for row in rows] == [{}] * len(rows)


async def test_the_end_is_told_after_the_answer_and_again_by_whoever_repeats_it(bench: Bench) -> None:
    posted = await bench.stores.turn(script(tokens=5))

    report = await bench.run(posted)
    again = await bench.run(posted)
    ran = await bench.finish(posted, again)

    assert report.finished is not None
    assert (again.outcome, again.is_repeated, again.finished) == (StepOutcome.FINAL, True, None)
    told = envelopes(report.messages)
    assert [event["type"] for event in told][-2:] == ["message.updated", "stream.ended"]
    assert [event["data"] for event in ran.events] == [told[-1]["data"]]
    assert not ran.finished.closed_now


async def test_a_step_with_tool_calls_leaves_its_turn_open(bench: Bench) -> None:
    posted = await bench.stores.turn(script(tool_calls=[[{"name": "calculate", "arguments": {"expression": "1"}}]]))

    report = await bench.run(posted)

    assert (report.outcome, report.finished) == (StepOutcome.TOOL_CALLS, None)
    assert isinstance(await bench.stores.begin(posted.turn.id), StoredStep)
    await bench.run_calls(report)
    assert (await bench.run(posted, 2)).finished is not None
