"""Restarts, crashes and a store that fails: nothing in flight is lost, nothing is done twice in history."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from devhost.durable.store.history import EventType, now_us, task_completed
from devhost.durable.store.records import Message, MessageKind, Unit
from devhost.testing import host_process
from tests.devhost.durable.durable_harness import APPS, RunningHost, load_app


async def test_everything_open_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Each kind of waiting: activity, timer, event, queued events while suspended, entity, sub-orchestration."""
    module = load_app("durable_basic")
    began, release = tmp_path / "began", tmp_path / "release"
    files = {"began": str(began), "release": str(release)}
    data = tmp_path / "data"
    data.mkdir()
    async with RunningHost(module, data) as first:
        await first.client.start_new("holds", "activity", files)
        await first.client.start_new("sleeps", "timer", 0.6)
        await first.client.start_new("approval", "event", {"timeout": 3600})
        await first.client.start_new("two_events", "suspended")
        await first.client.start_new("retried", "retry", {"key": "r", "failures": [1]})
        await first.until(began.exists)
        await first.client.suspend("suspended", "wait")
        await first.client.raise_event("suspended", "One", 1)
        await first.client.raise_event("suspended", "Two", 2)
    release.touch()
    async with RunningHost(module, data) as second:
        assert (await second.end("activity")).output == "released"
        assert (await second.end("timer")).output is True
        await second.client.raise_event("event", "Approval", "yes")
        assert (await second.end("event")).output == {"decision": "yes"}
        assert (await second.client.get_status("suspended")).runtime_status.value == "Suspended"
        await second.client.resume("suspended", "go")
        assert (await second.end("suspended")).output == ["1", "2"]
        assert (await second.end("retry")).output["after"] == "after"
        assert second.engine.store.tasks() == []
        assert second.engine.store.messages() == []
    # Begun in both lives: at least once.
    assert len(began.read_text().splitlines()) == 2


async def test_instances_of_an_older_host_go_on(tmp_path: Path) -> None:
    """Its notes stand beside the other keys of an event, calls have their input, ids have no dashes."""
    connection = sqlite3.connect(tmp_path / "durable-testhubname.sqlite3")
    connection.executescript((Path(__file__).parent / "data" / "older_history.sql").read_text())
    connection.close()
    async with RunningHost(load_app("durable_basic"), tmp_path) as host:
        # One attempt failed there, and two fail here: the three are counted together.
        gave_up = "gave up: Activity function 'flaky' failed:  RuntimeError: attempt 2 "
        assert (await host.end("retried")).output == {"results": gave_up, "after": "after"}
        await host.client.raise_event("approval", "Approval", "yes")
        assert (await host.end("approval")).output == {"decision": "yes"}
        for instance_id in ("waiting-kid", "suspended"):
            await host.client.raise_event(instance_id, "One", 1)
            await host.client.raise_event(instance_id, "Two", 2)
        assert (await host.end("parent")).output is None
        assert (await host.end("waiting-kid")).output == ["1", "2"]
        await host.client.resume("suspended", "go")
        assert (await host.end("suspended")).output == ["1", "2"]
        await host.client.raise_event("collects", "Item", "stop")
        assert (await host.end("collects")).output == ["a", "b"]
        status = await host.client.get_status("entity", show_history=True)
        assert not any("RetryOf" in event for event in status.historyEvents)
        await host.client.rewind("failed", "again")
        assert (await host.end("failed")).runtime_status.value == "Failed"
        assert host.host.calls.count("fail") == 1


async def test_result_of_an_episode_that_was_cut_off_is_not_stored(tmp_path: Path) -> None:
    module = load_app("durable_basic")
    async with RunningHost(module, tmp_path) as first:
        for n in range(20):
            await first.engine.start_instance("hello_chain", instance_id=f"i{n}", input_text=None)
        # Stopped with episodes and activities in every state.
    async with RunningHost(module, tmp_path) as second:
        for n in range(20):
            assert (await second.end(f"i{n}")).output == ["Hello Tokyo!", "Hello Seattle!"]


