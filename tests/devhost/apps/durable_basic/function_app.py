"""A small Durable app that uses what Durable apps use; it knows nothing of the host that runs it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
Steps = Generator[Any, Any, Any]
_attempts: dict[str, int] = {}
_lock = threading.Lock()


def _count(key: str) -> int:
    with _lock:
        _attempts[key] = _attempts.get(key, 0) + 1
        return _attempts[key]


# --- activities ---------------------------------------------------------------------------------


@app.activity_trigger(input_name="city")
def say_hello(city: str) -> str:
    return f"Hello {city}!"


@app.activity_trigger(input_name="value")
async def echo(value: Any) -> Any:
    return value


@app.activity_trigger(input_name="value")
def fail(value: str) -> str:
    raise ValueError(f"no {value}")


@app.activity_trigger(input_name="value")
def flaky(value: dict) -> str:
    """Fails the first `failures` times it is called with a key."""
    count = _count(value["key"])
    if count <= value["failures"]:
        raise RuntimeError(f"attempt {count}")
    return f"worked at attempt {count}"


@app.activity_trigger(input_name="value")
def wait_for_file(value: dict) -> str:
    """Notes that it began, then waits until a file exists: lets a test hold an activity open."""
    with Path(value["began"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(value["release"]).exists():
        time.sleep(0.01)
    return "released"


# --- orchestrators ------------------------------------------------------------------------------


@app.orchestration_trigger(context_name="context")
def hello_chain(context: df.DurableOrchestrationContext) -> Steps:
    first = yield context.call_activity(say_hello, "Tokyo")
    second = yield context.call_activity("SAY_HELLO", "Seattle")
    return [first, second]


@app.orchestration_trigger(context_name="context")
def fan_out(context: df.DurableOrchestrationContext) -> Steps:
    count = context.get_input() or 5
    results = yield context.task_all([context.call_activity("echo", n) for n in range(count)])
    return sum(results)


@app.activity_trigger(input_name="seconds")
async def rest(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.orchestration_trigger(context_name="context")
def fan_out_unevenly(context: df.DurableOrchestrationContext) -> Steps:
    """Activities that end one after another, so that each could wake the orchestrator alone."""
    count = context.get_input()
    results = yield context.task_all([context.call_activity("rest", n % 37 / 1000) for n in range(count)])
    return len(results)


@app.orchestration_trigger(context_name="context")
def insists_on_child(context: df.DurableOrchestrationContext) -> Steps:
    """A retried sub-orchestration under an explicit id: each attempt takes the id over."""
    options = df.RetryOptions(10, 3)
    result = yield context.call_sub_orchestrator_with_retry("flaky_child", options, context.get_input(), "kid")
    return result


@app.orchestration_trigger(context_name="context")
def flaky_child(context: df.DurableOrchestrationContext) -> Steps:
    result = yield context.call_activity("flaky", context.get_input())
    return result


@app.orchestration_trigger(context_name="context")
def flaky_fan_out(context: df.DurableOrchestrationContext) -> Steps:
    """Calls side by side, of which some fail the first time, and one call after them."""
    given = context.get_input()
    results = yield context.task_all([context.call_activity("flaky", one) for one in given])
    after = yield context.call_activity("echo", "after")
    return [*results, after]


@app.orchestration_trigger(context_name="context")
def parent_of_flaky(context: df.DurableOrchestrationContext) -> Steps:
    given = context.get_input()
    first = yield context.call_activity("echo", "first")
    child = "flaky_child" if given["depth"] == 0 else "parent_of_flaky"
    result = yield context.call_sub_orchestrator(child, {**given, "depth": given["depth"] - 1}, given.get("child_id"))
    return [first, result]


@app.orchestration_trigger(context_name="context")
def parent_of_two_events(context: df.DurableOrchestrationContext) -> Steps:
    result = yield context.call_sub_orchestrator("two_events", None, "waiting-kid")
    return result


@app.orchestration_trigger(context_name="context")
def parent_of_a_wait(context: df.DurableOrchestrationContext) -> Steps:
    try:
        yield context.call_sub_orchestrator("two_events", None, "waiting-kid")
    except Exception as error:
        return str(error)


@app.orchestration_trigger(context_name="context")
def parent_of_a_loop(context: df.DurableOrchestrationContext) -> Steps:
    result = yield context.call_sub_orchestrator("counts_down", {"left": 3, "sum": 0})
    return {"child": result}


@app.orchestration_trigger(context_name="context")
def retried(context: df.DurableOrchestrationContext) -> Steps:
    """Two retried calls side by side, then a plain one: its id depends on both retries."""
    options = df.RetryOptions(10, 3)
    given = context.get_input()
    calls = [
        context.call_activity_with_retry("flaky", options, {"key": f"{given['key']}/{n}", "failures": failures})
        for n, failures in enumerate(given["failures"])
    ]
    try:
        results = yield context.task_all(calls)
    except Exception as error:
        results = f"gave up: {str(error).splitlines()[0]}"
    after = yield context.call_activity("echo", "after")
    return {"results": results, "after": after}


@app.orchestration_trigger(context_name="context")
def parent(context: df.DurableOrchestrationContext) -> Steps:
    given = context.get_input() or {}
    one = yield context.call_sub_orchestrator("child", {"n": 1}, given.get("child_id"))
    two = yield context.call_sub_orchestrator_with_retry("child", df.RetryOptions(10, 2), {"n": 2})
    return [one, two]


@app.orchestration_trigger(context_name="context")
def child(context: df.DurableOrchestrationContext) -> Steps:
    n = context.get_input()["n"]
    doubled = yield context.call_activity("echo", n * 2)
    return {"doubled": doubled, "parent": context.parent_instance_id}


@app.orchestration_trigger(context_name="context")
def failing_child_parent(context: df.DurableOrchestrationContext) -> Steps:
    try:
        yield context.call_sub_orchestrator("fails")
    except Exception as error:
        return str(error)
    return "no error"


@app.orchestration_trigger(context_name="context")
def fails(context: df.DurableOrchestrationContext) -> Steps:
    yield context.call_activity("fail", "luck")


@app.orchestration_trigger(context_name="context")
def sleeps(context: df.DurableOrchestrationContext) -> Steps:
    seconds = float(context.get_input())
    began = context.current_utc_datetime
    yield context.create_timer(began + timedelta(seconds=seconds))
    return (context.current_utc_datetime - began).total_seconds() >= seconds


@app.orchestration_trigger(context_name="context")
def approval(context: df.DurableOrchestrationContext) -> Steps:
    """Wait for a decision against a timer. The input says how long, and whether the loser is cancelled."""
    given = context.get_input()
    context.set_custom_status({"waiting": "Approval"})
    timer = context.create_timer(context.current_utc_datetime + timedelta(seconds=given["timeout"]))
    decision = context.wait_for_external_event("Approval")
    winner = yield context.task_any([decision, timer])
    if winner == timer:
        return "timeout"
    if given.get("cancels", True):
        timer.cancel()
    context.set_custom_status("decided")
    said = yield context.call_activity("echo", json.loads(decision.result))
    return {"decision": said}


@app.orchestration_trigger(context_name="context")
def two_events(context: df.DurableOrchestrationContext) -> Steps:
    one = yield context.wait_for_external_event("One")
    two = yield context.wait_for_external_event("Two")
    return [one, two]


@app.orchestration_trigger(context_name="context")
def counts_down(context: df.DurableOrchestrationContext) -> Steps:
    state = context.get_input()
    if state["left"] == state.get("status_at"):
        context.set_custom_status({"left": state["left"]})
    yield context.call_activity("echo", state["left"])
    if state["left"] == 0:
        return state["sum"]
    context.continue_as_new({**state, "left": state["left"] - 1, "sum": state["sum"] + state["left"]})
    return None


@app.orchestration_trigger(context_name="context")
def collects(context: df.DurableOrchestrationContext) -> Steps:
    """An eternal orchestration: one event per generation until `stop`."""
    seen = context.get_input() or []
    item = yield context.wait_for_external_event("Item")
    if json.loads(item) == "stop":
        return seen
    context.continue_as_new([*seen, json.loads(item)])
    return None


@app.orchestration_trigger(context_name="context")
def holds(context: df.DurableOrchestrationContext) -> Steps:
    result = yield context.call_activity("wait_for_file", context.get_input())
    return result


@app.orchestration_trigger(context_name="context")
def calls_unknown(context: df.DurableOrchestrationContext) -> Steps:
    yield context.call_activity("nobody", 1)


@app.orchestration_trigger(context_name="context")
def big_status(context: df.DurableOrchestrationContext) -> Steps:
    context.set_custom_status("x" * 9000)
    yield context.call_activity("echo", 1)


_drift = {"name": "echo"}


@app.orchestration_trigger(context_name="context")
def drifts(context: df.DurableOrchestrationContext) -> Steps:
    """Not deterministic on purpose: calls another activity when it is replayed."""
    name = "say_hello" if context.instance_id in _drift else "echo"
    _drift[context.instance_id] = name
    yield context.call_activity(name, "x")
    return name


@app.orchestration_trigger(context_name="context", orchestration="Renamed")
def has_another_name(context: df.DurableOrchestrationContext) -> str:
    return "not a generator"


@app.orchestration_trigger(context_name="context")
def tells_version(context: df.DurableOrchestrationContext) -> Steps:
    if context.parent_instance_id:
        return context.version
    childs = yield context.call_sub_orchestrator("tells_version")
    return [context.version, childs]


@app.orchestration_trigger(context_name="context")
def fetches(context: df.DurableOrchestrationContext) -> Steps:
    answer = yield context.call_http("POST", context.get_input(), {"a": 1})
    return [answer["statusCode"], json.loads(answer["content"])]


@app.activity_trigger(input_name="size")
def make_large(size: int) -> str:
    return "x" * size


@app.orchestration_trigger(context_name="context")
def makes_large_result(context: df.DurableOrchestrationContext) -> Steps:
    made = yield context.call_activity("make_large", context.get_input())
    return len(made)


@app.orchestration_trigger(context_name="context")
def gives_large_input(context: df.DurableOrchestrationContext) -> Steps:
    yield context.call_activity("say_hello", "x" * context.get_input())


@app.orchestration_trigger(context_name="context")
def gives_child_large_input(context: df.DurableOrchestrationContext) -> Steps:
    yield context.call_sub_orchestrator("hello_chain", "x" * context.get_input())


@app.orchestration_trigger(context_name="context")
def ends_large(context: df.DurableOrchestrationContext) -> Steps:
    given = context.get_input()
    yield context.call_activity("echo", 1)
    if given["how"] == "returns":
        return "x" * given["size"]
    context.continue_as_new("x" * given["size"])
    return None


@app.orchestration_trigger(context_name="context")
def calls_entity(context: df.DurableOrchestrationContext) -> Steps:
    given = context.get_input()
    operation, size = given["operation"], given["size"]
    result = yield context.call_entity(df.EntityId("Counter", "k"), operation, "x" * size if given["sends"] else size)
    return result


@app.orchestration_trigger(context_name="context")
def uses_counter(context: df.DurableOrchestrationContext) -> Steps:
    counter = df.EntityId("Counter", context.get_input())
    context.signal_entity(counter, "add", 1)
    first = yield context.call_entity(counter, "add", 2)
    second = yield context.call_activity("echo", first)
    value = yield context.call_entity(counter, "get")
    try:
        yield context.call_entity(counter, "explode")
    except Exception as error:
        return [first, second, value, str(error)]
    return "no error"


# --- entity -------------------------------------------------------------------------------------


@app.entity_trigger(context_name="context")
def Counter(context: df.DurableEntityContext) -> None:  # entities are named like classes
    current = context.get_state(lambda: 0)
    if context.operation_name == "add":
        current += context.get_input()
        context.set_state(current)
        context.set_result(current)
    elif context.operation_name == "get":
        context.set_result(current)
    elif context.operation_name == "fill":
        context.set_state("x" * context.get_input())
    elif context.operation_name == "delete":
        context.destruct_on_exit()
    else:
        raise ValueError("unknown operation")


# --- clients ------------------------------------------------------------------------------------


@app.route(route="start/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    body = req.get_body()
    given = json.loads(body) if body else None
    instance_id = await client.start_new(req.route_params["name"], req.params.get("id"), given)
    return client.create_check_status_response(req, instance_id)


@app.route(route="run/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def run(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    body = req.get_body()
    given = json.loads(body) if body else None
    instance_id = await client.start_new(req.route_params["name"], None, given)
    return await client.wait_for_completion_or_create_check_status_response(req, instance_id, 20_000, 20)
