"""What `bind` refuses, how functions are named, and the timers that wait in memory."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from devhost.durable.binding import Links
from devhost.durable.extension import DurableExtension
from devhost.durable.registry import Registry
from devhost.durable.store.history import now_us
from devhost.durable.store.records import TaskKind, TaskRow
from devhost.durable.workers.timers import Timers
from devhost.extensions.contract import Binding, Direction, Function, HostContext, HostError
from tests.devhost.durable.durable_harness import RunningHost, load_app


def function(name: str, kind: str = "activityTrigger", *, disabled: bool = False, **raw: Any) -> Function:
    return Function(name, name, Binding(kind, "x", Direction.IN, raw), (), (), disabled)


class BareHost:
    def __init__(self, data_dir: Path, functions: list[Function], host_json: dict[str, Any] | None = None) -> None:
        self.context = HostContext(data_dir, data_dir, "http://127.0.0.1:1", host_json or {}, {}, functions)

    async def invoke(
        self, function: Function, payload: str, *, correlation_id: str | None = None, quiet: bool = False
    ) -> str | None:
        raise AssertionError("nothing is to be run")


def test_durable_names_are_unique_without_case_and_do_not_start_with_at() -> None:
    with pytest.raises(HostError, match="another function has the activityTrigger name"):
        Registry([function("Send"), function("other", activity="SEND")])
    with pytest.raises(HostError, match="must not start with '@'"):
        Registry([function("a", activity="@a")])
    # The same name for different kinds is fine.
    Registry([function("Send"), function("send", "orchestrationTrigger")])


def test_disabled_functions_do_not_exist() -> None:
    registry = Registry([function("on"), function("off", disabled=True)])
    assert registry.check_activity("ON") is None
    problem = registry.check_activity("off")
    assert problem is not None
    assert problem.endswith("The following are the known activity functions: 'on'.")


async def test_client_of_another_task_hub_is_refused_at_start(tmp_path: Path) -> None:
    client = Binding("durableClient", "client", Direction.IN, {"taskHub": "Elsewhere"})
    starter = Function("starter", "1", Binding("httpTrigger", "req", Direction.IN, {}), (client,), ())
    with pytest.raises(HostError, match=r"function starter: .*'Elsewhere'"):
        DurableExtension().bind(BareHost(tmp_path, [starter]))


async def test_key_is_kept_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        extension = DurableExtension()
        extension.bind(BareHost(tmp_path, []))
        payload = json.loads(await extension.resolve_input(None, None))  # type: ignore[arg-type]  # unused there
        keys.append(payload["requiredQueryStringParameters"])
        await extension.stop()
        await extension.stop()
    assert keys[0] == keys[1]
    assert (tmp_path / "durabletask.key").stat().st_mode & 0o077 == 0


async def test_hubs_of_one_data_folder_are_apart(tmp_path: Path) -> None:
    module = load_app("durable_basic")
    for hub, expected in (("One", []), ("Two", []), ("One", ["kept"])):
        host_json = {"extensions": {"durableTask": {"hubName": hub}}}
        async with RunningHost(module, tmp_path, host_json) as host:
            found = [status.instance_id for status in await host.client.get_status_all()]
            assert found == expected
            if hub == "One" and not expected:
                await host.client.start_new("two_events", "kept")


async def test_any_state_setting_lets_a_start_replace_a_running_instance(tmp_path: Path) -> None:
    host_json = {"extensions": {"durableTask": {"overridableExistingInstanceStates": "AnyState"}}}
    async with RunningHost(load_app("durable_basic"), tmp_path, host_json) as host:
        await host.client.start_new("two_events", "x")
        await host.client.start_new("hello_chain", "x")
        assert (await host.end("x")).name == "hello_chain"


async def test_version_reaches_the_orchestrator(tmp_path: Path) -> None:
    host_json = {"extensions": {"durableTask": {"defaultVersion": "7"}}}
    async with RunningHost(load_app("durable_basic"), tmp_path, host_json) as host:
        assert (await host.run("tells_version")).output == ["7", "7"]
        instance_id = await host.client.start_new("tells_version", version="9.1")
        assert (await host.end(instance_id)).output == ["9.1", "7"]


@pytest.mark.parametrize(
    ("base_url", "rpc"),
    [
        ("http://127.0.0.1:7071", "http://127.0.0.1:7071/durabletask/"),
        ("http://localhost:8080", "http://localhost:8080/durabletask/"),
        ("http://laptop.lan:7071", "http://127.0.0.1:7071/durabletask/"),
        ("http://192.168.1.7:9000", "http://127.0.0.1:9000/durabletask/"),
    ],
)
def test_sdk_calls_go_to_loopback_whatever_the_public_address(base_url: str, rpc: str) -> None:
    payload = json.loads(Links(base_url, "Hub", "k").client_payload())
    assert payload["rpcBaseUrl"] == rpc
    assert payload["managementUrls"]["statusQueryGetUri"].startswith(f"{base_url}/runtime/webhooks/")


async def test_timers_fire_in_order_once_and_not_when_cancelled() -> None:
    fired: list[int] = []
    done = asyncio.Event()

    def fire(due: list[TaskRow]) -> None:
        fired.extend(timer.task_id for timer in due)
        if 99 in fired:
            done.set()

    timers = Timers(fire)
    base = now_us()
    ids = list(range(100))
    random.Random(2).shuffle(ids)
    for task_id in ids:
        timers.arm(TaskRow(1, task_id, TaskKind.TIMER, "i", "e", fire_at_us=base + task_id * 1000))
    timers.arm(TaskRow(2, 5, TaskKind.TIMER, "far", "e", fire_at_us=base + 10**15))
    cancelled = set(range(3, 99, 2))
    for task_id in cancelled:
        timers.cancel(1, task_id)
    async with asyncio.timeout(10):
        await done.wait()
    assert now_us() >= base + 99_000
    timers.close()
    assert [task_id for task_id in fired if task_id not in cancelled] == [
        task_id for task_id in range(100) if task_id not in cancelled
    ]
    assert len(fired) == len(set(fired))
