"""The scheduled and the open tasks of one generation of an instance.

Invariant: a ledger is a function of the history alone. It stays in memory with its instance, and
`Ledger.rebuild` makes an equal one from the stored events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from devhost.durable.store import history, jsontext
from devhost.durable.store.history import (
    DEAD_TIMER,
    FAILURES,
    LAST_TIMER,
    RETRY_OF,
    REWOUND,
    REWOUND_NAME,
    REWOUND_OF,
    EventType,
)

_SCHEDULING = frozenset(
    {EventType.TASK_SCHEDULED, EventType.SUB_CREATED, EventType.TIMER_CREATED, EventType.EVENT_SENT}
)
_COMPLETING = {
    EventType.TASK_COMPLETED: "TaskScheduledId",
    EventType.TASK_FAILED: "TaskScheduledId",
    EventType.SUB_COMPLETED: "TaskScheduledId",
    EventType.SUB_FAILED: "TaskScheduledId",
    EventType.TIMER_FIRED: "TimerId",
}


@dataclass(slots=True)
class Scheduled:
    """One leaf with its id."""

    task_id: int
    kind: EventType
    name: str


@dataclass(slots=True)
class Retry:
    """A call with a retry policy: its index among the leaves and its progress."""

    leaf: int
    attempts: int = 0
    last_timer: int | None = None
    """The timer after the last allowed attempt; when it fires, the error reaches the orchestrator."""
    is_finished: bool = False


@dataclass(slots=True)
class Ledger:
    """Ids drawn so far and open tasks.

    leaves: one entry per id-drawing leaf of the action list, in order.
    open: id -> scheduling event type, for unanswered activities, sub-orchestrations and timers.
    """

    next_id: int = 0
    leaves: list[Scheduled] = field(default_factory=list)
    open: dict[int, EventType] = field(default_factory=dict)
    retries: dict[int, Retry] = field(default_factory=dict)
    roots: dict[int, int] = field(default_factory=dict)
    taken_back: dict[int, int] = field(default_factory=dict)
    """Calls that a rewind took back: id -> index among the leaves. The next replay schedules them again."""
    rewound_retries: set[int] = field(default_factory=set)
    """Retried calls (ids of their first attempts) of which a rewind took failures back, but not the timers."""

    @classmethod
    def rebuild(cls, chunks: Iterable[str]) -> Ledger:
        """chunks: encoded events joined by commas, oldest first."""
        ledger = cls()
        for raw in cast("list[dict[str, jsontext.Json]]", jsontext.loads(f"[{','.join(chunks)}]")):
            kind = EventType(cast("int", raw["EventType"]))
            if kind in _SCHEDULING:
                ledger.schedule(
                    cast("int", raw["EventId"]),
                    kind,
                    history.operation(raw) if kind is EventType.EVENT_SENT else cast("str", raw.get("Name") or ""),
                    root=cast("int | None", history.note(raw, RETRY_OF)),
                    is_dead=bool(history.note(raw, DEAD_TIMER)),
                    is_last=bool(history.note(raw, LAST_TIMER)),
                )
            elif kind is EventType.GENERIC:
                ledger._take_back(raw)
            elif kind in _COMPLETING:
                ledger.complete(cast("int", raw[_COMPLETING[kind]]), kind)
        return ledger

    def draw(self) -> int:
        """The next id."""
        self.next_id += 1
        return self.next_id - 1

    def schedule(
        self,
        task_id: int,
        kind: EventType,
        name: str,
        *,
        root: int | None = None,
        is_dead: bool = False,
        is_last: bool = False,
    ) -> None:
        """Record a scheduled leaf, or (root given) a step of a retried call.

        is_dead: a timer cancelled before it was ever armed.
        is_last: the timer that follows the last allowed attempt.
        """
        self.next_id = max(self.next_id, task_id + 1)
        if self.taken_back.pop(task_id, None) is not None:
            self.open[task_id] = kind
            return
        if kind != EventType.EVENT_SENT and not is_dead:
            # Entity messages are answered by events, which do not keep an instance open.
            self.open[task_id] = kind
        if root is None or root == task_id:
            self.leaves.append(Scheduled(task_id, kind, name))
        if root is None:
            return
        self.roots[task_id] = root
        retry = self.retries.setdefault(root, Retry(leaf=len(self.leaves) - 1))
        if kind != EventType.TIMER_CREATED:
            retry.attempts += 1
        elif is_last:
            retry.last_timer = task_id

    def complete(self, task_id: int, kind: EventType) -> bool:
        """Record an answer; False (and no change) when no such task is open, so the answer is a duplicate."""
        if self.open.pop(task_id, None) is None:
            return False
        root = self.roots.get(task_id)
        if root is not None and kind not in FAILURES:
            retry = self.retries[root]
            if kind != EventType.TIMER_FIRED or retry.last_timer == task_id:
                retry.is_finished = True
        return True

    def retry_of(self, task_id: int) -> tuple[int, Retry] | None:
        """The unfinished retried call of a task, with the id of its first attempt."""
        root = self.roots.get(task_id)
        if root is None or self.retries[root].is_finished:
            return None
        return root, self.retries[root]

    def _take_back(self, raw: Mapping[str, jsontext.Json]) -> None:
        kind = history.note(raw, REWOUND)
        if kind in (EventType.TASK_SCHEDULED, EventType.SUB_CREATED):
            task_id, root = cast("int", raw["EventId"]), cast("int | None", history.note(raw, RETRY_OF))
            self.next_id = max(self.next_id, task_id + 1)
            if (root is None or root == task_id) and task_id not in self.taken_back:  # else rewound before
                name = cast("str", history.note(raw, REWOUND_NAME))
                self.taken_back[task_id] = len(self.leaves)
                self.leaves.append(Scheduled(task_id, EventType(cast("int", kind)), name))
            if root is not None:
                self.rewound_retries.add(root)
        elif kind == EventType.SUB_FAILED:
            root = self.roots.get(cast("int", history.note(raw, REWOUND_OF)))
            if root is not None:
                self.rewound_retries.add(root)

    @property
    def has_open_retry(self) -> bool:
        return any(not retry.is_finished for retry in self.retries.values())
