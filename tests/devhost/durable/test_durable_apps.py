"""The sample app through the real SDK client over HTTP: what orchestrations can do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import azure.durable_functions as df
import pytest

from devhost.durable.store.history import EventType
from tests.devhost.durable.durable_harness import RunningHost, load_app


async def status_of(host: RunningHost, instance_id: str) -> str:
    status = await host.client.get_status(instance_id)
    return str(status.runtime_status.value)


async def custom_status_is(host: RunningHost, instance_id: str, wanted: Any) -> None:
    async def reached() -> bool:
        return bool((await host.client.get_status(instance_id)).custom_status == wanted)

    await host.until(reached)


@pytest.mark.parametrize(
    ("name", "given", "output"),
    [
        ("hello_chain", None, ["Hello Tokyo!", "Hello Seattle!"]),
        ("HELLO_CHAIN", None, ["Hello Tokyo!", "Hello Seattle!"]),
        ("fan_out", 20, 190),
        ("sleeps", 0.05, True),
        ("renamed", None, "not a generator"),
        ("counts_down", {"left": 5, "sum": 0}, 15),
    ],
)
async def test_orchestration_completes(host: RunningHost, name: str, given: Any, output: Any) -> None:
    status = await host.run(name, given)
    assert status.runtime_status.value == "Completed"
    assert status.output == output


async def test_retries_side_by_side_and_the_call_after_them(host: RunningHost) -> None:
    status = await host.run("retried", {"key": "a", "failures": [2, 1, 0]})
    worked = [f"worked at attempt {n}" for n in (3, 2, 1)]
    assert status.output == {"results": worked, "after": "after"}


async def test_exhausted_retry_raises_the_last_error(host: RunningHost) -> None:
    status = await host.run("retried", {"key": "b", "failures": [9]})
    assert status.output["results"] == "gave up: Activity function 'flaky' failed:  RuntimeError: attempt 3 "
    assert status.output["after"] == "after"


async def test_sub_orchestrations_know_their_parent_and_their_given_id(host: RunningHost) -> None:
    status = await host.run("parent", {"child_id": "kid"})
    parent_id = status.instance_id
    assert status.output == [{"doubled": 2, "parent": parent_id}, {"doubled": 4, "parent": parent_id}]
    assert (await host.client.get_status("kid")).output == {"doubled": 2, "parent": parent_id}


async def test_sub_orchestration_with_its_parents_id_is_refused(host: RunningHost) -> None:
    instance_id = await host.client.start_new("parent", "loop", {"child_id": "loop"})
    status = await host.end(instance_id)
    assert status.runtime_status.value == "Failed"
    assert "parent or grandparent" in status.output


async def test_failed_sub_orchestration_shows_the_childs_error_to_the_parent(host: RunningHost) -> None:
    status = await host.run("failing_child_parent")
    assert status.runtime_status.value == "Completed"
    assert status.output.startswith(
        "Orchestrator function 'fails' failed: Activity function 'fail' failed:  ValueError: no luck"
    )


async def test_retried_sub_orchestration_keeps_its_explicit_id(host: RunningHost) -> None:
    status = await host.run("insists_on_child", {"key": "kid", "failures": 2})
    assert status.output == "worked at attempt 3"
    assert (await host.client.get_status("kid")).output == "worked at attempt 3"


async def test_child_that_continues_as_new_answers_its_parent_at_the_end(host: RunningHost) -> None:
    assert (await host.run("parent_of_a_loop")).output == {"child": 6}


async def test_terminated_child_fails_the_call_of_its_parent(host: RunningHost) -> None:
    instance_id = await host.client.start_new("parent_of_a_wait")
    await host.until(lambda: host.engine.core.live("waiting-kid"))
    await host.client.terminate("waiting-kid", "changed my mind")
    assert (await host.end(instance_id)).output.startswith("changed my mind")


async def test_wide_fan_out_that_ends_bit_by_bit(host: RunningHost) -> None:
    assert (await host.run("fan_out_unevenly", 400, 60)).output == 400


async def test_failed_orchestration_has_a_plain_text_output(host: RunningHost) -> None:
    status = await host.run("fails")
    assert status.runtime_status.value == "Failed"
    assert status.output.startswith("Orchestrator function 'fails' failed: Activity function 'fail' failed:  ")


async def test_unknown_activity_names_the_known_ones(host: RunningHost) -> None:
    status = await host.run("calls_unknown")
    assert status.runtime_status.value == "Failed"
    assert status.output.startswith(
        "The function 'nobody' doesn't exist, is disabled, or is not an activity function. Additional info: "
        "The following are the known activity functions: 'echo', "
    )


async def test_code_that_is_not_deterministic_is_found_out(host: RunningHost) -> None:
    status = await host.run("drifts")
    assert status.runtime_status.value == "Failed"
    assert status.output.startswith("Non-Deterministic workflow detected: A previous execution of this ")


async def test_custom_status_over_16_kb_of_utf16_fails_the_orchestration(host: RunningHost) -> None:
    status = await host.run("big_status")
    assert status.runtime_status.value == "Failed"
    assert "16 KB" in status.output


async def test_approval_wins_against_its_timer_and_the_instance_ends_at_once(host: RunningHost) -> None:
    instance_id = await host.client.start_new("approval", None, {"timeout": 3600})
    await custom_status_is(host, instance_id, {"waiting": "Approval"})
    await host.client.raise_event(instance_id, "Approval", {"by": "ann"})
    status = await host.end(instance_id)
    assert status.output == {"decision": {"by": "ann"}}
    # A falsy status clears it, a string stays.
    assert status.custom_status == "decided"


async def test_timer_that_is_not_cancelled_keeps_the_instance_running(host: RunningHost) -> None:
    instance_id = await host.client.start_new("approval", None, {"timeout": 3600, "cancels": False})
    await host.client.raise_event(instance_id, "Approval", 1)
    await host.until(lambda: "echo" in host.host.calls)

    def waits_only_for_the_timer() -> bool:
        live = host.engine.core.live(instance_id)
        assert live is not None
        return list(live.ledger.open.values()) == [EventType.TIMER_CREATED] and not live.is_busy

    await host.until(waits_only_for_the_timer)
    assert await status_of(host, instance_id) == "Running"
    await host.client.terminate(instance_id, "enough")
    assert (await host.end(instance_id)).output == "enough"


async def test_approval_times_out(host: RunningHost) -> None:
    assert (await host.run("approval", {"timeout": 0.05})).output == "timeout"


async def test_early_event_waits_for_its_wait(host: RunningHost) -> None:
    instance_id = await host.client.start_new("two_events")
    await host.client.raise_event(instance_id, "Two", "late")
    await host.client.raise_event(instance_id, "One", {"a": 1})
    status = await host.end(instance_id)
    # The SDK's raise_event encodes twice: the orchestrator gets a JSON text.
    assert status.output == ['{"a": 1}', '"late"']


async def test_event_names_are_case_sensitive(host: RunningHost) -> None:
    instance_id = await host.client.start_new("two_events")
    await host.client.raise_event(instance_id, "one", 1)
    await host.client.raise_event(instance_id, "Two", 2)
    await host.client.raise_event(instance_id, "One", 3)
    assert (await host.end(instance_id)).output == ["3", "2"]


async def test_raw_post_of_an_event_arrives_as_the_object_it_is(host: RunningHost) -> None:
    instance_id = await host.client.start_new("two_events")
    payload = host.client.create_http_management_payload(instance_id)
    async with aiohttp.ClientSession() as session:
        for name, value in (("One", {"by": "bo"}), ("Two", [1])):
            url = payload["sendEventPostUri"].replace("{eventName}", name)
            async with session.post(url, json=value) as response:
                assert response.status == 202
    assert (await host.end(instance_id)).output == [{"by": "bo"}, [1]]


async def test_custom_status_is_not_carried_over_continue_as_new(host: RunningHost) -> None:
    status = await host.run("counts_down", {"left": 4, "sum": 0, "status_at": 3})
    assert status.output == 10
    assert status.custom_status is None


async def test_continue_as_new_keeps_the_id_and_created_time_and_drops_the_history(host: RunningHost) -> None:
    status = await host.run("counts_down", {"left": 3, "sum": 0})
    status = await host.client.get_status(status.instance_id, show_history=True, show_input=True)
    assert json.loads(status.input_) == {"left": 0, "sum": 6}
    assert sum(event["EventType"] == "TaskCompleted" for event in status.historyEvents) == 1


async def test_events_that_come_between_generations_are_all_taken(host: RunningHost) -> None:
    instance_id = await host.client.start_new("collects", None, [])
    for n in range(6):
        seen = len(host.host.calls)
        await host.client.raise_event(instance_id, "Item", n)
        # One at a time, as it was recorded.
        await host.until(lambda seen=seen: len(host.host.calls) >= seen + 2)
    await host.client.raise_event(instance_id, "Item", "stop")
    assert (await host.end(instance_id)).output == [0, 1, 2, 3, 4, 5]


async def test_events_of_one_episode_go_on_to_the_next_generations(host: RunningHost) -> None:
    """They are all stored before the instance runs: each generation takes one and hands the others on."""
    async with asyncio.TaskGroup() as together:
        together.create_task(host.engine.start_instance("collects", instance_id="c", input_text=None))
        for item in [*range(8), "stop"]:
            text = json.dumps(json.dumps(item))
            together.create_task(host.engine.raise_event("c", "Item", text))
    assert (await host.end("c")).output == list(range(8))
    assert host.host.calls.count("collects") <= 10


async def test_suspended_instance_schedules_nothing_until_resumed(host: RunningHost) -> None:
    instance_id = await host.client.start_new("two_events")
    await host.until(lambda: host.host.calls)
    await host.client.suspend(instance_id, "wait")

    async def is_suspended() -> bool:
        return await status_of(host, instance_id) == "Suspended"

    await host.until(is_suspended)
    seen = len(host.host.calls)
    await host.client.raise_event(instance_id, "One", 1)
    await host.client.raise_event(instance_id, "Two", 2)
    with pytest.raises(Exception, match="500"):
        await host.client.suspend(instance_id, "again")
    assert await status_of(host, instance_id) == "Suspended"
    assert len(host.host.calls) == seen
    await host.client.resume(instance_id, "go")
    assert (await host.end(instance_id)).output == ["1", "2"]


async def test_resume_of_a_running_instance_is_refused(host: RunningHost) -> None:
    instance_id = await host.client.start_new("two_events")
    with pytest.raises(Exception, match="500"):
        await host.client.resume(instance_id, "why")
    await host.client.terminate(instance_id, "end")


async def test_terminate_ends_a_suspended_instance_at_once(host: RunningHost) -> None:
    instance_id = await host.client.start_new("two_events")
    await host.client.suspend(instance_id, "wait")
    await host.client.terminate(instance_id, "no longer needed")
    status = await host.end(instance_id)
    assert status.runtime_status.value == "Terminated"
    assert status.output == "no longer needed"


async def test_terminated_instance_ignores_the_activity_that_still_runs(host: RunningHost, tmp_path: Path) -> None:
    began, release = tmp_path / "began", tmp_path / "release"
    instance_id = await host.client.start_new("holds", None, {"began": str(began), "release": str(release)})
    await host.until(began.exists)
    await host.client.terminate(instance_id, "stop")
    assert (await host.end(instance_id)).runtime_status.value == "Terminated"
    release.touch()
    await host.until(lambda: host.host._running["activityTrigger"] == 0)
    await host.run("hello_chain")
    assert await status_of(host, instance_id) == "Terminated"
    assert host.engine.store.messages() == []
    assert host.engine.store.tasks() == []


async def test_entity_keeps_state_and_answers_in_order(host: RunningHost) -> None:
    status = await host.run("uses_counter", "k1")
    assert status.output == [3, 3, 3, "unknown operation"]


async def test_an_operation_that_fails_is_logged_as_failed(host: RunningHost, caplog: pytest.LogCaptureFixture) -> None:
    """The entity function itself ends well, so its own log line does not say it."""
    await host.run("uses_counter", "k")
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["entity @counter@k failed operation 'explode': \"unknown operation\""]


async def test_call_http_gives_status_and_content(host: RunningHost) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(size)
        reply = json.dumps({"line": head.split(b"\r\n")[0].decode(), "body": json.loads(body)}).encode()
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(reply))
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        status = await host.run("fetches", f"http://127.0.0.1:{port}/x")
    assert status.output == [201, {"line": "POST /x HTTP/1.1", "body": {"a": 1}}]


async def test_call_http_takes_a_202_with_a_location_as_the_answer(host: RunningHost) -> None:
    """As the SDK 1.7 does, whatever the extension does afterwards (azure-functions-durable-python 380, open)."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).split()[1])
        writer.write(b"HTTP/1.1 202 Accepted\r\nLocation: /later\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnull")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        status = await host.run("fetches", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
    assert (status.output, asked) == ([202, None], [b"/x"])


def test_polling_a_202_would_answer_the_next_call_of_the_sdk_with_the_polls_timer() -> None:
    """Why it is not polled. The extension's timer takes the id that the SDK has given to the next call by then.

    Source: `CallHttpAsync` of the extension's DurableOrchestrationContext, which creates timers and calls of its own.
    """

    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        answer = yield context.call_http("GET", "http://127.0.0.1/x")
        after = yield context.call_activity("echo", "after")
        return [answer["statusCode"], after]

    at = "2026-01-01T00:00:00Z"
    plain = {"IsPlayed": False, "Timestamp": at, "EventId": -1}
    accepted = json.dumps({"statusCode": 202, "headers": {"Location": "/later"}, "content": ""})
    history = [
        {**plain, "EventType": 12},
        {**plain, "EventType": 0, "Name": "program", "Version": "", "Input": None},
        {**plain, "EventType": 4, "EventId": 0, "Name": "BuiltIn::HttpActivity"},
        {**plain, "EventType": 5, "TaskScheduledId": 0, "Result": accepted},
        {**plain, "EventType": 10, "EventId": 1, "FireAt": at},
        {**plain, "EventType": 11, "TimerId": 1, "FireAt": at},
    ]
    body = {"history": history, "instanceId": "i", "isReplaying": False, "parentInstanceId": None, "input": None}
    answer = json.loads(
        df.Orchestrator.create(program)(
            SimpleNamespace(body=json.dumps({**body, "upperSchemaVersion": 1, "upperSchemaVersionNew": 3}))
        )
    )
    assert (answer["isDone"], answer["output"]) == (True, [202, None])


async def test_call_http_to_nobody_fails_like_an_activity(host: RunningHost) -> None:
    status = await host.run("fetches", "http://127.0.0.1:1/")
    assert status.runtime_status.value == "Failed"
    assert status.output.startswith("Orchestrator function 'fetches' failed: Connection refused (127.0.0.1:1)")


async def test_concurrency_limits_of_host_json_hold(tmp_path: Path) -> None:
    section = {"maxConcurrentActivityFunctions": 3, "maxConcurrentOrchestratorFunctions": 2}
    host_json = {"version": "2.0", "extensions": {"durableTask": section}}
    async with RunningHost(load_app("durable_basic"), tmp_path, host_json) as host:
        files = {"began": str(tmp_path / "began"), "release": str(tmp_path / "release")}
        ids = [await host.client.start_new("holds", None, files) for _ in range(6)]
        began = Path(files["began"])
        await host.until(lambda: began.exists() and len(began.read_text().splitlines()) == 3)
        (tmp_path / "release").touch()
        for instance_id in ids:
            assert (await host.end(instance_id)).output == "released"
        await asyncio.gather(*[host.run("hello_chain") for _ in range(10)])
        assert host.host.most_running["activityTrigger"] == 3
        assert host.host.most_running["orchestrationTrigger"] <= 2


async def test_too_many_actions_fail_the_orchestration(tmp_path: Path) -> None:
    host_json = {"version": "2.0", "extensions": {"durableTask": {"maxOrchestrationActions": 10}}}
    async with RunningHost(load_app("durable_basic"), tmp_path, host_json) as host:
        assert (await host.run("fan_out", 10)).output == 45
        status = await host.run("fan_out", 11)
        assert status.runtime_status.value == "Failed"
        assert "maxOrchestrationActions" in status.output
