"""The client API: starting, reading, listing, purging, restarting; and who may call it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.models.OrchestrationRuntimeStatus import OrchestrationRuntimeStatus
from starlette.requests import Request

from devhost.durable.management import access
from tests.devhost.durable.durable_harness import RunningHost

WEBHOOK = "/runtime/webhooks/durabletask"


async def call(
    host: RunningHost, method: str, path: str, *, headers: dict[str, str] | None = None, **kwargs: Any
) -> tuple[int, Any, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{host.base_url}{path}", headers=headers, **kwargs) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text else None, dict(response.headers)


async def test_unknown_orchestrator_is_refused_with_the_runtimes_message(host: RunningHost) -> None:
    with pytest.raises(Exception, match=r"^The function 'nobody' doesn't exist, is disabled, or is not an orch"):
        await host.client.start_new("nobody")


@pytest.mark.parametrize("instance_id", ["@at", "x" * 257, "a%5Cb", "a%09b"])
async def test_bad_instance_ids_are_refused(host: RunningHost, instance_id: str) -> None:
    status, body, _ = await call(host, "POST", f"/durabletask/orchestrators/hello_chain/{instance_id}")
    assert status == 400
    assert set(body) == {"Message", "ExceptionMessage", "ExceptionType", "StackTrace"}


async def test_generated_ids_are_32_hex_digits(host: RunningHost) -> None:
    instance_id = await host.client.start_new("hello_chain")
    assert len(instance_id) == 32
    int(instance_id, 16)


async def test_start_on_a_running_id_is_refused_and_on_a_finished_one_replaces_it(host: RunningHost) -> None:
    await host.client.start_new("two_events", "same")
    with pytest.raises(Exception, match="already exists"):
        await host.client.start_new("hello_chain", "same")
    await host.client.terminate("same", "done")
    await host.end("same")
    await host.client.start_new("hello_chain", "same")
    status = await host.end("same")
    assert status.name == "hello_chain"
    assert status.output == ["Hello Tokyo!", "Hello Seattle!"]


async def test_only_one_of_many_simultaneous_starts_of_an_id_wins(host: RunningHost) -> None:
    import asyncio

    outcomes = await asyncio.gather(
        *[host.client.start_new("two_events", "one") for _ in range(10)], return_exceptions=True
    )
    assert sum(outcome == "one" for outcome in outcomes) == 1


async def test_status_body_has_every_key_and_an_sdk_input_is_a_string(host: RunningHost) -> None:
    instance_id = await host.client.start_new("fan_out", None, 3)
    await host.end(instance_id)
    status, body, _ = await call(host, "GET", f"/durabletask/instances/{instance_id}")
    assert status == 200
    assert datetime.fromisoformat(body.pop("createdTime")).microsecond == 0
    assert body.pop("lastUpdatedTime").endswith("Z")
    assert body == {
        "name": "fan_out",
        "instanceId": instance_id,
        "runtimeStatus": "Completed",
        "input": "3",
        "customStatus": None,
        "output": 3,
    }
    _, body, _ = await call(host, "GET", f"/durabletask/instances/{instance_id}?showInput=False")
    assert body["input"] is None


async def test_unknown_instance_is_a_falsy_status(host: RunningHost) -> None:
    assert not await host.client.get_status("nobody")


async def test_running_instance_answers_202_with_a_location(host: RunningHost) -> None:
    await host.client.start_new("two_events", "r")
    status, _, headers = await call(host, "GET", "/durabletask/instances/r")
    assert status == 202
    assert headers["Retry-After"] == "5"
    status, body, _ = await call(host, "GET", headers["Location"].removeprefix(host.base_url))
    assert (status, body["instanceId"]) == (202, "r")


async def test_failed_instance_is_500_only_when_asked_for(host: RunningHost) -> None:
    status = await host.run("fails")
    path = f"/durabletask/instances/{status.instance_id}"
    assert (await call(host, "GET", path))[0] == 200
    assert (await call(host, "GET", f"{path}?returnInternalServerErrorOnFailure=True"))[0] == 500


async def test_history_shows_answers_with_what_they_answer(host: RunningHost) -> None:
    started = await host.run("hello_chain")
    status = await host.client.get_status(started.instance_id, show_history=True, show_history_output=True)
    assert status.history is None  # The 1.7 SDK looks for another key.
    events = status.historyEvents
    assert [event["EventType"] for event in events] == [
        "ExecutionStarted",
        "TaskCompleted",
        "TaskCompleted",
        "ExecutionCompleted",
    ]
    first = events[1]
    assert (first["FunctionName"], first["Result"]) == ("say_hello", "Hello Tokyo!")
    assert "ScheduledTime" in first
    assert events[0]["FunctionName"] == "hello_chain"
    assert events[3]["OrchestrationStatus"] == "Completed"
    hidden = {"EventId", "IsPlayed", "TaskScheduledId", "RetryOf", "CarriedStatus", "Tags", "Version"}
    assert not any(hidden & set(event) for event in events)


async def test_raise_event_tells_gone_from_unknown_from_malformed(host: RunningHost) -> None:
    await host.client.start_new("two_events", "e")
    with pytest.raises(Exception, match="No instance with ID nobody found"):
        await host.client.raise_event("nobody", "One", 1)
    bad = "/durabletask/instances/e/raiseEvent/One"
    assert (await call(host, "POST", bad, data="1"))[0] == 400
    headers = {"Content-Type": "application/json"}
    assert (await call(host, "POST", bad, headers=headers, data="{"))[0] == 400
    await host.client.terminate("e", "x")
    await host.end("e")
    with pytest.raises(Exception, match="is gone"):
        await host.client.raise_event("e", "One", 1)
    # The SDK takes 410 as success here.
    await host.client.terminate("e", "again")
    with pytest.raises(Exception, match="No instance"):
        await host.client.terminate("nobody", "x")


async def test_operations_are_case_insensitive_and_a_wrong_verb_is_404(host: RunningHost) -> None:
    await host.client.start_new("two_events", "c")
    assert (await call(host, "POST", "/durabletask/instances/c/TERMINATE?reason=x"))[0] == 202
    assert (await call(host, "PUT", "/durabletask/instances/c"))[0] == 404
    assert (await call(host, "GET", "/durabletask/nothing"))[0] == 404
    assert (await call(host, "POST", "/durabletask/instances/c/dance"))[0] == 404


@pytest.mark.parametrize("given", [5, [1], "not json"])
async def test_raw_start_with_an_input_the_sdk_cannot_take_fails_the_orchestration(
    host: RunningHost, given: Any
) -> None:
    status, body, _ = await call(host, "POST", "/durabletask/orchestrators/fan_out", json=given)
    assert status == 202
    assert (await host.end(body["id"])).runtime_status.value == "Failed"


async def test_raw_start_with_an_object_works_and_with_no_json_is_500(host: RunningHost) -> None:
    given = {"left": 2, "sum": 0}
    _, body, _ = await call(host, "POST", "/durabletask/orchestrators/counts_down/raw", json=given)
    assert body["id"] == "raw"
    assert (await host.end("raw")).output == 3
    assert (await call(host, "POST", "/durabletask/orchestrators/fan_out", data="{"))[0] == 500


async def test_start_and_wait_answers_with_the_output(host: RunningHost) -> None:
    path = "/durabletask/orchestrators/hello_chain?timeout=20&pollingInterval=1"
    assert (await call(host, "POST", path))[:2] == (200, ["Hello Tokyo!", "Hello Seattle!"])
    # The instance runs all the same.
    status, body, _ = await call(host, "POST", "/durabletask/orchestrators/two_events?timeout=0.05&pollingInterval=1")
    assert (status, body) == (400, {"Message": "Total timeout 0.05 should be bigger than retry timeout 1"})
    await host.settle(1)


async def test_start_and_wait_answers_with_the_links_after_the_timeout(host: RunningHost) -> None:
    path = "/durabletask/orchestrators/two_events?timeout=0.05&pollingInterval=0.01"
    status, body, _ = await call(host, "POST", path)
    assert status == 202
    assert "statusQueryGetUri" in body


async def test_wait_for_completion_helper_of_the_sdk(host: RunningHost) -> None:
    request = func.HttpRequest("GET", "http://elsewhere.example/api/x", body=b"")
    instance_id = await host.client.start_new("hello_chain")
    response = await host.client.wait_for_completion_or_create_check_status_response(request, instance_id, 20_000, 10)
    assert json.loads(response.get_body()) == ["Hello Tokyo!", "Hello Seattle!"]
    instance_id = await host.client.start_new("two_events")
    response = await host.client.wait_for_completion_or_create_check_status_response(request, instance_id, 30, 10)
    assert response.status_code == 202
    links = json.loads(response.get_body())
    assert links["statusQueryGetUri"].startswith(f"http://elsewhere.example{WEBHOOK}/instances/{instance_id}?")


async def test_list_filters_by_status_time_and_prefix(host: RunningHost) -> None:
    for n in range(3):
        await host.client.start_new("hello_chain", f"done-{n}")
        await host.end(f"done-{n}")
    await host.client.start_new("two_events", "open-1")
    everything = await host.client.get_status_all()
    assert [status.instance_id for status in everything] == ["done-0", "done-1", "done-2", "open-1"]
    completed = await host.client.get_status_by(runtime_status=[OrchestrationRuntimeStatus.Completed])
    assert len(completed) == 3
    assert len(await host.client.get_status_by(instance_id_prefix="open")) == 1
    now = datetime.now(UTC)
    since = now - timedelta(minutes=5)
    assert len(await host.client.get_status_by(since, now + timedelta(minutes=5))) == 4
    assert await host.client.get_status_by(now + timedelta(minutes=5)) == []
    status, listed, _ = await call(host, "GET", "/durabletask/instances?runtimeStatus=Asleep,Completed")
    assert (status, len(listed)) == (200, 3)


async def test_pages_cover_the_list_once(host: RunningHost) -> None:
    ids = [f"p{n:02}" for n in range(7)]
    for instance_id in ids:
        await host.client.start_new("two_events", instance_id)
    seen: list[str] = []
    token = ""
    while True:
        headers = {"x-ms-continuation-token": token} if token else {}
        _, page, answer = await call(host, "GET", "/durabletask/instances/?top=3", headers=headers)
        seen += [item["instanceId"] for item in page]
        token = answer.get("x-ms-continuation-token", "")
        if not token:
            break
    assert seen == ids


async def test_a_list_without_top_ends_after_100_and_goes_on_with_the_token(host: RunningHost) -> None:
    """Source: `PageSize` of OrchestrationStatusQueryCondition and EntityQuery; azure-functions-durable-python 580."""
    for n in range(103):
        await host.client.start_new("two_events", f"p{n:03}")
        await host.client.signal_entity(df.EntityId("counter", f"{n:03}"), "add", 1)
    assert len(await host.client.get_status_all()) == 100
    assert len(await host.client.get_status_by(instance_id_prefix="p")) == 100
    await host.until(lambda: len(host.engine.store.entities(prefix="@")) == 103)
    for path in ("/durabletask/instances", "/durabletask/entities/counter"):
        _, first, answer = await call(host, "GET", path)
        headers = {"x-ms-continuation-token": answer["x-ms-continuation-token"]}
        _, rest, answer = await call(host, "GET", path, headers=headers)
        assert (len(first), len(rest)) == (100, 3)
        assert not answer.get("x-ms-continuation-token")
        assert len((await call(host, "GET", f"{path}?top=103"))[1]) == 103


async def test_query_values_that_cannot_be_read_count_as_absent(host: RunningHost) -> None:
    """Source: the `TryGet…QueryParameterValue` methods of the extension's HttpApiHandler."""
    await host.client.start_new("two_events", "open")
    for query in (
        "top=many",
        "top=9999999999999999999",
        "createdTimeFrom=yesterday",
        "createdTimeTo=soon",
        "showInput=perhaps",
    ):
        status, listed, _ = await call(host, "GET", f"/durabletask/instances?{query}")
        assert (status, [item["instanceId"] for item in listed]) == (200, ["open"]), query
    assert (await call(host, "GET", "/durabletask/entities?lastOperationTimeFrom=x&fetchState=x"))[0] == 200
    status, body, _ = await call(host, "DELETE", "/durabletask/instances/?createdTimeFrom=yesterday")
    assert (status, body) == (400, "Please provide value for 'createdTimeFrom' parameter.")
    for timeout in ("long", "nan", "inf"):
        start = f"/durabletask/orchestrators/two_events?timeout={timeout}&pollingInterval=1"
        assert (await call(host, "POST", start))[0] == 202


