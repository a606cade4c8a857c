"""The user's day with steps side by side: each reserves its part first, so that together they keep the budget."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.errors import BudgetExceeded, ErrorCode
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.life.branches import BranchService
from shared.sessions.limits.budgets import DailyLimits, Wanted, usage_day
from shared.sessions.llm.registry import Model, ModelRegistry
from shared.sessions.models import NewMessage, Regeneration, TurnStatus, Usage
from shared.sessions.records.steps import StepOutcome, StepStart
from shared.sessions.records.turns import PostedMessage
from tests.integration.bench import CALCULATE, MakeBench
from tests.integration.domain import Stores, Uncached, plan, result_of, script, turn_planner, until, utc_now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

DAY = 3_000
LIMITS = DailyLimits(daily_tokens=DAY)
HTTP = {"name": "http_request", "arguments": {"method": "POST", "url": "http://outside.test/"}}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANSWER = timedelta(minutes=8)


async def _posted(stores: Stores, user: str, content: str = "hello", **changes: Any) -> PostedMessage:
    session = await stores.session(owner=user)
    return await stores.post(session.id, content, user=user, turn_plan=plan(**changes))


async def _begin(
    stores: Stores, posted: PostedMessage, step: int = 1, *, limits: DailyLimits = LIMITS, now: datetime | None = None
) -> StepStart:
    now = now or utc_now()
    begun = await stores.steps.begin_step(
        posted.turn.id, step, message_id=new_id(), now=now, quiet_until=now + ANSWER, limits=limits
    )
    assert isinstance(begun, StepStart)
    return begun


def _tokens(start: StepStart) -> int:
    assert start.reservation is not None
    assert start.reservation.tokens is not None
    return start.reservation.tokens


async def _used(stores: Stores, user: str) -> int:
    rows = await stores.rows(b"SELECT input_tokens + output_tokens AS n FROM token_usage WHERE user_id = %(u)s", u=user)
    return sum(row["n"] for row in rows)


async def _reserved(stores: Stores, user: str) -> list[str]:
    """The turns that hold a part of the user's days."""
    rows = await stores.rows(
        b"SELECT jsonb_object_keys(reserved) AS turn FROM token_usage WHERE user_id = %(u)s", u=user
    )
    return [row["turn"] for row in rows]


# Twenty sessions that wait. ----------------------------------------------------------------------


async def test_twenty_sessions_that_wait_for_approvals_keep_the_days_budget(benches: MakeBench) -> None:
    """Posted one after the other: each waits for a person, and what it has used counts."""
    bench, user = await benches(limits=LIMITS), new_id()
    ann = Principal(user, frozenset())
    refused: list[ErrorCode] = []
    for _ in range(20):
        session = await bench.stores.session(owner=user)
        body = NewMessage(content=script(tool_calls=[[HTTP]], content="x " * 200))
        try:
            posted = await bench.service.post_message(session.id, body, ann, idempotency_key=None)
        except BudgetExceeded as exc:
            refused.append(exc.code)
            continue
        report = await bench.run(posted.result)
        assert report.outcome in {StepOutcome.TOOL_CALLS, StepOutcome.FAILED}

    assert set(refused) == {ErrorCode.RATE_LIMITED}
    assert await _used(bench.stores, user) < DAY + 1_000, "at most what the last step read"
    assert await _reserved(bench.stores, user) == [], "who waits holds nothing"


async def test_twenty_sessions_posted_at_once_keep_the_days_budget(benches: MakeBench) -> None:
    bench, user = await benches(limits=LIMITS), new_id()
    words = script(tool_calls=[[HTTP]], tokens=300)
    posted = [await _posted(bench.stores, user, words, tools=["http_request"]) for _ in range(20)]
    waiting, rounds = posted, 0
    outcomes: list[StepOutcome] = []
    while waiting:
        rounds += 1
        reports = await asyncio.gather(*(bench.run(one, tries=1) for one in waiting))
        outcomes += [report.outcome for report in reports if report.outcome is not StepOutcome.RETRY]
        assert all(report.delay_s >= 15 for report in reports if report.outcome is StepOutcome.RETRY)
        waiting = [one for one, report in zip(waiting, reports, strict=True) if report.outcome is StepOutcome.RETRY]
        assert rounds < 30, "somebody goes on in every round"

    assert outcomes.count(StepOutcome.TOOL_CALLS) >= 2
    assert StepOutcome.FAILED in outcomes, "the budget is used up for the others"
    assert DAY <= await _used(bench.stores, user) < DAY + 1_000, "at most what one step read"
    assert await _reserved(bench.stores, user) == []


