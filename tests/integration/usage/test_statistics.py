"""Statistics over PostgreSQL and Redis: right after every write, kept between them, and computed without Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from devhost.servers import Valkey
from shared.adapters.postgres.features.statistics import PostgresStatistics
from shared.adapters.redis.statistics import RedisStatisticsCache
from shared.errors import InvalidInput, NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.features.models import PeriodStatistics, SessionStatistics
from shared.sessions.features.statistics import StatisticsService
from shared.sessions.models import Concurrency, Decision, ToolCallStatus, TurnStatus
from shared.sessions.records.steps import ProposedCall, StepStart
from tests.integration.domain import READER, STRANGER, Stores, call, connect_redis, patient, result_of, utc_now, vote_on

pytestmark = pytest.mark.integration

type Write = Callable[[], Awaitable[Any]]


class CountingRows(PostgresStatistics):
    """Remembers how often it had to count."""

    computed = 0

    async def compute_session(self, session_id: str, user_id: str) -> tuple[str, SessionStatistics] | None:
        self.computed += 1
        return await super().compute_session(session_id, user_id)

    async def compute_period(
        self, user_id: str, since: datetime | None, until: datetime | None
    ) -> tuple[str, PeriodStatistics]:
        self.computed += 1
        return await super().compute_period(user_id, since, until)


@pytest.fixture
def rows(stores: Stores) -> CountingRows:
    return CountingRows(stores.pool)


@pytest.fixture
def statistics(rows: CountingRows, redis: Redis) -> StatisticsService:
    return StatisticsService(rows, RedisStatisticsCache(redis, patient(redis)))


def person() -> Principal:
    return Principal(new_id(), frozenset({Role.USER}))


async def _turn(stores: Stores, session_id: str, user: str) -> str:
    return (await stores.post(session_id, user=user, concurrency=Concurrency.ENQUEUE)).turn.id


async def _save_result(stores: Stores, tool_call_id: str, status: ToolCallStatus) -> None:
    await stores.tool_result(tool_call_id, status=status, content="r", tokens=1)


async def _decide(stores: Stores, approval_id: str, decision: Decision) -> None:
    approval = await stores.approvals.get(approval_id, "petr")
    assert approval is not None
    assert await stores.decide(approval, vote_on(approval, "petr", decision))


async def test_figures_are_right_after_every_write_of_a_turn_and_counted_once_per_write(
    statistics: StatisticsService, rows: CountingRows, stores: Stores
) -> None:
    """A turn with three tool calls: one runs by itself, one is approved, one is rejected."""
    ann = person()
    session = await stores.session(owner=ann.user_id)
    calls = [call(), call("http_request", {"url": "x"}, ordinal=1, needs_approval=True)]
    calls.append(call("http_request", {"url": "y"}, ordinal=2, needs_approval=True))
    approvals: list[str] = []
    turns: list[str] = []
    begun: list[StepStart] = []

    async def post() -> None:
        turns.append(await _turn(stores, session.id, ann.user_id))

    async def begin(number: int) -> None:
        begun.append(await stores.started(turns[0], number))

    async def save(number: int, proposals: Sequence[ProposedCall] = ()) -> None:
        assert await stores.steps.save_step(result_of(begun[number - 1], calls=proposals))

    async def request(index: int) -> None:
        approvals.append((await stores.request_approval(calls[index])).id)

    async def approve_and_request() -> None:
        await request(2)
        await _decide(stores, approvals[0], Decision.APPROVE)

    # (the write, and what of the figures must be so after it)
    walk: list[tuple[Write, dict[str, Any]]] = [
        (post, {"messages.user": 1, "turns.queued": 1, "turns.total": 1}),
        (lambda: begin(1), {"messages.assistant": 1, "turns.running": 1, "turns.queued": 0}),
        (lambda: save(1, calls), {"usage.input_tokens": 10, "usage.output_tokens": 5, "tool_calls.pending": 3}),
        (lambda: request(1), {"approvals.pending": 1, "turns.waiting_approval": 1}),
        (
            lambda: _save_result(stores, calls[0].id, ToolCallStatus.COMPLETED),
            {"messages.tool": 1, "tool_calls.completed": 1, "tool_calls.pending": 2},
        ),
        # As many are pending as before, and nothing else of the turn or its session moved.
        (
            approve_and_request,
            {"approvals.approved": 1, "approvals.pending": 1, "tool_calls.approved": 1, "approval_waits.count": 1},
        ),
        (
            lambda: _decide(stores, approvals[1], Decision.REJECT),
            {"approvals.pending": 0, "tool_calls.rejected": 1, "approval_waits.count": 2, "turns.running": 1},
        ),
        (
            lambda: _save_result(stores, calls[1].id, ToolCallStatus.FAILED),
            {"tool_calls.failed": 1, "tool_calls.approved": 0},
        ),
        (lambda: _save_result(stores, calls[2].id, ToolCallStatus.REJECTED), {"messages.tool": 3}),
        (lambda: begin(2), {"messages.assistant": 2, "usage.output_tokens": 5}),
        (lambda: save(2), {"messages.assistant": 2, "usage.output_tokens": 10}),
        (lambda: stores.finish(turns[0]), {"turns.completed": 1, "turns.running": 0, "turn_durations.count": 1}),
        (post, {"turns.total": 2, "messages.total": 7}),
        (
            lambda: stores.turns.cancel(session.id, turns[1], ann.user_id, now=utc_now()),
            {"turns.queued": 1},
        ),
        (lambda: stores.finish(turns[1], TurnStatus.CANCELLED), {"turns.cancelled": 1, "turns.queued": 0}),
    ]
    for number, (write, expected) in enumerate(walk):
        await write()
        before = rows.computed
        of_session = await statistics.of_session(session.id, ann)
        of_period = await statistics.of_period(ann, None, None)
        for figures in (of_session, of_period):
            found = {path: _at(figures.model_dump(), path) for path in expected}
            assert found == expected, f"after write {number}"
        shared = of_session.model_dump(exclude={"session_id"})
        assert of_period.model_dump(exclude={"since", "until", "sessions", "days"}, by_alias=False) == shared
        assert await statistics.of_session(session.id, ann) == of_session
        assert await statistics.of_period(ann, None, None) == of_period
        assert rows.computed <= before + 2, "what was counted is kept until the next write"
    waits = (await statistics.of_session(session.id, ann)).approval_waits
    assert waits.mean_seconds is not None
    assert waits.max_seconds is not None
    assert 0 <= waits.mean_seconds <= waits.max_seconds


def _at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values[part]
    return values


async def test_what_was_asked_for_a_turn_that_ended_waits_for_nobody(
    statistics: StatisticsService, stores: Stores
) -> None:
    ann = person()
    session = await stores.session(owner=ann.user_id)
    proposal = call(needs_approval=True)
    turn_id = await _turn(stores, session.id, ann.user_id)
    await stores.answer(turn_id, calls=[proposal])
    await stores.request_approval(proposal)
    for figures in (await statistics.of_session(session.id, ann), await statistics.of_period(ann, None, None)):
        assert (figures.approvals.pending, figures.tool_calls.failed) == (1, 0)

    await stores.finish(turn_id, TurnStatus.FAILED)

    for figures in (await statistics.of_session(session.id, ann), await statistics.of_period(ann, None, None)):
        assert (figures.approvals.pending, figures.tool_calls.failed) == (0, 1)


async def test_durations_are_what_the_rows_say(statistics: StatisticsService, stores: Stores) -> None:
    ann = person()
    session = await stores.session(owner=ann.user_id)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for seconds in (1, 2, 3, 4, 90):
        turn_id = await _turn(stores, session.id, ann.user_id)
        await stores.finish(turn_id)
        await stores.sql(
            b"UPDATE turns SET started_at = %(a)s, ended_at = %(b)s WHERE id = %(t)s",
            a=start,
            b=start + timedelta(seconds=seconds),
            t=turn_id,
        )

    measured = (await statistics.of_session(session.id, ann)).turn_durations

    # 1, 2, 3, 4, 90: the mean is 100 / 5; the 95th percentile lies at place 0.95 * 4 = 3.8, so 4 + 0.8 * (90 - 4).
    assert (measured.count, measured.mean_seconds, measured.p50_seconds) == (5, 20.0, 3.0)
    assert (measured.p95_seconds, measured.max_seconds) == (72.8, 90.0)


async def test_a_new_session_has_nothing_yet(statistics: StatisticsService, stores: Stores) -> None:
    ann = person()
    session = await stores.session(owner=ann.user_id)

    figures = await statistics.of_session(session.id, ann)
    assert (figures.messages.total, figures.turns.total, figures.usage.input_tokens) == (0, 0, 0)
    assert (figures.turn_durations.count, figures.turn_durations.mean_seconds) == (0, None)
    assert (await statistics.of_period(person(), None, None)).sessions == 0


async def test_participants_may_read_and_strangers_find_nothing_even_when_it_is_kept(
    statistics: StatisticsService, stores: Stores
) -> None:
    session = await stores.shared_session()
    owner = Principal("ann", frozenset({Role.USER}))
    kept = await statistics.of_session(session.id, owner)

    assert await statistics.of_session(session.id, Principal(READER, frozenset())) == kept
    for session_id in (session.id, new_id()):
        with pytest.raises(NotFound):
            await statistics.of_session(session_id, Principal(STRANGER, frozenset(Role)))


async def test_a_period_holds_what_was_made_in_it_by_sessions_one_owns(
    statistics: StatisticsService, stores: Stores
) -> None:
    ann, eve = person(), person()
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for day in range(4):
        session = await stores.session(owner=ann.user_id, now=start + timedelta(days=day))
        await stores.share(session.id, eve.user_id, "write")
        turn_id = await _turn(stores, session.id, eve.user_id)
        await stores.sql(
            b"WITH t AS (UPDATE turns SET created_at = %(at)s WHERE id = %(t)s)"
            b" UPDATE messages SET created_at = %(at)s WHERE turn_id = %(t)s",
            at=start + timedelta(days=day),
            t=turn_id,
        )

    async def count(since: datetime | None, until: datetime | None) -> tuple[int, int, int]:
        found = await statistics.of_period(ann, since, until)
        assert (found.since, found.until) == (since, until)
        return found.sessions, found.turns.total, found.messages.total

    day = timedelta(days=1)
    assert await count(None, None) == (4, 4, 4)
    assert await count(start, start + day) == (1, 1, 1)
    assert await count(start + day, None) == (3, 3, 3)
    assert await count(None, start + 3 * day) == (3, 3, 3)
    assert await count(start + 9 * day, None) == (0, 0, 0)
    assert (await statistics.of_period(eve, None, None)).turns.total == 0


async def test_the_same_period_in_another_zone_is_the_same(
    statistics: StatisticsService, rows: CountingRows, stores: Stores
) -> None:
    ann = person()
    found = await statistics.of_period(ann, datetime.fromisoformat("2026-01-01T02:00:00+02:00"), None)

    assert found.model_dump_json(include={"since"}) == '{"from":"2026-01-01T00:00:00Z"}'
    assert await statistics.of_period(ann, datetime(2026, 1, 1, tzinfo=UTC), None) == found
    assert rows.computed == 1


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"),
        ("0001-01-01T00:00:00+23:59", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"),
    ],
)
async def test_a_period_that_is_none_is_refused_by_name(statistics: StatisticsService, since: str, until: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await statistics.of_period(person(), datetime.fromisoformat(since), datetime.fromisoformat(until))

    assert caught.value.errors[0]["field"] in {"from", "to"}


async def test_a_deleted_session_counts_no_more_and_one_that_takes_its_id_starts_anew(
    statistics: StatisticsService, stores: Stores
) -> None:
    ann = person()
    empty = await stores.session(owner=ann.user_id)
    session = await stores.session(owner=ann.user_id)
    await stores.finish(await _turn(stores, session.id, ann.user_id))
    await stores.session(owner=ann.user_id)
    assert (await statistics.of_period(ann, None, None)).sessions == 3
    await stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=empty.id)
    before = await statistics.of_period(ann, None, None)
    assert (before.sessions, before.turns.total) == (2, 1)
    assert (await statistics.of_session(session.id, ann)).turns.completed == 1

    await stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=session.id)
    after = await statistics.of_period(ann, None, None)
    assert (after.sessions, after.turns.total) == (1, 0)
    with pytest.raises(NotFound):
        await statistics.of_session(session.id, ann)

    await stores.session(owner=ann.user_id, id=session.id)
    await stores.finish(await _turn(stores, session.id, ann.user_id), TurnStatus.FAILED)
    assert (await statistics.of_session(session.id, ann)).turns.failed == 1


async def test_what_does_not_fit_in_the_cache_is_counted_again(
    statistics: StatisticsService, rows: CountingRows, stores: Stores, redis: Redis
) -> None:
    ann = person()
    session = await stores.session(owner=ann.user_id)
    figures = await statistics.of_session(session.id, ann)
    keys = [key async for key in redis.scan_iter("parley:statistics:*")]
    assert all(session.id.encode() not in key for key in keys)
    for key in keys:
        marker, _, _ = (await redis.get(key)).partition(b"\n")
        await redis.set(key, marker + b'\n{"messages": "?"}')

    assert await statistics.of_session(session.id, ann) == figures
    assert rows.computed == 2


async def test_kept_figures_go_by_themselves(statistics: StatisticsService, stores: Stores, redis: Redis) -> None:
    ann = person()
    await redis.flushdb()
    await statistics.of_session((await stores.session(owner=ann.user_id)).id, ann)

    (key,) = [key async for key in redis.scan_iter("parley:statistics:*")]
    assert 0 < await redis.ttl(key) <= 3_600


async def test_without_redis_everything_is_computed(rows: CountingRows, stores: Stores, tmp_path: Path) -> None:
    ann = person()
    session = await stores.session(owner=ann.user_id)
    async with Valkey(tmp_path, fast=True) as server:
        redis = connect_redis(server.url)
        statistics = StatisticsService(rows, RedisStatisticsCache(redis, patient(redis)))
        await statistics.of_session(session.id, ann)
        await statistics.of_session(session.id, ann)
        assert rows.computed == 1
    try:
        await _turn(stores, session.id, ann.user_id)
        for _ in range(2):
            assert (await statistics.of_session(session.id, ann)).turns.total == 1
            assert (await statistics.of_period(ann, None, None)).turns.total == 1
        assert rows.computed == 5
    finally:
        await redis.aclose()


async def test_an_erased_session_leaves_no_figures(statistics: StatisticsService, stores: Stores, redis: Redis) -> None:
    ann = person()
    session = await stores.session(owner=ann.user_id)
    await redis.flushdb()
    await statistics.of_session(session.id, ann)
    for _ in range(2):
        await statistics.erase(session.id)

    assert [key async for key in redis.scan_iter("parley:statistics:*")] == []