async def test_purge_deletes_only_what_has_ended(host: RunningHost) -> None:
    for n in range(3):
        await host.client.start_new("hello_chain", f"done-{n}")
        await host.end(f"done-{n}")
    await host.client.start_new("two_events", "open")
    assert (await host.client.purge_instance_history("done-0")).instances_deleted == 1
    assert (await host.client.purge_instance_history("done-0")).instances_deleted == 0
    with pytest.raises(Exception, match="412"):
        await host.client.purge_instance_history("open")
    since = datetime.now(UTC) - timedelta(minutes=5)
    statuses = [OrchestrationRuntimeStatus.Completed, OrchestrationRuntimeStatus.Running]
    result = await host.client.purge_instance_history_by(since, None, statuses)
    assert result.instances_deleted == 2
    assert [status.instance_id for status in await host.client.get_status_all()] == ["open"]
    assert (await host.client.purge_instance_history_by(since)).instances_deleted == 0
    assert (await call(host, "DELETE", "/durabletask/instances/"))[0] == 400


async def test_restart_with_the_same_and_with_a_new_id(host: RunningHost) -> None:
    await host.client.start_new("fan_out", "first", 4)
    await host.end("first")
    links = await host.client.restart("first", restart_with_new_instance_id=False)
    assert links["id"] == "first"
    assert (await host.end("first")).output == 6
    links = await host.client.restart("first")
    assert links["id"] != "first"
    assert (await host.end(links["id"])).output == 6
    with pytest.raises(Exception, match="400"):
        await host.client.restart("nobody")


