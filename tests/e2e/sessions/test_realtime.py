"""Live events: the standard SignalR client and SSE see what is stored, miss nothing, and see nothing of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import orjson
import pytest

from devhost.signalr.service.tokens import USER_CLAIM
from shared.adapters.azure.signalr import RELAY_ROUTE
from shared.ids import new_id
from shared.settings import Settings
from shared.signing import RELAY_TOKEN_SECONDS, ApprovalLinks, RelayTokens, derive_key
from tests.e2e.support.client import PATIENCE_S, Api, Json, call, eventually, post_call, script
from tests.e2e.support.processes import LINK_SECRET, AppHost, Sink
from tests.e2e.support.signalr import Console
from tests.e2e.support.sse import ServerEvent, Transcript, server_events

SLOW = {"tokens": 80, "token_ms": 20}


# What is heard equals what is stored. ------------------------------------------------------------


async def test_signalr_stream_equals_the_stored_text(api: Api, parley: AppHost, console: Console, sink: Sink) -> None:
    owner = api.as_user("hana")
    session_id = await owner.session()
    listener = await console.connect(owner, subscribe_to=session_id)
    steps = [[call("calculate", expression="6 * 7"), post_call(sink.url("/signalr"))]]
    message = script(tool_calls=steps, preamble="Zuerst, 東京 🙂: ", tokens=50, token_ms=10)
    turn_id = await owner.say(session_id, message)
    heard = await listener.until("tool_call.pending")
    await api.decide((await api.approval(session_id))["id"], "approve")
    heard += await listener.until("stream.ended")
    stored = await owner.answers(session_id, turn_id)
    assert len(stored) == 2
    assert all(stored.values())
    assert Transcript.of_envelopes(heard, turn_id).texts == stored
    assert heard == (await owner.events(session_id))[1:]
    assert len([event for event in heard if event["type"] == "stream.chunk"]) > 6, "it came in pieces"
    assert parley.logs("relay ok"), "deltas go through the relay function's output binding"


async def test_every_connection_in_the_session_hears_each_event_once(api: Api, console: Console, sink: Sink) -> None:
    """Whether its user is an approver, both kinds of approver, one whom the policy names, or none of these."""
    session_id = await api.session_under(roles=["approver", "admin"], users=["uma", "petr"])
    people = ("petr;approver,admin", "uma", "rita")
    for user in ("petr", "uma", "rita"):
        path = f"/api/v1/sessions/{session_id}/participants/{user}"
        assert (await api.request("PUT", path, json={"access": "read"})).is_success
    in_it = (api, api, *map(api.as_user, people))
    everybody = [await console.connect(one, subscribe_to=session_id) for one in in_it]
    # All their connections, and this one by its id.
    assert (await api.as_user("petr").post(f"/api/v1/sessions/{session_id}/subscribe", {})).status_code == 200
    outside = [await console.connect(api.as_user(user)) for user in ("otto;approver,admin", "uma")]
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/once"))]], content="done"))
    await everybody[0].until("tool_call.pending")
    await api.decide((await api.approval(session_id))["id"], "approve")
    await api.until(session_id, turn_id)
    await api.until(session_id, await api.say(session_id, script(tokens=3)))
    for listener in everybody:
        last = (await api.events(session_id))[-1]["seq"]
        while (await listener.next())["seq"] != last:
            pass
        assert sorted(listener.arrived) == list(range(2, last + 1))
    for listener in outside:
        told = [message["args"][0] for message in listener.unread()]
        kinds = [event["type"] for event in told if event["session_id"] == session_id]
        assert sorted(kinds) == ["tool_call.approved", "tool_call.pending"]


async def test_turn_stream_session_stream_and_replay_tell_the_same(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(**SLOW))
    stream = asyncio.create_task(api.turn_stream(session_id, turn_id))
    live: list[Json] = []
    async with api.session_stream(session_id) as events:
        async for event in events:
            live.append(event.data)
            if event.event == "stream.ended":
                break
    assert live == await api.events(session_id)
    stored = await api.answers(session_id, turn_id)
    assert Transcript.of_turn_stream(await stream).texts == stored
    # From its beginning again, when all is over; and from the middle.
    again = await api.turn_stream(session_id, turn_id)
    assert Transcript.of_turn_stream(again).texts == stored
    assert again == await stream
    middle = len(again) // 2
    assert await api.turn_stream(session_id, turn_id, after=again[middle].id) == again[middle + 1 :]
    assert again[-1].event == "end"


# Catching up. ------------------------------------------------------------------------------------


async def test_sse_client_that_disconnects_catches_up_without_gap_or_duplicate(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(**SLOW))
    seen: list[Json] = []
    while not seen or seen[-1]["type"] != "stream.ended":
        # A new connection after every few events, from the last one seen.
        async with api.session_stream(session_id, after=seen[-1]["seq"] if seen else 0) as events:
            taken = 0
            async for event in events:
                seen.append(event.data)
                taken += 1
                if taken == 4 or event.event == "stream.ended":
                    break
    assert [envelope["seq"] for envelope in seen] == list(range(1, len(seen) + 1))
    assert Transcript.of_envelopes(seen, turn_id).texts == await api.answers(session_id, turn_id)


async def test_json_replay_in_small_pages_has_neither_gap_nor_duplicate(api: Api) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(**SLOW))
    seen: list[Json] = []
    path = f"/api/v1/sessions/{session_id}/events"
    while not seen or seen[-1]["type"] != "stream.ended":
        after = seen[-1]["seq"] if seen else 0
        page = (await api.get(path, params={"after": after, "limit": 3})).json()
        assert not page["gap"]
        assert (page["next_cursor"] is None) == (page["last_seq"] == (page["items"] or seen)[-1]["seq"])
        seen += page["items"]
    assert [envelope["seq"] for envelope in seen] == list(range(1, len(seen) + 1))
    assert Transcript.of_envelopes(seen, turn_id).texts == await api.answers(session_id, turn_id)


async def test_signalr_client_that_was_away_reads_what_it_missed(api: Api, console: Console, tmp_path: Path) -> None:
    session_id, enough = await api.session(), tmp_path / "enough"
    listener = await console.connect(api, subscribe_to=session_id)
    turn_id = await api.say(session_id, script(tokens=1_000, token_ms=50, paced_until=str(enough)))
    seen = [await listener.next() for _ in range(6)]
    await listener.stop()
    await eventually(lambda: api.events(session_id, after=seen[-1]["seq"]), "something to be missed")
    # Back again: first listen, then read what was missed, then drop what came twice.
    back = await console.connect(api, subscribe_to=session_id)
    missed = await api.events(session_id, after=seen[-1]["seq"])
    enough.touch()
    known = {envelope["seq"]: envelope for envelope in (await api.events(session_id))[:1] + seen + missed}
    for envelope in await back.until("stream.ended"):
        assert known.setdefault(envelope["seq"], envelope) == envelope
    assert sorted(known) == list(range(1, len(known) + 1))
    ordered = [known[seq] for seq in sorted(known)]
    assert Transcript.of_envelopes(ordered, turn_id).texts == await api.answers(session_id, turn_id)


async def test_a_turn_that_nobody_hears_is_relayed_to_nobody_and_whoever_comes_in_the_middle_misses_nothing(
    api: Api, parley: AppHost, console: Console, tmp_path: Path
) -> None:
    session_id, enough = await api.session(), tmp_path / "enough"
    relayed = parley.log().count("relay ok")
    turn_id = await api.say(session_id, script(tokens=1_000, token_ms=50, paced_until=str(enough)))

    async def is_streaming() -> bool:
        return len([event for event in await api.events(session_id) if event["type"] == "stream.chunk"]) > 3

    await eventually(is_streaming, "some batches of the answer")
    assert parley.log().count("relay ok") == relayed

    listener = await console.connect(api, subscribe_to=session_id)
    events = await api.events(session_id)

    async def is_relayed() -> bool:
        return parley.log().count("relay ok") > relayed

    await eventually(is_relayed, "a batch that is relayed")
    enough.touch()
    known = {event["seq"]: event for event in events}
    for event in await listener.until("stream.ended"):
        assert known.setdefault(event["seq"], event) == event
    assert sorted(known) == list(range(1, len(known) + 1))
    ordered = [known[seq] for seq in sorted(known)]
    assert Transcript.of_envelopes(ordered, turn_id).texts == await api.answers(session_id, turn_id)

    path = f"/api/v1/sessions/{session_id}/unsubscribe"
    assert (await api.post(path, {"connection_id": listener.connection_id})).status_code == 200
    relayed = parley.log().count("relay ok")
    await api.until(session_id, await api.say(session_id, script(tokens=30, token_ms=20)))
    assert parley.log().count("relay ok") == relayed


# Who hears what. ---------------------------------------------------------------------------------


async def test_approvers_hear_of_approvals_in_sessions_of_others(api: Api, console: Console, sink: Sink) -> None:
    approver = await console.connect(api.as_user("petr;approver"))
    bystander = await console.connect(api.as_user("eve"))
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/group"))]], content="done"))
    pending = await approver.next()
    while pending["session_id"] != session_id:
        pending = await approver.next()  # of a test before this one
    assert pending["type"] == "tool_call.pending"
    assert pending["data"]["approval"]["arguments"]["url"] == sink.url("/group")
    await api.as_user("petr;approver").decide(pending["data"]["approval"]["id"], "approve")
    assert (await approver.next())["type"] == "tool_call.approved"
    await api.until(session_id, turn_id)
    assert approver.unread() == [], "only approvals: the conversation itself is none of the group's business"
    assert bystander.unread() == []


async def test_approver_who_is_one_no_longer_hears_no_more_once_they_connect_again(
    api: Api, console: Console, sink: Sink
) -> None:
    open_still = await console.connect(api.as_user("petra;approver"))
    again = await console.connect(api.as_user("petra"))
    approver = await console.connect(api.as_user("paul;approver"))
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/demoted"))]], content="done"))
    pending = await approver.next()
    while pending["session_id"] != session_id:
        pending = await approver.next()  # of a test before this one
    await api.cancel(session_id, turn_id)
    assert (open_still.unread(), again.unread()) == ([], [])


async def test_unsubscribed_client_hears_no_more(api: Api, console: Console) -> None:
    session_id = await api.session()
    gone, stays = [await console.connect(api, subscribe_to=session_id) for _ in range(2)]
    path = f"/api/v1/sessions/{session_id}/unsubscribe"
    assert (await api.post(path, {"connection_id": gone.connection_id})).status_code == 200
    await api.say(session_id, script(tokens=3))
    await stays.until("stream.ended")
    assert gone.unread() == []


async def test_subscribing_takes_the_right_to_read_the_session(api: Api, console: Console) -> None:
    session_id = await api.session()
    eve = api.as_user("eve")
    listener = await console.connect(eve)
    for body in ({"connection_id": listener.connection_id}, {}):
        refused = await eve.post(f"/api/v1/sessions/{session_id}/subscribe", body)
        assert (refused.status_code, refused.json()["code"]) == (404, "SESSION_NOT_FOUND")
    await api.until(session_id, await api.say(session_id, script(tokens=3)))
    assert listener.unread() == []


async def test_whoever_had_an_id_before_hears_nothing_of_a_session_that_has_it_now(api: Api, console: Console) -> None:
    earlier = api.as_user("mallory")
    session_id = f"standup-{new_id()}"
    assert (await earlier.post("/api/v1/sessions", {"id": session_id})).status_code == 201
    one, every = await console.connect(earlier, subscribe_to=session_id), await console.connect(earlier)
    assert (await earlier.post(f"/api/v1/sessions/{session_id}/subscribe", {})).status_code == 200
    overheard: list[Json] = []

    async def listen(stream: AsyncIterator[ServerEvent]) -> None:
        async for event in stream:
            overheard.append(event.data)

    async with earlier.session_stream(session_id) as stream:
        listening = asyncio.create_task(listen(stream))
        assert (await earlier.request("DELETE", f"/api/v1/sessions/{session_id}")).status_code == 204
        assert (await api.post("/api/v1/sessions", {"id": session_id})).status_code == 201
        owner = await console.connect(api, subscribe_to=session_id)
        await api.say(session_id, script(content="not yours"))
        heard = await owner.until("stream.ended")
        listening.cancel()
        await asyncio.wait([listening])
    overheard += [message["args"][0] for message in [*one.unread(), *every.unread()]]
    assert "message.updated" in {event["type"] for event in heard}
    assert {event["type"] for event in overheard} == {"session.created", "session.ended"}, "both of their own session"


async def test_connection_that_somebody_else_let_in_hears_no_more_once_they_are_taken_out(
    api: Api, console: Console
) -> None:
    session_id = await api.session()
    await api.request("PUT", f"/api/v1/sessions/{session_id}/participants/rita", json={"access": "read"})
    owner, eve = await console.connect(api, subscribe_to=session_id), await console.connect(api.as_user("eve"))
    path = f"/api/v1/sessions/{session_id}/subscribe"
    assert (await api.as_user("rita").post(path, {"connection_id": eve.connection_id})).status_code == 200

    assert (await api.request("DELETE", f"/api/v1/sessions/{session_id}/participants/rita")).status_code == 204

    await api.say(session_id, script(content="among ourselves"))
    await owner.until("stream.ended")
    assert eve.unread() == []


async def test_streams_of_a_reader_end_when_they_are_taken_out(api: Api, sink: Sink) -> None:
    session_id = await api.session()
    turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url("/streams"))]], content="done"))
    await api.approval(session_id)
    await api.request("PUT", f"/api/v1/sessions/{session_id}/participants/rita", json={"access": "read"})
    rita = api.as_user("rita")
    turn_path = f"/api/v1/sessions/{session_id}/turns/{turn_id}/stream"

    async with (
        asyncio.timeout(PATIENCE_S),
        rita.session_stream(session_id) as session_events,
        rita.opened(turn_path) as turn,
        api.session_stream(session_id) as owners,
    ):
        turn_events = server_events(turn)
        for stream in (session_events, turn_events, owners):
            await anext(stream)
        assert (await api.request("DELETE", f"/api/v1/sessions/{session_id}/participants/rita")).status_code == 204
        heard = [event.event async for event in session_events] + [event.event async for event in turn_events]
        await api.cancel(session_id, turn_id)
        async for event in owners:
            if event.event == "stream.ended":
                break

    assert "stream.ended" not in heard
    assert "end" not in heard
    assert (await rita.get(turn_path)).status_code == 404


async def test_streams_of_one_user_are_limited(api: Api) -> None:
    limit = Settings.model_fields["streams_per_user"].default
    crowd = api.as_user(f"crowd-{new_id()}")
    session_id = await crowd.session()
    path = f"/api/v1/sessions/{session_id}/events"
    async with AsyncExitStack() as kept:
        for _ in range(limit - 1):
            await kept.enter_async_context(crowd.session_stream(session_id))
        async with crowd.session_stream(session_id):
            refused = await crowd.get(path, headers={"accept": "text/event-stream"})
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) > 0
        assert (await crowd.get(path)).status_code == 200, "what ends at once is no stream"

        async def has_room() -> bool:
            async with crowd.opened(path) as response:
                return response.status_code == 200

        await eventually(has_room, "the place of the stream that was closed")


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        ([("x-dev-user", "eve"), ("x-ms-client-principal-id", "olga")], "eve"),
        ([("x-dev-user", "eve"), ("x-ms-client-principal-name", "olga"), ("x-ms-client-principal", "e30=")], "eve"),
        ([("x-dev-user", "eve"), ("X-MS-CLIENT-PRINCIPAL-ID", "olga"), ("x-user", "olga")], "eve"),
        # What the platform and the app would read differently gets nothing.
        ([("x-dev-user", "%6Flga")], None),
        ([("x-dev-user", "eve"), ("x-dev-user", "olga")], None),
    ],
)
async def test_negotiate_cannot_take_the_identity_of_somebody_else(
    api: Api, headers: list[tuple[str, str]], user: str | None
) -> None:
    async with httpx.AsyncClient(base_url=api.base_url, trust_env=False) as client:
        response = await client.post("/api/v1/realtime/negotiate", headers=headers)
    if user is None:
        assert (response.status_code, response.json()["code"]) == (401, "UNAUTHENTICATED")
        return
    assert response.status_code == 200
    claims = jwt.decode(response.json()["accessToken"], options={"verify_signature": False})
    assert claims[USER_CLAIM] == user


@pytest.mark.parametrize(
    "body",
    [
        {"headers": {"x-ms-client-principal-id": "olga"}},
        {"Headers": {"X-MS-CLIENT-PRINCIPAL-ID": "olga"}},
        {"headers": {}},
        {"headers": "olga"},
        {"headers": [["x-ms-client-principal-id", "olga"]]},
    ],
)
async def test_negotiate_hands_out_no_connection_of_a_user_that_the_body_names(api: Api, body: dict[str, Any]) -> None:
    """Binding expressions read a JSON body before the headers, in Azure as here."""
    async with httpx.AsyncClient(base_url=api.base_url, trust_env=False) as client:
        response = await client.post("/api/v1/realtime/negotiate", headers={"x-dev-user": "eve"}, json=body)
        plain = await client.post("/api/v1/realtime/negotiate", headers={"x-dev-user": "eve"}, json={"user": "olga"})

    # What is no object has no such header: then the binding itself refuses.
    assert response.status_code in {401, 500}
    assert b"accessToken" not in response.content
    claims = jwt.decode(plain.json()["accessToken"], options={"verify_signature": False})
    assert claims[USER_CLAIM] == "eve"


@pytest.mark.parametrize("query", ["headers=olga", "Headers=x&x-ms-client-principal-id=olga"])
async def test_negotiate_hands_out_no_connection_of_a_user_that_the_query_names(api: Api, query: str) -> None:
    async with httpx.AsyncClient(base_url=api.base_url, trust_env=False) as client:
        response = await client.post(f"/api/v1/realtime/negotiate?{query}", headers={"x-dev-user": "eve"})

    assert response.status_code in {401, 500}
    assert b"accessToken" not in response.content


async def test_page_of_a_foreign_site_gets_no_connection(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.base_url, trust_env=False) as client:
        headers = {"x-dev-user": "olga", "origin": "https://evil.example"}
        response = await client.post("/api/v1/realtime/negotiate", headers=headers)
    # Without a principal the binding itself refuses, as in Azure: before the app is asked.
    assert response.status_code in {401, 500}
    assert b"accessToken" not in response.content


# The relay. --------------------------------------------------------------------------------------


def _message(connection_id: str) -> bytes:
    body = {"target": "event", "connectionId": connection_id, "arguments": [{"forged": True}]}
    return orjson.dumps([body])


async def test_relay_takes_the_apps_own_signature_and_nothing_else(api: Api, console: Console) -> None:
    listener = await console.connect(api)
    own = RelayTokens(LINK_SECRET).current()
    now = datetime.now(UTC)
    relay_key = derive_key(LINK_SECRET, "parley/relay")
    gone = {"aud": "parley/relay", "exp": int(now.timestamp()) - RELAY_TOKEN_SECONDS}
    refused = {
        "nothing": None,
        "empty": "",
        "no scheme": own,
        "another scheme": f"Basic {own}",
        "another secret": f"Bearer {RelayTokens('x' * 40).current()}",
        "an approval link": f"Bearer {ApprovalLinks(LINK_SECRET, '').token('a', expires_at=now + timedelta(days=1))}",
        "expired": f"Bearer {jwt.encode(gone, relay_key, algorithm='HS256')}",
        "without an end": f"Bearer {jwt.encode({'aud': 'parley/relay'}, relay_key, algorithm='HS256')}",
        "another audience": f"Bearer {jwt.encode({**gone, 'exp': 2**33, 'aud': 'x'}, relay_key, algorithm='HS256')}",
        "unsigned": f"Bearer {jwt.encode({**gone, 'exp': 2**33}, '', algorithm='none')}",
        "cut": f"Bearer {own[:-3]}",
    }
    async with httpx.AsyncClient(base_url=api.base_url, trust_env=False) as client:
        for name, authorization in refused.items():
            headers = {"x-dev-user": "root;admin,approver"} | (
                {"authorization": authorization} if authorization else {}
            )
            response = await client.post(
                f"/api/{RELAY_ROUTE}", content=_message(listener.connection_id), headers=headers
            )
            assert (response.status_code, response.content) == (404, b""), name
        assert (await client.get(f"/api/{RELAY_ROUTE}")).status_code in {404, 405}
        assert listener.unread() == []
        headers = {"authorization": f"Bearer {own}"}
        accepted = await client.post(f"/api/{RELAY_ROUTE}", content=_message(listener.connection_id), headers=headers)
        assert accepted.status_code == 204
    assert await listener.next() == {"forged": True}