async def test_idle_instances_leave_memory_and_come_back(tmp_path: Path) -> None:
    async with RunningHost(load_app("durable_basic"), tmp_path) as host:
        host.engine.core.cache._budget_count = 3
        ids = [await host.client.start_new("retried", f"r{n}", {"key": f"{n}", "failures": [2, 2]}) for n in range(8)]
        waiting = [await host.client.start_new("two_events", f"w{n}") for n in range(8)]
        for instance_id in ids:
            assert (await host.end(instance_id)).output["after"] == "after"
        assert sum(host.engine.core.cache.peek(name) is not None for name in waiting) <= 4
        for name in waiting:
            await host.client.raise_event(name, "One", 1)
            await host.client.raise_event(name, "Two", 2)
        for name in waiting:
            assert (await host.end(name)).output == ["1", "2"]


async def test_duplicate_answers_are_dropped_at_intake(host: RunningHost) -> None:
    instance_id = await host.client.start_new("approval", None, {"timeout": 3600})
    await host.client.raise_event(instance_id, "Approval", 1)
    other = await host.client.start_new("two_events")
    await host.until(lambda: len(host.engine.core.cache.get(other).chunks) == 1)
    live = host.engine.core.live(other)
    assert live is not None
    for execution_id in (live.row.execution_id, "another generation"):
        for task_id in (0, 7):
            event = task_completed(now_us(), task_id, '"forged"')
            await host.engine.core.send(
                Message(
                    host.engine.core.next_seq(),
                    other,
                    MessageKind.ANSWER,
                    event,
                    execution_id,
                    task_id,
                    EventType.TASK_COMPLETED,
                )
            )
    await host.client.raise_event(other, "One", 1)
    await host.client.raise_event(other, "Two", 2)
    status = await host.end(other)
    assert status.output == ["1", "2"]
    status = await host.client.get_status(other, show_history=True)
    assert not any(event["EventType"] == "TaskCompleted" for event in status.historyEvents)
    assert host.engine.store.messages() == []


