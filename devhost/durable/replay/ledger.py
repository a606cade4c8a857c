"""The scheduled and the open tasks of one generation of an instance.

Invariant: a ledger is a function of the history alone. It stays in memory with its instance, and
`Ledger.rebuild` makes an equal one from the stored events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from devhost.durable.store import jsontext
from devhost.durable.store.history import CARRIED_STATUS, DEAD_TIMER, FAILURES, LAST_TIMER, RETRY_OF, EventType

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
    carried_status: str | None = None
    """Custom status (JSON text) of the generation before a continue-as-new."""

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
                    cast("str", raw.get("Name") or ""),
                    root=cast("int | None", raw.get(RETRY_OF)),
                    is_dead=bool(raw.get(DEAD_TIMER)),
                    is_last=bool(raw.get(LAST_TIMER)),
                )
            elif kind is EventType.EXECUTION_STARTED:
                ledger.carried_status = cast("str | None", raw.get(CARRIED_STATUS))
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

    @property
    def has_open_retry(self) -> bool:
        return any(not retry.is_finished for retry in self.retries.values())
