"""What model calls use, on a real PostgreSQL: counted when a step is stored, once, for turn, session and user's day."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from shared.errors import BudgetExceeded, ErrorCode
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.events import SessionEventPublisher
from shared.sessions.limits.budgets import DailyLimits, TokensUsed, usage_day
from shared.sessions.models import NewMessage, SessionConfig, Usage
from shared.sessions.records.steps import StepOutcome, StepResult, StepStart
from shared.sessions.records.turns import PostedMessage
from tests.integration.bench import Bench, MakeBench
from tests.integration.domain import Stores, call, plan, result_of, script, session_service, until, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

STEP_TOKENS = 15
"""What `result_of` says a step used: 10 read, 5 written."""

FULL = Usage(input_tokens=1_000, output_tokens=200, cached_input_tokens=300, reasoning_tokens=150, cost_usd=0.0123)


async def _posted(stores: Stores, *, user: str | None = None, **config: Any) -> tuple[str, PostedMessage]:
    """A dispatched turn of a user of its own."""
    user = user or new_id()
    session = await stores.session(owner=user, config=SessionConfig(**config))
    return user, await stores.post(session.id, user=user)


async def _counted(stores: Stores, user: str, posted: PostedMessage) -> tuple[int, int, int]:
    """Tokens of the turn, of its session, and of the user's days."""
    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    record = await stores.sessions.get(posted.turn.session_id, user)
    return (
        turn.usage.input_tokens + turn.usage.output_tokens,
        record.used_tokens,
        sum((await _days(stores, user)).values()),
    )


async def _days(stores: Stores, user: str) -> dict[date, int]:
    rows = await stores.rows(
        b"SELECT day, input_tokens + output_tokens AS tokens FROM token_usage WHERE user_id = %(u)s", u=user
    )
    return {row["day"]: row["tokens"] for row in rows}


async def _saved_by_older_code(stores: Stores, posted: PostedMessage, start: StepStart, **changes: Any) -> None:
    """A step stored as the version before did it: the turn knows its tokens, and nobody else."""
    assert await stores.steps.save_step(replace(result_of(start, **changes), usage=Usage()))
    await stores.sql(
        b"UPDATE turns SET input_tokens = input_tokens + 10, output_tokens = output_tokens + 5 WHERE id = %(t)s",
        t=posted.turn.id,
    )


async def _result(stores: Stores, tool_call_id: str) -> None:
    assert await stores.tool_result(tool_call_id)


async def test_a_step_counts_everywhere_when_it_is_stored_and_no_second_time_when_the_turn_ends(
    stores: Stores,
) -> None:
    user, posted = await _posted(stores)

    await stores.answer(posted.turn.id, calls=[call(needs_approval=True)])
    waiting = await _counted(stores, user, posted)
    await stores.finish(posted.turn.id)

    assert waiting == (STEP_TOKENS,) * 3
    assert await _counted(stores, user, posted) == (STEP_TOKENS,) * 3


@pytest.mark.parametrize("limited", ["session", "day"])
async def test_a_turn_that_waits_for_a_person_has_used_a_budget_up_for_everybody_else(
    stores: Stores, publisher: SessionEventPublisher, limited: str
) -> None:
    """While it waits: no message is taken any more, and its own next step does not begin either."""
    is_day = limited == "day"
    limits = DailyLimits(daily_tokens=STEP_TOKENS if is_day else None)
    service = session_service(stores, publisher, limits=limits)
    user, posted = await _posted(stores, max_session_tokens=None if is_day else STEP_TOKENS)
    principal = Principal(user, frozenset())
    proposal = call("http_request", needs_approval=True)
    await stores.answer(posted.turn.id, calls=[proposal])
    elsewhere = posted.turn.session_id if limited == "session" else (await stores.session(owner=user)).id

    with pytest.raises(BudgetExceeded) as refused:
        await service.post_message(
            elsewhere, NewMessage(content="more", concurrency="enqueue"), principal, idempotency_key=None
        )

    expected = ErrorCode.RATE_LIMITED if limited == "day" else ErrorCode.TOKEN_LIMIT
    assert refused.value.code is expected
    assert (refused.value.retry_after_s is not None) is (limited == "day")
    await _result(stores, proposal.id)
    start = await stores.started(posted.turn.id, 2)
    assert start.used == TokensUsed(STEP_TOKENS, STEP_TOKENS, STEP_TOKENS)


