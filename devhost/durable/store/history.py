"""History events in the format of the Durable SDK: PascalCase JSON objects with integer event types.

Invariant: an encoded event starts with `{"EventType":n,"EventId":n,"IsPlayed":true`, so events of the running
episode can be marked as new by replacing one token, without decoding. Events are encoded once, when they happen;
after that a history only grows by appending text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

from devhost.durable.store import jsontext

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # naive on purpose: isoformat() of a naive value has no offset
_PLAYED = '"IsPlayed":true'
_NEW = '"IsPlayed":false'

# The engine's own keys, which allow rebuilding a ledger from the history alone. The SDK ignores unknown keys and
# the status API leaves them out.
RETRY_OF = "RetryOf"
"""On every event scheduled by a retry policy, also the first attempt: the id of the first attempt."""
LAST_TIMER = "RetryLast"
"""True on the timer that follows the last allowed attempt."""
DEAD_TIMER = "NeverArmed"
"""True on a timer that was cancelled before it was armed."""
CARRIED_STATUS = "CarriedStatus"
"""On ExecutionStarted: the custom status of the previous generation, as JSON text."""
ENGINE_KEYS = (RETRY_OF, LAST_TIMER, DEAD_TIMER, CARRIED_STATUS)


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


def encode(kind: EventType, at_us: int, event_id: int = -1, **fields: object) -> str:
    """One event as JSON text, marked as played; `fields` in wire (PascalCase) names."""
    body = jsontext.dumps({"Timestamp": timestamp(at_us), **fields})
    return f'{{"EventType":{kind.value},"EventId":{event_id},{_PLAYED},{body[1:]}'


def nested(text: str) -> str:
    """A JSON string that holds a JSON text: the runtime stores inputs of SDK callers like this."""
    return jsontext.dumps(text)


def as_new(events: Iterable[str]) -> str:
    """Encoded events joined by commas, each marked as not yet played."""
    return ",".join([event.replace(_PLAYED, _NEW, 1) for event in events])


def orchestrator_started(at_us: int) -> str:
    return encode(EventType.ORCHESTRATOR_STARTED, at_us)


def orchestrator_completed(at_us: int) -> str:
    return encode(EventType.ORCHESTRATOR_COMPLETED, at_us)


def execution_started(
    at_us: int,
    *,
    name: str,
    version: str,
    input_text: str | None,
    instance_id: str,
    execution_id: str,
    parent_instance_id: str | None,
    carried_status: str | None = None,
) -> str:
    """input_text: the raw input, one JSON text (for SDK callers a JSON string that holds JSON)."""
    carried: dict[str, Any] = {} if carried_status is None else {CARRIED_STATUS: carried_status}
    return encode(
        EventType.EXECUTION_STARTED,
        at_us,
        Name=name,
        Version=version,
        Input=input_text,
        OrchestrationInstance={"InstanceId": instance_id, "ExecutionId": execution_id},
        ParentInstance=None
        if parent_instance_id is None
        else {"OrchestrationInstance": {"InstanceId": parent_instance_id}},
        Tags=None,
        **carried,
    )


def task_completed(at_us: int, task_id: int, result: str | None) -> str:
    return encode(EventType.TASK_COMPLETED, at_us, TaskScheduledId=task_id, Result=result)


def task_failed(at_us: int, task_id: int, reason: str, details: str) -> str:
    return encode(EventType.TASK_FAILED, at_us, TaskScheduledId=task_id, Reason=reason, Details=details)


def sub_completed(at_us: int, task_id: int, result: str) -> str:
    return encode(EventType.SUB_COMPLETED, at_us, TaskScheduledId=task_id, Result=result)


def sub_failed(at_us: int, task_id: int, reason: str, details: str) -> str:
    return encode(EventType.SUB_FAILED, at_us, TaskScheduledId=task_id, Reason=reason, Details=details)


def timer_fired(at_us: int, timer_id: int, fire_at_us: int) -> str:
    return encode(EventType.TIMER_FIRED, at_us, TimerId=timer_id, FireAt=timestamp(fire_at_us))


def execution_completed(at_us: int, event_id: int, *, status: int, result: str) -> str:
    """status: number of the final status, as in `STATUS_NUMBERS`."""
    return encode(EventType.EXECUTION_COMPLETED, at_us, event_id, OrchestrationStatus=status, Result=result)


def execution_terminated(at_us: int, reason: str) -> str:
    return encode(EventType.EXECUTION_TERMINATED, at_us, Input=reason)


def event_raised(at_us: int, name: str, input_text: str | None) -> str:
    return encode(EventType.EVENT_RAISED, at_us, Name=name, Input=input_text)


def failure_details(message: str, stack: str = "") -> str:
    """The `Details` of a failure: an exception object as JSON, in the real runtime's format."""
    return jsontext.dumps(
        {
            "ClassName": "Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException",
            "Message": f"Result: Failure\nException: {message}" + (f"\nStack: {stack}" if stack else ""),
        }
    )