async def test_a_turn_that_waited_in_vain_says_that_others_hold_the_rest(benches: MakeBench) -> None:
    bench, user = await benches(limits=LIMITS), new_id()
    first, second = [await _posted(bench.stores, user, script(content="hi")) for _ in range(2)]
    assert _tokens(await _begin(bench.stores, first)) == DAY

    report = await bench.run(second, tries=5)

    assert (report.outcome, report.code) == (StepOutcome.FAILED, ErrorCode.RATE_LIMITED)
    assert "reserved by your other turns" in report.detail
    assert bench.model.requests == []


# Races. ------------------------------------------------------------------------------------------


async def test_steps_that_begin_at_once_are_promised_no_token_twice(stores: Stores) -> None:
    user, limits = new_id(), DailyLimits(daily_tokens=100_000)
    posted = [await _posted(stores, user) for _ in range(12)]

    starts = await asyncio.gather(*(_begin(stores, one, limits=limits) for one in posted))

    shares = [_tokens(start) for start in starts]
    assert sum(shares) == 100_000
    assert sorted(shares)[-3:] == [32_768, 32_768, 32_768]
    assert shares.count(0) == 8


async def test_of_two_that_need_more_than_their_share_one_gets_it_and_the_other_waits(stores: Stores) -> None:
    user, limits = new_id(), DailyLimits(daily_tokens=64_000)
    first, second = [await _begin(stores, await _posted(stores, user), limits=limits) for _ in range(2)]
    assert (_tokens(first), _tokens(second)) == (32_768, 64_000 - 32_768)
    wanted = Wanted(50_000, 60_000, None, None)

    got = await asyncio.gather(
        *(stores.steps.reserve(start, wanted, limits, now=utc_now()) for start in (first, second))
    )

    assert sorted(one.tokens or 0 for one in got) == [0, 60_000]


async def test_a_long_conversation_reserves_what_it_reads_before_the_model_is_called(benches: MakeBench) -> None:
    limits = DailyLimits(daily_tokens=100_000)
    bench, user = await benches(limits=limits), new_id()
    question = script(content="short") + "\n" + "x" * 150_000
    posted = await _posted(bench.stores, user, question, max_context_tokens=200_000)
    others = await _posted(bench.stores, user)
    assert _tokens(await _begin(bench.stores, others, limits=limits)) == 32_768
    held: list[int] = []
    stream = bench.model.service.stream

    async def looking(request: Any) -> Any:
        (row,) = await bench.stores.rows(
            b"SELECT (reserved -> %(t)s ->> 'tokens')::int AS n FROM token_usage WHERE user_id = %(u)s",
            t=posted.turn.id,
            u=user,
        )
        held.append(row["n"])
        async for event in stream(request):
            yield event

    bench.model.service.stream = looking  # type: ignore[method-assign]
    report = await bench.run(posted)

    assert report.outcome is StepOutcome.FINAL
    assert 32_768 < held[0] <= 100_000 - 32_768
    assert bench.model.requests[-1].max_output_tokens is not None


