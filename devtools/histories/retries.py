"""Which events of a history belong to the retries of one call, where the history does not say so.

The dev host notes it on each event; the Durable extension does not. There, a failed attempt is followed by a timer and
the timer by the next attempt, in the order in which they failed and fired, before anything new is asked for.

Invariant: events that say it themselves stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from devhost.durable.replay.actions import RETRIED, SCHEDULES, Action, leaf_name
from devhost.durable.store.history import FAILURES, RETRY_OF, EventType, note
from devtools.histories.stored import Json

_SCHEDULING = frozenset(SCHEDULES.values())


def marked(events: Sequence[Json], leaves: Sequence[Action]) -> list[Json]:
    """The events with `RetryOf` on all that a retry policy added. leaves: what the orchestrator asks for, in order."""
    if any(note(event, RETRY_OF) is not None for event in events):
        return list(events)
    found: list[Json] = []
    roots: dict[int, int] = {}
    """Of each attempt and each timer between: the first attempt."""
    names: dict[int, str] = {}
    failed: list[int] = []
    fired: list[int] = []
    index = 0
    for event in events:
        kind, task_id = event["EventType"], event.get("TaskScheduledId", event.get("TimerId"))
        if kind in FAILURES and task_id in roots:
            failed.append(roots[task_id])
        elif kind == EventType.TIMER_FIRED and task_id in roots:
            fired.append(roots[task_id])
        elif kind in _SCHEDULING:
            root = _taken(kind, event.get("Name") or "", failed, fired, names)
            if root is None:
                leaf = leaves[index] if index < len(leaves) else None
                index += 1
                if leaf is not None and leaf["actionType"] in RETRIED:
                    root = event["EventId"]
                    names[root] = leaf_name(leaf)
            if root is not None:
                roots[event["EventId"]] = root
                event = event | {RETRY_OF: root}
        found.append(event)
    return found


def _taken(kind: int, name: str, failed: list[int], fired: list[int], names: dict[int, str]) -> int | None:
    """The retried call that this event goes on with."""
    if kind == EventType.TIMER_CREATED:
        return failed.pop(0) if failed else None
    root = next((root for root in fired if names[root].casefold() == name.casefold()), None)
    if root is not None:
        fired.remove(root)
    return root