@pytest.mark.parametrize("limited", ["session", "day"])
async def test_the_next_step_of_a_turn_whose_own_step_used_a_budget_up_fails_with_its_code(
    benches: MakeBench, stores: Stores, limited: str
) -> None:
    limits = DailyLimits(daily_tokens=10 if limited == "day" else None)
    bench = await benches(limits=limits)
    user, key = new_id(), new_id()
    session = await stores.session(
        owner=user, config=SessionConfig(max_session_tokens=10 if limited == "session" else None)
    )
    calls = [[{"name": "calculate", "arguments": {"expression": "1"}}]]
    posted = await stores.post(
        session.id, script(key=key, tool_calls=calls), user=user, turn_plan=plan(tools=["calculate"])
    )

    first = await bench.run(posted)
    await bench.run_calls(first)
    second = await bench.run(posted, 2)

    assert first.outcome is StepOutcome.TOOL_CALLS
    assert (second.outcome, second.code) == (
        StepOutcome.FAILED,
        ErrorCode.RATE_LIMITED if limited == "day" else ErrorCode.TOKEN_LIMIT,
    )
    assert (await bench.calls(key))["calls"] == 1


async def test_what_older_code_stored_counts_in_the_next_step_and_once_when_the_turn_closes(stores: Stores) -> None:
    user, posted = await _posted(stores)
    proposal = call()
    await _saved_by_older_code(stores, posted, await stores.started(posted.turn.id), calls=[proposal])
    assert await _counted(stores, user, posted) == (STEP_TOKENS, 0, 0)
    await _result(stores, proposal.id)

    start = await stores.started(posted.turn.id, 2)
    assert await stores.steps.save_step(result_of(start))
    stored = await _counted(stores, user, posted)
    await asyncio.gather(*(stores.finish(posted.turn.id) for _ in range(3)))

    assert start.used == TokensUsed(STEP_TOKENS, STEP_TOKENS, STEP_TOKENS)
    assert stored == (2 * STEP_TOKENS, STEP_TOKENS, STEP_TOKENS)
    assert await _counted(stores, user, posted) == (2 * STEP_TOKENS,) * 3


async def test_a_turn_of_older_code_alone_counts_when_it_closes(stores: Stores) -> None:
    user, posted = await _posted(stores)
    await _saved_by_older_code(stores, posted, await stores.started(posted.turn.id))

    await stores.finish(posted.turn.id)

    assert await _counted(stores, user, posted) == (STEP_TOKENS,) * 3
    split = await stores.rows(b"SELECT input_tokens, output_tokens FROM token_usage WHERE user_id = %(u)s", u=user)
    assert [tuple(row.values()) for row in split] == [(10, 5)]


async def test_every_kind_of_token_and_the_cost_are_kept_by_turn_session_and_day(stores: Stores) -> None:
    user, posted = await _posted(stores)

    await stores.answer(posted.turn.id, 1, calls=[call()], usage=FULL)
    await stores.answer(posted.turn.id, 2, usage=FULL.model_copy(update={"cost_usd": 0.0000001}))

    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert turn.usage == Usage(
        input_tokens=2_000, output_tokens=400, cached_input_tokens=600, reasoning_tokens=300, cost_usd=0.0123001
    )
    finished = await stores.finish(posted.turn.id)
    assert finished.usage == turn.usage
    (day,) = await stores.rows(
        b"SELECT input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd::text AS cost"
        b" FROM token_usage WHERE user_id = %(u)s",
        u=user,
    )
    assert tuple(day.values()) == (2_000, 400, 600, 300, "0.0123001")
    assert str((await stores.sessions.get(posted.turn.session_id, user)).used_cost_usd) == "0.0123001"


