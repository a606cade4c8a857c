"""One transaction of an instance, and its effects once it is stored.

Invariant: nothing in a Step has happened yet. Its unit is committed first; only then are its messages
delivered, its work dispatched and its cancellations made.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from devhost.durable.replay.episode import ChildWork
from devhost.durable.store.history import EventType
from devhost.durable.store.records import (
    EntityOp,
    InstanceRow,
    Message,
    MessageKind,
    Parent,
    Status,
    TaskRow,
    Unit,
)
from devhost.ids import new_guid

logger = logging.getLogger("devhost.durable")


@dataclass(slots=True)
class Step:
    """forget: (gen, task id) of timers and activities that nothing waits for any more."""

    unit: Unit = field(default_factory=Unit)
    deliver: list[Message] = field(default_factory=list)
    activities: list[TaskRow] = field(default_factory=list)
    timers: list[TaskRow] = field(default_factory=list)
    forget: list[tuple[int, int]] = field(default_factory=list)
    entity_ops: list[EntityOp] = field(default_factory=list)


def answer(seq: int, whose: Parent, kind: EventType, event: str) -> Message:
    """The completion message of a task, for the generation that waits for it."""
    return Message(seq, whose.instance_id, MessageKind.ANSWER, event, whose.execution_id, whose.task_id, kind)


def child_row(work: ChildWork, parent: Parent, *, gen: int, now_us: int) -> InstanceRow:
    """A sub-orchestration about to start."""
    return InstanceRow(
        gen=gen,
        instance_id=work.instance_id,
        execution_id=new_guid(),
        name=work.name,
        version=work.version,
        status=Status.PENDING,
        input=work.input,
        output=None,
        custom_status=None,
        created_us=now_us,
        updated_us=now_us,
        parent=parent,
    )


def log_end(row: InstanceRow) -> None:
    """Log one line for an ended orchestration; at DEBUG level when it completed."""
    seconds = (row.updated_us - row.created_us) / 1e6
    if row.status is Status.COMPLETED:
        logger.debug("orchestration %s completed in %.3f s (%s)", row.name, seconds, row.instance_id)
        return
    reason = (row.output or "").partition("\n")[0]
    level = logging.WARNING if row.status is Status.FAILED else logging.INFO
    how = row.status.value.lower()
    logger.log(level, "orchestration %s %s in %.3f s (%s): %s", row.name, how, seconds, row.instance_id, reason)
