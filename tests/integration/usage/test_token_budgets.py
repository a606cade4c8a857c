"""Budgets on a real PostgreSQL: what a step is told, what counts once, what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.postgres.branches.branches import PostgresBranches
from shared.errors import BudgetExceeded, ErrorCode, InvalidState
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.events import SessionEventPublisher
from shared.sessions.executor import AgentExecutor
from shared.sessions.life.branches import BranchService
from shared.sessions.limits.budgets import DailyLimits, TokensUsed, usage_day
from shared.sessions.models import (
    MessageStatus,
    NewMessage,
    Regeneration,
    SessionConfig,
    SessionStatus,
    TurnError,
    TurnStatus,
    Usage,
)
from shared.sessions.records.steps import StoredStep
from shared.sessions.service import SessionService
from tests.integration.domain import OWNER, Stores, Uncached, plan, result_of, session_service, turn_planner, utc_now

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset())
STEP_TOKENS = 15
"""What `result_of` says a step used: 10 read, 5 written."""


async def _used(stores: Stores, user: str) -> list[tuple[int, int]]:
    rows = await stores.rows(b"SELECT input_tokens, output_tokens FROM token_usage WHERE user_id = %(user)s", user=user)
    return [(row["input_tokens"], row["output_tokens"]) for row in rows]


async def test_a_step_is_told_what_its_turn_its_session_and_the_users_day_have_used(stores: Stores) -> None:
    user = new_id()
    session = await stores.session(owner=user, config=SessionConfig(max_session_tokens=1_000))
    first = await stores.post(session.id, user=user)
    await stores.answer(first.turn.id)
    await stores.finish(first.turn.id)
    second = await stores.post(session.id, user=user)
    await stores.answer(second.turn.id)

    start = await stores.started(second.turn.id, 2)

    assert start.used == TokensUsed(turn=STEP_TOKENS, session=2 * STEP_TOKENS, user_day=2 * STEP_TOKENS)
    assert start.max_session_tokens == 1_000


async def test_a_turn_closed_twice_counts_once(stores: Stores) -> None:
    user = new_id()
    session = await stores.session(owner=user)
    posted = await stores.post(session.id, user=user)
    await stores.answer(posted.turn.id)

    await asyncio.gather(*(stores.finish(posted.turn.id) for _ in range(4)))

    assert await _used(stores, user) == [(10, 5)]
    assert (await stores.sessions.get(session.id, user)).used_tokens == STEP_TOKENS


async def test_a_step_stored_twice_counts_once(stores: Stores) -> None:
    user = new_id()
    session = await stores.session(owner=user)
    posted = await stores.post(session.id, user=user)
    old, new = await stores.started(posted.turn.id), await stores.started(posted.turn.id)

    assert [await stores.steps.save_step(result_of(start)) for start in (old, new, new)] == [False, True, False]
    await stores.finish(posted.turn.id)

    assert await _used(stores, user) == [(10, 5)]


async def test_turns_of_one_user_that_end_together_are_all_counted(stores: Stores) -> None:
    user = new_id()
    turns = []
    for _ in range(6):
        session = await stores.session(owner=user)
        posted = await stores.post(session.id, user=user)
        await stores.answer(posted.turn.id)
        turns.append(posted.turn.id)

    await asyncio.gather(*(stores.finish(turn_id) for turn_id in turns))

    assert await _used(stores, user) == [(60, 30)]


async def test_a_turn_that_used_nothing_leaves_no_line(stores: Stores) -> None:
    user = new_id()
    session = await stores.session(owner=user)
    posted = await stores.post(session.id, user=user)

    await stores.finish(posted.turn.id, TurnStatus.CANCELLED)

    assert await _used(stores, user) == []


async def test_the_one_who_asked_pays_and_not_the_owner(stores: Stores) -> None:
    owner, guest = new_id(), new_id()
    session = await stores.session(owner=owner)
    await stores.share(session.id, guest, "write")
    posted = await stores.post(session.id, user=guest)
    await stores.answer(posted.turn.id)
    await stores.finish(posted.turn.id)

    assert (await _used(stores, owner), await _used(stores, guest)) == ([], [(10, 5)])


async def test_yesterdays_tokens_do_not_count_today_and_are_forgotten(stores: Stores) -> None:
    user = new_id()
    session = await stores.session(owner=user)
    today = usage_day(utc_now())
    for days in (0, 1, 91):
        await stores.sql(b"INSERT INTO token_usage VALUES (%(u)s, %(d)s, 7, 1)", u=user, d=today - timedelta(days=days))

    *_, used = await stores.sessions.get_for_posting(session.id, user, day=today)
    await stores.sessions.forget_token_usage(before=today - timedelta(days=90))

    assert (used.tokens, len(await _used(stores, user))) == (8, 2)


@pytest.fixture
def service(stores: Stores, publisher: SessionEventPublisher) -> SessionService:
    return session_service(stores, publisher, user_daily_tokens=STEP_TOKENS)


async def _spent_session(stores: Stores, user: str, **config: Any) -> str:
    """A session with one closed turn."""
    session = await stores.session(owner=user, config=SessionConfig(**config))
    posted = await stores.post(session.id, user=user)
    await stores.answer(posted.turn.id)
    await stores.finish(posted.turn.id)
    return session.id


async def test_a_session_whose_budget_is_used_up_takes_no_message_until_it_is_raised(
    stores: Stores, publisher: SessionEventPublisher
) -> None:
    service = session_service(stores, publisher)
    session_id = await _spent_session(stores, OWNER, max_session_tokens=STEP_TOKENS)

    with pytest.raises(BudgetExceeded) as refused:
        await service.post_message(session_id, NewMessage(content="more"), ANN, idempotency_key=None)

    assert refused.value.code is ErrorCode.TOKEN_LIMIT
    assert await stores.value(b"SELECT count(*) FROM turns WHERE session_id = %(s)s", s=session_id) == 1
    await stores.sql(
        b"UPDATE sessions SET config = config || '{\"max_session_tokens\": 1000}' WHERE id = %(s)s", s=session_id
    )
    posted = await service.post_message(session_id, NewMessage(content="more"), ANN, idempotency_key=None)
    assert posted.start


async def test_a_user_whose_day_is_used_up_is_told_to_wait_for_midnight(
    stores: Stores, service: SessionService
) -> None:
    user = new_id()
    await _spent_session(stores, user)
    other = await stores.session(owner=user)

    with pytest.raises(BudgetExceeded) as refused:
        await service.post_message(
            other.id, NewMessage(content="more"), Principal(user, frozenset()), idempotency_key=None
        )

    assert refused.value.code is ErrorCode.RATE_LIMITED
    assert 0 < (refused.value.retry_after_s or 0) <= 86_400


async def test_a_repeated_request_gets_its_answer_although_it_used_the_budget_up(
    stores: Stores, service: SessionService
) -> None:
    user = new_id()
    ann = Principal(user, frozenset())
    session = await stores.session(owner=user)
    body = NewMessage(content="hello")
    first = await service.post_message(session.id, body, ann, idempotency_key="k")
    await stores.answer(first.result.turn.id)
    await stores.finish(first.result.turn.id)

    again = await service.post_message(session.id, body, ann, idempotency_key="k")

    assert (again.result.replayed, again.result.turn.id) == (True, first.result.turn.id)
    with pytest.raises(BudgetExceeded):
        await service.post_message(session.id, body, ann, idempotency_key="k2")
    keys = await stores.rows(b"SELECT key FROM idempotency_keys WHERE user_id = %(u)s", u=user)
    assert [row["key"] for row in keys] == ["k"], "a refused request leaves its key free"


async def test_an_answer_is_not_tried_again_beyond_the_budget(stores: Stores, publisher: SessionEventPublisher) -> None:
    user = new_id()
    session_id = await _spent_session(stores, user)
    asked = await stores.value(b"SELECT id FROM messages WHERE session_id = %(s)s AND role = 'user'", s=session_id)
    planner = turn_planner(stores, limits=DailyLimits(STEP_TOKENS))
    branches = BranchService(stores.sessions, PostgresBranches(stores.pool), publisher, planner, Uncached())

    with pytest.raises(BudgetExceeded):
        await branches.regenerate(session_id, asked, Regeneration(), Principal(user, frozenset()), idempotency_key=None)

    assert await stores.value(b"SELECT last_branch FROM sessions WHERE id = %(s)s", s=session_id) == 0


async def test_what_is_wrong_with_the_session_is_said_before_its_budget(
    stores: Stores, service: SessionService
) -> None:
    user = new_id()
    session_id = await _spent_session(stores, user)
    await stores.move(session_id, SessionStatus.ENDED, user=user)

    with pytest.raises(InvalidState):
        await service.post_message(
            session_id, NewMessage(content="more"), Principal(user, frozenset()), idempotency_key=None
        )


async def test_of_two_turns_racing_at_the_days_limit_the_one_that_looks_later_does_not_begin(stores: Stores) -> None:
    """Both began a step with room; the first to close uses the day up, and the other's next step is refused."""
    user = new_id()
    turns = []
    for _ in range(2):
        session = await stores.session(owner=user)
        posted = await stores.post(session.id, user=user, turn_plan=plan(tools=[]))
        turns.append(posted.turn.id)
    limit = 2 * STEP_TOKENS + 200
    executor = AgentExecutor(_NoModel(), limits=DailyLimits(limit))
    starts = await asyncio.gather(*(stores.started(turn_id) for turn_id in turns))
    for start in starts:
        allowed = (await executor.request(start, [])).max_output_tokens
        assert allowed is not None
        assert 0 < allowed <= limit
    used = Usage(input_tokens=limit - STEP_TOKENS, output_tokens=0)
    assert await stores.steps.save_step(replace(result_of(starts[0], content="long"), usage=used))
    assert await stores.steps.save_step(result_of(starts[1]))
    await stores.finish(turns[0])

    late = await stores.started(turns[1], 2)

    with pytest.raises(BudgetExceeded) as refused:
        await executor.request(late, [])
    assert refused.value.code is ErrorCode.RATE_LIMITED


class _NoModel:
    """Nobody calls it."""

    def stream(self, request: object) -> Any:
        raise AssertionError("the model was called")


async def test_a_failed_step_keeps_the_reason_for_a_repeat(stores: Stores) -> None:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    error = TurnError(code=ErrorCode.TOKEN_LIMIT, detail="The conversation is too long.")
    failed = replace(result_of(start, content="", status=MessageStatus.FAILED), usage=Usage(), tokens=0, error=error)
    assert await stores.steps.save_step(failed)

    stored = await stores.begin(posted.turn.id)

    assert isinstance(stored, StoredStep)
    assert (stored.status, stored.error) == (MessageStatus.FAILED, error)
