"""Budgets in US dollars, with a priced model on real stores: what a step cost, and what is then refused."""

from __future__ import annotations

from decimal import Decimal

import pytest

from shared.errors import BudgetExceeded, ErrorCode, InvalidInput
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.limits.budgets import DailyLimits
from shared.sessions.llm.registry import Model, ModelRegistry
from shared.sessions.models import NewMessage, SessionConfig, TurnStatus
from shared.sessions.records.steps import StepOutcome
from tests.integration.bench import CALCULATE, Bench, MakeBench
from tests.integration.domain import OWNER, plan, script

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

READ_USD, CACHED_USD, WRITTEN_USD = 2.0, 0.5, 8.0
"""Per million tokens."""
PRICED = ModelRegistry(
    {
        "scripted": Model(
            name="scripted", input_usd=READ_USD, cached_input_usd=CACHED_USD, output_usd=WRITTEN_USD, efforts=[]
        )
    }
)
TINY_USD = 0.000_01
"""Less than any model step costs: five tokens read."""


@pytest.fixture
async def priced(benches: MakeBench) -> Bench:
    return await benches(registry=PRICED)


async def _spent_by(bench: Bench, user: str) -> Decimal:
    return Decimal(await bench.stores.value(b"SELECT cost_usd FROM token_usage WHERE user_id = %(u)s", u=user))


async def test_a_turn_costs_what_the_registry_says_and_session_and_day_know_it_to_the_last_digit(priced: Bench) -> None:
    user = new_id()
    session = await priced.stores.session(owner=user)
    words = script(tool_calls=[[CALCULATE]], content="done", cached_tokens=40)
    posted = await priced.stores.post(session.id, words, user=user, turn_plan=plan(tools=["calculate"]))

    ran = await priced.go_on(posted)

    used = ran.turn.usage
    assert used.cached_input_tokens == 80, "40 of each step"
    cost = (
        Decimal("2.0") * (used.input_tokens - 80) + Decimal("0.5") * 80 + Decimal("8.0") * used.output_tokens
    ) / 1_000_000
    assert used.cost_usd == float(cost)
    assert ran.finished.usage == used
    assert await _spent_by(priced, user) == cost
    assert (await priced.stores.sessions.get(session.id, user)).used_cost_usd == cost
    (ended,) = [event for event in ran.events if event["type"] == "stream.ended"]
    assert ended["data"]["usage"] == used.model_dump()
    told = [frame["usage"]["cost_usd"] for frame in priced.frames if frame["type"] == "message_end"]
    assert sum(Decimal(str(usd)) for usd in told) == cost


@pytest.mark.parametrize(
    ("budget", "code"),
    [("turn", ErrorCode.TOKEN_LIMIT), ("session", ErrorCode.TOKEN_LIMIT), ("day", ErrorCode.RATE_LIMITED)],
)
async def test_a_step_does_not_begin_when_the_one_before_it_used_the_money_up(
    benches: MakeBench, budget: str, code: ErrorCode
) -> None:
    bench = await benches(registry=PRICED, limits=DailyLimits(daily_cost_usd=TINY_USD if budget == "day" else None))
    user, key = new_id(), new_id()
    config = SessionConfig(max_session_cost_usd=TINY_USD) if budget == "session" else SessionConfig()
    session = await bench.stores.session(owner=user, config=config)
    posted = await bench.stores.post(
        session.id,
        script(key=key, tool_calls=[[CALCULATE]]),
        user=user,
        turn_plan=plan(tools=["calculate"], max_turn_cost_usd=TINY_USD if budget == "turn" else None),
    )

    first = await bench.run(posted)
    await bench.run_calls(first)
    second = await bench.run(posted, 2)

    assert first.outcome is StepOutcome.TOOL_CALLS
    assert (second.outcome, second.code) == (StepOutcome.FAILED, code)
    assert "US dollars" in second.detail
    assert (await bench.calls(key))["calls"] == 1
    ran = await bench.finish(posted, second)
    assert (ran.turn.status, ran.turn.error and ran.turn.error.code) == (TurnStatus.FAILED, code)


@pytest.mark.parametrize(("budget", "code"), [("session", ErrorCode.TOKEN_LIMIT), ("day", ErrorCode.RATE_LIMITED)])
async def test_no_message_is_taken_while_a_turn_that_used_the_money_up_still_waits(
    benches: MakeBench, budget: str, code: ErrorCode
) -> None:
    bench = await benches(registry=PRICED, limits=DailyLimits(daily_cost_usd=TINY_USD if budget == "day" else None))
    user = new_id()
    config = SessionConfig(max_session_cost_usd=TINY_USD) if budget == "session" else SessionConfig()
    session = await bench.stores.session(owner=user, config=config)
    posted = await bench.stores.post(
        session.id, script(tool_calls=[[CALCULATE]]), user=user, turn_plan=plan(tools=["calculate"])
    )
    await bench.run(posted)

    body = NewMessage(content="more", concurrency="enqueue")
    with pytest.raises(BudgetExceeded) as refused:
        await bench.service.post_message(session.id, body, Principal(user, frozenset()), idempotency_key=None)

    assert refused.value.code is code
    assert "US dollars" in refused.value.safe_message
    assert (refused.value.retry_after_s is not None) is (budget == "day")


async def test_money_left_bounds_what_a_call_may_answer(priced: Bench) -> None:
    session = await priced.stores.session()
    # 0.004 dollars are 500 written tokens, less what the question costs.
    ran = await priced.say(session.id, script(tokens=2_000), tools=[], max_turn_cost_usd=0.004)

    most = priced.model.requests[-1].max_output_tokens
    assert most is not None
    assert 256 <= most < 500
    assert ran.turn.finish_reason == "length"
    assert (ran.turn.usage.cost_usd or 0) <= 0.004


async def test_a_budget_in_money_for_a_model_without_a_price_is_refused_before_anything_is_paid_for(
    benches: MakeBench,
) -> None:
    """Where the session sets it: when the message is posted. Where only the deployment does: before the call."""
    bench = await benches(limits=DailyLimits(daily_cost_usd=100.0))
    ann = Principal(OWNER, frozenset())
    limited = await bench.stores.session(config=SessionConfig(max_session_cost_usd=5.0))
    with pytest.raises(InvalidInput) as refused:
        await bench.service.post_message(limited.id, NewMessage(content="hello"), ann, idempotency_key=None)
    assert refused.value.errors[0]["field"] == "config.max_session_cost_usd"
    assert "price" in refused.value.safe_message

    ran = await bench.say((await bench.stores.session()).id, script(tokens=3), tools=[])

    assert (ran.outcome, ran.turn.error and ran.turn.error.code) == (StepOutcome.FAILED, ErrorCode.TOKEN_LIMIT)
    assert "price of scripted is not known" in (ran.turn.error.detail if ran.turn.error else "")
    assert bench.model.requests == []
