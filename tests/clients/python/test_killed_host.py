"""A host that is killed in the middle of an answer: what the client told is the stored answer, each event once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from parley_client import AsyncClient, Client, ContentDelta, Event, Retries, TurnEnd, TurnEvent, TurnText

from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost

pytestmark = pytest.mark.e2e

HEADERS = {"x-dev-user": "olga;approver"}
RETRIES = Retries(tries=8, first_pause_s=0.2, longest_pause_s=2)
WORDS = 150
SLOW = script(tokens=WORDS, token_ms=20)


@contextmanager
def killed_and_started(host: AppHost) -> Iterator[None]:
    """Kill it now; it is back when the block ends, at the latest."""
    host.kill()
    start = threading.Thread(target=host.start)
    start.start()
    try:
        yield
    finally:
        start.join()


def check(events: list[TurnEvent], stored: str) -> None:
    text = TurnText()
    for event in events:
        text.take(event)
    numbers = [event.seq for event in events if event.seq is not None]
    assert numbers == sorted(set(numbers))
    assert isinstance(events[-1], TurnEnd)
    assert events[-1].status == "completed"
    assert text.last == stored
    assert len(stored.split()) >= WORDS // 2


def test_a_turns_stream_outlives_a_killed_host(own_host: AppHost) -> None:
    with httpx.Client(trust_env=False) as http:
        client = Client(own_host.base_url, headers=HEADERS, retries=RETRIES, http=http)
        session = client.create_session()
        posted = client.post_message(session.id, SLOW)
        events: list[TurnEvent] = []
        stream = iter(client.stream_turn(session.id, posted.turn.id))
        while sum(isinstance(event, ContentDelta) for event in events) < 3:
            events.append(next(stream))
        with killed_and_started(own_host):
            events += stream
        [answer] = client.list_messages(session.id, role="assistant").items

        check(events, answer.content)
        assert client.get_turn(session.id, posted.turn.id).status == "completed"


async def test_a_session_is_followed_across_a_killed_host(own_host: AppHost) -> None:
    async with (
        httpx.AsyncClient(trust_env=False) as http,
        AsyncClient(own_host.base_url, headers=HEADERS, retries=RETRIES, http=http) as client,
    ):
        session = await client.create_session()
        heard: list[Event] = []
        async with client.stream_events(session.id) as events:
            posted = await client.post_message(session.id, SLOW)
            async for event in events:
                assert isinstance(event, Event)
                heard.append(event)
                if event.type == "stream.chunk":
                    break
            own_host.kill()
            own_host.start()
            # The client of before goes on: it has not noticed yet, or is on its way back.
            async for event in events:
                assert isinstance(event, Event)
                heard.append(event)
                if event.type == "stream.ended":
                    break
        turn = await client.wait_for_turn(session.id, posted.turn.id, timeout_s=60)

        assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
        assert turn.status == "completed"
