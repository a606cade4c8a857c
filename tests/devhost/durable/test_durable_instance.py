"""An instance in memory: order of its messages, suspension, and when it may gather answers."""

from __future__ import annotations

import random

from devhost.durable.replay.instance import Instance
from devhost.durable.store.history import EventType
from devhost.durable.store.records import InstanceRow, Message, MessageKind, Status


def instance(status: Status = Status.RUNNING) -> Instance:
    return Instance(InstanceRow(1, "i", "e", "f", "", status, None, None, None, 0, 0))


def message(seq: int, kind: MessageKind = MessageKind.EVENT) -> Message:
    return Message(seq, "i", kind)


def test_messages_keep_their_order_however_late_their_commit_is_noticed() -> None:
    waiting = instance()
    order = list(range(1, 20))
    random.Random(5).shuffle(order)
    for seq in order:
        waiting.take_in(message(seq))
    assert [queued.seq for queued in waiting.inbox] == list(range(1, 20))


def test_start_of_a_continued_generation_comes_before_the_events_it_inherits() -> None:
    waiting = instance()
    for queued in (message(3), message(4), message(9, MessageKind.START)):
        waiting.take_in(queued)
    assert [queued.seq for queued in waiting.inbox] == [9, 3, 4]


def test_nothing_runs_before_the_start_is_there() -> None:
    waiting = instance(Status.PENDING)
    waiting.take_in(message(2))
    assert not waiting.has_work
    waiting.take_in(message(1, MessageKind.START))
    assert waiting.has_work


def test_only_resume_and_terminate_wake_a_suspended_instance() -> None:
    waiting = instance(Status.SUSPENDED)
    waiting.append(["{}"])
    waiting.take_in(message(1))
    assert not waiting.has_work
    assert waiting.will_be_suspended
    waiting.take_in(message(2, MessageKind.RESUME))
    assert waiting.has_work
    assert not waiting.will_be_suspended


def test_long_history_gathers_answers_only_while_more_are_due() -> None:
    """At 30 µs an event, 200 events make the 5 ms from which a replay counts as expensive."""
    waiting = instance()
    for task_id in range(2):
        waiting.ledger.schedule(task_id, EventType.TASK_SCHEDULED, "a")
    waiting.ledger.schedule(2, EventType.TIMER_CREATED, "")
    waiting.append(["{}"] * 100)
    assert waiting.pause_s == 0
    waiting.append(["{}"] * 100)
    assert 0 < waiting.pause_s < 0.25
    waiting.take_in(message(1, MessageKind.ANSWER))
    waiting.take_in(message(2, MessageKind.ANSWER))
    assert waiting.pause_s == 0
