"""A harsh engine: each hardship alone, certain, with seconds that last milliseconds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from devhost.durable.store.history import EventType
from devhost.durable.store.records import Message, MessageKind
from devhost.harsh import Harsh
from tests.devhost.durable import durable_harness
from tests.devhost.durable.durable_harness import RunningHost, load_app


def harsh_host(tmp_path: Path, *, second: float = 0.1, module: Any = None, **odds: float) -> RunningHost:
    """Nothing goes wrong but what is named."""
    tmp_path.mkdir(exist_ok=True)
    harsh = Harsh(1, {**dict.fromkeys(_ALL, 0.0), **odds}, second)
    return RunningHost(module or load_app("durable_basic"), tmp_path, harsh=harsh)


_ALL = (
    *("late_message", "repeated_message", "lost_start", "repeated_activity", "unsaved_activity", "lost_result"),
    *("dead_worker", "late_work", "early_timer", "suspended_code"),
)


async def status(host: RunningHost, instance_id: str) -> str | None:
    found = await host.client.get_status(instance_id)
    return None if found.runtime_status is None else str(found.runtime_status.value)


async def test_a_resume_that_overtakes_the_suspend_is_refused_and_then_the_suspend_arrives(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, late_message=1) as host:
        await host.client.start_new("two_events", "i")
        await host.until(lambda: host.engine.core.live("i") and host.engine.core.live("i").chunks)
        await host.client.suspend("i", "now")
        with pytest.raises(Exception, match="status code 500"):
            await host.client.resume("i", "at once")

        async def suspended() -> bool:
            return await status(host, "i") == "Suspended"

        await host.until(suspended)


async def test_messages_are_late_but_in_order_and_starts_of_one_id_run_once(tmp_path: Path) -> None:
    durable_harness.HEARD.clear()
    async with harsh_host(tmp_path, second=1.0, late_message=1) as host:
        assert set(await asyncio.gather(*(host.client.start_new("collects", "c") for _ in range(10)))) == {"c"}
        for item in [*range(20), "stop"]:
            await host.client.raise_event("c", "Item", item)
        assert (await host.end("c")).output == list(range(20))
        assert len(_executions_without_input("collects")) == 1


def _executions_without_input(name: str) -> set[str]:
    """Execution ids of an eternal orchestration that began from nothing, and not from the generation before."""
    starts = [
        event
        for heard in durable_harness.HEARD
        if heard.name == name
        for event in json.loads(heard.given)["history"]
        if event["EventType"] == EventType.EXECUTION_STARTED
    ]
    assert len(starts) >= 20
    return {event["OrchestrationInstance"]["ExecutionId"] for event in starts if event["Input"] in (None, "null")}


async def test_an_event_that_comes_twice_ends_one_wait_and_stays_for_the_next(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, repeated_message=1) as host:
        await host.client.start_new("approval", "i", {"timeout": 3600})
        await host.client.raise_event("i", "Approval", "yes")
        assert (await host.end("i")).output == {"decision": "yes"}
        assert host.engine.store.messages() == []


async def test_a_lost_start_leaves_an_instance_that_stays_pending_until_it_is_terminated(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, lost_start=1) as host:
        with pytest.raises(Exception, match="lost"):
            await host.client.start_new("hello_chain", "i")
        assert await status(host, "i") == "Pending"
        with pytest.raises(Exception, match="already exists"):
            await host.client.start_new("hello_chain", "i")
        await host.client.terminate("i", "never began")
        assert (await host.end("i")).runtime_status.value == "Terminated"


async def test_an_activity_runs_again_after_its_answer_and_its_second_answer_is_dropped(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, repeated_activity=1) as host:
        ended = await host.run("hello_chain")
        assert ended.output == ["Hello Tokyo!", "Hello Seattle!"]
        await host.until(lambda: host.host.calls.count("say_hello") == 4)
        assert host.engine.store.tasks() == []


async def test_an_answer_that_is_not_saved_lets_the_activity_run_again_later(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, second=0.01, unsaved_activity=0.5) as host:
        assert (await host.run("fan_out", 20)).output == sum(range(20))
        assert host.host.calls.count("echo") > 20


async def test_a_lost_result_holds_its_instance_until_the_host_restarts(tmp_path: Path) -> None:
    module = load_app("durable_basic")
    async with harsh_host(tmp_path, module=module, lost_result=1) as first:
        await first.client.start_new("hello_chain", "i")
        await first.until(lambda: "say_hello" in first.host.calls)
        await asyncio.sleep(0.05)
        assert await status(first, "i") == "Running"
    async with harsh_host(tmp_path, module=module, late_work=1, second=0.001) as second:
        assert (await second.end("i")).output == ["Hello Tokyo!", "Hello Seattle!"]


async def test_work_in_flight_at_a_kill_comes_back_after_its_visibility_time(tmp_path: Path) -> None:
    module = load_app("durable_basic")
    async with harsh_host(tmp_path, module=module, lost_result=1) as first:
        await first.client.start_new("hello_chain", "i")
        await first.until(lambda: "say_hello" in first.host.calls)
    async with harsh_host(tmp_path, module=module, late_work=1, second=0.01) as second:
        await asyncio.sleep(0.1)
        assert second.host.calls == []
        assert (await second.end("i")).output == ["Hello Tokyo!", "Hello Seattle!"]


async def test_a_worker_that_dies_in_an_orchestrator_fails_its_instance_with_the_extensions_words(
    tmp_path: Path,
) -> None:
    async with harsh_host(tmp_path, dead_worker=1) as host:
        ended = await host.run("hello_chain")
        assert ended.runtime_status.value == "Failed"
        assert "but the current replay execution hasn't (yet?) scheduled this task" in ended.output


async def test_a_suspended_orchestrators_code_sees_events_and_schedules_nothing(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, suspended_code=1) as host:
        await host.client.start_new("approval", "i", {"timeout": 3600})
        await host.until(lambda: host.host.calls == ["approval"])
        await host.client.suspend("i", "hold")
        await host.client.raise_event("i", "Approval", "yes")

        async def decided() -> bool:
            return (await host.client.get_status("i")).custom_status == "decided"

        await host.until(decided)
        assert "echo" not in host.host.calls
        await host.client.resume("i", "go")
        assert (await host.end("i")).output == {"decision": "yes"}
        assert host.host.calls.count("echo") == 1


async def test_timers_fire_before_their_time(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, second=1.0, early_timer=1) as host:
        assert (await host.run("sleeps", 0.5)).output is False


async def test_a_terminate_that_finds_no_instance_leaves_a_row(tmp_path: Path) -> None:
    async with harsh_host(tmp_path, late_message=1) as host:
        await host.client.start_new("two_events", "i")
        await host.until(lambda: host.engine.core.live("i") and host.engine.core.live("i").chunks)
        await host.client.terminate("i", "once")
        await host.end("i")
        await host.client.purge_instance_history("i")
        core = host.engine.core
        await core.send(
            Message(core.next_seq(), "i", MessageKind.TERMINATE, text="a second one, on its way since before")
        )

        async def is_back() -> bool:
            return await status(host, "i") == "Terminated"

        await host.until(is_back, timeout_s=5)
        assert host.engine.status("i").name == ""


async def test_the_same_seed_draws_the_same(tmp_path: Path) -> None:
    one, two, other = (Harsh(seed, {"unsaved_activity": 0.5}) for seed in (7, 7, 8))
    draws = [[each.delay_s("unsaved_activity", "echo") for _ in range(20)] for each in (one, two, other)]
    assert draws[0] == draws[1] != draws[2]
    assert 0 < sum(delay > 0 for delay in draws[0]) < 20


async def test_everything_at_once_still_ends(tmp_path: Path) -> None:
    module = load_app("durable_basic")
    harsh = Harsh(3, {"lost_start": 0, "lost_result": 0, "dead_worker": 0}, 0.02)
    async with RunningHost(module, tmp_path, harsh=harsh) as host:
        ids = [await host.client.start_new("hello_chain") for _ in range(20)]
        ended = [await host.end(instance_id) for instance_id in ids]
        assert [status.output for status in ended] == [["Hello Tokyo!", "Hello Seattle!"]] * 20
        assert harsh.happened["unsaved_activity"] > 0
        assert harsh.happened["repeated_activity"] > 0
