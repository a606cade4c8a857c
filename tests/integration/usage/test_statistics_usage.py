"""Statistics of what models used: tokens and costs by model and day, how answers ended, and never an older figure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.adapters.postgres.features.statistics import PostgresStatistics
from shared.adapters.redis.statistics import RedisStatisticsCache
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.features.models import MAX_DAYS, MAX_MODELS, PeriodStatistics, SessionStatistics
from shared.sessions.features.statistics import StatisticsService
from shared.sessions.models import FinishReason, MessageStatus, TurnStatus, Usage
from tests.integration.domain import Stores, patient, plan, result_of, utc_now

pytestmark = pytest.mark.integration

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def rows(stores: Stores) -> PostgresStatistics:
    return PostgresStatistics(stores.pool)


@pytest.fixture
def statistics(rows: PostgresStatistics, redis: Redis) -> StatisticsService:
    return StatisticsService(rows, RedisStatisticsCache(redis, patient(redis)))


@pytest.fixture
def ann() -> Principal:
    return person()


def person() -> Principal:
    return Principal(new_id(), frozenset({Role.USER}))


async def begun(stores: Stores, session_id: str, who: Principal, model: str = "scripted") -> str:
    """A turn that nobody has answered yet."""
    return (await stores.post(session_id, user=who.user_id, turn_plan=plan(model=model))).turn.id


async def answered(stores: Stores, turn_id: str, usage: Usage, **changes: Any) -> None:
    """Its first step, on record."""
    start = await stores.started(turn_id)
    values: dict[str, Any] = {"finish_reason": FinishReason.STOP, "ended_at": NOON, "usage": usage}
    assert await stores.steps.save_step(replace(result_of(start), **values | changes))


async def used(stores: Stores, session_id: str, who: Principal, usage: Usage, **changes: Any) -> str:
    """A whole turn with one answer."""
    turn_id = await begun(stores, session_id, who, changes.pop("model", "scripted"))
    await answered(stores, turn_id, usage, **changes)
    await stores.finish(turn_id)
    return turn_id


# What is counted. --------------------------------------------------------------------------------


async def test_tokens_and_costs_add_up_in_total_by_model_and_by_day(
    statistics: StatisticsService, stores: Stores, ann: Principal
) -> None:
    session = await stores.session(owner=ann.user_id)
    small = Usage(input_tokens=100, output_tokens=10, cached_input_tokens=60, reasoning_tokens=4, cost_usd=0.1)
    await used(stores, session.id, ann, small, model="small")
    await used(stores, session.id, ann, small.model_copy(update={"cost_usd": 0.2}), model="small")
    await used(stores, session.id, ann, Usage(input_tokens=1_000, output_tokens=1), model="own")
    later = NOON + timedelta(days=1)
    turn_id = await used(stores, session.id, ann, Usage(output_tokens=7, cost_usd=0.0004), model="big", ended_at=later)
    await stores.steps.add_usage(turn_id, Usage(input_tokens=3, cost_usd=0.0001), now=later)

    found = [await statistics.of_session(session.id, ann), await statistics.of_period(ann, None, None)]

    for figures in found:
        assert figures.usage.model_dump() == {
            "input_tokens": 1_203,
            "output_tokens": 28,
            "cached_input_tokens": 120,
            "reasoning_tokens": 8,
            "cost_usd": 0.3005,  # of those with a price, to the last digit
        }
        # The one that used most comes first; without a price nothing is said of its cost.
        assert [
            (own.model, own.turns, own.input_tokens, own.output_tokens, own.cost_usd) for own in figures.models
        ] == [
            ("own", 1, 1_000, 1, None),
            ("small", 2, 200, 20, 0.3),
            ("big", 1, 3, 7, 0.0005),
        ]
        assert [(own.cached_input_tokens, own.reasoning_tokens) for own in figures.models] == [(0, 0), (120, 8), (0, 0)]
    period = found[1]
    assert isinstance(period, PeriodStatistics)
    assert [day.model_dump() for day in period.days] == [
        {
            "day": date(2026, 3, 2),
            "input_tokens": 1_200,
            "output_tokens": 21,
            "cached_input_tokens": 120,
            "reasoning_tokens": 8,
            "cost_usd": 0.3,
        },
        {
            "day": date(2026, 3, 3),
            "input_tokens": 3,
            "output_tokens": 7,
            "cached_input_tokens": 0,
            "reasoning_tokens": 0,
            "cost_usd": 0.0005,
        },
    ]


async def test_without_a_price_no_cost_is_claimed(
    statistics: StatisticsService, stores: Stores, ann: Principal
) -> None:
    session = await stores.session(owner=ann.user_id)
    await used(stores, session.id, ann, Usage(input_tokens=5, output_tokens=5))

    of_session = await statistics.of_session(session.id, ann)
    of_period = await statistics.of_period(ann, None, None)

    costs = [of_session.usage, *of_session.models, of_period.usage, *of_period.models, *of_period.days]
    assert [of.cost_usd for of in costs] == [None] * 5


async def test_what_costs_nothing_costs_nothing(statistics: StatisticsService, stores: Stores, ann: Principal) -> None:
    session = await stores.session(owner=ann.user_id)
    await used(stores, session.id, ann, Usage(input_tokens=5, cost_usd=0.0))

    assert (await statistics.of_session(session.id, ann)).usage.cost_usd == 0


async def test_answers_are_counted_by_how_they_ended(
    statistics: StatisticsService, stores: Stores, ann: Principal
) -> None:
    session = await stores.session(owner=ann.user_id)
    for reason in (*FinishReason, FinishReason.LENGTH):
        await used(stores, session.id, ann, Usage(), finish_reason=reason)
    await used(stores, session.id, ann, Usage(), finish_reason=None)  # stored by older code
    await used(stores, session.id, ann, Usage(), finish_reason=None, status=MessageStatus.FAILED)
    cut = await begun(stores, session.id, ann)
    await stores.started(cut)
    await stores.finish(cut, TurnStatus.CANCELLED)

    for figures in (await statistics.of_session(session.id, ann), await statistics.of_period(ann, None, None)):
        assert figures.messages.assistant == 10
        assert figures.finish_reasons.model_dump() == {
            "total": 8,
            "stop": 1,
            "tool_calls": 1,
            "length": 2,
            "content_filter": 1,
            "refusal": 1,
            "cancelled": 2,
        }


async def test_models_beyond_the_most_used_are_one(
    statistics: StatisticsService, stores: Stores, ann: Principal
) -> None:
    session = await stores.session(owner=ann.user_id)
    for number in range(MAX_MODELS + 3):
        usage = Usage(input_tokens=1_000 - number, cost_usd=0.5)
        await used(stores, session.id, ann, usage, model=f"model-{number}")

    models = (await statistics.of_session(session.id, ann)).models

    assert [own.model for own in models] == [*(f"model-{number}" for number in range(MAX_MODELS)), None]
    # The last three: 950 + 949 + 948.
    assert (models[-1].turns, models[-1].input_tokens, models[-1].cost_usd) == (3, 2_847, 1.5)


# Days. -------------------------------------------------------------------------------------------


async def spend(stores: Stores, who: Principal, day: date, tokens: int = 1) -> None:
    await stores.sql(
        b"INSERT INTO token_usage (user_id, day, input_tokens, output_tokens) VALUES (%(u)s, %(d)s, %(t)s, 0)",
        u=who.user_id,
        d=day,
        t=tokens,
    )


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        (None, None, [1, 2, 3, 4]),
        ("2026-03-02T00:00:00Z", "2026-03-04T00:00:00Z", [2, 3]),
        # A day counts whole when a moment of it is in the period.
        ("2026-03-02T23:59:59Z", "2026-03-04T00:00:01Z", [2, 3, 4]),
        # The 2nd, 22:00, to the 3rd, 22:00: days are UTC wherever the caller is.
        ("2026-03-03T00:00:00+02:00", "2026-03-04T00:00:00+02:00", [2, 3]),
        ("2026-03-05T00:00:00Z", None, []),
        (None, "2026-03-01T00:00:00Z", []),
    ],
)
async def test_a_period_has_the_days_that_lie_in_it(
    statistics: StatisticsService, stores: Stores, ann: Principal, since: str | None, until: str | None, days: list[int]
) -> None:
    for day in (3, 1, 4, 2):
        await spend(stores, ann, date(2026, 3, day))

    found = await statistics.of_period(
        ann, datetime.fromisoformat(since) if since else None, datetime.fromisoformat(until) if until else None
    )

    assert [used.day.day for used in found.days] == days


async def test_a_long_period_has_its_last_days(statistics: StatisticsService, stores: Stores, ann: Principal) -> None:
    last = date(2026, 3, 2)
    for back in range(MAX_DAYS + 2):
        await spend(stores, ann, last - timedelta(days=back))

    days = (await statistics.of_period(ann, None, None)).days

    assert (len(days), days[0].day, days[-1].day) == (MAX_DAYS, last - timedelta(days=MAX_DAYS - 1), last)


async def test_days_are_of_whoever_asked_and_the_rest_is_of_who_owns_the_session(
    statistics: StatisticsService, stores: Stores, ann: Principal
) -> None:
    eve = person()
    session = await stores.session(owner=ann.user_id)
    await stores.share(session.id, eve.user_id, "write")
    kept = await statistics.of_period(eve, None, None)
    await used(stores, session.id, eve, Usage(input_tokens=30, cost_usd=0.5))

    anns, eves = await statistics.of_period(ann, None, None), await statistics.of_period(eve, None, None)

    assert (anns.usage.input_tokens, anns.days) == (30, [])
    assert (eves.usage.input_tokens, [day.input_tokens for day in eves.days]) == (0, [30])
    assert kept.days == [], "what was kept before eve's turn was not served after it"


# Nothing older is served. ------------------------------------------------------------------------


async def _served(
    statistics: StatisticsService, session_id: str, who: Principal
) -> tuple[SessionStatistics, PeriodStatistics]:
    return await statistics.of_session(session_id, who), await statistics.of_period(who, None, None)


async def _counted(
    rows: PostgresStatistics, session_id: str, who: Principal
) -> tuple[SessionStatistics, PeriodStatistics]:
    of_session = await rows.compute_session(session_id, who.user_id)
    assert of_session is not None
    return of_session[1], (await rows.compute_period(who.user_id, None, None))[1]


USES = [
    Usage(input_tokens=1),
    Usage(output_tokens=1),
    Usage(cached_input_tokens=1),
    Usage(reasoning_tokens=1),
    Usage(cost_usd=0.000_000_1),
]


@pytest.mark.parametrize("usage", USES, ids=lambda usage: next(iter(usage.model_fields_set)))
async def test_what_was_asked_beside_an_open_turn_shows_at_once(
    statistics: StatisticsService, rows: PostgresStatistics, stores: Stores, ann: Principal, usage: Usage
) -> None:
    session = await stores.session(owner=ann.user_id)
    turn_id = await begun(stores, session.id, ann)
    await answered(stores, turn_id, Usage(input_tokens=10, output_tokens=5, cost_usd=0.1))
    before = await _served(statistics, session.id, ann)

    await stores.steps.add_usage(turn_id, usage, now=utc_now())

    after = await _served(statistics, session.id, ann)
    assert after == await _counted(rows, session.id, ann)
    assert after[0].usage != before[0].usage
    assert after[1].days != before[1].days


@pytest.mark.parametrize("usage", [USES[0], USES[1], USES[4]], ids=lambda usage: next(iter(usage.model_fields_set)))
async def test_what_is_added_to_a_turn_that_has_ended_shows_at_once(
    statistics: StatisticsService, rows: PostgresStatistics, stores: Stores, ann: Principal, usage: Usage
) -> None:
    """A model call that was cut with its turn is counted after it; here in a session of ann's, on a day of eve's."""
    eve = person()
    session = await stores.session(owner=ann.user_id)
    await stores.share(session.id, eve.user_id, "write")
    turn_id = await used(stores, session.id, eve, Usage(input_tokens=10, cost_usd=0.1))
    before = await _served(statistics, session.id, ann)

    await stores.steps.add_usage(turn_id, usage, now=NOON)

    after = await _served(statistics, session.id, ann)
    assert after == await _counted(rows, session.id, ann)
    assert [figures.usage != older.usage for figures, older in zip(after, before, strict=True)] == [True, True]


@pytest.mark.parametrize("reason", FinishReason)
async def test_how_an_answer_ended_shows_at_once_even_if_it_used_nothing(
    statistics: StatisticsService, rows: PostgresStatistics, stores: Stores, ann: Principal, reason: FinishReason
) -> None:
    session = await stores.session(owner=ann.user_id)
    turn_id = await begun(stores, session.id, ann)
    start = await stores.started(turn_id)
    assert [found.finish_reasons.total for found in await _served(statistics, session.id, ann)] == [0, 0]

    assert await stores.steps.save_step(replace(result_of(start), usage=Usage(), finish_reason=reason))

    after = await _served(statistics, session.id, ann)
    assert after == await _counted(rows, session.id, ann)
    assert [getattr(found.finish_reasons, reason) for found in after] == [1, 1]


async def test_days_that_were_forgotten_are_gone_at_once(
    statistics: StatisticsService, stores: Stores, ann: Principal
) -> None:
    today = utc_now().date()
    for back, tokens in ((400, 7), (1, 7)):
        await spend(stores, ann, today - timedelta(days=back), tokens)
    assert len((await statistics.of_period(ann, None, None)).days) == 2

    # As many tokens as before, in as many rows: only the days differ.
    await stores.sessions.forget_token_usage(before=today - timedelta(days=90))
    await spend(stores, ann, today, 7)

    assert [day.day for day in (await statistics.of_period(ann, None, None)).days] == [today - timedelta(days=1), today]
