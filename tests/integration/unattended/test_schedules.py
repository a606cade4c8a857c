"""Schedules on PostgreSQL: whose they are, what becomes of due times, crashes between two stores, rights that are lost.

Time is a value: nothing here waits for a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.unattended.schedules import PostgresSchedules
from shared.errors import InvalidInput, NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.events import SessionEventPublisher
from shared.sessions.limits.budgets import DailyLimits
from shared.sessions.models import NewSession, SessionConfig, SessionStatus, TurnStatus
from shared.sessions.service import SessionService
from shared.sessions.unattended.models import (
    Missed,
    NewSchedule,
    Overlap,
    RunStatus,
    ScheduleDetail,
    ScheduleStatus,
)
from shared.sessions.unattended.running import CLAIM, Ran, ScheduleRunner
from shared.sessions.unattended.schedules import MAX_OWN_SCHEDULES, ScheduleService
from tests.integration.domain import Stores, session_service

pytestmark = pytest.mark.integration

EIGHT = datetime(2026, 6, 1, 8, tzinfo=UTC)
NINE = datetime(2026, 6, 1, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
HOURLY = "0 0 * * * *"


def somebody() -> Principal:
    return Principal(new_id(), frozenset({Role.USER.value}))


@dataclass(frozen=True)
class App:
    """What a process has of schedules. Each test has owners of its own, and time of its own."""

    stores: Stores
    rows: PostgresSchedules
    schedules: ScheduleService
    runner: ScheduleRunner
    sessions: SessionService

    @classmethod
    def over(cls, stores: Stores, publisher: SessionEventPublisher, **limits: Any) -> App:
        rows = PostgresSchedules(stores.pool)
        sessions = session_service(stores, publisher, **limits)
        agents = AgentCatalog(PostgresAgents(stores.pool))
        return cls(
            stores, rows, ScheduleService(rows, stores.sessions, agents), ScheduleRunner(rows, sessions), sessions
        )

    async def look(self, now: datetime) -> list[Ran]:
        """What the sweep does."""
        while await self.schedules.move_due(now=now):
            pass
        ran = []
        while runs := await self.runner.claim(now=now):
            ran.extend([await self.runner.run(run, now=now) for run in runs])
        return ran

    async def put(self, owner: Principal, schedule_id: str = "daily", now: datetime = EIGHT, **fields: Any) -> Any:
        if "at" not in fields:
            fields.setdefault("cron", HOURLY)
        body = NewSchedule(**{"content": "What is new?"} | fields)
        return (await self.schedules.put(schedule_id, body, owner, now=now))[0]

    async def get(self, owner: Principal, schedule_id: str = "daily") -> ScheduleDetail:
        return await self.schedules.get(schedule_id, owner)

    async def outcomes(self, owner: Principal) -> list[tuple[datetime, str]]:
        """Oldest first."""
        return [(run.due_at, run.status.value) for run in reversed((await self.get(owner)).runs)]

    async def turns_of(self, owner: Principal) -> list[dict[str, Any]]:
        return await self.stores.rows(
            b"SELECT t.*, m.content FROM turns t JOIN messages m ON m.id = t.message_id"
            b" WHERE t.requested_by = %(user)s ORDER BY t.number, t.id",
            user=owner.user_id,
        )


@pytest.fixture
async def app(stores: Stores, publisher: SessionEventPublisher) -> App:
    await stores.sql(b"DELETE FROM schedules")  # of other tests: their time is not this one's
    return App.over(stores, publisher)


def started(ran: Sequence[Ran]) -> list[str]:
    return [turn for one in ran for turn in one.turns]


async def test_a_due_schedule_posts_to_a_new_session_as_its_owner(app: App) -> None:
    ann = somebody()
    made = await app.put(ann, agent_id=None, config=SessionConfig(max_steps=3), name="News")
    assert (made.status, made.next_run_at) == (ScheduleStatus.ACTIVE, NINE)
    assert await app.look(NINE - SECOND) == []

    ran = await app.look(NINE)

    (turn,) = await app.turns_of(ann)
    assert started(ran) == [turn["id"]]
    assert (turn["content"], turn["plan"]["max_steps"], turn["plan"]["roles"]) == ("What is new?", 3, ["user"])
    record = await app.stores.sessions.get(turn["session_id"], ann.user_id)
    assert (record.owner_id, record.session.name) == (ann.user_id, "News")
    assert record.session.metadata == {"schedule": "daily", "due_at": NINE.isoformat()}
    found = await app.get(ann)
    (run,) = found.runs
    assert (run.status, run.session_id, run.turn_id) == (RunStatus.POSTED, turn["session_id"], turn["id"])
    assert (found.last_run, found.next_run_at) == (run, NINE + HOUR)
    assert (await app.schedules.list_for(ann))[0].last_run == run


async def test_each_run_has_a_session_of_its_own_or_the_one_that_is_named(app: App) -> None:
    ann, will = somebody(), somebody()
    session = await app.stores.session(owner=will.user_id)
    await app.put(ann)
    await app.put(will, session_id=session.id, overlap=Overlap.QUEUE)
    for hour in range(2):
        await app.look(NINE + hour * HOUR)
        for turn in [*await app.turns_of(ann), *await app.turns_of(will)]:
            await app.stores.finish(turn["id"])
    assert len({turn["session_id"] for turn in await app.turns_of(ann)}) == 2
    assert [turn["session_id"] for turn in await app.turns_of(will)] == [session.id] * 2


async def test_once_is_once_and_then_it_is_done(app: App) -> None:
    ann = somebody()
    await app.put(ann, at=NINE)
    await app.look(NINE + SECOND)
    await app.look(NINE + HOUR)
    assert len(await app.turns_of(ann)) == 1
    found = await app.get(ann)
    assert (found.status, found.next_run_at) == (ScheduleStatus.DONE, None)


async def test_a_time_that_has_passed_is_refused(app: App) -> None:
    with pytest.raises(InvalidInput, match="time has passed"):
        await app.put(somebody(), at=EIGHT)


# Crashes. --------------------------------------------------------------------------------------


async def test_killed_before_a_due_time_became_a_run_nothing_is_lost(app: App) -> None:
    """The transaction that moves the schedule on is the one that makes the run."""
    ann = somebody()
    await app.put(ann)

    def killed(*_: object) -> Any:
        raise ConnectionAbortedError

    with pytest.raises(Exception):  # noqa: B017 - the adapter's own, of a transaction that was rolled back
        await app.rows.move_due(killed, now=NINE, limit=9, kept=9)
    assert await app.outcomes(ann) == []
    await app.look(NINE + SECOND)
    assert await app.outcomes(ann) == [(NINE, "posted")]


async def test_killed_between_due_and_posted_another_process_posts_it(app: App) -> None:
    ann = somebody()
    await app.put(ann)
    await app.schedules.move_due(now=NINE)
    (claimed,) = await app.runner.claim(now=NINE)
    assert await app.look(NINE + SECOND) == [], "another process leaves it to the one that has it"
    assert await app.outcomes(ann) == [(NINE, "pending")]

    ran = await app.look(NINE + CLAIM + SECOND)

    (turn,) = await app.turns_of(ann)
    assert started(ran) == [turn["id"]]
    assert await app.outcomes(ann) == [(claimed.due_at, "posted")]


@pytest.mark.parametrize("away", [timedelta(0), timedelta(days=3)])
async def test_killed_between_posted_and_noted_nothing_runs_twice(app: App, away: timedelta) -> None:
    """Also when the app was away for longer than idempotency keys are kept."""
    ann = somebody()
    await app.put(ann)
    await app.schedules.move_due(now=NINE)
    (run,) = await app.runner.claim(now=NINE)
    await app.runner.run(run, now=NINE)
    (turn,) = await app.turns_of(ann)
    await app.stores.sql(
        b"UPDATE schedule_runs SET status = 'pending', claimed_until = %(until)s WHERE schedule_uid = %(uid)s",
        uid=run.record.uid,
        until=NINE + CLAIM,
    )
    await app.stores.sessions.forget_idempotency_keys(before=datetime.now(UTC) + away)

    (again,) = await app.runner.claim(now=NINE + CLAIM + SECOND)
    ran = await app.runner.run(again, now=NINE + CLAIM + SECOND)

    assert await app.turns_of(ann) == [turn]
    assert ran.turns == [], "the sweep starts what was posted and not started"
    (noted,) = (await app.get(ann)).runs
    assert (noted.status, noted.turn_id) == (RunStatus.POSTED, turn["id"])
    await app.stores.sessions.forget_idempotency_keys(before=datetime.now(UTC) + away)
    kept = await app.stores.rows(b"SELECT 1 FROM idempotency_keys WHERE user_id = %(u)s", u=ann.user_id)
    assert kept == [], "of a run that is on record"


async def test_killed_between_the_session_and_its_message_there_is_one_session(app: App) -> None:
    ann = somebody()
    await app.put(ann, session_id=None)
    await app.schedules.move_due(now=NINE)
    (run,) = await app.runner.claim(now=NINE)
    await app.sessions.create(
        NewSession(name="daily", metadata={"schedule": "daily", "due_at": NINE.isoformat()}),
        ann,
        idempotency_key=run.key,
    )
    await app.runner.run(run, now=NINE)
    made = await app.stores.rows(b"SELECT id FROM sessions WHERE owner_id = %(u)s", u=ann.user_id)
    assert [row["id"] for row in made] == [turn["session_id"] for turn in await app.turns_of(ann)]


async def test_many_processes_at_once_post_each_run_once(app: App) -> None:
    people = [somebody() for _ in range(30)]
    for one in people:
        await app.put(one)
    await asyncio.gather(*(app.look(NINE) for _ in range(6)))
    for one in people:
        assert len(await app.turns_of(one)) == 1
        assert await app.outcomes(one) == [(NINE, "posted")]


# Missed, and overlapping. ----------------------------------------------------------------------


async def test_missed_runs_by_policy(app: App) -> None:
    for missed, expected in (
        (Missed.SKIP, [(NINE + 3 * HOUR, "missed")]),
        (Missed.RUN_ONCE, [(NINE + 2 * HOUR, "missed"), (NINE + 3 * HOUR, "posted")]),
        (Missed.RUN_ALL, [(NINE + hour * HOUR, "posted") for hour in range(4)]),
    ):
        ann = somebody()
        await app.put(ann, missed=missed, overlap=Overlap.QUEUE)
        for _ in range(4):
            await app.look(NINE + 3 * HOUR + timedelta(minutes=20))
            for turn in await app.turns_of(ann):
                await app.stores.finish(turn["id"])
        assert await app.outcomes(ann) == expected, missed


async def test_a_run_is_skipped_while_the_turn_of_the_one_before_it_is_open(app: App) -> None:
    ann = somebody()
    await app.put(ann)
    await app.look(NINE)
    await app.look(NINE + HOUR)
    (turn,) = await app.turns_of(ann)
    newest = (await app.get(ann)).runs[0]
    assert (newest.status, newest.reason) == (RunStatus.SKIPPED, "The turn of the run before it was still open.")
    await app.stores.finish(turn["id"])
    await app.look(NINE + 2 * HOUR)
    assert [status for _, status in await app.outcomes(ann)] == ["posted", "skipped", "posted"]


async def test_a_run_waits_for_the_turn_of_the_one_before_it(app: App) -> None:
    ann = somebody()
    await app.put(ann, overlap=Overlap.QUEUE)
    for hour in range(3):
        await app.look(NINE + hour * HOUR)
    assert [status for _, status in await app.outcomes(ann)] == ["posted", "pending", "pending"]
    for _ in range(2):
        await app.stores.finish((await app.turns_of(ann))[-1]["id"])
        await app.look(NINE + 2 * HOUR + SECOND)
    assert [status for _, status in await app.outcomes(ann)] == ["posted", "posted", "posted"]


async def test_a_turn_of_somebody_else_in_its_session_counts_too(app: App) -> None:
    ann = somebody()
    session = await app.stores.session(owner=ann.user_id)
    other = await app.stores.post(session.id, user=ann.user_id)
    await app.put(ann, session_id=session.id)
    await app.look(NINE)
    (run,) = (await app.get(ann)).runs
    assert (run.status, run.reason) == (RunStatus.SKIPPED, "A turn of this session is still running.")
    await app.put(ann, session_id=session.id, overlap=Overlap.QUEUE, now=NINE)
    ran = await app.look(NINE + HOUR)
    assert started(ran) == [], "it is queued behind the other"
    assert (await app.turns_of(ann))[-1]["status"] == "queued"
    await app.stores.finish(other.turn.id)


async def test_a_schedule_that_waits_for_days_keeps_a_bounded_queue(app: App) -> None:
    ann = somebody()
    await app.put(ann, overlap=Overlap.QUEUE)
    for hour in range(60):
        await app.look(NINE + hour * HOUR)
    statuses = [status for _, status in await app.outcomes(ann)]
    assert (statuses.count("pending"), statuses.count("posted")) == (24, 1), "what it waits for is not forgotten"
    assert "skipped" in statuses, "the rest is said"


# Rights, limits, states. -----------------------------------------------------------------------


async def test_an_owner_who_lost_the_right_stops_it_and_it_says_so(app: App) -> None:
    ann, will = somebody(), somebody()
    session = await app.stores.session(owner=ann.user_id)
    await app.stores.share(session.id, will.user_id, "write")
    await app.put(will, session_id=session.id)
    await app.stores.sql(b"UPDATE session_participants SET access = 'read' WHERE session_id = %(s)s", s=session.id)

    await app.look(NINE)
    await app.look(NINE + HOUR)

    found = await app.get(will)
    assert (found.status, found.next_run_at) == (ScheduleStatus.STOPPED, None)
    assert "for the owner and participants who may write only" in (found.status_reason or "")
    assert await app.outcomes(will) == [(NINE, "refused")]
    assert await app.turns_of(will) == []
    await app.stores.sql(b"UPDATE session_participants SET access = 'write' WHERE session_id = %(s)s", s=session.id)
    assert (await app.put(will, session_id=session.id, now=NINE)).status is ScheduleStatus.ACTIVE


async def test_a_session_that_is_gone_or_ended_stops_it_and_a_suspended_one_does_not(app: App) -> None:
    ann = somebody()
    ended, suspended, gone = [await app.stores.session(owner=ann.user_id) for _ in range(3)]
    for name, session in (("ended", ended), ("suspended", suspended), ("gone", gone)):
        await app.put(ann, name, session_id=session.id)
    await app.stores.move(ended.id, SessionStatus.ENDED, user=ann.user_id)
    await app.stores.move(suspended.id, SessionStatus.SUSPENDED, user=ann.user_id)
    await app.stores.sql(b"DELETE FROM sessions WHERE id = %(s)s", s=gone.id)

    await app.look(NINE)

    states = {one.id: (one.status.value, one.last_run and one.last_run.status.value) for one in await _all(app, ann)}
    assert states == {
        "ended": ("stopped", "refused"),
        "suspended": ("active", "refused"),
        "gone": ("stopped", "refused"),
    }


async def _all(app: App, owner: Principal) -> Any:
    return await app.schedules.list_for(owner)


async def test_the_owners_budget_of_the_day_holds_for_what_runs_by_itself(
    stores: Stores, publisher: SessionEventPublisher, app: App
) -> None:
    ann = somebody()
    poor = App.over(stores, publisher, limits=DailyLimits(10))
    await app.put(ann)
    await stores.sql(
        b"INSERT INTO token_usage (user_id, day, input_tokens, output_tokens) VALUES (%(u)s, %(d)s, 100, 1)",
        u=ann.user_id,
        d=datetime.now(UTC).date(),
    )
    await poor.look(NINE)
    (run,) = (await app.get(ann)).runs
    assert (run.status, await app.turns_of(ann)) == (RunStatus.REFUSED, [])
    assert "tokens" in (run.reason or "")
    assert (await app.get(ann)).status is ScheduleStatus.ACTIVE, "tomorrow there is more"


async def test_only_who_may_post_makes_a_schedule_for_a_session(app: App) -> None:
    ann, rita, mallory = somebody(), somebody(), somebody()
    session = await app.stores.session(owner=ann.user_id)
    await app.stores.share(session.id, rita.user_id, "read")
    for one in (rita, mallory):
        with pytest.raises(NotFound):
            await app.put(one, session_id=session.id)
    with pytest.raises(InvalidInput, match="no agent"):
        await app.put(ann, agent_id="nobody")


async def test_nobody_sees_or_changes_schedules_of_others(app: App) -> None:
    ann, eve = somebody(), somebody()
    await app.put(ann)
    assert await app.schedules.list_for(eve) == []
    for attempt in (app.get(eve), app.schedules.delete("daily", eve)):
        with pytest.raises(NotFound, match="No such schedule"):
            await attempt
    mine, is_new = await app.schedules.put("daily", NewSchedule(content="mine", cron=HOURLY), eve, now=EIGHT)
    assert (is_new, mine.content, (await app.get(ann)).content) == (True, "mine", "What is new?")


async def test_as_many_as_an_owner_may_have(app: App) -> None:
    ann = somebody()
    for number in range(MAX_OWN_SCHEDULES):
        await app.put(ann, f"s-{number}")
    with pytest.raises(InvalidInput, match="at most"):
        await app.put(ann, "one-more")
    assert (await app.put(ann, "s-1", content="changed")).content == "changed"
    await app.schedules.delete("s-2", ann)
    await app.put(ann, "one-more")


# Changed, paused, deleted. ---------------------------------------------------------------------


async def test_a_paused_schedule_runs_nothing_and_catches_nothing_up(app: App) -> None:
    ann = somebody()
    await app.put(ann)
    assert (await app.put(ann, paused=True)).status is ScheduleStatus.PAUSED
    await app.look(NINE + 3 * HOUR)
    assert await app.outcomes(ann) == []
    back = await app.put(ann, now=NINE + 3 * HOUR + SECOND, missed=Missed.RUN_ALL)
    assert back.next_run_at == NINE + 4 * HOUR
    await app.look(NINE + 3 * HOUR + 2 * SECOND)
    assert await app.outcomes(ann) == []


async def test_a_change_takes_back_what_waits_and_keeps_what_was(app: App) -> None:
    ann = somebody()
    await app.put(ann, overlap=Overlap.QUEUE)
    await app.look(NINE)
    await app.look(NINE + HOUR)
    changed = await app.put(ann, now=NINE + HOUR + SECOND, content="Something else", overlap=Overlap.QUEUE)
    assert changed.created_at == EIGHT
    assert [status for _, status in await app.outcomes(ann)] == ["posted", "skipped"]
    assert (await app.get(ann)).runs[0].reason == "The schedule was changed before it ran."
    await app.stores.finish((await app.turns_of(ann))[0]["id"])
    await app.look(NINE + 2 * HOUR)
    assert [turn["content"] for turn in await app.turns_of(ann)] == ["What is new?", "Something else"]


async def test_a_schedule_that_is_stopped_late_does_not_undo_a_change(app: App) -> None:
    ann = somebody()
    session = await app.stores.session(owner=ann.user_id)
    await app.put(ann, session_id=session.id)
    await app.schedules.move_due(now=NINE)
    (run,) = await app.runner.claim(now=NINE)
    await app.put(ann, now=NINE + SECOND)
    await app.rows.stop(run, "No such session.", now=NINE + 2 * SECOND)
    assert (await app.get(ann)).status is ScheduleStatus.ACTIVE


async def test_a_deleted_schedule_leaves_no_runs_and_its_id_is_free(app: App) -> None:
    ann = somebody()
    await app.put(ann, at=NINE)
    await app.schedules.move_due(now=NINE)
    (run,) = await app.runner.claim(now=NINE)
    await app.schedules.delete("daily", ann)
    await app.runner.run(run, now=NINE)  # it was on its way
    assert len(await app.turns_of(ann)) == 1
    assert await app.stores.rows(b"SELECT 1 FROM schedule_runs WHERE schedule_uid = %(u)s", u=run.record.uid) == []
    await app.put(ann, at=NINE)
    await app.look(NINE)
    assert len(await app.turns_of(ann)) == 2, "another schedule of that name, at the same time"


async def test_old_runs_are_forgotten(app: App) -> None:
    ann = somebody()
    await app.put(ann)
    for hour in range(55):
        await app.look(NINE + hour * HOUR)
    statuses = [status for _, status in await app.outcomes(ann)]
    assert statuses == ["posted"] + ["skipped"] * 50, "what the others wait for is on record, however old it is"


async def test_what_a_look_costs_does_not_grow_with_the_schedules(app: App) -> None:
    """Both statements of a look where nothing is due are answered by an index that holds nothing of what is not."""
    for number in range(50):
        await app.put(somebody(), f"s-{number}")
    plans = []
    for statement in (
        b"EXPLAIN (FORMAT TEXT) SELECT * FROM schedules WHERE next_run_at <= %(now)s ORDER BY next_run_at LIMIT 20",
        b"EXPLAIN (FORMAT TEXT) SELECT * FROM schedule_runs WHERE status = 'pending' ORDER BY due_at LIMIT 20",
    ):
        async with app.stores.pool.transaction() as connection:
            await connection.execute("SET LOCAL enable_seqscan = off")
            rows = await (await connection.execute(statement, {"now": EIGHT})).fetchall()
            plans.append("\n".join(row["QUERY PLAN"] for row in rows))
    assert "schedules_due" in plans[0]
    assert "schedule_runs_pending" in plans[1]


async def test_a_message_that_its_agent_cannot_read_stops_it(app: App) -> None:
    ann = somebody()
    await app.put(ann, content="word " * 2_000, config=SessionConfig(max_context_tokens=256))
    await app.look(NINE)
    found = await app.get(ann)
    assert found.status is ScheduleStatus.STOPPED
    assert "tokens" in (found.status_reason or "")


async def test_a_turn_that_failed_does_not_hold_the_next_run(app: App) -> None:
    ann = somebody()
    await app.put(ann)
    await app.look(NINE)
    await app.stores.finish((await app.turns_of(ann))[0]["id"], TurnStatus.FAILED)
    await app.look(NINE + HOUR)
    assert [status for _, status in await app.outcomes(ann)] == ["posted", "posted"]
