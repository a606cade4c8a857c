"""Orchestrations of somebody's own as tools: begun once, waited for without a process, and ended with their call."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.e2e.support.client import Api, Json, call, eventually, open_api, script, sweep
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores, swept

pytestmark = pytest.mark.timeout(180)

FOLDER = {"AGENTS_FOLDER": "tests/e2e/support/own_tools"}


def _told(sink: Sink, path: str) -> list[tuple[str, str, str]]:
    """(key, what, who) of each step that was told of, once each."""
    told = [request.json() for request in sink.at(path)]
    return sorted({(one["key"], one["what"], one["who"]) for one in told})


async def _errands(api: Api, *errands: Json) -> tuple[str, str]:
    """(session id, turn id) of a turn that calls them side by side."""
    session_id = await api.session()
    calls = [call("errand", **one) for one in errands]
    return session_id, await api.say(session_id, script(tool_calls=[calls], echo=True))


async def _waiting(api: Api, session_id: str, turn_id: str) -> Json:
    async def look() -> Json | None:
        turn = await api.turn(session_id, turn_id)
        return turn if turn["waits"] else None

    return await eventually(look, "a call to wait for its workflow")


async def _instances(host: AppHost, turn_id: str) -> dict[str, str]:
    """Of the workflows of a turn and of all that they have started: their states, by id."""
    async with httpx.AsyncClient(base_url=host.base_url, trust_env=False) as client:
        query = {"instanceIdPrefix": f"{turn_id}:"}
        found = await client.get("/runtime/webhooks/durabletask/instances", params=query)
    return {one["instanceId"]: one["runtimeStatus"] for one in found.json() if ":workflow" in one["instanceId"]}


async def _begun(host: AppHost, sink: Sink, path: str, turn_id: str) -> None:
    async def look() -> bool:
        return bool(sink.at(path)) and len(await _instances(host, turn_id)) == 2

    await eventually(look, "the workflow and what it has started to run")


@pytest.fixture(scope="module")
def errand_host(tmp_path_factory: pytest.TempPathFactory, model_url: str, sink: Sink) -> Iterator[AppHost]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink) | FOLDER
        with running_host(tmp_path_factory.mktemp("errands"), environment) as host:
            yield host


@pytest.fixture
async def errand_api(errand_host: AppHost) -> AsyncIterator[Api]:
    api = await open_api(errand_host)
    yield api
    await api.aclose()


async def test_killed_while_it_waits_a_workflow_goes_on_and_is_the_result_of_its_call(
    errand_host: AppHost, errand_api: Api, sink: Sink
) -> None:
    own_host, api = errand_host, errand_api
    session_id, turn_id = await _errands(
        api, {"notify": sink.url("/one"), "seconds": 1}, {"notify": sink.url("/two"), "seconds": 1}
    )
    for path in ("/one", "/two"):
        await eventually(lambda path=path: _some(sink, path), "both to have begun")
        own_host.kill()
        own_host.start()

    turn = await api.until(session_id, turn_id)

    assert (turn["status"], turn["waits"]) == ("completed", [])
    assert [one["result"] for one in turn["tool_calls"]] == [{"walked": "far"}] * 2
    for path, one in zip(("/one", "/two"), turn["tool_calls"], strict=True):
        key = f"{turn_id}:{one['id']}:workflow"
        assert _told(sink, path) == [(key, "begun", "olga"), (key, "ended", "olga")]
    progress = [event for event in await api.events(session_id) if event["type"] == "tool_call.progress"]
    assert {event["data"]["text"] for event in progress} == {"on the way"}


async def _some(sink: Sink, path: str) -> bool:
    return bool(sink.at(path))


async def _age_erasure(host: AppHost, session_id: str) -> None:
    async with await psycopg.AsyncConnection.connect(host.environment["POSTGRES_URL"], autocommit=True) as database:
        await database.execute(
            "UPDATE session_erasures SET attempted_at = attempted_at - i, told_at = told_at - i"
            " FROM (SELECT interval '1 hour' AS i) x WHERE session_id = %s AND finished_at IS NULL",
            [session_id],
        )


async def test_what_ends_a_call_ends_its_workflow_and_what_ends_a_workflow_its_call(
    errand_host: AppHost, errand_api: Api, sink: Sink
) -> None:
    host, api = errand_host, errand_api
    (cancelled, turn_id), (erased, erased_turn), (by_hand, third_turn) = [
        await _errands(api, {"notify": sink.url(path), "waits_for": "never"})
        for path in ("/cancelled", "/erased", "/by-hand")
    ]
    for path, each in (("/cancelled", turn_id), ("/erased", erased_turn), ("/by-hand", third_turn)):
        await _begun(host, sink, path, each)

    assert (await api.post(f"/api/v1/sessions/{cancelled}/turns/{turn_id}/cancel")).status_code == 202
    assert (await api.request("DELETE", f"/api/v1/sessions/{erased}")).status_code == 204
    (instance_id,) = [one for one in await _instances(host, third_turn) if one.endswith(":workflow")]
    async with httpx.AsyncClient(base_url=host.base_url, trust_env=False) as client:
        await client.post(f"/runtime/webhooks/durabletask/instances/{instance_id}/terminate?reason=tired")

    assert (await api.until(cancelled, turn_id))["status"] == "cancelled"

    async def over() -> bool:
        await _age_waits(host)
        await sweep(host)
        if set((await _instances(host, turn_id)).values()) != {"Terminated"}:
            return False
        if await _instances(host, erased_turn):
            # What was terminated is purged a minute later, when that has arrived for certain.
            await _age_erasure(host, erased)
            return False
        return (await api.turn(by_hand, third_turn))["status"] == "completed"

    await eventually(over, "the first two to be terminated, the second one purged, and the third one told of")
    assert [what for _, what, _ in _told(sink, "/cancelled")] == ["begun"]
    (one,) = (await api.turn(by_hand, third_turn))["tool_calls"]
    assert one["status"] == "failed"
    assert "ended from outside" in one["result"]["error"]


async def _age_waits(host: AppHost) -> None:
    async with await psycopg.AsyncConnection.connect(host.environment["POSTGRES_URL"], autocommit=True) as database:
        await database.execute("UPDATE tool_waits SET opened_at = opened_at - interval '1 minute', looked_at = NULL")


async def test_on_a_harsh_engine_each_workflow_begins_once(tmp_path: Path, model_url: str, sink: Sink) -> None:
    odds = {"DEVHOST_ENGINE": "harsh", "DEVHOST_HARSH_SEED": "7", "DEVHOST_HARSH_SECOND": "0.05"}
    with contextlib.ExitStack() as running:
        environment = own_environment(running.enter_context(own_stores()), model_url, sink) | odds | FOLDER
        host = running.enter_context(running_host(tmp_path, environment))
        running.enter_context(swept(host))
        api = await open_api(host)
        begun = [await _errands(api, {"notify": sink.url(f"/harsh-{number}")}) for number in range(3)]

        for number, (session_id, turn_id) in enumerate(begun):
            turn = await api.until(session_id, turn_id)
            (one,) = turn["tool_calls"]
            assert (turn["status"], one["result"]) == ("completed", {"walked": "far"}), one
            assert [what for _, what, _ in _told(sink, f"/harsh-{number}")] == ["begun", "ended"]
        await api.aclose()