async def test_entities_are_signalled_read_listed_and_deleted(host: RunningHost) -> None:
    counter = df.EntityId("Counter", "key@1")
    assert not (await host.client.read_entity_state(counter)).entity_exists
    for n in (1, 2, 3):
        await host.client.signal_entity(counter, "add", n)

    async def state_is(wanted: Any) -> bool:
        return bool((await host.client.read_entity_state(counter)).entity_state == wanted)

    await host.until(lambda: state_is(6))
    await host.client.signal_entity(df.EntityId("counter", "b"), "add", 1)
    await host.until(lambda: host.engine.store.entity("@counter@b"))
    _, listed, _ = await call(host, "GET", "/durabletask/entities/COUNTER?fetchState=true")
    assert [(item["entityId"], item["state"]) for item in listed] == [
        ({"name": "counter", "key": "b"}, 1),
        ({"name": "counter", "key": "key@1"}, 6),
    ]
    assert (await call(host, "DELETE", "/durabletask/entities/counter/key@1"))[0] == 202
    await host.until(lambda: state_is(None))
    assert not (await host.client.read_entity_state(counter)).entity_exists
    assert (await call(host, "POST", "/durabletask/entities/nothing/1?op=x"))[0] == 400
    assert (await call(host, "GET", "/durabletask/entities/counter/key@1"))[0] == 404


