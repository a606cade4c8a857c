"""What an engine hands to the worker, in a form that two engines can be compared in.

An *execution* is one generation of an orchestration, or one entity: the input of its last invocation, what the SDK
answered, and how many invocations there were. The recordings hold the executions of one test each. Times, ids, ports,
folders and the JSON of exceptions differ from run to run and are scrubbed on both sides.

Invariant: scrubbing what is scrubbed changes nothing, so recorded and fresh executions go the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devhost.durable.store.history import EventType

RECORDINGS = Path(__file__).resolve().parent / "recordings"

_EXCEPTION = "EXCEPTION (JSON of the .NET exception, Message and InnerException in it)"
NAMES = {
    EventType.EXECUTION_STARTED: "ExecutionStarted",
    EventType.EXECUTION_COMPLETED: "ExecutionCompleted",
    EventType.EXECUTION_TERMINATED: "ExecutionTerminated",
    EventType.TASK_SCHEDULED: "TaskScheduled",
    EventType.TASK_COMPLETED: "TaskCompleted",
    EventType.TASK_FAILED: "TaskFailed",
    EventType.SUB_CREATED: "SubOrchestrationInstanceCreated",
    EventType.SUB_COMPLETED: "SubOrchestrationInstanceCompleted",
    EventType.SUB_FAILED: "SubOrchestrationInstanceFailed",
    EventType.TIMER_CREATED: "TimerCreated",
    EventType.TIMER_FIRED: "TimerFired",
    EventType.ORCHESTRATOR_STARTED: "OrchestratorStarted",
    EventType.ORCHESTRATOR_COMPLETED: "OrchestratorCompleted",
    EventType.EVENT_SENT: "EventSent",
    EventType.EVENT_RAISED: "EventRaised",
    EventType.GENERIC: "GenericEvent",
    EventType.EXECUTION_SUSPENDED: "ExecutionSuspended",
    EventType.EXECUTION_RESUMED: "ExecutionResumed",
}
_BOUNDS = ("OrchestratorStarted", "OrchestratorCompleted")
_SCHEDULED = ("TaskScheduled", "SubOrchestrationInstanceCreated", "TimerCreated", "EventSent")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?")
_ID = re.compile(r"\bID\d+\b|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{32}\b")
_PORT = re.compile(r"127\.0\.0\.1:\d{4,5}\b")
_AFTER_REASON = re.compile(r" \n \{.*", re.DOTALL)
_BY_CHANCE = ("IsPlayed", "EventId", "TaskScheduledId", "TimerId")
_PER_RUN = ("startTime", "duration")


@dataclass(frozen=True, slots=True)
class Invocation:
    """kind: "orchestration" or "entity". name: the durable name. failed: the worker's message."""

    kind: str
    name: str
    given: str
    answer: str | None
    failed: str | None