async def test_a_price_that_is_not_known_is_no_price_of_nothing(stores: Stores) -> None:
    _, posted = await _posted(stores)
    await stores.answer(posted.turn.id)
    assert (await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage.cost_usd is None

    await stores.answer(posted.turn.id, 2, usage=FULL)

    assert (await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)).usage.cost_usd == FULL.cost_usd


@pytest.mark.parametrize(
    ("read", "written"),
    [(20_000, 20_000), (32_767, 1), (40_000, 3), (1_000_000_000, 1_000_000_000), (0, 0)],
    ids=["small each", "at the edge", "one large", "the most there is", "nothing"],
)
async def test_any_number_of_tokens_can_be_stored(stores: Stores, read: int, written: int) -> None:
    """The driver sends each number in the smallest type that holds it; a sum must not have to fit there."""
    user, posted = await _posted(stores)
    usage = Usage(input_tokens=read, output_tokens=written)

    await stores.answer(posted.turn.id, usage=usage)
    await stores.steps.add_usage(posted.turn.id, usage, now=utc_now())

    assert await _counted(stores, user, posted) == (2 * (read + written),) * 3


async def test_what_a_model_was_asked_in_vain_counts_at_once_too(stores: Stores) -> None:
    user, posted = await _posted(stores)

    await stores.steps.add_usage(posted.turn.id, FULL, now=utc_now())
    await stores.answer(posted.turn.id)
    await stores.finish(posted.turn.id)

    total = FULL.input_tokens + FULL.output_tokens + STEP_TOKENS
    assert await _counted(stores, user, posted) == (total,) * 3
    turn = await stores.turns.get_turn(posted.turn.session_id, posted.turn.id)
    assert (turn.usage.cached_input_tokens, turn.usage.reasoning_tokens, turn.usage.cost_usd) == (300, 150, 0.0123)


async def test_an_attempt_that_broke_off_counts_beside_the_one_that_is_stored(bench: Bench, stores: Stores) -> None:
    user, key = new_id(), new_id()
    session = await stores.session(owner=user)
    posted = await stores.post(
        session.id, script(key=key, fail=[{"cut_after": 20}], tokens=60), user=user, turn_plan=plan(tools=[])
    )

    cut = await bench.run(posted)
    after_the_cut = await _counted(stores, user, posted)
    ran = await bench.go_on(posted)

    assert cut.outcome is StepOutcome.RETRY
    assert after_the_cut[0] > 0
    total = await _counted(stores, user, posted)
    assert total[0] > after_the_cut[0]
    assert after_the_cut == (after_the_cut[0],) * 3
    assert total == (total[0],) * 3
    assert ran.finished.usage == ran.turn.usage


async def test_an_attempt_that_was_refused_before_it_read_anything_costs_nothing(bench: Bench, stores: Stores) -> None:
    user = new_id()
    session = await stores.session(owner=user)
    refused = [{"status": 503, "retry_after_ms": 1}] * 2  # the second one in answer to the client's own second try
    posted = await stores.post(session.id, script(key=new_id(), fail=refused), user=user)

    assert (await bench.run(posted)).outcome is StepOutcome.RETRY

    assert await _counted(stores, user, posted) == (0, 0, 0)


async def test_an_attempt_that_was_overtaken_was_paid_for_all_the_same(bench: Bench, stores: Stores) -> None:
    """A process that was thought dead: its answer is thrown away, and its model has read, and written until its watch
    saw that the turn is over."""
    user, key = new_id(), new_id()
    session = await stores.session(owner=user)
    words = script(key=key, fail=[{"first_ms": 1_500}], tokens=50)
    posted = await stores.post(session.id, words, user=user, turn_plan=plan(tools=[]))
    slow = asyncio.create_task(bench.run(posted))

    async def is_asked() -> bool:
        return bool((await bench.calls(key))["calls"])

    await until(is_asked)
    finished = (await bench.run(posted)).finished
    overtaken = await slow

    assert overtaken.outcome is StepOutcome.RETRY
    assert finished is not None
    one = finished.usage.input_tokens + finished.usage.output_tokens
    both = await _counted(stores, user, posted)
    assert both == (both[0],) * 3
    assert 50 < one < both[0] <= 2 * one


