"""What a live client may rely on, and what it must do itself (`docs/live.md`), where outputs overtake each other."""

from __future__ import annotations

import asyncio

from tests.e2e.support.client import Api, Json, script
from tests.e2e.support.signalr import Console
from tests.e2e.support.sse import Transcript

_TRIES = 5


async def test_events_that_overtake_each_other_are_in_order_by_their_numbers(api: Api, console: Console) -> None:
    session_id = await api.session()
    listener = await console.connect(api, subscribe_to=session_id)
    heard: list[Json] = []
    for _ in range(_TRIES):  # how late each output is, is drawn; which of them meet is up to the machine
        turn_id = await api.say(session_id, script(tokens=60, token_ms=15))
        heard += await listener.until("stream.ended")
        assert Transcript.of_envelopes(heard, turn_id).texts == await api.answers(session_id, turn_id)
        if listener.arrived != sorted(listener.arrived):
            break
    else:
        raise AssertionError("nothing overtook anything: outputs are not shuffled")
    assert heard == (await api.events(session_id))[1:]


async def test_whoever_is_joined_misses_nothing_of_what_they_do_next(api: Api, console: Console) -> None:
    """Azure sends the outputs of a function after its answer; the group is joined before."""

    async def follow(number: int) -> None:
        session_id = await api.session()
        listener = await console.connect(api, is_in_order=False)
        path = f"/api/v1/sessions/{session_id}"
        joined = await api.post(f"{path}/subscribe", {"connection_id": listener.connection_id})
        assert joined.json()["is_joined"]
        turn_id = await api.say(session_id, script(tokens=number))
        await api.until(session_id, turn_id)
        wanted = (await api.events(session_id))[1:]
        heard: dict[int, Json] = {}
        while len(heard) < len(wanted):
            event = await listener.arrival()
            if event["seq"] > 1:  # the session's own creation may be told late
                heard[event["seq"]] = event
        assert [heard[seq] for seq in sorted(heard)] == wanted

    await asyncio.gather(*(follow(number) for number in range(1, 11)))


async def test_a_connection_that_is_not_there_is_not_joined(api: Api) -> None:
    session_id = await api.session()
    answer = await api.post(f"/api/v1/sessions/{session_id}/subscribe", {"connection_id": "nobodys"})
    assert answer.json() == {"session_id": session_id, "connection_id": "nobodys", "is_joined": False}
