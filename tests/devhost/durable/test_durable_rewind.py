"""Rewind: what failed is tried again under the same id, and nothing else runs twice."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from devhost.durable.store.crash import AFTER, BEFORE
from devhost.testing import host_process
from tests.devhost.durable.durable_harness import APPS, RunningHost, load_app
from tests.devhost.durable.test_durable_recovery import request


def clean(host: RunningHost) -> bool:
    """Nothing is left in the store of generations that were replaced."""
    connection = host.engine.store._reader
    orphans = connection.execute("SELECT count(*) FROM history WHERE gen NOT IN (SELECT gen FROM instances)")
    return orphans.fetchone()[0] == 0 and not host.engine.store.tasks() and not host.engine.store.messages()


async def test_only_the_calls_that_failed_run_again(host: RunningHost) -> None:
    given = [{"key": f"c{n}", "failures": failures} for n, failures in enumerate([0, 1, 0, 1])]
    await host.client.start_new("flaky_fan_out", "fan", given)
    assert (await host.end("fan")).runtime_status.value == "Failed"
    assert host.host.calls.count("flaky") == 4
    await host.client.rewind("fan", "again")
    assert (await host.end("fan")).output == [f"worked at attempt {n}" for n in (1, 2, 1, 2)] + ["after"]
    assert host.host.calls.count("flaky") == 6
    assert clean(host)


async def test_an_instance_that_fails_again_is_rewound_again(host: RunningHost) -> None:
    await host.client.start_new("flaky_child", "twice", {"key": "t", "failures": 3})
    for _ in range(3):
        assert (await host.end("twice")).runtime_status.value == "Failed"
        await host.client.rewind("twice", "again")
    assert (await host.end("twice")).output == "worked at attempt 4"
    assert clean(host)


@pytest.mark.parametrize("child_id", ["kid", None])
async def test_failed_sub_orchestrations_are_rewound_with_their_parent(host: RunningHost, child_id: str | None) -> None:
    depth = 2 if child_id is None else 0
    given = {"depth": depth, "key": "deep", "failures": 1, "child_id": child_id}
    await host.client.start_new("parent_of_flaky", "top", given)
    assert (await host.end("top")).runtime_status.value == "Failed"
    firsts = host.host.calls.count("echo")
    await host.client.rewind("top", "again")
    expected: Any = "worked at attempt 2"
    for _ in range(depth + 1):
        expected = ["first", expected]
    assert (await host.end("top")).output == expected
    assert host.host.calls.count("flaky") == 2
    assert host.host.calls.count("echo") == firsts
    assert clean(host)


async def test_a_terminated_sub_orchestration_is_started_again_under_its_id(host: RunningHost) -> None:
    await host.client.start_new("parent_of_two_events", "top")
    await host.until(lambda: host.engine.core.live("waiting-kid"))
    await host.client.terminate("waiting-kid", "no")
    assert (await host.end("top")).runtime_status.value == "Failed"
    await host.client.rewind("top", "again")
    await host.until(lambda: host.engine.core.live("waiting-kid"))
    for name in ("One", "Two"):
        await host.client.raise_event("waiting-kid", name, 1)
    assert (await host.end("top")).output == ["1", "1"]
    assert clean(host)


async def test_an_instance_with_a_failed_retried_call_fails_again_as_in_azure(host: RunningHost) -> None:
    await host.client.start_new("insists_on_child", "retries", {"key": "r", "failures": 9})
    assert (await host.end("retries")).runtime_status.value == "Failed"
    await host.client.rewind("retries", "again")
    ended = await host.end("retries")
    assert ended.runtime_status.value == "Failed"
    assert ended.output.startswith("Non-Deterministic workflow detected: ")


async def test_the_history_of_a_rewound_instance_says_so(host: RunningHost) -> None:
    await host.client.start_new("flaky_child", "told", {"key": "h", "failures": 1})
    await host.end("told")
    await host.client.rewind("told", "second try")
    await host.end("told")
    status = await host.client.get_status("told", show_history=True)
    kinds = [event["EventType"] for event in status.historyEvents]
    assert kinds == ["ExecutionStarted", *["GenericEvent"] * 4, "TaskCompleted", "ExecutionCompleted"]
    assert [event.get("Data") for event in status.historyEvents[1:5]] == [None, None, None, "second try"]
    assert not any("Engine" in event for event in status.historyEvents)


@pytest.mark.parametrize(
    ("name", "given", "ends"), [("hello_chain", None, "Completed"), ("two_events", None, "Running")]
)
async def test_only_failed_instances_are_rewound(host: RunningHost, name: str, given: Any, ends: str) -> None:
    await host.client.start_new(name, "i", given)
    await host.settle(1)
    text = f'This orchestration has status {ends}, but only orchestrations in the "Failed" state can be rewound.'
    with pytest.raises(Exception, match=text):
        await host.client.rewind("i", "why")
    with pytest.raises(Exception, match="No instance"):
        await host.client.rewind("nobody", "why")


async def test_of_simultaneous_rewinds_one_is_accepted(host: RunningHost) -> None:
    await host.client.start_new("flaky_child", "race", {"key": "s", "failures": 1})
    await host.end("race")
    outcomes = await asyncio.gather(*[host.client.rewind("race", "now") for _ in range(5)], return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 1
    assert (await host.end("race")).output == "worked at attempt 2"
    assert host.host.calls.count("flaky") == 2


async def test_rewound_instances_go_on_after_a_restart(tmp_path: Path) -> None:
    """The host stops as soon as the rewind is stored."""
    module = load_app("durable_basic")
    async with RunningHost(module, tmp_path) as first:
        await first.client.start_new("parent_of_flaky", "top", {"depth": 1, "key": "z", "failures": 1})
        await first.end("top")
        await first.engine.rewind("top", "again")
    async with RunningHost(module, tmp_path) as second:
        assert (await second.end("top")).output == ["first", ["first", "worked at attempt 2"]]
        assert clean(second)


@pytest.mark.e2e
@pytest.mark.parametrize("crash", [BEFORE, AFTER])
def test_a_crash_at_the_rewind_loses_it_whole_or_not_at_all(tmp_path: Path, crash: str) -> None:
    data, app = tmp_path / "data", APPS / "durable_basic"
    with host_process(app, data) as first:
        request("POST", f"{first.base_url}/api/start/parent_of_flaky?id=top", {"depth": 1, "key": "x", "failures": 1})
        wait_for(first.base_url, "Failed")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    with host_process(app, data, environment={crash: "1"}) as second:
        with pytest.raises(OSError):
            request("POST", rewind_url(second.base_url))
        second.process.wait(10)
    with host_process(app, data) as third:
        # The activity's own count of failures went with the process, so a rewound instance fails once more.
        if crash == BEFORE:
            assert wait_for(third.base_url, "Failed")["output"]
            request("POST", rewind_url(third.base_url))
        wait_for(third.base_url, "Failed")
        request("POST", rewind_url(third.base_url))
        assert wait_for(third.base_url, "Completed")["output"] == ["first", ["first", "worked at attempt 2"]]


def rewind_url(base_url: str) -> str:
    return f"{base_url}/runtime/webhooks/durabletask/instances/top/rewind?reason=again"


def wait_for(base_url: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        _, found = request("GET", f"{base_url}/runtime/webhooks/durabletask/instances/top")
        if found["runtimeStatus"] == status:
            return dict(found)
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
