"""Who hears a session through SignalR on a real PostgreSQL: what is joined on somebody's word leaves with them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest
from redis.asyncio import Redis

from shared.adapters.postgres.sessions.subscriptions import PostgresSubscriptions
from shared.adapters.redis.presence import RedisPresenceMarks
from shared.errors import NotFound
from shared.principal import Principal, Role
from shared.sessions.events import session_group
from shared.sessions.life.lifecycle import SessionLifecycle
from shared.sessions.live.audience import Listener
from shared.sessions.live.presence import Presence
from shared.sessions.live.realtime import DeliveryFailed
from shared.sessions.live.subscriptions import SAID_AGAIN, SubscriptionService
from shared.sessions.models import NewParticipant
from tests.integration.domain import OWNER, READER, STRANGER, Stores, new_session, patient, utc_now

pytestmark = pytest.mark.integration


def _who(name: str) -> Principal:
    return Principal(name, frozenset({Role.USER}))


ANN, RITA = _who(OWNER), _who(READER)


@pytest.fixture
def rows(stores: Stores) -> PostgresSubscriptions:
    return PostgresSubscriptions(stores.pool)


@pytest.fixture
def service(rows: PostgresSubscriptions, redis: Redis) -> SubscriptionService:
    marks = RedisPresenceMarks(redis, patient(redis))

    async def is_empty(group: str) -> bool:
        raise DeliveryFailed("nobody asks")

    return SubscriptionService(rows, Presence(marks, is_empty, rows.on_record))


async def _shared(stores: Stores) -> tuple[str, str]:
    """(id, group) of a session that a reader takes part in."""
    record, _ = await stores.create(new_session())
    await stores.share(record.session.id, READER, "read")
    return record.session.id, session_group(record.target.feed)


def _actions(messages: list[bytes], group: str) -> list[tuple[str, str]]:
    """(verb, connection or user) of what concerns the group."""
    read = [orjson.loads(message) for message in messages]
    return [
        (item["action"], item.get("connectionId") or item["userId"]) for item in read if item.get("groupName") == group
    ]


async def _standing(stores: Stores, session_id: str) -> list[str]:
    found = await stores.rows(
        b"SELECT connection_id FROM session_subscriptions WHERE session_id = %(s)s AND ended_at IS NULL"
        b" ORDER BY joined_at",
        s=session_id,
    )
    return [row["connection_id"] for row in found]


async def _refused(action: bytes) -> bool:
    return False


async def _accepted(action: bytes) -> bool:
    return True


async def test_whoever_is_taken_out_takes_every_connection_along_that_they_let_in(
    stores: Stores, service: SubscriptionService, lifecycle: SessionLifecycle
) -> None:
    session_id, group = await _shared(stores)
    joining = [
        await service.subscribe(session_id, connection_id, who, _refused)
        for connection_id, who in (("eves", RITA), (None, RITA), ("anns", ANN))
    ]
    assert [one.is_joined for one in joining] == [False] * 3, "they are on their way only"
    left = [action for one in joining for action in one.left]
    assert _actions(left, group) == [("add", "eves"), ("add", READER), ("add", "anns")]

    for _ in range(2):  # a repeat of a request that was cut says it all again
        change = await lifecycle.remove_participant(session_id, READER, ANN)
        assert _actions(change.messages, group) == [("remove", READER), ("remove", "eves")]

    assert await _standing(stores, session_id) == ["anns"]


async def test_what_has_ended_is_said_again_for_a_while_and_then_forgotten(
    stores: Stores, service: SubscriptionService, lifecycle: SessionLifecycle
) -> None:
    session_id, group = await _shared(stores)
    await service.subscribe(session_id, "eves", RITA, _accepted)
    await service.subscribe(session_id, None, RITA, _accepted)
    await lifecycle.remove_participant(session_id, READER, ANN)
    later = utc_now() + SAID_AGAIN + timedelta(seconds=1)

    done: list[bytes] = []

    async def accepted(action: bytes) -> bool:
        done.append(action)
        return True

    for now in (utc_now(), later + timedelta(hours=1)):  # SignalR is away: it is left to the binding, and kept
        refused = await service.ended(_refused, now=now)
        assert sorted(_actions(refused, group)) == [("remove", "eves"), ("remove", READER)]
    for now in (utc_now(), utc_now(), later):
        done.clear()
        assert await service.ended(accepted, now=now) == []
        assert sorted(_actions(done, group)) == [("remove", "eves"), ("remove", READER)]
    done.clear()
    await service.ended(accepted, now=later)
    assert _actions(done, group) == []


async def test_who_is_let_in_again_stays_in(
    stores: Stores, service: SubscriptionService, lifecycle: SessionLifecycle
) -> None:
    session_id, group = await _shared(stores)
    await service.subscribe(session_id, "ritas", RITA, _accepted)
    await lifecycle.remove_participant(session_id, READER, ANN)
    await lifecycle.put_participant(session_id, READER, NewParticipant(access="read"), ANN)

    joining = await service.subscribe(session_id, "ritas", RITA, _accepted)

    assert (joining.is_joined, list(joining.left)) == (True, [])
    assert _actions(await service.ended(_refused, now=utc_now()), group) == []
    assert await _standing(stores, session_id) == ["ritas"]


async def test_nobody_joins_what_they_may_not_read(stores: Stores, service: SubscriptionService) -> None:
    session_id, _ = await _shared(stores)

    for connection_id in ("malloris", None):
        for of, who in ((session_id, _who(STRANGER)), ("no-such-session", ANN)):
            with pytest.raises(NotFound):
                await service.subscribe(of, connection_id, who, _accepted)
            with pytest.raises(NotFound):
                await service.unsubscribe(of, connection_id, who, _accepted)
    assert await _standing(stores, session_id) == []


async def test_whoever_joins_while_they_are_taken_out_does_not_stay(
    stores: Stores, service: SubscriptionService, lifecycle: SessionLifecycle
) -> None:
    for n in range(20):
        session_id, _ = await _shared(stores)
        await asyncio.gather(
            service.subscribe(session_id, f"c{n}", RITA, _accepted),
            lifecycle.remove_participant(session_id, READER, ANN),
            return_exceptions=True,
        )
        assert await _standing(stores, session_id) == []


@pytest.mark.parametrize("connection_id", ["eves", None])
async def test_whoever_is_taken_out_while_signalr_lets_them_in_is_let_go_before_they_are_answered(
    stores: Stores, service: SubscriptionService, lifecycle: SessionLifecycle, connection_id: str | None
) -> None:
    """The join overtakes the leave on its way, so SignalR alone would keep them."""
    session_id, group = await _shared(stores)
    done: list[bytes] = []

    async def late(action: bytes) -> bool:
        if b'"add"' in action:
            done.extend((await lifecycle.remove_participant(session_id, READER, ANN)).messages)
        done.append(action)
        return True

    with pytest.raises(NotFound):
        await service.subscribe(session_id, connection_id, RITA, late)
    assert _actions(done, group)[-2:] == [("add", connection_id or READER), ("remove", connection_id or READER)]


async def test_whoever_unsubscribes_while_they_join_is_out(stores: Stores, service: SubscriptionService) -> None:
    session_id, group = await _shared(stores)
    done: list[bytes] = []

    async def late(action: bytes) -> bool:
        if b'"add"' in action:
            done.extend(await service.unsubscribe(session_id, "ritas", RITA, _refused))
        done.append(action)
        return True

    joining = await service.subscribe(session_id, "ritas", RITA, late)
    assert (joining.is_joined, list(joining.left)) == (False, [])
    assert _actions(done, group) == [("remove", "ritas"), ("add", "ritas"), ("remove", "ritas")]


async def test_whoever_leaves_and_comes_back_at_once_stays_in(stores: Stores, service: SubscriptionService) -> None:
    """An output comes after its answer, and would be done after the join."""
    session_id, group = await _shared(stores)
    done: list[bytes] = []

    async def accepted(action: bytes) -> bool:
        done.append(action)
        return True

    await service.subscribe(session_id, "ritas", RITA, accepted)
    assert await service.unsubscribe(session_id, "ritas", RITA, accepted) == [], "nothing is left for an output"
    await service.subscribe(session_id, "ritas", RITA, accepted)

    assert _actions(done, group) == [("add", "ritas"), ("remove", "ritas"), ("add", "ritas")]


async def test_unsubscribing_all_takes_out_what_joined_one_by_one_too(
    stores: Stores, service: SubscriptionService
) -> None:
    session_id, group = await _shared(stores)
    for connection_id in ("one", "two"):
        await service.subscribe(session_id, connection_id, RITA, _accepted)
    await service.subscribe(session_id, "anns", ANN, _accepted)

    left = await service.unsubscribe(session_id, "one", RITA, _refused)
    rest = await service.unsubscribe(session_id, None, RITA, _refused)

    assert _actions(left, group) == [("remove", "one")]
    assert _actions(rest, group) == [("remove", READER), ("remove", "two")]
    assert await _standing(stores, session_id) == ["anns"]


async def test_of_the_connections_that_a_user_joined_the_latest_stay(
    stores: Stores, rows: PostgresSubscriptions, service: SubscriptionService
) -> None:
    session_id, group = await _shared(stores)
    for n, connection_id in enumerate(["first", "second", "first", "third"]):
        now = utc_now() + timedelta(seconds=n)
        await rows.add(session_id, READER, connection_id, limit=2, now=now)

    assert await _standing(stores, session_id) == ["first", "third"]
    assert _actions(await service.ended(_refused, now=utc_now()), group) == [("remove", "second")]


async def test_who_listens_is_told_the_latest_first_and_without_those_who_were_taken_out(
    service: SubscriptionService, rows: PostgresSubscriptions, stores: Stores
) -> None:
    session_id, _ = await _shared(stores)
    for who, connection_id in ((RITA, "phone"), (ANN, "first"), (ANN, "second"), (ANN, None)):
        await service.subscribe(session_id, connection_id, who, _refused)
    await service.unsubscribe(session_id, "first", ANN, _refused)
    listeners = await rows.listeners(session_id, 10)
    assert listeners == [Listener(OWNER, None), Listener(OWNER, "second"), Listener(READER, "phone")]
    assert await rows.listeners(session_id, 1) == listeners[:1]
    await stores.rows(
        b"UPDATE session_subscriptions SET ended_at = now() WHERE session_id = %(s)s AND user_id = %(u)s RETURNING 1",
        s=session_id,
        u=READER,
    )
    assert await rows.listeners(session_id, 10) == listeners[:2]
