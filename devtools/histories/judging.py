"""Whether an instance that waits would go on with other code, and if not, which of its events differs. Pure.

The host replays a history with the code that there is when the instance goes on. It compares what the code asks for
with what the history has, in order, by kind and name; the first that differs ends the instance as failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from devhost.durable.replay.actions import SCHEDULES, EpisodeOutput, leaf_name
from devhost.durable.replay.ledger import Ledger
from devhost.durable.store.history import EventType
from devtools.histories.retries import marked
from devtools.histories.stored import Json, Stored
from devtools.lines import one_line

type Replay = Callable[[str, Json], EpisodeOutput]
"""Runs the orchestrator of that name over a context."""

_NOUNS: Mapping[int, str] = {
    EventType.TASK_SCHEDULED: "the activity",
    EventType.SUB_CREATED: "the sub-orchestration",
    EventType.TIMER_CREATED: "a timer",
    EventType.EVENT_SENT: "the entity operation",
}
_MAX_SAID = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """why: None: it would go on."""

    stored: Stored
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What a package registers."""

    orchestrations: Collection[str]
    activities: Collection[str]


def judge(stored: Stored, names: Names, replay: Replay) -> Verdict:
    """stored: one that waits."""
    return Verdict(stored, _why(stored, names, replay))


def _why(stored: Stored, names: Names, replay: Replay) -> str | None:
    if not _has(names.orchestrations, stored.orchestration):
        return f"the package has no orchestration {stored.orchestration!r}"
    if not stored.events:
        return None  # it has not begun
    output = replay(stored.orchestration, stored.context(stored.events))
    if output.leaves is None:
        return f"its orchestrator raises {_raised(output.error or 'an error')}"
    ledger = Ledger.rebuild(json.dumps(event) for event in marked(stored.events, output.leaves))
    missing = _missing(stored, ledger, names)
    if missing is not None:
        return missing
    for index, was in enumerate(ledger.leaves):
        before = f"event {was.task_id}, {_told(was.kind, was.name)} of {_when(stored, was.task_id)}"
        if index >= len(output.leaves):
            if output.error is not None:
                return f"{before}: its orchestrator raises {_raised(output.error)} instead"
            return f"{before}: the package asks for nothing there"
        leaf = output.leaves[index]
        kind, name = SCHEDULES[leaf["actionType"]], leaf_name(leaf)
        if kind != was.kind or name.casefold() != was.name.casefold():
            return f"{before}: the package asks for {_told(kind, name)} in its place"
    if output.error is not None:
        return f"its orchestrator raises {_raised(output.error)}"
    if output.is_done or output.continue_with is not None:
        return "it waits now, and with the package it would end at once"
    return None


def _missing(stored: Stored, ledger: Ledger, names: Names) -> str | None:
    """What it waits for, and the package cannot do."""
    known = {EventType.TASK_SCHEDULED: names.activities, EventType.SUB_CREATED: names.orchestrations}
    named = {event["EventId"]: event.get("Name") or "" for event in stored.events if event["EventType"] in known}
    for task_id, kind in ledger.open.items():
        name = named.get(task_id, "")
        if kind in known and name and not name.startswith("BuiltIn::") and not _has(known[kind], name):
            return f"event {task_id}: it waits for {_told(kind, name)}, which the package does not have"
    return None


def _has(names: Collection[str], name: str) -> bool:
    return name.casefold() in {known.casefold() for known in names}


def _told(kind: EventType, name: str) -> str:
    return f"{_NOUNS[kind]} {name}" if name else _NOUNS[kind]


def _when(stored: Stored, task_id: int) -> str:
    found = (event for event in stored.events if event["EventId"] == task_id)
    return str(next(found, {}).get("Timestamp", "an unknown time"))[:19]


def _raised(text: str) -> str:
    return one_line(text.partition("$OutOfProcData$:")[0], _MAX_SAID)
