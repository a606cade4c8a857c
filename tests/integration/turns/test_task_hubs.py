"""Two hubs over one database: what is a hub's own to look after, and what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest

from shared.adapters.postgres.hubs import PostgresHubs
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.sessions.erasure import PostgresErasures
from shared.adapters.sql import hubs as command
from shared.durable.hub import SERVED, TaskHub, only_hub
from shared.durable.names import call_instance, notification_instance
from shared.ids import new_id
from shared.sessions.models import Concurrency, SessionStatus
from tests.integration.domain import OWNER, Stores, call, utc_now, vote_on
from triggers.operations.watch import LEFT_LINE, tell_of_left_hubs

pytestmark = pytest.mark.integration

ADDRESS = "https://app.test"


class Hub:
    """The stores of an app on a hub of its own."""

    def __init__(self, pool: PostgresPool) -> None:
        self.id = new_id()
        self.hub = TaskHub(self.id)
        self.stores = Stores.over(pool, self.hub)
        self.erasures = PostgresErasures(pool, lambda _: None, self.hub)

    async def seen(self, at: datetime | None = None) -> None:
        rows = PostgresHubs(self.stores.pool)
        self.hub.is_only = await rows.seen(self.id, name="parley", address=ADDRESS, now=at or utc_now())

    async def looks_at(self) -> set[str]:
        later = utc_now() + timedelta(minutes=1)
        found = await self.stores.turns.to_look_at(running_before=later, waiting_before=later, limit=10_000)
        return {turn.turn_id for turn in found}

    async def erase(self, session_id: str) -> list[str]:
        """Which instances an app on it is to purge."""
        erasure = await self.erasures.erase_rows(session_id)
        assert erasure is not None
        return sorted(erasure.instances)


@pytest.fixture
async def hubs(postgres_url: str) -> AsyncIterator[tuple[Hub, Hub]]:
    pool = PostgresPool(postgres_url, size=4)
    await pool.execute(b"DELETE FROM task_hubs", {})
    one, two = Hub(pool), Hub(pool)
    await one.seen()
    assert one.hub.is_only
    for hub in (two, one):
        await hub.seen()
        assert not hub.hub.is_only
    yield one, two
    await pool.aclose()


async def test_a_turn_is_looked_at_by_the_hub_that_it_was_dispatched_to(hubs: tuple[Hub, Hub]) -> None:
    one, two = hubs
    posted = await one.stores.turn()
    assert posted.turn.id in await one.looks_at()
    assert posted.turn.id not in await two.looks_at()
    assert await two.stores.turns.look_again(posted.turn.id) is None

    queued = await two.stores.post(posted.turn.session_id, concurrency=Concurrency.ENQUEUE)
    assert queued.turn.id not in await one.looks_at() | await two.looks_at()
    finished = await one.stores.finish(posted.turn.id)
    assert finished.next_turn_id == queued.turn.id
    assert (queued.turn.id in await one.looks_at(), queued.turn.id in await two.looks_at()) == (True, False)


async def test_a_turn_that_names_no_hub_is_looked_at_by_all_until_one_owns_it(hubs: tuple[Hub, Hub]) -> None:
    one, two = hubs
    turn = (await Stores.over(one.stores.pool).turn()).turn
    for hub in hubs:
        assert turn.id in await hub.looks_at()
        found = await hub.stores.turns.look_again(turn.id)
        assert found is not None
        assert not found.names_hub
    await one.stores.turns.own(turn.id)
    await two.stores.turns.own(turn.id)
    assert (turn.id in await one.looks_at(), turn.id in await two.looks_at()) == (True, False)


async def test_decisions_and_notices_are_the_business_of_the_turns_hub(hubs: tuple[Hub, Hub]) -> None:
    one, two = hubs
    proposal = call("http_request", needs_approval=True)
    await one.stores.proposed(proposal)
    approval = await one.stores.request_approval(proposal)
    assert await two.stores.decide(approval, vote_on(approval))
    later = utc_now() + timedelta(minutes=2)
    told = {
        hub.id: [id for id, _ in await hub.stores.approvals.undelivered(before=later, limit=10_000)]
        for hub in (two, one)
    }
    assert (approval.id in told[one.id], approval.id in told[two.id]) == (True, False)
    noticed = [
        [
            id
            for id, _ in await hub.stores.approvals.claim_unsettled_notices(
                since=later - timedelta(hours=1), before=later, now=later, limit=10_000
            )
        ]
        for hub in (two, one)
    ]
    assert [approval.id in ids for ids in noticed] == [False, True]


async def test_a_suspension_is_settled_once_every_hub_that_it_reached_follows(hubs: tuple[Hub, Hub]) -> None:
    one, two = hubs
    first = (await one.stores.turn()).turn
    await two.stores.move(first.session_id, SessionStatus.SUSPENDED)
    # It ends while it is held, and the next one runs in the other hub: both must hear of the end of the suspension.
    await one.stores.finish(first.id)
    await two.stores.move(first.session_id, SessionStatus.ACTIVE)
    second = (await two.stores.post(first.session_id)).turn
    for hub, turn in ((one, first), (two, second)):
        hold = await hub.stores.sessions.hold(first.session_id)
        assert hold is not None
        assert hold.instances == [turn.id]
    version = hold.version
    settling = {hub.id: hub.stores.sessions for hub in hubs}
    assert await settling[two.id].told_hold(first.session_id, version, now=utc_now())
    assert await settling[two.id].settle_hold(first.session_id, version)
    assert first.session_id in await settling[one.id].unsettled_holds(limit=10_000)
    assert first.session_id not in await settling[two.id].unsettled_holds(limit=10_000)
    assert await settling[one.id].settle_hold(first.session_id, version)
    pending = await one.stores.value(b"SELECT hold_pending FROM sessions WHERE id = %(id)s", id=first.session_id)
    assert pending is False

    # Told again, it is to be seen to follow again.
    assert await settling[two.id].told_hold(first.session_id, version, now=utc_now())
    assert first.session_id in await settling[two.id].unsettled_holds(limit=10_000)


async def test_an_erasure_waits_for_every_hub_that_holds_a_history(hubs: tuple[Hub, Hub]) -> None:
    one, two = hubs
    proposal = call("http_request", needs_approval=True)
    there = (await one.stores.proposed(proposal)).turn
    approval = await one.stores.request_approval(proposal, instance_id=call_instance(there.id, proposal.id))
    await one.stores.finish(there.id)
    here = (await two.stores.post(there.session_id)).turn
    await two.stores.finish(here.id)
    await two.erasures.mark(there.session_id, OWNER, lambda _: None, now=utc_now() - timedelta(hours=1))

    assert await two.erase(there.session_id) == [here.id]
    instances = await one.erase(there.session_id)
    assert {there.id, call_instance(there.id, proposal.id), notification_instance(approval.id)} <= set(instances)
    assert here.id not in instances

    before, now = utc_now() - timedelta(minutes=1), utc_now() - timedelta(minutes=30)
    await two.erasures.note_gone(there.session_id, [here.id])
    assert there.session_id not in await two.erasures.claim_cut(before=before, now=now, limit=10_000)
    assert there.session_id in await one.erasures.claim_cut(before=before, now=now, limit=10_000)
    # A hub that is given up holds nothing that anybody would find.
    await one.stores.sql(b"DELETE FROM task_hubs WHERE id = %(id)s", id=one.id)
    assert there.session_id in await two.erasures.claim_cut(before=before, now=utc_now(), limit=10_000)
    assert await two.erase(there.session_id) == instances


async def test_the_hubs_say_what_waits_in_them_and_whether_they_are_served(
    hubs: tuple[Hub, Hub], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = hubs
    pool = one.stores.pool
    await one.stores.sql(b"UPDATE turns SET ended_at = now() WHERE ended_at IS NULL")
    await one.stores.turn()
    await one.seen(utc_now() - 2 * SERVED)
    lost = (await Stores.over(pool, only_hub()).turn()).turn
    app = cast("Any", SimpleNamespace(hubs=PostgresHubs(pool), task_hub=TaskHub()))
    for own, told in ((None, []), (one.id, []), (two.id, [f"{LEFT_LINE} 1 in {one.id}, and 0 erasures"])):
        app.task_hub.id = own
        caplog.clear()
        await tell_of_left_hubs(app, utc_now())
        assert caplog.messages == told
    found = {hub.id: hub for hub in await PostgresHubs(pool).all(now=utc_now())}
    assert set(found) == {one.id, two.id}, "what names no hub is given time to be found"
    assert (found[one.id].is_left, found[one.id].open_turns, found[one.id].address) == (True, 1, ADDRESS)
    assert (found[two.id].is_left, found[two.id].is_served) == (False, True)

    await one.stores.sql(b"UPDATE turns SET created_at = now() - interval '1 hour' WHERE id = %(id)s", id=lost.id)
    found = {hub.id: hub for hub in await PostgresHubs(pool).all(now=utc_now())}
    assert (found["unknown"].is_left, found["unknown"].open_turns, found["unknown"].seen_at) == (True, 1, None)


@pytest.mark.parametrize("arguments", [["adopt", "HUB"], ["adopt", "HUB", "BY"], ["adopt", "unknown"]])
async def test_turns_are_adopted_by_command_alone(
    hubs: tuple[Hub, Hub],
    arguments: list[str],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = hubs
    await one.stores.sql(b"UPDATE turns SET ended_at = now() WHERE ended_at IS NULL")
    stores = Stores.over(one.stores.pool) if "unknown" in arguments else one.stores
    turn = (await stores.turn()).turn
    ended = (await stores.turn()).turn
    await stores.finish(ended.id)
    await one.stores.sql(b"UPDATE turns SET created_at = now() - interval '1 hour' WHERE id = %(id)s", id=turn.id)
    monkeypatch.setenv("POSTGRES_URL", postgres_url)
    given = [{"HUB": one.id, "BY": two.id}.get(argument, argument) for argument in arguments]

    if "HUB" in arguments:
        assert command.main(given) == 1
        assert "is served by https://app.test" in capsys.readouterr().err
        await one.seen(utc_now() - 2 * SERVED)
    else:
        await one.stores.sql(b"DELETE FROM task_hubs WHERE id = %(id)s", id=one.id)
    assert command.main([]) == 0
    assert "NOT SERVED" in capsys.readouterr().out
    assert command.main(given) == 0
    assert f"1 turns are the hub {two.id}'s now" in capsys.readouterr().out

    long_ago = utc_now() - timedelta(days=9)
    found = await two.stores.turns.to_look_at(running_before=long_ago, waiting_before=long_ago, limit=10_000)
    assert [open_turn.turn_id for open_turn in found] == [turn.id]
    with psycopg.connect(postgres_url) as connection:
        assert [hub.id for hub in command.overview(connection)] == [two.id]


async def test_nothing_is_adopted_where_it_is_not_clear_by_whom(
    hubs: tuple[Hub, Hub], postgres_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = hubs
    monkeypatch.setenv("POSTGRES_URL", postgres_url)
    for given, said in (
        (["adopt", new_id()], "no turn and no row names the hub"),
        (["adopt", one.id, one.id], "is served by"),
    ):
        assert command.main(given) == 1
        assert said in capsys.readouterr().err
    for hub in hubs:
        await hub.seen(utc_now() - 2 * SERVED)
    assert command.main(["adopt", one.id]) == 1
    assert "0 hubs are served: name the one" in capsys.readouterr().err
    assert command.main(["adopt", one.id, one.id]) == 1
    assert "is no other hub" in capsys.readouterr().err
    assert command.main(["adopt", one.id, two.id]) == 0
    assert command.main(["forget"]) == 2
