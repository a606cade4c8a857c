"""History events in the format of the Durable SDK: PascalCase JSON objects with integer event types.

Invariant: an encoded event starts with `{"EventType":n,"EventId":n,"IsPlayed":b`, so events of the running episode
can be marked as new by replacing one token, without decoding. Events are encoded once, when they happen; after that a
history only grows by appending text. What the engine notes for itself is the event's last key and never reaches the
app. Every other field is one that the extension writes (`tests/devhost/real/` holds what it wrote).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import cast

from devhost.durable.store import jsontext

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # naive on purpose: isoformat() of a naive value has no offset
_PLAYED = '"IsPlayed":true'
_NEW = '"IsPlayed":false'

# The engine's own notes, in one object at the end of an event. They allow rebuilding a ledger from the history alone.
# Histories of earlier versions have them beside the event's other keys.
_NOTES = "Engine"
_NOTES_TEXT = re.compile(r',"Engine":\{(?:[^"{}]|"[^"\\]*(?:\\.[^"\\]*)*")*\}')
RETRY_OF = "RetryOf"
"""On every event scheduled by a retry policy, also the first attempt: the id of the first attempt."""
LAST_TIMER = "RetryLast"
"""True on the timer that follows the last allowed attempt."""
DEAD_TIMER = "NeverArmed"
"""True on a timer that was cancelled before it was armed."""
GIVEN = "Given"
"""On a scheduled call: its input, which the extension does not keep in a history."""
REWOUND = "Rewound"
"""On a GenericEvent: the type of the event that a rewind took back."""
REWOUND_NAME = "RewoundName"
REWOUND_OF = "RewoundOf"
"""On a failure that a rewind took back: the id of the failed task."""
_SOURCE = "MS_DurableFunctions_SourceInstanceId"
_OLD_KEYS = (RETRY_OF, LAST_TIMER, DEAD_TIMER, "CarriedStatus")


class EventType(IntEnum):
    """Numbers of the wire protocol."""

    EXECUTION_STARTED = 0
    EXECUTION_COMPLETED = 1
    EXECUTION_FAILED = 2
    EXECUTION_TERMINATED = 3
    TASK_SCHEDULED = 4
    TASK_COMPLETED = 5
    TASK_FAILED = 6
    SUB_CREATED = 7
    SUB_COMPLETED = 8
    SUB_FAILED = 9
    TIMER_CREATED = 10
    TIMER_FIRED = 11
    ORCHESTRATOR_STARTED = 12
    ORCHESTRATOR_COMPLETED = 13
    EVENT_SENT = 14
    EVENT_RAISED = 15
    CONTINUE_AS_NEW = 16
    GENERIC = 17
    HISTORY_STATE = 18
    EXECUTION_SUSPENDED = 19
    EXECUTION_RESUMED = 20
    EXECUTION_REWOUND = 21


_TAKEN_IN = frozenset(
    {
        EventType.EXECUTION_STARTED,
        EventType.EXECUTION_TERMINATED,
        EventType.TASK_COMPLETED,
        EventType.TASK_FAILED,
        EventType.SUB_COMPLETED,
        EventType.SUB_FAILED,
        EventType.TIMER_FIRED,
        EventType.EVENT_RAISED,
        EventType.GENERIC,
        EventType.EXECUTION_SUSPENDED,
        EventType.EXECUTION_RESUMED,
    }
)
STATUS_NUMBERS = {"Completed": 1, "Failed": 3, "Terminated": 5}
FAILURES = frozenset({EventType.TASK_FAILED, EventType.SUB_FAILED})


def now_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def timestamp(at_us: int) -> str:
    """`2026-01-31T08:00:00.000001Z`."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds") + "Z"


