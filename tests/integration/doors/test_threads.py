"""Ids that front ends make up for conversations: a user's own, one session each."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from shared.errors import InvalidInput, NotFound
from shared.principal import Principal
from shared.sessions.doors.threads import SessionThreads
from shared.sessions.events import SessionEventPublisher
from shared.sessions.life.erasure import SessionErasure
from shared.sessions.models import NewSession
from tests.integration.domain import OWNER, READER, STRANGER, Stores, erase_session, session_service

pytestmark = pytest.mark.integration

ANN, EVE = (Principal(name, frozenset()) for name in (OWNER, STRANGER))


@pytest.fixture
def threads(stores: Stores, publisher: SessionEventPublisher) -> SessionThreads:
    return SessionThreads(stores.sessions, session_service(stores, publisher))


async def opened(threads: SessionThreads, thread: str, principal: Principal = ANN) -> str:
    session_id, _ = await threads.open(thread, principal, NewSession())
    return session_id


async def test_a_thread_is_one_session_however_often_it_is_opened(threads: SessionThreads) -> None:
    first = await opened(threads, "a-thread")

    assert first != "a-thread"
    assert await opened(threads, "a-thread") == first
    assert await threads.find("a-thread", ANN) == first
    assert await threads.find(first, ANN) == first


async def test_many_who_open_a_new_thread_at_once_get_one_session(threads: SessionThreads, stores: Stores) -> None:
    thread = f"at once {uuid4()}"

    found = await asyncio.gather(*(threads.open(thread, ANN, NewSession()) for _ in range(8)))

    assert len({session_id for session_id, _ in found}) == 1
    assert await stores.value(b"SELECT count(*) FROM session_threads WHERE thread = %(t)s", t=thread) == 1


async def test_two_users_have_a_session_each(threads: SessionThreads) -> None:
    with pytest.raises(NotFound):
        await threads.find("both", EVE)
    anns = await opened(threads, "both")
    with pytest.raises(NotFound):
        await threads.find("both", EVE)
    with pytest.raises(NotFound):
        await threads.find(anns, EVE)
    assert await opened(threads, "both", EVE) != anns


async def test_a_session_has_its_threads_id_only_where_nobody_can_have_guessed_it(threads: SessionThreads) -> None:
    guessable, random = "chat-1", str(uuid4())

    assert await opened(threads, guessable) != guessable
    assert await opened(threads, random) == random
    assert await opened(threads, random, EVE) not in {random, guessable}


async def test_a_session_that_is_shared_is_found_by_an_id_that_was_not_chosen_to_be_found(
    threads: SessionThreads, stores: Stores
) -> None:
    reader = Principal(READER, frozenset())
    for session_id, is_found in ((str(uuid4()), True), (f"main-{uuid4()}", False)):
        session = await stores.session(id=session_id)
        await stores.share(session.id, READER, "write")
        assert await threads.find(session.id, ANN) == session.id
        assert (await opened(threads, session.id, reader) == session.id) is is_found


async def test_a_thread_begins_anew_when_its_session_was_erased(
    threads: SessionThreads, erasing: SessionErasure
) -> None:
    for thread in ("erased", str(uuid4())):
        first = await opened(threads, thread)
        await erase_session(erasing, first)
        with pytest.raises(NotFound):
            await threads.find(thread, ANN)
        assert await opened(threads, thread) is not None


@pytest.mark.parametrize("thread", ["", "x" * 256, "a\x00b", "a\nb"])
async def test_what_cannot_be_an_id_names_nothing(threads: SessionThreads, thread: str) -> None:
    with pytest.raises(NotFound):
        await threads.find(thread, ANN)
    with pytest.raises(InvalidInput):
        await opened(threads, thread)