def _ended(start: StepStart, at: datetime) -> StepResult:
    return replace(result_of(start), ended_at=at)


async def test_tokens_are_of_the_day_on_which_the_step_ended_and_not_of_the_turns(stores: Stores) -> None:
    """A turn that waits for a person over midnight has used yesterday's tokens yesterday."""
    user, posted = await _posted(stores)
    today = utc_now()
    for step, days in ((1, 2), (2, 1), (3, 1)):
        start = await stores.started(posted.turn.id, step)
        assert await stores.steps.save_step(_ended(start, today - timedelta(days=days)))
    await stores.steps.add_usage(posted.turn.id, Usage(input_tokens=4), now=today)

    await stores.finish(posted.turn.id)

    assert await _days(stores, user) == {
        usage_day(today - timedelta(days=2)): STEP_TOKENS,
        usage_day(today - timedelta(days=1)): 2 * STEP_TOKENS,
        usage_day(today): 4,
    }


async def test_steps_of_one_user_that_are_stored_together_all_count(stores: Stores) -> None:
    user = new_id()
    starts, added = [], []
    for _ in range(6):
        _, posted = await _posted(stores, user=user)
        starts.append(await stores.started(posted.turn.id))
        added.append(posted.turn.id)

    await asyncio.gather(
        *(stores.steps.save_step(result_of(start)) for start in starts),
        *(stores.steps.add_usage(turn_id, Usage(input_tokens=1), now=utc_now()) for turn_id in added),
        *(stores.finish(turn_id) for turn_id in added[:3]),
    )

    saved = await stores.value(
        b"SELECT count(*) FROM messages m JOIN turns t ON t.id = m.turn_id"
        b" WHERE t.requested_by = %(u)s AND m.role = 'assistant' AND m.status = 'completed'",
        u=user,
    )
    # One that was closed before its step came is stored no more; whoever was stored counts, and so does all the rest.
    assert saved >= 3
    assert sum((await _days(stores, user)).values()) == saved * STEP_TOKENS + 6


async def test_a_step_that_is_stored_several_times_at_once_is_stored_and_counted_once(stores: Stores) -> None:
    user, posted = await _posted(stores)
    start = await stores.started(posted.turn.id)

    async with stores.pool.transaction() as connection:
        # All of them find the step open, and wait for the session's lock.
        held = {"s": posted.turn.session_id}
        await connection.execute(b"SELECT FROM sessions WHERE id = %(s)s FOR NO KEY UPDATE", held)
        saving = [asyncio.create_task(stores.steps.save_step(result_of(start))) for _ in range(3)]
        waiting = (
            b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            b" AND query LIKE '%%save_turn_step%%'"
        )

        async def all_wait() -> bool:
            return bool(await stores.value(waiting) == len(saving))

        await until(all_wait)

    assert sorted(await asyncio.gather(*saving)) == [False, False, True]
    assert await _counted(stores, user, posted) == (STEP_TOKENS, STEP_TOKENS, STEP_TOKENS)


async def test_steps_of_one_session_that_are_stored_together_all_count_in_it(stores: Stores) -> None:
    user, posted = await _posted(stores)
    await stores.answer(posted.turn.id)

    await asyncio.gather(
        *(
            stores.steps.add_usage(posted.turn.id, Usage(input_tokens=2, output_tokens=1), now=utc_now())
            for _ in range(8)
        ),
        stores.finish(posted.turn.id),
    )

    assert await _counted(stores, user, posted) == (STEP_TOKENS + 24,) * 3
