"""Redis goes away in mid-turn: the turn completes, live events go on, and replay says what it has lost.

The host here delivers live events by `REALTIME_DELIVERY=rest`; all other tests use the binding. It runs without the
sweep, so that nothing here is repaired by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from devhost.servers import Valkey
from shared.signing import ApprovalLinks
from tests.e2e.support.client import Api, Json, eventually, open_api, post_call, script
from tests.e2e.support.processes import LINK_SECRET, AppHost, Sink, running_host
from tests.e2e.support.signalr import Console, Listener
from tests.e2e.support.sse import Transcript
from tests.e2e.support.stack import Stores, own_environment, own_stores


@pytest.fixture(scope="module")
def valkey_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("valkey")


@asynccontextmanager
async def _valkey(folder: Path, *, keeps_data: bool = False) -> AsyncIterator[str]:
    """The server on its own port; unless it keeps its data, what it knew is lost when it stops."""
    async with Valkey(folder, fast=not keeps_data) as server:
        yield server.url


@asynccontextmanager
async def _redis(api: Api, folder: Path, *, keeps_data: bool = False) -> AsyncIterator[str]:
    """The same, from when the app uses it: it asks four times a second whether it is back."""

    async def is_used() -> bool:
        metrics = await api.as_user("adam;admin").get("/api/v1/metrics")
        return 'metrics_source_up{source="redis"} 1.0' in metrics.text

    async with _valkey(folder, keeps_data=keeps_data) as url:
        await eventually(is_used, "Redis to be used")
        yield url


@pytest.fixture(scope="module")
def rest_host(
    tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink, valkey_folder: Path
) -> Iterator[AppHost]:
    async def url() -> str:
        async with _valkey(valkey_folder) as url:
            return url

    # Started once to learn its address; tests start and stop it as they please.
    redis_url = asyncio.run(url())
    with own_stores() as stores:
        stores = Stores(stores.postgres_url, redis_url, stores.storage_url)
        environment = own_environment(stores, model_url, sink) | {
            "REALTIME_DELIVERY": "rest",
            # Numbers have holes here that no log fills, so they are read in order of arrival.
            "DEVHOST_ENGINE": "kind",
            "AzureWebJobs__sweep__Disabled": "true",
        }
        with running_host(tmp_path_factory.mktemp("rest"), environment) as host:
            yield host


@pytest.fixture
async def api(rest_host: AppHost) -> AsyncIterator[Api]:
    client = await open_api(rest_host, "olga")
    yield client
    await client.aclose()


async def _hear(listener: Listener, kind: str, heard: list[Json]) -> None:
    heard += await listener.until(kind)


async def test_rest_delivery_streams_what_is_stored(
    rest_host: AppHost, api: Api, console: Console, valkey_folder: Path
) -> None:
    async with _redis(api, valkey_folder):
        session_id = await api.session()
        listener = await console.connect(api, subscribe_to=session_id, is_in_order=False)
        turn_id = await api.say(session_id, script(tokens=60, token_ms=10))
        heard = await listener.until("stream.ended")
        assert heard == (await api.events(session_id))[1:]
        assert Transcript.of_envelopes(heard, turn_id).texts == await api.answers(session_id, turn_id)
    assert "relay" not in rest_host.log(), "nothing goes through the relay function"


@pytest.mark.parametrize("way", ["api", "link"])
async def test_decision_wakes_the_turn_by_itself_not_by_the_sweep(
    rest_host: AppHost, api: Api, sink: Sink, valkey_folder: Path, way: str
) -> None:
    async with _redis(api, valkey_folder):
        session_id = await api.session()
        turn_id = await api.say(session_id, script(tool_calls=[[post_call(sink.url(f"/woken-{way}"))]], content="done"))
        approver = api.as_user("petr;approver")
        approval = await approver.approval(session_id)
        if way == "api":
            decided = await approver.decide(approval["id"], "approve")
        else:
            expires_at = datetime.fromisoformat(approval["expires_at"])
            token = ApprovalLinks(LINK_SECRET, "").token(approval["id"], expires_at=expires_at)
            decided = await approver.post(f"/api/approve/{token}", data={"decision": "approve"})
        assert decided.status_code == 200
        assert (await api.until(session_id, turn_id))["status"] == "completed"


async def test_redis_stopped_in_mid_turn_costs_replay_and_nothing_else(
    api: Api, console: Console, sink: Sink, valkey_folder: Path
) -> None:
    heard: list[Json] = []
    approver = api.as_user("petr;approver")
    async with AsyncExitStack() as running:
        await running.enter_async_context(_redis(api, valkey_folder))
        session_id = await api.session()
        listener = await console.connect(api, subscribe_to=session_id, is_in_order=False)
        steps = [[post_call(sink.url("/without-redis"))]]
        first = await api.say(session_id, script(tool_calls=steps, preamble="one ", tokens=80, token_ms=15))
        await _hear(listener, "tool_call.pending", heard)
        known = await api.events(session_id)
        approval = await approver.approval(session_id)
    # Redis is gone. The decision arrives, the tool runs, the rest of the answer streams.
    assert (await approver.decide(approval["id"], "approve")).status_code == 200
    stream = asyncio.create_task(api.turn_stream(session_id, first))
    assert (await api.until(session_id, first))["status"] == "completed"
    await _hear(listener, "stream.ended", heard)
    stored = await api.answers(session_id, first)
    assert Transcript.of_envelopes(heard, first).texts == stored
    assert Transcript.of_turn_stream(await stream).texts == stored, "the store speaks for the lost log"
    assert len(sink.at("/without-redis")) == 1
    page = (await api.get(f"/api/v1/sessions/{session_id}/events", params={"after": known[-1]["seq"]})).json()
    assert (page["items"], page["gap"]) == ([], True)
    ready = (await api.get("/api/v1/health/ready")).json()
    assert (ready["status"], ready["dependencies"]["redis"]) == ("degraded", "unavailable")
    stranger = (await api.as_user(";").get("/api/v1/health/ready")).json()
    assert stranger == {"status": "ok", "model": None, "problems": [], "dependencies": {}}, (
        "who is not counted now need not know"
    )
    # A whole turn without Redis.
    second = await api.say(session_id, script(tokens=20, token_ms=5))
    assert (await api.until(session_id, second))["status"] == "completed"
    await _hear(listener, "stream.ended", heard)
    async with _redis(api, valkey_folder):
        # Back, and empty: it remembers neither events nor the counter.
        async def is_back() -> bool:
            return bool((await api.get("/api/v1/health/ready")).json()["dependencies"]["redis"] == "ok")

        await eventually(is_back, "Redis to be seen again")
        third = await api.say(session_id, script(tokens=20, token_ms=5))
        assert (await api.until(session_id, third))["status"] == "completed"
        await _hear(listener, "stream.ended", heard)
        numbers = [envelope["seq"] for envelope in heard]
        assert len(set(numbers)) == len(numbers), "no number is given twice"
        assert numbers == sorted(numbers)
        last_known = known[-1]["seq"]
        path = f"/api/v1/sessions/{session_id}/events"
        page = (await api.get(path, params={"after": last_known})).json()
        assert page["gap"], "a client that was away is told that it has missed something"
        kept = [envelope["seq"] for envelope in page["items"]]
        assert kept == numbers[-len(kept) :]
        assert page["last_seq"] == numbers[-1]
        async with api.session_stream(session_id, after=last_known) as events:
            gap = await anext(events)
            assert (gap.event, gap.id) == ("gap", None)
            assert gap.data == {"type": "gap", "after": last_known, "next": kept[0]}
            assert (await anext(events)).id == kept[0]
        # From there on there is no hole again.
        fourth = await api.say(session_id, script(tokens=5))
        await api.until(session_id, fourth)
        assert len(await api.events(session_id, after=numbers[-1])) > 3
        for turn_id in (second, third, fourth):
            stream_again = Transcript.of_turn_stream(await api.turn_stream(session_id, turn_id))
            assert stream_again.texts == await api.answers(session_id, turn_id)


async def test_redis_stopped_while_text_streams_loses_no_text(api: Api, console: Console, valkey_folder: Path) -> None:
    heard: list[Json] = []
    async with AsyncExitStack() as running:
        await running.enter_async_context(_redis(api, valkey_folder))
        session_id = await api.session()
        listener = await console.connect(api, subscribe_to=session_id, is_in_order=False)
        turn_id = await api.say(session_id, script(tokens=120, token_ms=15))
        stream = asyncio.create_task(api.turn_stream(session_id, turn_id))
        heard.append(await listener.next())
        while "content_delta" not in str(heard[-1]):
            heard.append(await listener.next())
    await _hear(listener, "stream.ended", heard)
    assert (await api.turn(session_id, turn_id))["status"] == "completed"
    stored = await api.answers(session_id, turn_id)
    live = Transcript.of_envelopes(heard, turn_id)
    assert (live.texts, list(live.attempts.values())) == (stored, [[1]])
    numbers = [envelope["seq"] for envelope in heard]
    assert numbers == sorted(set(numbers))
    assert Transcript.of_turn_stream(await stream).texts == stored


async def test_redis_that_comes_back_with_its_data_does_not_turn_the_numbers_back(
    api: Api, console: Console, valkey_folder: Path
) -> None:
    """Numbers given without Redis are far above those it remembers; the same step must not go on below them."""
    heard: list[Json] = []
    async with _redis(api, valkey_folder, keeps_data=True):
        session_id = await api.session()
        listener = await console.connect(api, subscribe_to=session_id, is_in_order=False)
        turn_id = await api.say(session_id, script(tokens=300, token_ms=20))
        while "content_delta" not in str(heard[-1:]):
            heard.append(await listener.next())
    before = heard[-1]["seq"]
    while heard[-1]["seq"] <= before + len(heard):
        heard.append(await listener.next())
    async with _redis(api, valkey_folder, keeps_data=True):
        await _hear(listener, "stream.ended", heard)
        numbers = [envelope["seq"] for envelope in heard]
        assert numbers == sorted(set(numbers))
        stored = await api.answers(session_id, turn_id)
        assert Transcript.of_envelopes(heard, turn_id).texts == stored
        page = (await api.get(f"/api/v1/sessions/{session_id}/events", params={"after": before})).json()
        assert page["gap"]
        assert page["items"], "it was back before the step ended"
        assert Transcript.of_turn_stream(await api.turn_stream(session_id, turn_id)).texts == stored


async def test_metrics_leave_out_what_redis_holds_and_have_it_again_when_it_is_back(
    api: Api, valkey_folder: Path
) -> None:
    admin = api.as_user("adam;admin")
    await api.session()
    without = await admin.get("/api/v1/metrics")
    assert without.status_code == 200
    assert 'metrics_source_up{source="redis"} 0.0' in without.text
    assert "active_sessions_count" in without.text
    # Not as a zero, which would look like a restart: not at all.
    assert "session_created_total" not in without.text

    async def is_back() -> str | None:
        text = (await admin.get("/api/v1/metrics")).text
        return text if 'metrics_source_up{source="redis"} 1.0' in text else None

    async with _redis(api, valkey_folder):
        back = await eventually(is_back, "Redis to be used again")
    (created,) = [line for line in back.splitlines() if line.startswith("session_created_total ")]
    assert float(created.split()[1]) >= 1, "what was counted meanwhile has arrived"