def parse_timestamp(text: str) -> int:
    """Microseconds since the epoch of an ISO time; one without an offset is UTC. Raises ValueError."""
    at = datetime.fromisoformat(text)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def encode(
    kind: EventType, at_us: int, event_id: int = -1, *, notes: Mapping[str, object] | None = None, **fields: object
) -> str:
    """One event as JSON text; `fields` in wire (PascalCase) names. notes: what the engine keeps for itself.

    Marked as played when the runtime would have marked it: it marks what an episode took in, not what it decided.
    """
    body = jsontext.dumps({**fields, "Timestamp": timestamp(at_us)})
    own = f',"{_NOTES}":{jsontext.dumps(dict(notes))}}}' if notes else "}"
    mark = _PLAYED if kind in _TAKEN_IN else _NEW
    return f'{{"EventType":{kind.value},"EventId":{event_id},{mark},{body[1:-1]}{own}'


def note(event: Mapping[str, jsontext.Json], key: str) -> jsontext.Json:
    """A note of the engine on a decoded event, or None."""
    notes = event.get(_NOTES)
    return notes.get(key) if isinstance(notes, dict) else event.get(key)


def without_notes(event: dict[str, jsontext.Json]) -> None:
    """Remove the engine's notes from a decoded event."""
    for key in (_NOTES, *_OLD_KEYS):
        event.pop(key, None)


def for_the_app(events: str) -> str:
    """Encoded events without the engine's notes."""
    # The text that is looked for cannot stand inside a JSON string, where its quotes would be escaped.
    return _NOTES_TEXT.sub("", events) if f'"{_NOTES}":' in events else events


def nested(text: str) -> str:
    """A JSON string that holds a JSON text: the runtime stores inputs of SDK callers like this."""
    return jsontext.dumps(text)


def as_new(events: Iterable[str]) -> str:
    """Encoded events joined by commas, each marked as not yet played."""
    return ",".join(events).replace(_PLAYED, _NEW)


def orchestrator_started(at_us: int) -> str:
    return encode(EventType.ORCHESTRATOR_STARTED, at_us)


def orchestrator_completed(at_us: int, *, is_played: bool = False) -> str:
    text = encode(EventType.ORCHESTRATOR_COMPLETED, at_us)
    return text.replace(_NEW, _PLAYED, 1) if is_played else text


def ends_an_episode(event: str) -> bool:
    """Whether an encoded event is, or ends with, an OrchestratorCompleted."""
    return f'{{"EventType":{EventType.ORCHESTRATOR_COMPLETED.value},' in event


def execution_started(
    at_us: int,
    *,
    name: str,
    version: str,
    input_text: str | None,
    instance_id: str,
    execution_id: str,
    parent: jsontext.Json = None,
    generation: int | None = 0,
    source_id: str | None = None,
) -> str:
    """input_text: the raw input, one JSON text (for SDK callers a JSON string that holds JSON).

    parent: as `parent_instance` makes it. generation: how often a client's start replaced the instance; None when no
    client started it. source_id: the instance that this one repeats under an id of its own.
    """
    return encode(
        EventType.EXECUTION_STARTED,
        at_us,
        OrchestrationInstance={"InstanceId": instance_id, "ExecutionId": execution_id},
        ParentInstance=parent,
        Name=name,
        Version=version or None,
        Input=input_text,
        Tags=None if source_id is None else {_SOURCE: source_id},
        Correlation=None,
        ParentTraceContext=None,
        ScheduledStartTime=None,
        Generation=generation,
        GenerateNewTrace=False,
    )


def operation(event: Mapping[str, jsontext.Json]) -> str:
    """The operation that a decoded EventSent asks an entity for. (Its name is "op" for every operation.)"""
    sent = jsontext.loads(cast("str", event.get("Input") or "null"))
    return str(sent.get("op") or "") if isinstance(sent, dict) else ""


def source_of(events: str) -> str | None:
    """The instance that the instance of these encoded events repeats, or None."""
    if _SOURCE not in events:
        return None
    for event in cast("list[dict[str, jsontext.Json]]", jsontext.loads(f"[{events}]")):
        tags = event.get("Tags")
        if isinstance(tags, dict) and _SOURCE in tags:
            return str(tags[_SOURCE])
    return None


