"""Instances and their histories as the management API returns them.

Invariant: every key of the status body is present, nulls included. Times have a precision of seconds. The
engine's own history keys are never returned.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from devhost.durable.store import jsontext
from devhost.durable.store.history import GIVEN, EventType, note, without_notes
from devhost.durable.store.jsontext import Json
from devhost.durable.store.records import InstanceRow, Status

_NAMES = {
    EventType.EXECUTION_STARTED: "ExecutionStarted",
    EventType.EXECUTION_COMPLETED: "ExecutionCompleted",
    EventType.EXECUTION_FAILED: "ExecutionFailed",
    EventType.EXECUTION_TERMINATED: "ExecutionTerminated",
    EventType.TASK_SCHEDULED: "TaskScheduled",
    EventType.TASK_COMPLETED: "TaskCompleted",
    EventType.TASK_FAILED: "TaskFailed",
    EventType.SUB_CREATED: "SubOrchestrationInstanceCreated",
    EventType.SUB_COMPLETED: "SubOrchestrationInstanceCompleted",
    EventType.SUB_FAILED: "SubOrchestrationInstanceFailed",
    EventType.TIMER_CREATED: "TimerCreated",
    EventType.TIMER_FIRED: "TimerFired",
    EventType.EVENT_SENT: "EventSent",
    EventType.EVENT_RAISED: "EventRaised",
    EventType.EXECUTION_SUSPENDED: "ExecutionSuspended",
    EventType.EXECUTION_RESUMED: "ExecutionResumed",
    EventType.EXECUTION_REWOUND: "ExecutionRewound",
    EventType.GENERIC: "GenericEvent",
}
_STATUS_NAMES = {1: "Completed", 3: "Failed", 5: "Terminated"}
_HIDDEN = frozenset({EventType.ORCHESTRATOR_STARTED, EventType.ORCHESTRATOR_COMPLETED})
_SCHEDULING = frozenset({EventType.TASK_SCHEDULED, EventType.SUB_CREATED, EventType.TIMER_CREATED})
_ANSWERS = {
    EventType.TASK_COMPLETED: "TaskScheduledId",
    EventType.TASK_FAILED: "TaskScheduledId",
    EventType.SUB_COMPLETED: "TaskScheduledId",
    EventType.SUB_FAILED: "TaskScheduledId",
    EventType.TIMER_FIRED: "TimerId",
}
_STARTED_DROPS = ("Name", "Version", "Tags", "OrchestrationInstance", "ParentInstance")

type _Event = dict[str, Json]


def status_body(row: InstanceRow, *, show_input: bool = True) -> dict[str, Json]:
    """The status of one instance without its history."""
    return {
        "name": row.name,
        "instanceId": row.instance_id,
        "runtimeStatus": row.status.value,
        "input": _parsed(row.input) if show_input else None,
        "customStatus": _parsed(row.custom_status),
        "output": output_value(row),
        "createdTime": seconds(row.created_us),
        "lastUpdatedTime": seconds(row.updated_us),
    }


def output_value(row: InstanceRow) -> Json:
    """The JSON value of a completed instance, plain text of a failed or terminated one."""
    return _parsed(row.output) if row.status is Status.COMPLETED else row.output


def history_events(chunks: list[str], *, show_input: bool, show_output: bool, shows_given: bool = False) -> list[Json]:
    """The readable history: completions include data of their scheduling events, internal events are left out.

    shows_given: also the inputs of calls, which the extension does not keep.
    """
    events = cast("list[_Event]", jsontext.loads(f"[{','.join(chunks)}]"))
    shown: list[_Event | None] = []
    scheduled: dict[int, int] = {}
    for event in events:
        kind = EventType(cast("int", event["EventType"]))
        if kind in _HIDDEN:
            continue
        if shows_given and event.get("Input") is None and (given := note(event, GIVEN)) is not None:
            event["Input"] = given
        without_notes(event)
        if kind in _SCHEDULING:
            scheduled[cast("int", event["EventId"])] = len(shown)
        elif kind in _ANSWERS:
            index = scheduled.get(cast("int", event.pop(_ANSWERS[kind])), -1)
            if index >= 0 and (origin := shown[index]) is not None:
                _merge_origin(event, origin, show_input=show_input)
                shown[index] = None
        _simplify(event, kind, show_input=show_input, show_output=show_output)
        shown.append(event)
    for remaining in shown:
        if remaining is not None:
            remaining.pop("EventId", None)
            remaining.pop("IsPlayed", None)
    return [event for event in shown if event is not None]


def seconds(at_us: int) -> str:
    """`2026-01-31T08:00:00Z`."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _merge_origin(event: _Event, origin: _Event, *, show_input: bool) -> None:
    event["ScheduledTime"] = origin["Timestamp"]
    name = origin.get("FunctionName") or origin.get("Name")
    if name:
        event["FunctionName"] = name
    if show_input and "Input" in origin:
        event["Input"] = origin["Input"]


def _simplify(event: _Event, kind: EventType, *, show_input: bool, show_output: bool) -> None:
    event["EventType"] = _NAMES.get(kind, kind.name)
    if kind is EventType.EXECUTION_STARTED:
        event["FunctionName"] = event.get("Name")
        for key in _STARTED_DROPS:
            event.pop(key, None)
        if not show_input:
            event.pop("Input", None)
    elif kind in (EventType.TASK_SCHEDULED, EventType.SUB_CREATED):
        event.pop("Version", None)
        event["FunctionName"] = event.pop("Name", None)
        if not show_input:
            event.pop("Input", None)
    elif kind is EventType.EXECUTION_COMPLETED:
        event["OrchestrationStatus"] = _STATUS_NAMES.get(cast("int", event.get("OrchestrationStatus")))
    if "Result" in event:
        if show_output:
            event["Result"] = _parsed(cast("str | None", event["Result"]))
        else:
            del event["Result"]


def _parsed(text: str | None) -> Json:
    """The value of a JSON text; other text (a failure) as it is."""
    if text is None:
        return None
    try:
        return jsontext.loads(text)
    except ValueError:
        return text