def executions(
    invocations: Iterable[Invocation], folder: str = "", *, most: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """The executions behind some invocations, in order of their first.

    folder: a temporary one, to be scrubbed. most: how many invocations of each execution count; None: all.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in invocations:
        given = json.loads(one.given)
        if one.kind == "orchestration":
            started = next(event for event in given["history"] if event["EventType"] == EventType.EXECUTION_STARTED)
            key = str(started["OrchestrationInstance"])
            for event in given["history"]:
                event["EventType"] = NAMES[EventType(event["EventType"])]
        else:
            key = str(given["self"])
        before = found.get((one.kind, key), {"episodes": 0})
        index = list(found).index((one.kind, key)) if (one.kind, key) in found else len(found)
        if most is not None and (index >= len(most) or before["episodes"] >= most[index]):
            continue
        found[one.kind, key] = {
            "kind": one.kind,
            "name": one.name,
            "episodes": before["episodes"] + 1,
            "last_in": given,
            "last_out": None if one.answer is None else json.loads(one.answer),
            "failed": None if one.failed is None else one.failed.partition("\n")[0],
        }
    return [scrubbed(execution, folder) for execution in found.values()]


def recorded(case: str) -> list[dict[str, Any]] | None:
    """What the extension did in a case; None when it was not recorded."""
    path = RECORDINGS / "episodes" / f"{case}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def differences(wanted: Sequence[Any], found: Sequence[Any]) -> list[str]:
    """Where executions differ from recorded ones, field by field.

    Of an execution in which several things were under way at once, chance decided which messages shared an episode and
    which came first. There the fields of all messages and of all decisions are compared, but not their order, their
    ids, nor the number of episodes.
    """
    count = min(len(wanted), len(found))
    chance = [index for index in range(count) if "last_in" in wanted[index] and _is_chance(wanted[index])]
    first, second = (
        _numbered([_ungrouped(execution) if index in chance else execution for index, execution in enumerate(side)])
        for side in (wanted, found)
    )
    return list(_diff("", first, second))


def _is_chance(execution: dict[str, Any]) -> bool:
    if execution["kind"] != "orchestration":
        return len(execution["last_in"]["batch"]) > 1
    came = made = 0
    for event in execution["last_in"]["history"]:
        if event["EventType"] == "OrchestratorStarted":
            came = made = 0
        elif event["EventType"] in _SCHEDULED:
            made += event["EventType"] != "EventSent"
        elif event["EventType"] != "OrchestratorCompleted":
            came += 1
        if came > 1 or made > 1:
            return True
    return False


def _ungrouped(execution: dict[str, Any]) -> dict[str, Any]:
    given = dict(execution["last_in"])
    if execution["kind"] != "orchestration":
        return {"kind": execution["kind"], "name": execution["name"], "item": sorted(given["batch"][0])}
    events = [event for event in given.pop("history") if event["EventType"] not in _BOUNDS]
    events = [{key: value for key, value in event.items() if key not in _BY_CHANCE} for event in events]
    given["events"] = sorted(events, key=lambda event: json.dumps(event, sort_keys=True))
    given.pop("isReplaying")
    return {**execution, "episodes": None, "last_in": given}


def scrubbed(value: Any, folder: str = "") -> Any:
    """A value without what differs from run to run."""
    if isinstance(value, dict):
        return {
            key: _EXCEPTION if key == "Details" and _is_exception(item) else scrubbed(_respaced(key, item), folder)
            for key, item in value.items()
            if key not in _PER_RUN
        }
    if isinstance(value, list):
        return [scrubbed(item, folder) for item in value]
    if not isinstance(value, str):
        return value
    if len(value) > 1000 and len(set(value)) == 1:
        return f"({value[0]} times {len(value)})"
    text = value.replace(folder, "TMP") if folder else value
    text = _AFTER_REASON.sub(" \n EXCEPTION", text)
    return _PORT.sub("127.0.0.1:PORT", _TIME.sub("TIME", text))


def _respaced(key: str, value: Any) -> Any:
    """The result of an activity without the worker's spaces, which the Functions host takes out of objects."""
    if key != "Result" or not isinstance(value, str):
        return value
    try:
        return json.dumps(json.loads(value), separators=(",", ":"))
    except ValueError:
        return value


def _is_exception(details: Any) -> bool:
    try:
        read = json.loads(details)
    except ValueError:
        return False
    return isinstance(read, dict) and {"ClassName", "Message", "InnerException"} <= set(read)


def _numbered(value: Any) -> Any:
    """The value with its ids numbered in order of appearance."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match.group(), f"ID{len(numbers) + 1}")

    return json.loads(_ID.sub(number, json.dumps(value, sort_keys=True)))


def _diff(where: str, wanted: Any, found: Any) -> Iterable[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            if key not in found:
                yield f"{where}.{key}: missing (recorded: {_short(wanted[key])})"
            elif key not in wanted:
                yield f"{where}.{key}: not in the recording: {_short(found[key])}"
            else:
                yield from _diff(f"{where}.{key}", wanted[key], found[key])
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{where}: {len(found)} of {len(wanted)} recorded: {_kinds(wanted)} / {_kinds(found)}"
            return
        for index, (one, other) in enumerate(zip(wanted, found, strict=False)):
            yield from _diff(f"{where}[{index}]", one, other)
    elif wanted != found:
        yield f"{where}: {_short(found)} instead of {_short(wanted)}"


def _kinds(items: list[Any]) -> str:
    names = [str(item.get("EventType", item.get("name", "?"))) if isinstance(item, dict) else "?" for item in items]
    return ", ".join(names)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 1500 else f"{text[:1500]}…"
