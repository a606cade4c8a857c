"""SessionLifecycle on real stores: revision, participants, expiry, waiting, and what they refuse."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
import pytest
from pydantic import ValidationError

from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.adapters.redis.events import RedisEventLog
from shared.errors import Conflict, ErrorCode, Gone, InvalidInput, InvalidState, NotFound
from shared.principal import Principal, Role
from shared.sessions.life.lifecycle import MAX_PARTICIPANTS, SessionLifecycle, etag_of
from shared.sessions.models import (
    ApprovalMode,
    Concurrency,
    NewMessage,
    NewParticipant,
    SessionConfig,
    SessionPatch,
    SessionStatus,
    TurnStatus,
)
from shared.sessions.records.expiry import expires_at, refuse_expired
from shared.sessions.records.pages import Page
from shared.sessions.records.steps import StepClosed, StepStart
from shared.sessions.records.turns import Interruption
from shared.sessions.service import SessionService
from shared.sessions.turns.waiting import TurnWaiter
from tests.integration.domain import (
    OWNER,
    READER,
    STRANGER,
    WRITER,
    Stores,
    call,
    envelopes,
    new_session,
    utc_now,
)

pytestmark = pytest.mark.integration


def _who(name: str) -> Principal:
    return Principal(name, frozenset({Role.USER}))


ANN = _who(OWNER)


async def _patch(lifecycle: SessionLifecycle, session_id: str, who: Principal = ANN, **fields: Any) -> Any:
    if_match = fields.pop("if_match", None)
    return (await lifecycle.patch(session_id, SessionPatch(**fields), who, if_match=if_match)).session


# Revision. -----------------------------------------------------------------------------------------


async def test_patch_changes_what_it_names_and_nothing_else(stores: Stores, lifecycle: SessionLifecycle) -> None:
    before = await stores.session(
        name="old", tags=["a"], metadata={"k": 1}, config=SessionConfig(max_steps=3, temperature=0.5)
    )

    renamed = await _patch(lifecycle, before.id, name="new")
    steps = await _patch(lifecycle, before.id, config={"max_steps": 5})
    reset = await _patch(
        lifecycle, before.id, name=None, config={"temperature": None}, tags=["x", "y", "x"], metadata={}
    )

    assert renamed == before.model_copy(update={"name": "new", "updated_at": renamed.updated_at})
    assert renamed.updated_at > before.updated_at
    assert (steps.config.max_steps, steps.config.temperature) == (5, 0.5)
    assert (reset.name, reset.tags, reset.metadata) == (None, ["x", "y"], {})
    assert (reset.config.max_steps, reset.config.temperature) == (5, None)
    assert (await stores.sessions.get(before.id, OWNER)).session == reset


async def test_patch_that_changes_nothing_leaves_the_session_as_it_is(
    stores: Stores, lifecycle: SessionLifecycle
) -> None:
    session = await stores.session(name="same")

    assert await _patch(lifecycle, session.id) == session
    assert await _patch(lifecycle, session.id, name="same", tags=[]) == session


@pytest.mark.parametrize(
    "body",
    [{"status": "ENDED"}, {"nam": "x"}, {"config": {"colour": 1}}, {"config": None}, {"tags": None}, {"tags": [","]}],
)
def test_patch_refuses_what_it_does_not_know(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SessionPatch.model_validate(body)


async def test_patch_with_too_much_metadata_is_refused(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.session()

    with pytest.raises(InvalidInput) as caught:
        await _patch(lifecycle, session.id, metadata={"k": "x" * 20_000})

    assert caught.value.code is ErrorCode.VALIDATION_ERROR


@pytest.mark.parametrize(("user", "allowed"), [(OWNER, True), (WRITER, False), (READER, False), (STRANGER, False)])
async def test_patch_is_for_the_owner(stores: Stores, lifecycle: SessionLifecycle, user: str, *, allowed: bool) -> None:
    session = await stores.shared_session()

    if allowed:
        assert (await _patch(lifecycle, session.id, _who(user), name="mine")).name == "mine"
        return
    with pytest.raises(NotFound) as caught:
        await _patch(lifecycle, session.id, _who(user), name="mine")
    assert caught.value.code is ErrorCode.SESSION_NOT_FOUND


async def test_an_ended_session_does_not_change(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.session()
    await stores.move(session.id, SessionStatus.ENDED)

    with pytest.raises(InvalidState):
        await _patch(lifecycle, session.id, name="late")


async def test_of_two_who_patch_what_they_read_the_second_is_told(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.session()
    read = etag_of(session)

    outcomes = await asyncio.gather(
        *(_patch(lifecycle, session.id, name=f"writer {n}", if_match=read) for n in range(4)), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 3 + ["Session"]
    current = (await stores.sessions.get(session.id, OWNER)).session
    assert (await _patch(lifecycle, session.id, tags=["z"], if_match=f'"other", {etag_of(current)}')).tags == ["z"]
    assert (await _patch(lifecycle, session.id, tags=["any"], if_match="*")).tags == ["any"]
    for stale in (read, "", "nonsense", f"W/{etag_of(current)}"):
        with pytest.raises(Conflict) as caught:
            await _patch(lifecycle, session.id, tags=["stale"], if_match=stale)
        assert caught.value.code is ErrorCode.CONFLICT


# Participants. -------------------------------------------------------------------------------------


async def test_the_owner_lets_people_in_and_out(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.session()
    will = _who(WRITER)

    put, _ = await lifecycle.put_participant(session.id, WRITER, NewParticipant(access="read"), ANN)
    assert await lifecycle.participant(session.id, WRITER, will) == put
    with pytest.raises(NotFound):
        await stores.post(session.id, user=WRITER)
    await lifecycle.put_participant(session.id, WRITER, NewParticipant(access="write"), ANN)
    assert (await stores.post(session.id, user=WRITER)).dispatched
    for _ in range(2):
        await lifecycle.remove_participant(session.id, WRITER, ANN)
    with pytest.raises(NotFound):
        await stores.sessions.get(session.id, WRITER)


async def test_a_participant_may_leave_and_not_put_others_out(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.shared_session()

    with pytest.raises(NotFound):
        await lifecycle.remove_participant(session.id, READER, _who(WRITER))
    with pytest.raises(NotFound):
        await lifecycle.remove_participant(session.id, OWNER, _who(WRITER))
    with pytest.raises(NotFound):
        await lifecycle.put_participant(session.id, "eve", NewParticipant(access="write"), _who(WRITER))
    assert (await lifecycle.participant(session.id, OWNER, _who(READER))).access == "owner"
    await lifecycle.remove_participant(session.id, READER, _who(READER))
    with pytest.raises(NotFound):
        await lifecycle.participant(session.id, READER, _who(READER))
    with pytest.raises(NotFound) as caught:
        await lifecycle.participant(session.id, READER, ANN)
    assert caught.value.code is ErrorCode.SESSION_NOT_FOUND


async def test_the_owner_is_no_participant(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.session()

    with pytest.raises(InvalidInput):
        await lifecycle.put_participant(session.id, OWNER, NewParticipant(access="read"), ANN)
    with pytest.raises(InvalidInput):
        await lifecycle.remove_participant(session.id, OWNER, ANN)


async def test_participants_are_listed_for_everyone_who_may_read_the_session_and_nobody_else(
    stores: Stores, lifecycle: SessionLifecycle
) -> None:
    session = await stores.shared_session()

    for user in (OWNER, READER, WRITER):
        found = await lifecycle.participants(session.id, _who(user))
        assert [(one.user_id, one.access) for one in found] == [(READER, "read"), (WRITER, "write")]
    with pytest.raises(NotFound):
        await lifecycle.participants(session.id, _who(STRANGER))


async def test_participants_are_bounded(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.shared_session()
    await stores.sql(
        b"INSERT INTO session_participants (session_id, user_id, access)"
        b" SELECT %(s)s, 'user-' || n, 'read' FROM generate_series(3, %(limit)s::int) n",
        s=session.id,
        limit=MAX_PARTICIPANTS,
    )

    with pytest.raises(InvalidInput):
        await lifecycle.put_participant(session.id, "one more", NewParticipant(access="read"), ANN)
    changed, _ = await lifecycle.put_participant(session.id, READER, NewParticipant(access="write"), ANN)
    assert changed.access == "write"


async def test_whose_access_changes_is_told_and_a_stranger_is_not(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.shared_session()

    _, lowered = await lifecycle.put_participant(session.id, WRITER, NewParticipant(access="read"), ANN)
    removed = await lifecycle.remove_participant(session.id, WRITER, ANN)
    again = await lifecycle.remove_participant(session.id, WRITER, ANN)

    told = [
        orjson.loads(message)
        for change in (lowered, removed, again)
        for message in change.messages
        if b'"target":"access"' in message
    ]
    assert told == [
        {"target": "access", "userId": WRITER, "arguments": [{"session_id": session.id, "access": access}]}
        for access in ("read", None)
    ]


@pytest.mark.parametrize("left", [None, "read"])
async def test_turns_of_somebody_who_may_no_longer_write_are_cancelled(
    stores: Stores, lifecycle: SessionLifecycle, left: Literal["read"] | None
) -> None:
    session = await stores.shared_session()
    proposal = call("http_request", {"url": "https://example.org"}, needs_approval=True)
    waits = await stores.post(session.id, user=WRITER)
    await stores.answer(waits.turn.id, calls=[proposal])
    approval = await stores.request_approval(proposal)
    queued = await stores.post(session.id, user=WRITER, concurrency=Concurrency.ENQUEUE)
    mine = await stores.post(session.id, user=OWNER, concurrency=Concurrency.ENQUEUE)

    if left is None:
        change = await lifecycle.remove_participant(session.id, WRITER, ANN)
    else:
        _, change = await lifecycle.put_participant(session.id, WRITER, NewParticipant(access=left), ANN)

    assert change.interruption == Interruption([waits.turn.id], [queued.turn.id], [(approval.id, approval.instance_id)])
    (told,) = envelopes([message for message in change.messages if b'"target":"event"' in message])
    assert (told["type"], told["turn_id"], told["data"]["status"]) == ("stream.ended", queued.turn.id, "cancelled")
    assert isinstance(await stores.begin(waits.turn.id, 2), StepClosed)
    assert await stores.turns.cancel_requested([mine.turn.id]) == set()


async def test_a_change_that_leaves_the_writing_cancels_nothing(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.shared_session()
    posted = await stores.post(session.id, user=WRITER)

    _, change = await lifecycle.put_participant(session.id, WRITER, NewParticipant(access="write"), ANN)
    other = await lifecycle.remove_participant(session.id, READER, ANN)

    assert (change.interruption, other.interruption) == (Interruption(), Interruption())
    assert isinstance(await stores.begin(posted.turn.id), StepStart)


# Turns. --------------------------------------------------------------------------------------------


async def test_turns_are_listed_newest_first_while_more_arrive(stores: Stores, lifecycle: SessionLifecycle) -> None:
    session = await stores.shared_session()
    made = [(await stores.post(session.id, f"{n}", concurrency=Concurrency.ENQUEUE)).turn.id for n in range(5)]

    first, cursor = await lifecycle.list_turns(session.id, _who(READER), Page(limit=2))
    await stores.post(session.id, "newer", concurrency=Concurrency.ENQUEUE)
    assert cursor is not None
    rest, end = await lifecycle.list_turns(session.id, ANN, Page(limit=9, after=(4, "")))

    assert [turn.id for turn in first + rest] == made[::-1]
    assert end is None
    with pytest.raises(NotFound):
        await lifecycle.list_turns(session.id, _who(STRANGER), Page())


# Expiry. -------------------------------------------------------------------------------------------


def test_a_session_expires_at_the_moment_and_not_before() -> None:
    session = new_session(config=SessionConfig(expires_after_seconds=60))
    moment = expires_at(session)
    assert moment == session.created_at + timedelta(seconds=60)

    refuse_expired(session, moment - timedelta(microseconds=1))
    with pytest.raises(Gone) as caught:
        refuse_expired(session, moment)
    assert caught.value.code is ErrorCode.SESSION_EXPIRED
    refuse_expired(new_session(), datetime.max.replace(tzinfo=moment.tzinfo))


async def _expired(stores: Stores) -> str:
    """A session that expired a second ago and was not swept."""
    made = new_session(now=utc_now() - timedelta(seconds=61), config=SessionConfig(expires_after_seconds=60))
    record, _ = await stores.create(made)
    return record.session.id


async def test_an_expired_session_is_read_and_not_written(
    stores: Stores, lifecycle: SessionLifecycle, service: SessionService
) -> None:
    session_id = await _expired(stores)
    writes = [
        service.post_message(session_id, NewMessage(content="late"), ANN, idempotency_key=None),
        service.change_status(session_id, ANN, SessionStatus.ACTIVE),
        service.resume(session_id, ANN),
        _patch(lifecycle, session_id, config={"expires_after_seconds": 900}),
        lifecycle.put_participant(session_id, READER, NewParticipant(access="read"), ANN),
    ]
    for write in writes:
        with pytest.raises(Gone) as caught:
            await write
        assert (caught.value.code, caught.value.status) == (ErrorCode.SESSION_EXPIRED, 410)

    assert (await service.get(session_id, ANN)).session.status is SessionStatus.CREATED
    assert (await lifecycle.list_turns(session_id, ANN, Page())) == ([], None)
    assert (await service.change_status(session_id, ANN, SessionStatus.ENDED)).session.status is SessionStatus.ENDED


async def test_the_sweep_is_given_what_has_expired_by_then(stores: Stores, rows: PostgresLifecycle) -> None:
    session = await stores.session(config=SessionConfig(expires_after_seconds=3_600))
    moment = session.created_at + timedelta(hours=1)

    async def found(now: datetime) -> bool:
        return (session.id, OWNER) in await rows.expired(now=now, limit=100)

    assert not await found(moment - timedelta(microseconds=1))
    assert await found(moment)
    await stores.move(session.id, SessionStatus.ENDED)
    assert not await found(moment)


async def test_patch_moves_the_expiry(stores: Stores, lifecycle: SessionLifecycle, rows: PostgresLifecycle) -> None:
    session = await stores.session(config=SessionConfig(expires_after_seconds=60))
    await _patch(lifecycle, session.id, config={"expires_after_seconds": None})

    far = session.created_at + timedelta(days=365 * 20)
    assert session.id not in [found for found, _ in await rows.expired(now=far, limit=1_000)]


# Waiting for a turn. -------------------------------------------------------------------------------


async def test_a_waiter_is_answered_when_the_turn_ends(
    stores: Stores, service: SessionService, event_log: RedisEventLog
) -> None:
    waiter = TurnWaiter(event_log, stores.turns)
    posted = await stores.turn()
    target, turn_id = posted.target, posted.turn.id

    assert (await waiter.settled(target, turn_id, OWNER, 0.1)).status is TurnStatus.QUEUED
    waiting = asyncio.create_task(waiter.settled(target, turn_id, OWNER, 20))
    await asyncio.sleep(0)
    await service.finish_turn(turn_id, status=TurnStatus.COMPLETED, error=None)
    assert (await waiting).status is TurnStatus.COMPLETED
    assert (await waiter.settled(target, turn_id, OWNER, 20)).status is TurnStatus.COMPLETED


async def test_a_waiter_is_answered_when_the_turn_waits_for_a_person(stores: Stores, event_log: RedisEventLog) -> None:
    proposal = call(needs_approval=True)
    posted = await stores.proposed(proposal, approval_mode=ApprovalMode.MANUAL)
    await stores.request_approval(proposal)

    turn = await TurnWaiter(event_log, stores.turns).settled(posted.target, posted.turn.id, OWNER, 20)

    assert turn.status is TurnStatus.WAITING_APPROVAL
