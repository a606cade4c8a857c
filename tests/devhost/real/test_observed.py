"""What becomes of instances, and what the management API answers: as recorded from the extension.

The same cases run on both: `settle` waits until our engine is idle, on the extension as long as its polling takes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.devhost.durable.durable_harness import RunningHost
from tests.devhost.real.comparing import answered_as_recorded, observed, observed_as_recorded
from tests.devhost.real.episodes import scrubbed

ENDED = ("Completed", "Failed", "Terminated", "Canceled")
JSON = {"Content-Type": "application/json"}
SHOWN_HEADERS = ("location", "retry-after", "content-type")


async def raw(host: RunningHost, method: str, path: str, **options: Any) -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.request(method, host.base_url + path, **options) as response:
        headers = {name: value for name, value in response.headers.items() if name.lower() in SHOWN_HEADERS}
        return response.status, await response.text(), headers


async def state(host: RunningHost, instance_id: str) -> dict[str, Any] | None:
    found = await host.client.get_status(instance_id)
    if not found:
        return None
    status = None if found.runtime_status is None else found.runtime_status.value
    return {"status": status, "custom": found.custom_status, "output": found.output, "name": found.name}


async def status(host: RunningHost, instance_id: str) -> str | None:
    found = await state(host, instance_id)
    return None if found is None else found["status"]


async def end(host: RunningHost, instance_id: str, seconds: float = 12) -> dict[str, Any]:
    """The state of an ended instance, or of one that is stuck."""
    await host.settle(0.5)
    found = await state(host, instance_id)
    for _ in range(round(seconds * 10) if host.is_real else 1):
        if found is not None and found["status"] in ENDED:
            return found
        await asyncio.sleep(0.1)
        found = await state(host, instance_id)
    return {"stuck": found}


def calls(host: RunningHost) -> list[str]:
    return list(host.host.calls)


@pytest.mark.parametrize("days", [2.9, 5, 6.5, 10, 40])
async def test_long_timer(host: RunningHost, days: float) -> None:
    """A timer of more than six days is split, and cancelling it does not end the instance."""
    instance_id = await host.client.start_new("approval", None, {"timeout": days * 86400})
    await host.settle(2.5)
    before = await state(host, instance_id)
    await host.client.raise_event(instance_id, "Approval", {"ok": 1})
    after = await end(host, instance_id)
    found = await host.client.get_status(instance_id, show_history=True)
    kept = ("EventType", "FireAt", "Name", "FunctionName")
    history = [{key: value for key, value in event.items() if key in kept} for event in found.historyEvents]
    case = f"long_timer_{str(days).replace('.', '_')}"
    observed_as_recorded(case, {"before": before, "after": after, "calls": calls(host), "history": history})


async def test_suspended_event_runs_the_activity(host: RunningHost) -> None:
    instance_id = await host.client.start_new("approval", None, {"timeout": 3600})
    await host.settle(2)
    await host.client.suspend(instance_id, "s")
    await host.settle(2)
    await host.client.raise_event(instance_id, "Approval", {"ok": 1})
    await host.settle(3)
    held = {"while_suspended": await state(host, instance_id), "calls_while_suspended": calls(host)}
    await host.client.resume(instance_id, "r")
    after = await end(host, instance_id)
    observed_as_recorded("suspended_event", {**held, "after": after, "calls": calls(host)})


async def test_suspended_activity_result(host: RunningHost, tmp_path: Path) -> None:
    began, release = tmp_path / "b", tmp_path / "r"
    instance_id = await host.client.start_new("holds", None, {"began": str(began), "release": str(release)})
    await host.until(began.exists)
    await host.client.suspend(instance_id, "s")

    async def is_suspended() -> bool:
        return await status(host, instance_id) == "Suspended"

    await host.until(is_suspended)
    release.touch()
    await host.settle(3)
    held = await state(host, instance_id)
    await host.client.resume(instance_id, "r")
    after = await end(host, instance_id)
    observed_as_recorded("suspended_activity", {"while_suspended": held, "after": after, "calls": calls(host)})


async def test_many_starts(host: RunningHost) -> None:
    tries = [host.client.start_new("hello_chain", "one") for _ in range(10)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    won = sum(outcome == "one" for outcome in outcomes)
    errors = sorted({str(outcome)[:200] for outcome in outcomes if outcome != "one"})
    after = await end(host, "one")
    observed_as_recorded("many_starts", {"won": won, "errors": errors, "after": after, "calls": calls(host)})


async def test_many_starts_waiting(host: RunningHost) -> None:
    tries = [host.client.start_new("approval", "two", {"timeout": 60}) for _ in range(10)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    await host.settle(4)
    await host.client.raise_event("two", "Approval", 1)
    after = await end(host, "two")
    won = sum(outcome == "two" for outcome in outcomes)
    observed_as_recorded("many_starts_waiting", {"won": won, "after": after, "calls": calls(host)})


async def test_unknown_orchestrator(host: RunningHost) -> None:
    try:
        await host.client.start_new("nobody", "nb")
        start = "accepted"
    except Exception as error:
        start = str(error)
    await host.settle(4)
    observed_as_recorded("unknown_orchestrator", {"start": start, "after": await state(host, "nb")})


async def test_unknown_activity(host: RunningHost) -> None:
    instance_id = await host.client.start_new("calls_unknown")
    observed_as_recorded("unknown_activity", {"after": await end(host, instance_id, 8)})


async def test_rewind(host: RunningHost) -> None:
    instance_id = await host.client.start_new("flaky_child", "rw", {"key": "k", "failures": 1})
    before = await end(host, instance_id)
    await host.client.rewind(instance_id, "again")
    await host.settle(2)
    after = await end(host, instance_id)
    observed_as_recorded("rewind", {"before": before, "rewind": "ok", "after": after, "calls": calls(host)})


async def test_terminate_parent(host: RunningHost) -> None:
    await host.client.start_new("parent_of_a_wait", "par")
    await host.settle(3)
    await host.client.terminate("par", "end")
    parent = await end(host, "par")
    observed_as_recorded("terminate_parent", {"parent": parent, "child": await state(host, "waiting-kid")})


async def test_purge(host: RunningHost) -> None:
    await host.client.start_new("two_events", "open")
    await host.settle(1.5)
    found: dict[str, Any] = {}
    for instance_id in ("open", "nothere"):
        found[instance_id] = await raw(host, "DELETE", f"/durabletask/instances/{instance_id}")
    await host.client.suspend("open", "x")
    await host.settle(1)
    found["suspended"] = await raw(host, "DELETE", "/durabletask/instances/open")
    await host.client.start_new("hello_chain", "done")
    await end(host, "done")
    since = "createdTimeFrom=2020-01-01T00:00:00Z"
    found["filter_running"] = await raw(host, "DELETE", f"/durabletask/instances/?{since}&runtimeStatus=Running")
    found["filter_all"] = await raw(host, "DELETE", f"/durabletask/instances/?{since}")
    found["filter_none"] = await raw(host, "DELETE", "/durabletask/instances/")
    found["done_after"] = await state(host, "done")
    observed_as_recorded(
        "purge", {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}
    )


async def test_big_fan(host: RunningHost) -> None:
    instance_id = await host.client.start_new("fan_out", None, 300)
    await host.until(lambda: calls(host).count("echo") == 300, 60)
    observed_as_recorded("big_fan", {"after": await end(host, instance_id, 60)})


async def test_big_event(host: RunningHost) -> None:
    instance_id = await host.client.start_new("two_events")
    await host.settle(1)
    for name in ("One", "Two"):
        await host.client.raise_event(instance_id, name, "x" * 500_000)
    found = await end(host, instance_id, 30)
    output = found["output"]
    shown = {"kind": type(output).__name__, "size": len(json.dumps(output)), "head": str(output)[:120]}
    observed_as_recorded("big_event", {**shown, "status": found["status"]})


async def test_event_at_once(host: RunningHost) -> None:
    for number in range(15):
        instance_id = await host.client.start_new("approval", f"q{number}", {"timeout": 30})
        await host.client.raise_event(instance_id, "Approval", number)
    outputs = [(await end(host, f"q{number}", 30)).get("output") for number in range(15)]
    right = sum(output == {"decision": number} for number, output in enumerate(outputs))
    observed_as_recorded("event_at_once", {"ok": right})


async def test_event_twice(host: RunningHost) -> None:
    instance_id = await host.client.start_new("approval", "tw", {"timeout": 30})
    await host.settle(1)
    for number in (1, 2):
        await host.client.raise_event(instance_id, "Approval", number)
    observed_as_recorded("event_twice", {"after": await end(host, instance_id)})


async def test_answers(host: RunningHost) -> None:
    """Every answer of the management API that was recorded."""

    async def ask(call: str, method: str, path: str, **options: Any) -> None:
        status_code, text, _ = await raw(host, method, f"/durabletask/{path}", **options)
        answered_as_recorded(call, status_code, text)

    await host.client.start_new("two_events", "e")
    await host.settle(1)
    event = "instances/e/raiseEvent/One"
    await ask("event_text", "POST", event, data="1")
    await ask("event_badjson", "POST", event, data="{", headers=JSON)
    await ask("event_empty", "POST", event, data="", headers=JSON)
    await ask("event_unknown", "POST", "instances/nobody/raiseEvent/One", data="1", headers=JSON)
    await ask("terminate_unknown", "POST", "instances/nobody/terminate?reason=x")
    await ask("suspend_unknown", "POST", "instances/nobody/suspend?reason=x")
    await ask("resume_running", "POST", "instances/e/resume?reason=x")
    await ask("terminate", "POST", "instances/e/terminate?reason=x")
    await end(host, "e")
    await ask("terminate_again", "POST", "instances/e/terminate?reason=x")
    await ask("suspend_ended", "POST", "instances/e/suspend?reason=x")
    await ask("event_ended", "POST", event, data="1", headers=JSON)
    await ask("status_unknown", "GET", "instances/nobody")
    await ask("rewind_terminated", "POST", "instances/e/rewind?reason=x")
    await ask("restart_unknown", "POST", "instances/nobody/restart")
    await host.client.start_new("two_events", "f")
    await host.settle(1)
    await ask("start_running", "POST", "orchestrators/two_events/f")
    await ask("restart_running", "POST", "instances/f/restart?restartWithNewInstanceId=false")
    await ask("start_badjson", "POST", "orchestrators/two_events", data="{", headers=JSON)
    await ask("start_at", "POST", "orchestrators/two_events/@at")
    await ask("start_long", "POST", "orchestrators/two_events/" + "x" * 257)
    await ask("start_backslash", "POST", "orchestrators/two_events/a%5Cb")
    await ask("wait_short", "POST", "orchestrators/two_events?timeout=0.05&pollingInterval=1")
    await ask("list_bad_status", "GET", "instances?runtimeStatus=Asleep&top=1")
    await ask("entity_unknown_get", "GET", "entities/nothing/1")
    await ask("entity_unknown_post", "POST", "entities/nothing/1?op=x")


async def test_custom_status_life(host: RunningHost) -> None:
    """Which states are seen is chance, but not their order."""
    instance_id = await host.client.start_new("approval", "cs", {"timeout": 30})
    seen: list[Any] = []

    async def look(*, with_status: bool) -> bool:
        found = await state(host, instance_id) or {}
        one = [found["status"], found["custom"]] if with_status else found["custom"]
        seen.extend([] if one in seen else [one])
        return found["status"] in ENDED if with_status else found["custom"] is not None

    await host.until(lambda: look(with_status=False))
    await host.client.raise_event(instance_id, "Approval", 1)
    await host.until(lambda: look(with_status=True))
    if host.is_real:
        observed_as_recorded("custom_status", {"seen": seen})
        return
    wanted = observed("custom_status")["seen"]
    assert seen == [one for one in wanted if one in seen]
    assert seen[-1] == wanted[-1]


async def test_purge_filters(host: RunningHost) -> None:
    await host.client.start_new("two_events", "open")
    await host.client.start_new("two_events", "susp")
    await host.settle(1.5)
    await host.client.suspend("susp", "x")
    await host.client.start_new("hello_chain", "done")
    await end(host, "done")
    await host.settle(1)
    await host.client.start_new("fails", "bad")
    await end(host, "bad")
    steps = []
    for query in (
        "runtimeStatus=Completed",
        "runtimeStatus=Running",
        "runtimeStatus=Completed,Failed,Terminated",
        "x=1",
    ):
        answer = await raw(host, "DELETE", f"/durabletask/instances/?createdTimeFrom=2020-01-01T00:00:00Z&{query}")
        left = {instance_id: await status(host, instance_id) for instance_id in ("open", "susp", "done", "bad")}
        steps.append([query, list(answer[:2]), left])
    observed_as_recorded("purge_filters", {"steps": steps})


async def test_list_ids(host: RunningHost) -> None:
    for instance_id in ("b", "a", "c"):
        await host.client.start_new("two_events", instance_id)
        await host.settle(0.3)
    observed_as_recorded("list", {"r": list(await raw(host, "GET", "/durabletask/instances/?top=2"))})


async def test_output_of_suspended(host: RunningHost) -> None:
    await host.client.start_new("approval", "o", {"timeout": 60})
    await host.settle(1.5)
    await host.client.suspend("o", "because")
    await host.settle(1.5)
    code, text, headers = await raw(host, "GET", "/durabletask/instances/o?showHistory=true")
    # Only the beginning of the answer was recorded.
    begin = scrubbed(text)[: len(observed("suspended_status")["r"][1])]
    observed_as_recorded("suspended_status", {"r": [code, begin, headers]})
