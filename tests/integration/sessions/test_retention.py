"""How long sessions are kept, on a real database: who is ended, who is erased, and whom nobody touches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from shared.adapters.postgres.sessions.retention import PostgresRetention
from shared.errors import NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.erasure import CUT_AFTER, SessionErasure
from shared.sessions.life.retention import RetentionPolicy, SessionRetention
from shared.sessions.models import SessionStatus, TurnStatus
from shared.sessions.records.audit import SYSTEM
from tests.integration.domain import OWNER, RecordingAudit, Stores, call, envelopes, new_session, utc_now

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset({Role.USER}))
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)

type Retain = Callable[..., SessionRetention]


@pytest.fixture
def retain(stores: Stores, publisher: SessionEventPublisher) -> Retain:
    def make(**days: int) -> SessionRetention:
        return SessionRetention(PostgresRetention(stores.pool), publisher, RetentionPolicy(**days))

    return make


async def _ended(stores: Stores) -> str:
    session = await stores.session()
    await stores.move(session.id, SessionStatus.ENDED)
    return session.id


async def _claim(retention: SessionRetention, now: datetime, limit: int = 1_000) -> list[str]:
    return await retention.claim_old(now=now, limit=limit)


async def _erase(erasing: SessionErasure, session_id: str) -> None:
    """What `activities/erasure.py` does, with every durable instance gone at once."""
    found = await erasing.erase_stores(session_id)
    assert found is not None
    assert await erasing.finish(found[0], found[0].instances, stores_forgot=found[1])


# Ended sessions. -----------------------------------------------------------------------------------


async def test_a_session_is_erased_when_it_ended_so_many_days_ago_and_the_audit_line_says_why(
    stores: Stores, erasing: SessionErasure, audit: RecordingAudit, retain: Retain
) -> None:
    session_id = await _ended(stores)
    ended_at = await stores.value(b"SELECT ended_at FROM sessions WHERE id = %(id)s", id=session_id)
    retention = retain(ended_days=30)

    assert session_id not in await _claim(retention, ended_at + 30 * DAY)
    assert session_id in await _claim(retention, ended_at + 30 * DAY + SECOND)
    assert session_id not in await _claim(retention, ended_at + 31 * DAY), "it is claimed once"
    await _erase(erasing, session_id)

    with pytest.raises(NotFound):
        await stores.sessions.get(session_id, OWNER)
    [(where, action, details)] = audit.lines
    assert (where, action, audit.who, details["reason"]) == (session_id, "session.erased", [SYSTEM], "retention")


async def test_a_session_that_has_not_ended_is_never_erased(stores: Stores, retain: Retain) -> None:
    made, active, suspended = [await stores.session() for _ in range(3)]
    await stores.move(active.id, SessionStatus.ACTIVE)
    await stores.move(suspended.id, SessionStatus.SUSPENDED)

    claimed = await _claim(retain(ended_days=1), utc_now() + 3_650 * DAY)

    assert not {made.id, active.id, suspended.id} & set(claimed)


async def test_a_session_with_an_open_turn_or_a_pending_approval_is_left_alone(stores: Stores, retain: Retain) -> None:
    proposal = call("http_request", {"method": "POST", "url": "http://x"}, needs_approval=True)
    posted = await stores.proposed(proposal)
    approval = await stores.request_approval(proposal)
    session_id = posted.message.session_id
    await stores.move(session_id, SessionStatus.ENDED)
    retention, late = retain(ended_days=1), utc_now() + 9 * DAY

    assert session_id not in await _claim(retention, late), "its turn is cancelled, and not over yet"
    await stores.finish(posted.turn.id, TurnStatus.CANCELLED)
    await stores.sql(b"UPDATE approvals SET status = 'pending' WHERE id = %(id)s", id=approval.id)
    assert session_id not in await _claim(retention, late)
    await stores.sql(b"UPDATE approvals SET status = 'cancelled' WHERE id = %(id)s", id=approval.id)
    assert session_id in await _claim(retention, late)


async def test_claims_side_by_side_are_bounded_and_take_each_session_once(stores: Stores, retain: Retain) -> None:
    retention, late = retain(ended_days=1), utc_now() + 9 * DAY
    await _claim(retention, late)  # what other tests left
    ended = [await _ended(stores) for _ in range(12)]

    claims = await asyncio.gather(*(_claim(retention, late, limit=4) for _ in range(5)))
    claims.append(await _claim(retention, late))

    assert max(len(claim) for claim in claims[:-1]) <= 4
    assert sorted(session_id for claim in claims for session_id in claim) == sorted(ended)


async def test_what_was_cut_after_the_claim_is_found_by_the_sweep(
    stores: Stores, erasing: SessionErasure, audit: RecordingAudit, retain: Retain
) -> None:
    session_id = await _ended(stores)
    late = utc_now() + 9 * DAY
    assert session_id in await _claim(retain(ended_days=1), late)

    assert session_id in await erasing.claim_cut(now=late + CUT_AFTER + SECOND, limit=1_000)
    await _erase(erasing, session_id)
    assert audit.who == [SYSTEM]


async def test_an_owner_who_deletes_what_is_claimed_already_is_the_one_who_did_it(
    stores: Stores, erasing: SessionErasure, audit: RecordingAudit, retain: Retain
) -> None:
    session_id = await _ended(stores)
    assert session_id in await _claim(retain(ended_days=1), utc_now() + 9 * DAY)

    await erasing.mark(session_id, ANN, if_match=None)
    await _erase(erasing, session_id)

    assert audit.who == [OWNER]
    assert "reason" not in audit.lines[0][2]


async def test_an_id_that_was_erased_and_given_again_is_erased_again(
    stores: Stores, erasing: SessionErasure, retain: Retain
) -> None:
    session_id, retention = new_id(), retain(ended_days=1)
    for _ in range(2):
        await stores.create(new_session(id=session_id), OWNER)
        await stores.move(session_id, SessionStatus.ENDED)
        assert session_id in await _claim(retention, utc_now() + 9 * DAY)
        await _erase(erasing, session_id)


# Idle sessions. ------------------------------------------------------------------------------------


async def _end_idle(retention: SessionRetention, now: datetime, limit: int = 1_000) -> tuple[set[str], int]:
    """The sessions that `session.ended` tells of, and how many are said to have been ended."""
    found = await retention.end_idle(now=now, limit=limit)
    events = envelopes(found.messages)
    assert {event["type"] for event in events} <= {"session.ended"}
    assert found.ended <= found.looked <= limit
    return {event["session_id"] for event in events}, found.ended


async def test_a_session_is_ended_when_nothing_happened_in_it_for_so_long(stores: Stores, retain: Retain) -> None:
    session = await stores.session()
    retention = retain(idle_days=90)

    assert session.id not in (await _end_idle(retention, session.created_at + 90 * DAY))[0]
    now = session.created_at + 90 * DAY + SECOND
    told, count = await _end_idle(retention, now)

    assert session.id in told
    assert count == len(told)
    record = await stores.sessions.get(session.id, OWNER)
    assert (record.session.status, record.session.updated_at) == (SessionStatus.ENDED, now)
    assert session.id not in (await _end_idle(retention, now + DAY))[0]
    # From here its days as an ended session count.
    assert session.id not in await _claim(retain(ended_days=30), now + 30 * DAY)
    assert session.id in await _claim(retain(ended_days=30), now + 31 * DAY)


async def test_a_session_with_an_open_turn_or_one_that_ended_lately_is_not_idle(stores: Stores, retain: Retain) -> None:
    posted = await stores.turn()
    session_id, retention = posted.message.session_id, retain(idle_days=90)

    assert session_id not in (await _end_idle(retention, utc_now() + 91 * DAY))[0], "somebody may still decide"
    await stores.finish(posted.turn.id)
    long_ago = utc_now() - 365 * DAY
    await stores.sql(
        b"UPDATE sessions SET created_at = %(at)s, updated_at = %(at)s WHERE id = %(id)s", at=long_ago, id=session_id
    )
    assert session_id not in (await _end_idle(retention, utc_now()))[0], "its answer came just now"
    assert session_id in (await _end_idle(retention, utc_now() + 92 * DAY))[0]


async def test_a_suspended_session_that_is_idle_holds_nothing_any_more(stores: Stores, retain: Retain) -> None:
    session = await stores.session()
    await stores.move(session.id, SessionStatus.SUSPENDED)
    before = await stores.sessions.hold(session.id)
    assert before is not None
    assert before.is_held

    assert session.id in (await _end_idle(retain(idle_days=1), utc_now() + 9 * DAY))[0]

    after = await stores.sessions.hold(session.id)
    assert after is not None
    assert (after.is_held, after.version) == (False, before.version + 1)


async def test_a_session_that_is_being_written_is_passed_over(stores: Stores, retain: Retain) -> None:
    session = await stores.session()
    retention, late = retain(idle_days=1), utc_now() + 9 * DAY

    async with stores.pool.transaction() as connection:
        await connection.execute(b"SELECT 1 FROM sessions WHERE id = %(id)s FOR UPDATE", {"id": session.id})
        assert session.id not in (await _end_idle(retention, late))[0]

    assert session.id in (await _end_idle(retention, late))[0]


async def test_a_run_ends_no_more_than_its_share(stores: Stores, retain: Retain) -> None:
    retention, late = retain(idle_days=1), utc_now() + 9 * DAY
    await _end_idle(retention, late)  # what other tests left
    made = {(await stores.session()).id for _ in range(5)}

    runs = [await _end_idle(retention, late, limit=2) for _ in range(4)]

    assert [count for _, count in runs] == [2, 2, 1, 0]
    assert set().union(*(told for told, _ in runs)) == made


async def test_without_a_limit_nothing_is_ended_or_erased(stores: Stores, retain: Retain) -> None:
    session, ended = await stores.session(), await _ended(stores)
    never = utc_now() + 36_500 * DAY

    assert await _end_idle(retain(), never) == (set(), 0)
    assert await _claim(retain(), never) == []
    for session_id in (session.id, ended):
        await stores.sessions.get(session_id, OWNER)
