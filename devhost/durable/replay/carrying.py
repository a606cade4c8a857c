"""Events that a generation hands on to the next one when it continues as new.

As the extension: an event that arrived in the same episode, but after what made the orchestrator continue, belongs to
the next generation. Events before that are lost, also those that nobody waited for.

Invariant: pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from devhost.durable.replay.actions import SCHEDULES, Action, ActionKind
from devhost.durable.store import history, jsontext
from devhost.durable.store.history import EventType

type _Event = Mapping[str, jsontext.Json]

_NEVER = float("inf")
_ANSWERS = {
    EventType.TASK_COMPLETED: "TaskScheduledId",
    EventType.TASK_FAILED: "TaskScheduledId",
    EventType.SUB_COMPLETED: "TaskScheduledId",
    EventType.SUB_FAILED: "TaskScheduledId",
    EventType.TIMER_FIRED: "TimerId",
}


def carried_over(awaited: Sequence[Action], leaf_ids: Sequence[int], before: str, episode: str) -> list[str]:
    """The encoded events for the next generation, in order.

    awaited: what the orchestrator waited for before it continued, one action after the other. leaf_ids: ids of the
    calls and timers in it, in depth-first order. before, episode: encoded events of the episodes before and of this.
    """
    events = cast("list[_Event]", jsontext.loads(f"[{episode}]"))
    if not any(event["EventType"] == EventType.EVENT_RAISED for event in events):
        return []
    moments = _Moments(cast("list[_Event]", jsontext.loads(f"[{before}]")), events, leaf_ids)
    caused_by = max((moments.of(action) for action in awaited), default=-1.0)
    raised = [event for event in events[int(caused_by) + 1 :] if event["EventType"] == EventType.EVENT_RAISED]
    return [history.again(event) for event in raised]


class _Moments:
    """When each action was done: the index of an event of this episode, -1 for earlier."""

    def __init__(self, before: Sequence[_Event], events: Sequence[_Event], leaf_ids: Sequence[int]) -> None:
        self._raised: dict[str, list[float]] = {}
        self._answered: dict[int, float] = {}
        for index, event in [*((-1, event) for event in before), *enumerate(events)]:
            kind = EventType(cast("int", event["EventType"]))
            if kind is EventType.EVENT_RAISED:
                self._raised.setdefault(str(event["Name"]), []).append(index)
            elif kind in _ANSWERS:
                self._answered[cast("int", event[_ANSWERS[kind]])] = index
        self._leaf_ids = iter(leaf_ids)

    def of(self, action: Action) -> float:
        kind = action["actionType"]
        if kind in (ActionKind.WHEN_ALL, ActionKind.WHEN_ANY):
            inner = [self.of(child) for child in action["compoundActions"]]
            if kind == ActionKind.WHEN_ALL:
                return max((moment for moment in inner if moment != _NEVER), default=-1.0)
            return min(inner, default=-1.0)
        if kind == ActionKind.WAIT_EVENT:
            raised = self._raised.get(action.get("externalEventName") or "")
            return raised.pop(0) if raised else _NEVER
        if kind in SCHEDULES:
            # A retried call is answered under later ids: at the latest by what this episode began with.
            return self._answered.get(next(self._leaf_ids, -1), -1.0)
        return -1.0
