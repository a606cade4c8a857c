"""Erasing a session on real stores: what is gone, what stays, what is repeated and by whom."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest

from shared.adapters.redis.events import RedisEventLog
from shared.durable.names import call_instance, notification_instance
from shared.errors import AppError, Conflict, ErrorCode, NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.events import Event, EventLogUnavailable, EventTarget, EventType, SessionEventPublisher
from shared.sessions.life.erasure import CUT_AFTER, SessionErasure
from shared.sessions.life.lifecycle import SessionLifecycle, etag_of
from shared.sessions.models import (
    NewSession,
    SessionPatch,
    SessionStatus,
    TurnStatus,
)
from shared.sessions.service import SessionService
from tests.integration.domain import (
    OWNER,
    READER,
    STRANGER,
    WRITER,
    RecordingAudit,
    Stores,
    call,
    envelopes,
    erase_session,
    finish_erasure,
    key,
    new_session,
    result_of,
    session_erasure,
    utc_now,
)

pytestmark = pytest.mark.integration


def _who(name: str) -> Principal:
    return Principal(name, frozenset({Role.USER}))


ANN = _who(OWNER)


TABLES = (b"sessions", b"session_participants", b"turns", b"messages", b"tool_calls", b"approvals", b"idempotency_keys")


async def _counts(stores: Stores) -> list[int]:
    return [await stores.value(b"SELECT count(*) FROM " + table) for table in TABLES]


async def _full_session(stores: Stores, publisher: SessionEventPublisher) -> tuple[str, str, str]:
    """(session, turn, approval) with a row in every table, waiting for a person, and an event in Redis."""
    proposal = call("http_request", {"method": "POST", "url": "http://x"}, needs_approval=True)
    session = await stores.session(idempotency=key(new_id()))
    await stores.share(session.id, READER, "read")
    posted = await stores.post(session.id, idempotency=key(new_id(), scope=f"POST /sessions/{session.id}/messages"))
    await stores.answer(posted.turn.id, calls=[proposal])
    approval = await stores.request_approval(proposal)
    record = await stores.sessions.get(session.id, OWNER)
    await publisher.publish(record.target, [Event(EventType.SESSION_SUSPENDED, {})])
    return session.id, posted.turn.id, approval.id


async def test_erasing_a_session_leaves_nothing_and_nobody_else_loses_anything(
    stores: Stores,
    erasing: SessionErasure,
    publisher: SessionEventPublisher,
    event_log: RedisEventLog,
    audit: RecordingAudit,
) -> None:
    await _full_session(stores, publisher)
    before = await _counts(stores)
    session_id, turn_id, approval_id = await _full_session(stores, publisher)
    assert await _counts(stores) > before

    mark, messages = await erasing.mark(session_id, ANN, if_match=None)

    assert mark is not None
    assert [event["type"] for event in envelopes(messages)] == ["session.ended"]
    assert mark.interruption.turn_ids == [turn_id]
    assert (await stores.turns.cancel_requested([turn_id])) == {turn_id}, "it is cancelled before it is erased"
    found = await erasing.erase_stores(session_id)
    assert found is not None
    erasure, forgot = found
    assert forgot
    assert {turn_id, notification_instance(approval_id)} < set(erasure.instances)
    assert await _counts(stores) == before
    log = await event_log.read(mark.record.target.feed, 0, 10)
    assert (log.items, log.last_seq) == ([], None)

    assert not await erasing.finish(erasure, [turn_id], stores_forgot=True), "instances are left"
    assert audit.lines == []
    assert await erasing.finish(erasure, erasure.instances, stores_forgot=True)
    assert not await erasing.finish(erasure, erasure.instances, stores_forgot=True)
    [(where, action, details)] = audit.lines
    assert (where, action, audit.who, details["turns"]) == (session_id, "session.erased", [OWNER], 1)
    with pytest.raises(NotFound):
        await publisher.publish(mark.record.target, [Event(EventType.SESSION_ENDED, {})])


async def test_deleting_again_is_harmless_for_the_owner_and_nothing_for_others(
    stores: Stores, erasing: SessionErasure, audit: RecordingAudit
) -> None:
    session = await stores.shared_session()
    for user in (WRITER, READER, STRANGER):
        with pytest.raises(NotFound) as caught:
            await erasing.mark(session.id, _who(user), if_match=None)
        assert caught.value.code is ErrorCode.SESSION_NOT_FOUND
    for _ in range(3):
        await erasing.mark(session.id, ANN, if_match=None)
        assert await finish_erasure(erasing, session.id)
    assert len(audit.lines) == 1
    for user in (WRITER, READER, STRANGER):
        with pytest.raises(NotFound):
            await erasing.mark(session.id, _who(user), if_match=None)
    with pytest.raises(NotFound):
        await erasing.mark(new_id(), ANN, if_match=None)


async def test_deleting_what_has_changed_since_it_was_read_is_refused(
    stores: Stores, lifecycle: SessionLifecycle, erasing: SessionErasure
) -> None:
    session = await stores.session()
    await lifecycle.patch(session.id, SessionPatch(name="changed"), ANN, if_match=None)

    with pytest.raises(Conflict):
        await erasing.mark(session.id, ANN, if_match=etag_of(session))

    current = (await stores.sessions.get(session.id, OWNER)).session
    assert current.status is SessionStatus.CREATED
    mark, _ = await erasing.mark(session.id, ANN, if_match=etag_of(current))
    assert mark is not None


async def test_erasures_side_by_side_leave_one_audit_line(
    stores: Stores, erasing: SessionErasure, publisher: SessionEventPublisher, audit: RecordingAudit
) -> None:
    session_id, _, _ = await _full_session(stores, publisher)

    async def delete() -> None:
        await erasing.mark(session_id, ANN, if_match=None)
        await finish_erasure(erasing, session_id)

    await asyncio.gather(*(delete() for _ in range(5)))

    assert len(audit.lines) == 1


async def test_what_was_cut_is_found_by_the_sweep_once_and_after_a_while(
    stores: Stores, erasing: SessionErasure
) -> None:
    session = await stores.session()
    await erasing.mark(session.id, ANN, if_match=None)
    later = utc_now() + CUT_AFTER + timedelta(seconds=1)

    assert session.id not in await erasing.claim_cut(now=utc_now(), limit=100)
    assert session.id in await erasing.claim_cut(now=later, limit=100)
    assert session.id not in await erasing.claim_cut(now=later, limit=100)
    assert await finish_erasure(erasing, session.id)
    assert session.id not in await erasing.claim_cut(now=later + CUT_AFTER * 2, limit=100)
    assert await erasing.forget_finished(before=later) >= 1
    with pytest.raises(NotFound):
        await erasing.mark(session.id, ANN, if_match=None)


async def test_what_is_said_late_in_an_erased_session_does_not_reach_a_later_one_of_its_id(
    stores: Stores, erasing: SessionErasure, publisher: SessionEventPublisher, event_log: RedisEventLog
) -> None:
    gone, _ = await stores.create(new_session())
    await erase_session(erasing, gone.session.id)
    record, _ = await stores.create(new_session(id=gone.session.id), STRANGER)

    with pytest.raises(NotFound):
        await publisher.publish(gone.target, [Event(EventType.SESSION_SUSPENDED, {})])
    assert (await event_log.read(record.target.feed, 0, 10)).items == []


async def test_a_session_made_before_sessions_had_incarnations_keeps_its_log_and_its_group(
    stores: Stores, erasing: SessionErasure, publisher: SessionEventPublisher, event_log: RedisEventLog
) -> None:
    session = await stores.session()
    await stores.sql(b"UPDATE sessions SET incarnation = NULL WHERE id = %(id)s", id=session.id)
    old = EventTarget(session.id, 0, 10_000, may_seed=True)
    await publisher.publish(old, [Event(EventType.SESSION_CREATED, {})])

    record = await stores.sessions.get(session.id, OWNER)
    [told] = await publisher.publish(record.target, [Event(EventType.SESSION_SUSPENDED, {})])

    assert orjson.loads(told)["groupName"] == f"session-{session.id}"
    assert [seq for seq, _ in (await event_log.read(session.id, 0, 10)).items] == [1, 2]
    assert (await stores.sessions.lease(record.target, lost=False)).feed == session.id
    await erase_session(erasing, session.id)
    assert (await event_log.read(session.id, 0, 10)).last_seq is None


class _AwayStore:
    """A store that cannot be reached."""

    async def erase(self, session_id: str) -> None:
        raise EventLogUnavailable(session_id)


async def test_an_erasure_is_not_finished_while_a_store_is_away(
    stores: Stores, erasing: SessionErasure, publisher: SessionEventPublisher, audit: RecordingAudit
) -> None:
    session_id, _, _ = await _full_session(stores, publisher)
    halting = session_erasure(stores, publisher, [_AwayStore()])
    await halting.mark(session_id, ANN, if_match=None)

    assert not await finish_erasure(halting, session_id)
    assert audit.lines == []
    with pytest.raises(NotFound):
        await stores.sessions.get(session_id, OWNER)
    with pytest.raises(Conflict) as caught:
        await stores.create(new_session(id=session_id), OWNER)
    assert caught.value.code is ErrorCode.SESSION_ALREADY_EXISTS, "its events may still be in Redis"
    assert (await stores.create(new_session(id=session_id), STRANGER))[0].session.id != session_id
    assert await finish_erasure(erasing, session_id)
    assert len(audit.lines) == 1
    assert (await stores.create(new_session(id=session_id), STRANGER))[1]
    assert await erasing.mark(session_id, ANN, if_match=None) == (None, [])
    await finish_erasure(erasing, session_id)
    assert (await stores.sessions.get(session_id, STRANGER)).owner_id == STRANGER, "a repeat is not about the new one"


async def test_a_turn_that_runs_while_its_session_is_erased_finds_nothing_to_store(
    stores: Stores, erasing: SessionErasure
) -> None:
    posted = await stores.turn()
    start = await stores.started(posted.turn.id)
    await erasing.mark(posted.message.session_id, ANN, if_match=None)
    assert not await erasing.turns_over(posted.message.session_id, within_s=0.1)
    await finish_erasure(erasing, posted.message.session_id)

    assert not await stores.steps.save_step(result_of(start))
    for late in (
        stores.begin(posted.turn.id, 2),
        stores.finish(posted.turn.id),
        stores.post(posted.message.session_id),
    ):
        with pytest.raises(AppError) as caught:
            await late
        assert caught.value.status == 404


async def test_an_erasure_goes_on_once_the_cancelled_turn_is_over(stores: Stores, erasing: SessionErasure) -> None:
    posted = await stores.turn()
    await erasing.mark(posted.message.session_id, ANN, if_match=None)
    over = asyncio.create_task(erasing.turns_over(posted.message.session_id, within_s=20))
    await stores.finish(posted.turn.id, TurnStatus.CANCELLED)
    assert await over


async def test_a_session_made_by_the_service_is_erased_with_the_key_that_made_it(
    stores: Stores, service: SessionService, erasing: SessionErasure
) -> None:
    again = new_id()
    first, _, _ = await service.create(NewSession(), ANN, idempotency_key=again)
    await erasing.mark(first.id, ANN, if_match=None)
    await finish_erasure(erasing, first.id)

    second, created, _ = await service.create(NewSession(), ANN, idempotency_key=again)

    assert created
    assert second.id != first.id


async def test_an_approval_that_began_to_ask_and_was_cut_is_among_the_instances(
    stores: Stores, erasing: SessionErasure
) -> None:
    proposed = call("http_request", {"a": 1}, needs_approval=True)
    posted = await stores.proposed(proposed)
    await erasing.mark(posted.turn.session_id, ANN, if_match=None)
    found = await erasing.erase_stores(posted.turn.session_id)
    assert found is not None
    assert call_instance(posted.turn.id, proposed.id) in found[0].instances


async def test_when_instances_were_told_to_end_is_kept_for_who_goes_on(stores: Stores, erasing: SessionErasure) -> None:
    posted = await stores.turn()
    await erasing.mark(posted.turn.session_id, ANN, if_match=None)
    await erasing.erase_stores(posted.turn.session_id)
    told_at = utc_now()
    await erasing.told(posted.turn.session_id, now=told_at)
    found = await erasing.erase_stores(posted.turn.session_id)
    assert found is not None
    assert found[0].told_at == told_at