async def test_another_task_hub_is_refused(host: RunningHost) -> None:
    with pytest.raises(Exception, match=r"Only application/json|400"):
        await host.client.raise_event("x", "One", 1, task_hub_name="Other")


# --- who may call -------------------------------------------------------------------------------


async def test_links_carry_the_key_and_open_the_public_door(host: RunningHost, tmp_path: Path) -> None:
    instance_id = await host.client.start_new("two_events")
    links = host.client.create_http_management_payload(instance_id)
    key = (tmp_path / "durabletask.key").read_text()
    assert links["statusQueryGetUri"].endswith(f"code={key}")
    path = f"{WEBHOOK}/instances/{instance_id}"
    browser = {"Origin": "https://evil.example"}
    assert (await call(host, "GET", path))[0] == 202
    assert (await call(host, "GET", path, headers=browser))[0] == 401
    assert (await call(host, "GET", f"{path}?code=wrong", headers=browser))[0] == 401
    assert (await call(host, "GET", f"{path}?code={key}", headers=browser))[0] == 202
    assert (await call(host, "GET", path, headers={**browser, "x-functions-key": key}))[0] == 202


async def test_rpc_door_is_shut_for_browsers_and_proxies_even_with_the_key(host: RunningHost, tmp_path: Path) -> None:
    key = (tmp_path / "durabletask.key").read_text()
    path = f"/durabletask/instances/?code={key}"
    assert (await call(host, "GET", path))[0] == 200
    for headers in (
        {"Origin": "http://127.0.0.1:7071"},
        {"Sec-Fetch-Site": "same-origin"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Host": "rebound.example:7071"},
    ):
        assert (await call(host, "GET", path, headers=headers))[0] == 404


@pytest.mark.parametrize(
    ("client", "host_header", "is_local"),
    [
        ("127.0.0.1", "localhost:7071", True),
        ("127.8.9.1", "127.0.0.1", True),
        ("::1", "[::1]:7071", True),
        ("::ffff:127.0.0.1", "localhost", True),
        ("192.168.1.5", "localhost", False),
        ("10.0.0.1", "127.0.0.1", False),
        ("fe80::1", "[::1]", False),
        ("testclient", "localhost", False),
        (None, "localhost", False),
        ("127.0.0.1", "host.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
    ],
)
def test_only_loopback_programs_pass_without_a_key(client: str | None, host_header: str, is_local: bool) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"host", host_header.encode())],
        "client": None if client is None else (client, 1),
    }
    assert access.is_local_program(Request(scope)) is is_local