def generation_after(events: str) -> int:
    """The generation of an instance that replaces the one with these encoded events."""
    for event in cast("list[dict[str, jsontext.Json]]", jsontext.loads(f"[{events}]")):
        if event["EventType"] == EventType.EXECUTION_STARTED:
            return int(cast("int", event.get("Generation") or 0)) + 1
    return 1


def parent_instance(*, name: str, instance_id: str, execution_id: str, task_id: int) -> dict[str, jsontext.Json]:
    """The parent of a sub-orchestration."""
    return {
        "Name": name,
        "OrchestrationInstance": {"InstanceId": instance_id, "ExecutionId": execution_id},
        "TaskScheduleId": task_id,
        "Version": None,
    }


def task_completed(at_us: int, task_id: int, result: str | None) -> str:
    return encode(EventType.TASK_COMPLETED, at_us, TaskScheduledId=task_id, Result=result)


def task_failed(at_us: int, task_id: int, reason: str, details: str) -> str:
    return encode(
        EventType.TASK_FAILED, at_us, TaskScheduledId=task_id, Reason=reason, Details=details, FailureDetails=None
    )


def sub_completed(at_us: int, task_id: int, result: str) -> str:
    return encode(EventType.SUB_COMPLETED, at_us, TaskScheduledId=task_id, Result=result)


def sub_failed(at_us: int, task_id: int, reason: str, details: str) -> str:
    return encode(
        EventType.SUB_FAILED, at_us, TaskScheduledId=task_id, Reason=reason, Details=details, FailureDetails=None
    )


def timer_fired(at_us: int, timer_id: int, fire_at_us: int) -> str:
    return encode(EventType.TIMER_FIRED, at_us, TimerId=timer_id, FireAt=timestamp(fire_at_us))


def execution_completed(at_us: int, event_id: int, *, status: int, result: str) -> str:
    """status: number of the final status, as in `STATUS_NUMBERS`."""
    return encode(EventType.EXECUTION_COMPLETED, at_us, event_id, OrchestrationStatus=status, Result=result)


def execution_terminated(at_us: int, reason: str) -> str:
    return encode(EventType.EXECUTION_TERMINATED, at_us, Input=reason)


def event_raised(at_us: int, name: str, input_text: str | None) -> str:
    return encode(EventType.EVENT_RAISED, at_us, Name=name, Input=input_text, ParentTraceContext=None)


def generic(at_us: int, data: str) -> str:
    """What brings a rewound instance back to life. data: the reason."""
    return encode(EventType.GENERIC, at_us, Data=data)


def taken_back(event: Mapping[str, jsontext.Json], **notes: object) -> str:
    """An event that a rewind took back: a replay passes over it, and its id and time stay."""
    at_us = parse_timestamp(str(event["Timestamp"]))
    text = encode(
        EventType.GENERIC,
        at_us,
        cast("int", event["EventId"]),
        notes={REWOUND: event["EventType"], **notes},
        Data=None,
    )
    return text if event.get("IsPlayed") else text.replace(_PLAYED, _NEW, 1)


def again(event: Mapping[str, jsontext.Json]) -> str:
    """A decoded event as it was encoded."""
    first = ("EventType", "EventId", "IsPlayed")
    ordered = {key: event[key] for key in first} | {key: value for key, value in event.items() if key not in first}
    return jsontext.dumps(ordered)


def failure_details(message: str, stack: str = "") -> str:
    """The `Details` of a failure: the .NET exception as JSON, with what the worker said as its inner exception."""
    said = f"Result: Failure\nException: {message}" + (f"\nStack: {stack}" if stack else "")
    inner = _exception("Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException", said, None)
    return jsontext.dumps(_exception("System.Exception", f" {message}", inner))


def _exception(class_name: str, message: str, inner: jsontext.Json) -> dict[str, jsontext.Json]:
    return {
        "ClassName": class_name,
        "Message": message,
        "Data": None,
        "InnerException": inner,
        "HelpURL": None,
        "StackTraceString": None,
        "RemoteStackTraceString": None,
        "RemoteStackIndex": 0,
        "ExceptionMethod": None,
        "HResult": -2146233088,
        "Source": None,
        "WatsonBuckets": None,
    }
