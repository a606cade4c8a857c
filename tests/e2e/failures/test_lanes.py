"""A model that is silent for one user's turns stops nothing else, at the settings that ship: others are answered,
approvals are done, who waits is told, and health says which lane is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.e2e.support.client import Api, eventually, model_calls, open_api, post_call, script
from tests.e2e.support.processes import AppHost, Sink, running_host
from tests.e2e.support.stack import own_environment, own_stores

SILENT = 128
PER_USER = Settings.model_fields["model_lane_per_user"].default
KEY = "never a byte"


@pytest.fixture
async def host(tmp_path: Path, model_url: str, sink: Sink) -> AsyncIterator[AppHost]:
    with own_stores() as stores:
        environment = own_environment(stores, model_url, sink) | {
            "LLM_FIRST_BYTE_SECONDS": "180",
            "LANE_WAIT_SECONDS": "2",
        }
        with running_host(tmp_path, environment) as host:
            yield host


async def test_silent_answers_of_one_user_stop_nobody_else(host: AppHost, model_url: str, sink: Sink) -> None:
    silent, other = await open_api(host, "silas"), await open_api(host)
    hangs = script(key=KEY, fail=[{"hang": True}] * 2 * SILENT)

    async def begun() -> tuple[str, str]:
        session_id = await silent.session()
        return session_id, await silent.say(session_id, hangs)

    turns = [await begun() for _ in range(SILENT)]

    async def asked() -> bool:
        return bool(model_calls(model_url, KEY)["calls"] >= PER_USER)

    async def full() -> bool:
        ready = await other.get("/api/v1/health/ready")
        assert ready.status_code == 200
        found = ready.json()
        return bool(found["status"] == "degraded" and found["dependencies"]["model_lane"] == "busy")

    await eventually(asked, "the lane to be full")
    await eventually(full, "health to say which lane is full")

    # Others: an answer, and one with an approval in between.
    session_id = await other.session()
    turn = await other.until(session_id, await other.say(session_id, script(content="for others")))
    assert turn["status"] == "completed"
    session_id = await other.session()
    turn_id = await other.say(session_id, script(tool_calls=[[post_call(sink.url("/lanes"))]], content="done"))
    await other.decide((await other.approval(session_id))["id"], "approve")
    assert (await other.until(session_id, turn_id))["status"] == "completed"
    assert len(sink.at("/lanes")) == 1

    # Who waits: as many as have no place, told once each.
    async def waiting() -> list[tuple[str, str]]:
        statuses = await asyncio.gather(*(silent.turn(*turn) for turn in turns))
        return [turn for turn, found in zip(turns, statuses, strict=True) if found["status"] == "queued"]

    async def told(session_id: str) -> list[int]:
        frames = [event["data"].get("frame", {}) for event in await silent.events(session_id)]
        return [frame["seconds"] for frame in frames if frame.get("type") == "waiting"]

    queued = await waiting()
    assert len(queued) == SILENT - PER_USER

    async def all_told() -> bool:
        return all([len(await told(session_id)) == 1 for session_id, _ in queued])

    await eventually(all_told, "everybody who waits to be told")
    assert model_calls(model_url, KEY)["calls"] == PER_USER, "waiting asks no model"
    await _cancel(silent, *queued[0])

    # A place is free: it is taken by one that waits.
    running = next(turn for turn in turns if turn not in queued)
    await _cancel(silent, *running)

    async def next_asked() -> bool:
        return bool(model_calls(model_url, KEY)["calls"] == PER_USER + 1)

    await eventually(next_asked, "one that waits to take the place")
    assert all([len(await told(session_id)) == 1 for session_id, _ in queued[1:]])
    admin = await open_api(host, "ada;admin")
    assert 'lane_waits_total{lane="model"}' in (await admin.get("/api/v1/metrics")).text
    for api in (silent, other, admin):
        await api.aclose()


async def test_a_lane_that_is_full_leaves_decisions_tools_and_ends_of_turns_alone(
    tmp_path: Path, model_url: str, sink: Sink
) -> None:
    """The whole host runs three activities at once, and two of them are answers of which not a byte comes."""
    key = "two that are silent"
    few = {
        "AzureFunctionsJobHost__extensions__durableTask__maxConcurrentActivityFunctions": "3",
        **dict.fromkeys(("MODEL_LANE", "MODEL_LANE_PER_USER", "MODEL_LANE_PER_MODEL", "TOOL_LANE"), "2"),
        "LLM_FIRST_BYTE_SECONDS": "180",
        "LANE_WAIT_SECONDS": "1",
    }
    with own_stores() as stores, running_host(tmp_path, own_environment(stores, model_url, sink) | few) as host:
        api = await open_api(host)
        asking = await api.session()
        say = script(tool_calls=[[post_call(sink.url("/full"))]], content="done")
        turn_id = await api.say(asking, say)
        approval = await api.approval(asking)

        async def silent() -> tuple[str, str]:
            session_id = await api.session()
            return session_id, await api.say(session_id, script(key=key, fail=[{"hang": True}] * 9))

        async def full() -> bool:
            return bool(model_calls(model_url, key)["calls"] == 2)

        hanging = [await silent() for _ in range(2)]
        await eventually(full, "the lane to be full")
        waiting = [await silent() for _ in range(12)]
        await api.decide(approval["id"], "approve")

        async def executed() -> bool:
            return len(sink.at("/full")) == 1

        async def waits() -> bool:
            frames = [event["data"].get("frame", {}) for event in await api.events(asking)]
            return any(frame.get("type") == "waiting" for frame in frames)

        await eventually(executed, "the approved call to run")
        await eventually(waits, "the step after it to say that it waits")
        for session_id, waiting_id in waiting:
            await _cancel(api, session_id, waiting_id)
        for session_id, hanging_id in hanging:
            await _cancel(api, session_id, hanging_id)
        assert (await api.until(asking, turn_id))["status"] == "completed"
        assert model_calls(model_url, key)["calls"] == 2
        await api.aclose()


async def _cancel(api: Api, session_id: str, turn_id: str) -> None:
    await api.cancel(session_id, turn_id)
    assert (await api.until(session_id, turn_id))["status"] == "cancelled"
