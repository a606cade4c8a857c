"""Rows of the durable store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum

from devhost.durable.store.history import EventType


class Status(StrEnum):
    """Runtime status as the management API names it."""

    PENDING = "Pending"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    TERMINATED = "Terminated"
    SUSPENDED = "Suspended"
    CANCELED = "Canceled"
    """Never set by this engine; accepted in filters."""
    CONTINUED_AS_NEW = "ContinuedAsNew"
    """Never visible, since one transaction replaces a generation by the next."""


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.TERMINATED, Status.CANCELED})


class MessageKind(IntEnum):
    START = 0
    ANSWER = 1
    """Completion of an activity, a sub-orchestration or a timer: belongs to one generation."""
    EVENT = 2
    TERMINATE = 3
    SUSPEND = 4
    RESUME = 5


class TaskKind(IntEnum):
    ACTIVITY = 0
    TIMER = 1


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent that waits for a sub-orchestration."""

    instance_id: str
    execution_id: str
    task_id: int


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """The current generation of an instance.

    gen: number of the generation, unique in the store; history and tasks refer to it.
    input: raw input, one JSON text or None. output: JSON text when completed, plain text otherwise.
    Times are microseconds since the epoch.
    """

    gen: int
    instance_id: str
    execution_id: str
    name: str
    version: str
    status: Status
    input: str | None
    output: str | None
    custom_status: str | None
    created_us: int
    updated_us: int
    parent: Parent | None = None

    def changed(
        self, *, at_us: int, status: Status, custom_status: str | None, output: str | None = None
    ) -> InstanceRow:
        return replace(self, status=status, custom_status=custom_status, output=output, updated_us=at_us)


@dataclass(frozen=True, slots=True)
class Message:
    """A message to an instance.

    seq: order of arrival, unique in the store. event: the encoded history event that it becomes ("" for START).
    execution_id: the target generation, or "" for the current one (events, suspend ...).
    """

    seq: int
    instance_id: str
    kind: MessageKind
    event: str = ""
    execution_id: str = ""
    task_id: int = -1
    event_type: EventType = EventType.GENERIC
    text: str = ""
    """The reason of a terminate."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """An activity to run or a timer to fire, kept until its answer is stored.

    input: JSON text for activities. fire_at_us: due time of timers, else 0.
    """

    gen: int
    task_id: int
    kind: TaskKind
    instance_id: str
    execution_id: str
    name: str = ""
    input: str = ""
    fire_at_us: int = 0


@dataclass(frozen=True, slots=True)
class EntityRow:
    """state: JSON text, or None. exists=False rows are deleted entities."""

    entity_id: str
    exists: bool
    state: str | None
    updated_us: int


@dataclass(frozen=True, slots=True)
class EntityOp:
    """One operation waiting for an entity. `caller` is empty for signals."""

    seq: int
    entity_id: str
    operation: str
    input: str | None
    """A JSON string that holds JSON text, as the entity's `get_input` expects; None: no payload."""
    caller: str = ""
    request_id: str = ""


@dataclass(slots=True)
class Unit:
    """One atomic change of the store. Puts happen before drops.

    Generations and sequence numbers are never reused while a unit with them is pending, so units can be merged
    into one transaction.
    """

    instances: list[InstanceRow] = field(default_factory=list)
    updates: list[InstanceRow] = field(default_factory=list)
    """New status, custom status, output and time of existing rows."""
    history: list[tuple[int, int, str]] = field(default_factory=list)
    """(gen, position, encoded events joined by commas)."""
    messages: list[Message] = field(default_factory=list)
    tasks: list[TaskRow] = field(default_factory=list)
    entities: list[EntityRow] = field(default_factory=list)
    entity_ops: list[EntityOp] = field(default_factory=list)
    drop_messages: list[int] = field(default_factory=list)
    drop_tasks: list[tuple[int, int]] = field(default_factory=list)
    drop_gens: list[int] = field(default_factory=list)
    """Deletes history and tasks of these generations, and instance rows that still have these generations."""
    drop_entity_ops: list[int] = field(default_factory=list)
