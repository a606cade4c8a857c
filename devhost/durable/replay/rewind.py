"""Takes the failures of an instance back out of its history, so that a replay tries them again.

As the extension on Azure Storage does it: a failure, the call that failed and the failed end become events that a
replay passes over; a failed sub-orchestration stays scheduled and is rewound itself. Everything else stays, also the
timers of a retry policy. No replay asks for those any more, so an instance with a retried call fails again.

Invariant: pure. No event is added or removed, and ids and times stay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from devhost.durable.store import history, jsontext
from devhost.durable.store.history import RETRY_OF, REWOUND_NAME, REWOUND_OF, EventType

type _Event = dict[str, jsontext.Json]


def failed_children(stored: Sequence[str]) -> dict[int, str]:
    """Ids of the sub-orchestrations that failed, by the ids of their calls. stored: history rows, oldest first."""
    children: dict[int, str] = {}
    failed: dict[int, str] = {}
    for event in _events(",".join(stored)):
        if event["EventType"] == EventType.SUB_CREATED:
            children[cast("int", event["EventId"])] = str(event["InstanceId"])
        elif event["EventType"] == EventType.SUB_FAILED:
            task_id = cast("int", event["TaskScheduledId"])
            failed[task_id] = children[task_id]
    return failed


def take_back(stored: Sequence[str], rewound_children: Collection[int]) -> list[str]:
    """The history without its failures, row by row.

    rewound_children: calls of sub-orchestrations that are rewound as well, so they are not started again.
    """
    rows = [_events(row) for row in stored]
    lost = {
        cast("int", event["TaskScheduledId"])
        for row in rows
        for event in row
        if event["EventType"] in (EventType.TASK_FAILED, EventType.SUB_FAILED)
    }
    again = lost - set(rewound_children)
    return [",".join(_without_failure(event, again) for event in row) for row in rows]


def _without_failure(event: _Event, again: Collection[int]) -> str:
    kind = event["EventType"]
    if kind in (EventType.TASK_FAILED, EventType.SUB_FAILED):
        return history.taken_back(event, **{REWOUND_OF: event["TaskScheduledId"]})
    if kind in (EventType.TASK_SCHEDULED, EventType.SUB_CREATED) and event["EventId"] in again:
        notes = {REWOUND_NAME: event["Name"]}
        root = history.note(event, RETRY_OF)
        return history.taken_back(event, **(notes if root is None else {**notes, RETRY_OF: root}))
    if kind == EventType.EXECUTION_COMPLETED:
        return history.taken_back(event)
    return history.again(event)


def _events(text: str) -> list[_Event]:
    return cast("list[_Event]", jsontext.loads(f"[{text}]"))