async def test_store_that_fails_for_a_while_loses_nothing(host: RunningHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer refuses a third of all groups for a while, as a full disk would."""
    from devhost.durable import core
    from devhost.durable.store import store
    from devhost.durable.workers import orchestrations

    monkeypatch.setattr(core, "_COMMIT_RETRY_S", 0.01)
    monkeypatch.setattr(orchestrations, "_STORE_RETRY_S", 0.01)
    rng = random.Random(3)
    failures = 0
    real = store.apply

    def unreliable(connection: sqlite3.Connection, units: list[Unit]) -> None:
        nonlocal failures
        if failures < 60 and rng.random() < 0.34:
            failures += 1
            raise sqlite3.OperationalError("database or disk is full")
        real(connection, units)

    ids = []
    for n in range(12):
        ids.append(await host.engine.start_instance("parent", instance_id=f"p{n}", input_text='"{}"'))
        ids.append(await host.engine.start_instance("sleeps", instance_id=f"t{n}", input_text='"0.02"'))
        ids.append(
            await host.engine.start_instance("counts_down", instance_id=f"c{n}", input_text='{"left": 3, "sum": 0}')
        )
    monkeypatch.setattr(store, "apply", unreliable)
    for instance_id in ids:
        status = await host.end(instance_id)
        assert status.runtime_status.value == "Completed", status.output
    assert failures > 5
    assert host.engine.store.tasks() == []
    assert host.engine.store.messages() == []


async def test_client_that_hangs_up_during_a_start_does_not_lose_the_instance(host: RunningHost) -> None:
    for n in range(20):
        starting = asyncio.create_task(host.engine.start_instance("hello_chain", instance_id=f"h{n}", input_text=None))
        # One turn of the loop: the unit is on its way to the writer, nothing is acknowledged.
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
    for n in range(20):
        assert (await host.end(f"h{n}")).output == ["Hello Tokyo!", "Hello Seattle!"]


async def test_defect_of_the_host_fails_the_instance_instead_of_hanging_it(
    host: RunningHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    from devhost.durable.workers import orchestrations

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(orchestrations, "decide", broken)
        status = await host.run("hello_chain")
    assert status.runtime_status.value == "Failed"
    assert status.output.endswith("RuntimeError: a defect")
    assert host.engine.store.messages() == []
    assert (await host.run("hello_chain")).runtime_status.value == "Completed"


# --- kill -9 of a real host ---------------------------------------------------------------------


def request(method: str, url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(
        urllib.request.Request(url, data=data, method=method, headers=headers), timeout=30
    ) as response:
        text = response.read()
        return response.status, json.loads(text) if text else None


def all_ended(base_url: str, count: int, limit_s: float = 60) -> list[dict[str, Any]]:
    deadline = time.monotonic() + limit_s
    while True:
        _, listed = request("GET", f"{base_url}/runtime/webhooks/durabletask/instances/")
        open_ones = [item for item in listed if item["runtimeStatus"] in ("Pending", "Running")]
        top = [item for item in listed if item["instanceId"].startswith("top-")]
        if len(top) == count and not open_ones:
            return top
        assert time.monotonic() < deadline, f"still open: {open_ones[:3]}"
        time.sleep(0.05)


@pytest.mark.e2e
def test_kill_9_with_many_in_flight_then_all_complete(tmp_path: Path) -> None:
    data, app = tmp_path / "data", APPS / "durable_basic"
    began, release = tmp_path / "began", tmp_path / "release"
    names = {
        "holds": {"began": str(began), "release": str(release)},
        "sleeps": 1.0,
        "parent": None,
        "fan_out": 10,
        "counts_down": {"left": 5, "sum": 0},
        "hello_chain": None,
    }
    with host_process(app, data) as first:
        count = 0
        for _ in range(7):
            for name, given in names.items():
                request("POST", f"{first.base_url}/api/start/{name}?id=top-{count}", given)
                count += 1
        deadline = time.monotonic() + 30
        while not (began.exists() and len(began.read_text().splitlines()) >= 2):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    release.touch()
    with host_process(app, data) as second:
        ended = all_ended(second.base_url, count)
    assert {item["runtimeStatus"] for item in ended} == {"Completed"}
    outputs = {item["name"]: item["output"] for item in ended}
    assert outputs["holds"] == "released"
    assert outputs["fan_out"] == 45
    assert outputs["counts_down"] == 15
    assert outputs["hello_chain"] == ["Hello Tokyo!", "Hello Seattle!"]


@pytest.mark.e2e
def test_killed_again_and_again_at_random_points_every_chain_still_adds_up(tmp_path: Path) -> None:
    data, app = tmp_path / "data", APPS / "durable_basic"
    rng = random.Random(11)
    count = 0
    for _ in range(3):
        with host_process(app, data) as running:
            for _ in range(6):
                path = f"/api/start/counts_down?id=top-{count}"
                request("POST", f"{running.base_url}{path}", {"left": 12, "sum": 0})
                count += 1
            time.sleep(rng.uniform(0.0, 0.15))
            os.kill(running.process.pid, signal.SIGKILL)
            running.process.wait()
    with host_process(app, data) as last:
        ended = all_ended(last.base_url, count)
    assert {item["output"] for item in ended} == {78}


@pytest.mark.e2e
def test_second_host_on_the_same_data_folder_is_refused(tmp_path: Path) -> None:
    app = APPS / "durable_basic"
    with (
        host_process(app, tmp_path / "data"),
        pytest.raises(RuntimeError, match=r"in use"),
        host_process(app, tmp_path / "data"),
    ):
        pass


async def test_stop_is_prompt_while_activities_run(tmp_path: Path) -> None:
    files = {"began": str(tmp_path / "began"), "release": str(tmp_path / "release")}
    async with RunningHost(load_app("durable_basic"), tmp_path) as host:
        for _ in range(4):
            await host.client.start_new("holds", None, files)
        await host.until((tmp_path / "began").exists)
        async with asyncio.timeout(10):
            await host.extension.stop()
        (tmp_path / "release").touch()