async def test_a_usual_step_reserves_in_the_statement_that_begins_it_and_asks_for_nothing_more(
    benches: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, user = await benches(limits=DailyLimits(daily_tokens=2_000_000, daily_cost_usd=None)), new_id()

    async def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a statement more")

    monkeypatch.setattr(bench.stores.steps, "reserve", refuse)
    posted = await _posted(bench.stores, user, script(tool_calls=[[CALCULATE]], tokens=20), tools=["calculate"])

    ran = await bench.go_on(posted)

    assert ran.outcome is StepOutcome.FINAL
    assert await _reserved(bench.stores, user) == []


async def test_money_is_reserved_in_the_same_way(stores: Stores) -> None:
    user, limits = new_id(), DailyLimits(daily_cost_usd=1.2)
    posted = [await _posted(stores, user) for _ in range(4)]

    starts = await asyncio.gather(*(_begin(stores, one, limits=limits) for one in posted))

    costs = sorted(start.reservation.cost_usd for start in starts if start.reservation)  # type: ignore[type-var]
    assert costs == [0, Decimal("0.2"), Decimal("0.5"), Decimal("0.5")]
    assert all(start.reservation and start.reservation.tokens is None for start in starts)


async def test_racing_turns_do_not_spend_more_money_than_the_day_has(benches: MakeBench) -> None:
    registry = ModelRegistry({"scripted": Model(name="scripted", input_usd=2.0, output_usd=8.0, efforts=[])})
    limits = DailyLimits(daily_cost_usd=0.01)  # 1,250 written tokens
    bench, user = await benches(registry=registry, limits=limits), new_id()
    waiting = [await _posted(bench.stores, user, script(tokens=600), tools=[]) for _ in range(6)]
    while waiting:
        reports = await asyncio.gather(*(bench.run(one, tries=1) for one in waiting))
        waiting = [one for one, report in zip(waiting, reports, strict=True) if report.outcome is StepOutcome.RETRY]

    spent = await bench.stores.value(b"SELECT cost_usd FROM token_usage WHERE user_id = %(u)s", u=user)
    assert Decimal("0.009") < spent <= Decimal("0.0115"), "the day, and what one step read"


# What ends a reservation. ------------------------------------------------------------------------


async def test_a_stored_step_frees_what_it_did_not_use(stores: Stores) -> None:
    user = new_id()
    first, second = [await _posted(stores, user) for _ in range(2)]
    start = await _begin(stores, first)
    assert _tokens(await _begin(stores, second)) == 0

    assert await stores.steps.save_step(result_of(start))

    assert _tokens(await _begin(stores, second)) == DAY - 15


@pytest.mark.parametrize("used", [Usage(), Usage(input_tokens=3)], ids=["nothing used", "something used"])
async def test_a_step_that_failed_frees_it_too(stores: Stores, used: Usage) -> None:
    user = new_id()
    start = await _begin(stores, await _posted(stores, user))
    assert await stores.steps.save_step(replace(result_of(start), usage=used))
    assert await _reserved(stores, user) == []


async def test_a_step_that_pauses_before_it_is_tried_again_frees_it(stores: Stores) -> None:
    user = new_id()
    posted = await _posted(stores, user)
    await _begin(stores, posted)
    await stores.steps.note_pause(posted.turn.id, utc_now() + timedelta(seconds=9))
    assert await _reserved(stores, user) == []


async def test_what_a_killed_process_reserved_ends_with_the_longest_answer(stores: Stores) -> None:
    user = new_id()
    killed, other = [await _posted(stores, user) for _ in range(2)]
    await _begin(stores, killed, now=NOON)

    assert _tokens(await _begin(stores, other, now=NOON + ANSWER - timedelta(seconds=1))) == 0
    assert _tokens(await _begin(stores, other, now=NOON + ANSWER)) == DAY


async def test_a_step_that_is_begun_again_after_a_kill_replaces_its_reservation(stores: Stores) -> None:
    user = new_id()
    posted = await _posted(stores, user)
    first, again = await _begin(stores, posted), await _begin(stores, posted)

    assert (_tokens(first), _tokens(again)) == (DAY, DAY)
    assert again.attempt == first.attempt + 1
    assert not await stores.steps.save_step(result_of(first))
    assert await _reserved(stores, user) == [posted.turn.id], "the newer attempt still runs"


@pytest.mark.parametrize("status", [TurnStatus.CANCELLED, TurnStatus.FAILED])
async def test_a_turn_that_ends_frees_what_a_killed_process_reserved_for_it(stores: Stores, status: TurnStatus) -> None:
    user = new_id()
    posted = await _posted(stores, user)
    await _begin(stores, posted)

    await stores.finish(posted.turn.id, status)

    assert await _reserved(stores, user) == []
    assert await _used(stores, user) == 0


async def test_a_cancelled_answer_frees_it_and_counts_what_was_written(benches: MakeBench) -> None:
    bench, user = await benches(limits=LIMITS), new_id()
    posted = await _posted(bench.stores, user, script(key=new_id(), tokens=50, fail=[{"hang_after": 2}]), tools=[])
    running = asyncio.create_task(bench.run(posted))

    async def is_reserved() -> bool:
        return await _reserved(bench.stores, user) == [posted.turn.id]

    await until(is_reserved)
    await bench.stores.sql(b"UPDATE turns SET cancel_requested_at = now() WHERE id = %(t)s", t=posted.turn.id)

    assert (await running).outcome is StepOutcome.CANCELLED
    assert await _reserved(bench.stores, user) == []


async def test_the_next_day_begins_with_its_whole_budget_at_midnight_utc(stores: Stores) -> None:
    """Whatever still runs from the day before; and what that has used counts on the day it ends."""
    user, midnight = new_id(), datetime(2026, 3, 2, tzinfo=UTC)
    late, early = [await _posted(stores, user) for _ in range(2)]
    running = await _begin(stores, late, now=midnight - timedelta(seconds=1))
    assert _tokens(running) == DAY

    assert _tokens(await _begin(stores, early, now=midnight)) == DAY

    await stores.steps.save_step(replace(result_of(running), ended_at=midnight + timedelta(seconds=5)))
    rows = await stores.rows(
        b"SELECT day, input_tokens + output_tokens AS n FROM token_usage WHERE user_id = %(u)s", u=user
    )
    assert {row["day"]: row["n"] for row in rows} == {
        usage_day(midnight - timedelta(seconds=1)): 0,
        usage_day(midnight): 15,
    }


async def test_a_step_that_is_stored_is_said_again_without_reserving(stores: Stores) -> None:
    user = new_id()
    posted = await _posted(stores, user)
    assert await stores.steps.save_step(result_of(await _begin(stores, posted)))
    now = utc_now()
    again = await stores.steps.begin_step(
        posted.turn.id, 1, message_id=new_id(), now=now, quiet_until=now + ANSWER, limits=LIMITS
    )
    assert not isinstance(again, StepStart)
    assert await _reserved(stores, user) == []


async def test_without_a_daily_limit_nothing_is_reserved_and_no_row_is_written(stores: Stores) -> None:
    user = new_id()
    start = await _begin(stores, await _posted(stores, user), limits=DailyLimits())
    assert start.reservation is None
    assert await stores.rows(b"SELECT 1 AS x FROM token_usage WHERE user_id = %(u)s", u=user) == []


async def test_a_regenerated_answer_reserves_like_any_other(benches: MakeBench) -> None:
    bench, user = await benches(limits=LIMITS), new_id()
    stores = bench.stores
    session = await stores.session(owner=user)
    posted = await stores.post(session.id, script(tokens=5), user=user)
    await bench.finish(posted, await bench.run(posted))
    holder = await _posted(stores, user)
    await _begin(stores, holder)
    service = BranchService(
        stores.sessions, PostgresBranches(stores.pool), bench.publisher, turn_planner(stores, limits=LIMITS), Uncached()
    )

    again = await service.regenerate(
        session.id, posted.message.id, Regeneration(), Principal(user, frozenset()), idempotency_key=None
    )

    assert (await bench.run(again.result)).outcome is StepOutcome.RETRY
    await stores.finish(holder.turn.id, TurnStatus.CANCELLED)
    assert (await bench.run(again.result)).outcome is StepOutcome.FINAL
    assert await _reserved(stores, user) == []
