"""Pins over PostgreSQL: each user's own, kept, listed, and gone with their session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.adapters.postgres.features.pins import PostgresPins
from shared.errors import AppError, ErrorCode
from shared.principal import Principal, Role
from shared.sessions.features import pins as pins_module
from shared.sessions.features.pins import PinService
from shared.sessions.records.pages import Page, SessionFilter
from tests.integration.domain import OWNER, READER, STRANGER, Stores

pytestmark = pytest.mark.integration


@pytest.fixture
def service(stores: Stores) -> PinService:
    return PinService(stores.sessions, PostgresPins(stores.pool))


def _as(user: str) -> Principal:
    return Principal(user, frozenset({Role.USER}))


async def _listed(stores: Stores, user: str, **wanted: Any) -> dict[str, bool]:
    found = await stores.sessions.list_for(user, SessionFilter(**wanted), Page())
    return {session.id: session.pinned for session in found}


async def test_a_pin_is_its_users_own_and_made_and_taken_off_once(stores: Stores, service: PinService) -> None:
    session = await stores.shared_session()
    await asyncio.gather(*(service.put(session.id, _as(READER)) for _ in range(3)))
    assert (await _listed(stores, READER))[session.id] is True
    assert (await _listed(stores, OWNER))[session.id] is False, "others do not see it"
    assert list(await _listed(stores, READER, pinned=True)) == [session.id]
    assert session.id not in await _listed(stores, OWNER, pinned=True)
    assert session.id in await _listed(stores, OWNER, pinned=False)

    for _ in range(2):
        await service.delete(session.id, _as(READER))
    assert session.id not in await _listed(stores, READER, pinned=True)


async def test_a_stranger_pins_nothing_and_is_told_nothing(stores: Stores, service: PinService) -> None:
    session = await stores.session()
    for work in (service.put, service.delete):
        with pytest.raises(AppError) as refused:
            await work(session.id, _as(STRANGER))
        assert refused.value.code is ErrorCode.SESSION_NOT_FOUND
    assert not await _listed(stores, STRANGER, pinned=True)


async def test_who_is_taken_out_of_a_session_has_it_in_no_list(stores: Stores, service: PinService) -> None:
    session = await stores.shared_session()
    await service.put(session.id, _as(READER))
    await stores.pool.execute(b"DELETE FROM session_participants WHERE session_id = %(s)s", {"s": session.id})
    assert session.id not in await _listed(stores, READER, pinned=True)


async def test_a_user_pins_so_many_sessions_and_a_pinned_one_again_at_any_time(
    stores: Stores, service: PinService, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = "pinning"
    first, second = [await stores.session(owner=user) for _ in range(2)]
    monkeypatch.setattr(pins_module, "MAX_PINS", 1)
    await service.put(first.id, _as(user))
    await service.put(first.id, _as(user))
    with pytest.raises(AppError) as refused:
        await service.put(second.id, _as(user))
    assert refused.value.code is ErrorCode.VALIDATION_ERROR
    # With its session it goes, and makes room.
    await stores.pool.execute(b"DELETE FROM sessions WHERE id = %(s)s", {"s": first.id})
    await service.put(second.id, _as(user))
