"""Ids, retries and open tasks: the pure engine against the real SDK, for random programs and orders.

The SDK is the oracle: after its handle ran, `open_tasks` holds every id it waits for. An engine that draws
another id anywhere would send a result to the wrong task.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions.models.Task import TaskState
from azure.durable_functions.orchestrator import Orchestrator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devhost.durable.replay import rewind
from devhost.durable.replay.actions import parse_failure, parse_output
from devhost.durable.replay.episode import Answer, Decision, Rules, Self, decide
from devhost.durable.replay.instance import Instance, loaded_instance
from devhost.durable.replay.ledger import Ledger
from devhost.durable.store import history
from devhost.durable.store.history import EventType
from devhost.durable.store.records import InstanceRow, Status

START_US = 1_800_000_000_000_000
RULES = Rules(
    check_activity=lambda name: None if name != "unknown" else "unknown activity",
    check_orchestrator=lambda name: None,
    check_entity=lambda name: None,
    new_guid=lambda: "00000000000000000000000000000001",
)
ANSWER_TO = {
    EventType.TASK_SCHEDULED: (EventType.TASK_COMPLETED, EventType.TASK_FAILED),
    EventType.SUB_CREATED: (EventType.SUB_COMPLETED, EventType.SUB_FAILED),
    EventType.TIMER_CREATED: (EventType.TIMER_FIRED, EventType.TIMER_FIRED),
}


@dataclass
class Drive:
    """One instance run without a store: pure decisions and the SDK's own handle."""

    program: Any
    stored: list[str] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    clock_us: int = START_US
    decision: Decision = field(default_factory=Decision)
    context: Any = None

    def __post_init__(self) -> None:
        row = InstanceRow(1, "inst", "exec", "program", "", Status.RUNNING, None, None, None, START_US, START_US)
        self.instance = Instance(row, self.ledger)
        self.step([self._started()], [])

    def answer(self, *outcomes: tuple[int, bool]) -> None:
        """Complete open tasks by id, in order; the flag says whether the task fails."""
        events, answers = [], []
        for task_id, fails in outcomes:
            kind = ANSWER_TO[self.ledger.open[task_id]][fails]
            assert self.ledger.complete(task_id, kind)
            events.append(self._event(kind, task_id))
            answers.append(Answer(task_id, kind))
        self.step(events, answers)

    def rewind(self, rewound_children: set[int]) -> None:
        """Take the failures back, and wake the instance: by an event, or by the answer of a rewound child."""
        self.stored[:] = rewind.take_back(self.stored, rewound_children)
        self.instance = loaded_instance(self.instance.row, self.stored)
        self.ledger = self.instance.ledger
        self.decision, self.is_running = Decision(), False
        if not rewound_children:
            self.step([history.generic(self.clock_us, "again")], [])

    def step(self, events: list[str], answers: list[Answer]) -> None:
        self.clock_us += 1_000_000
        new = [history.orchestrator_started(self.clock_us), *events]
        payload = self.instance.payload(new, splits_long_timers=True, http_poll_ms=1)

        def remember(context: Any) -> Any:
            self.context = context
            return self.program(context)

        try:
            output = parse_output(Orchestrator.create(remember)(SimpleNamespace(body=payload)))
        except Exception as error:
            output = parse_failure(f"{type(error).__name__}: {error}")
        self.decision = decide(
            Self("program", "inst", "exec", None),
            self.ledger,
            answers,
            output,
            rules=RULES,
            now_us=self.clock_us,
        )
        self.is_running = output.error is None and not output.is_done
        done = history.orchestrator_completed(self.clock_us)
        self.stored.append(self.instance.append([*new, *self.decision.events, done])[2])

    @property
    def sdk_open(self) -> set[int]:
        return {
            key
            for key, task in self.context.open_tasks.items()
            if isinstance(key, int)
            and not isinstance(task, list)
            and task.state is TaskState.RUNNING
            and task._api_name != "CallEntityAction"  # draws an id, but holds nothing open
        }

    def _started(self) -> str:
        return history.execution_started(
            START_US,
            name="program",
            version="",
            input_text=None,
            instance_id="inst",
            execution_id="exec",
        )

    def _event(self, kind: EventType, task_id: int) -> str:
        at = self.clock_us
        if kind is EventType.TASK_COMPLETED:
            return history.task_completed(at, task_id, "1")
        if kind is EventType.TASK_FAILED:
            return history.task_failed(at, task_id, "failed", "{}")
        if kind is EventType.SUB_COMPLETED:
            return history.sub_completed(at, task_id, "1")
        if kind is EventType.SUB_FAILED:
            return history.sub_failed(at, task_id, "failed", "{}")
        return history.timer_fired(at, task_id, at)


# --- random programs ----------------------------------------------------------------------------

LEAVES = st.sampled_from(["activity", "sub", "timer", "retry1", "retry2", "retry3", "subretry2"])
STEPS = st.lists(
    st.one_of(
        LEAVES.map(lambda leaf: ("one", [leaf])),
        st.tuples(st.sampled_from(["all", "any"]), st.lists(LEAVES, min_size=1, max_size=4)),
        st.just(("again", [])),
        st.just(("signal", [])),
        LEAVES.map(lambda leaf: ("entity", [leaf])),
        LEAVES.map(lambda leaf: ("event", [leaf])),
        LEAVES.map(lambda leaf: ("mixed", [leaf])),
    ),
    min_size=1,
    max_size=5,
)


def make(context: df.DurableOrchestrationContext, leaf: str) -> Any:
    if leaf == "activity":
        return context.call_activity("echo", 1)
    if leaf == "sub":
        return context.call_sub_orchestrator("child", 1)
    if leaf == "timer":
        return context.create_timer(context.current_utc_datetime + timedelta(seconds=5))
    options = df.RetryOptions(1000, int(leaf[-1]))
    if leaf.startswith("sub"):
        return context.call_sub_orchestrator_with_retry("child", options, 1)
    return context.call_activity_with_retry("echo", options, 1)


def program_of(steps: list[tuple[str, list[str]]]) -> Any:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        older: list[Any] = []
        for how, leaves in steps:
            made = [make(context, leaf) for leaf in leaves]
            try:
                if how == "one":
                    yield made[0]
                elif how == "all":
                    yield context.task_all(made)
                elif how == "any":
                    yield context.task_any(made)
                elif how == "signal":
                    context.signal_entity(df.EntityId("counter", "k"), "add", 1)
                elif how == "entity":
                    asked = context.call_entity(df.EntityId("counter", "k"), "get")
                    yield context.task_any([asked, *made])
                elif how == "event":
                    yield context.task_any([context.wait_for_external_event("never"), *made])
                elif how == "mixed":
                    # Only the new one is in the action list, although the wait is for both.
                    yield context.task_any([*older[-1:], *made])
                elif older:
                    # Waiting again for something scheduled before adds nothing to the action list.
                    yield older[-1]
            except Exception:  # a failed task is a normal outcome here
                pass
            older.extend(made)
        return "done"

    return program


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_engine_and_sdk_agree_on_every_id(steps: list[tuple[str, list[str]]], seed: int) -> None:
    rng = random.Random(seed)
    drive = Drive(program_of(steps))
    for _ in range(120):
        if drive.is_running:
            assert set(drive.ledger.open) == drive.sdk_open
        assert Ledger.rebuild(drive.stored) == drive.ledger
        if drive.decision.is_final:
            break
        ready = list(drive.ledger.open)
        assert ready, "an instance that waits for nothing must have ended"
        rng.shuffle(ready)
        count = 1 if drive.ledger.has_open_retry else rng.randint(1, len(ready))
        drive.answer(*((task_id, rng.random() < 0.5) for task_id in ready[:count]))
    else:
        raise AssertionError("the program did not end")
    assert drive.decision.completed == '"done"'
    assert not drive.ledger.open


STRICT_STEPS = st.lists(
    st.tuples(st.sampled_from(["one", "all"]), st.lists(st.sampled_from(["activity", "sub", "timer"]), min_size=1)),
    min_size=1,
    max_size=4,
)


def strict_program_of(steps: list[tuple[str, list[str]]]) -> Any:
    """The first failure of a call fails it."""

    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        for how, leaves in steps:
            made = [make(context, leaf) for leaf in leaves]
            yield made[0] if how == "one" else context.task_all(made)
        return "done"

    return program


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STRICT_STEPS, seed=st.integers(0, 2**32))
def test_rewound_as_often_as_it_fails_every_call_keeps_its_id(steps: list[tuple[str, list[str]]], seed: int) -> None:
    rng = random.Random(seed)
    drive = Drive(strict_program_of(steps))
    answered: dict[int, int] = {}
    for _ in range(300):
        if drive.is_running:
            assert set(drive.ledger.open) == drive.sdk_open
        assert Ledger.rebuild(drive.stored) == drive.ledger
        if drive.decision.completed is not None:
            break
        if drive.decision.failed is not None:
            children = rewind.failed_children(drive.stored)
            drive.rewind({task_id for task_id in children if rng.random() < 0.5})
            continue
        task_id = rng.choice(list(drive.ledger.open))
        fails = drive.ledger.open[task_id] != EventType.TIMER_CREATED and rng.random() < 0.3
        answered[task_id] = answered.get(task_id, 0) + (not fails)
        drive.answer((task_id, fails))
    else:
        raise AssertionError("the program did not end")
    # What has worked is never asked for again.
    assert set(answered.values()) == {1}


def test_retry_draws_an_id_for_each_attempt_and_each_timer() -> None:
    """0 attempt, 1 timer, 2 attempt, 3 timer, 4 attempt, 5 last timer, 6 the next action."""

    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        try:
            yield context.call_activity_with_retry("echo", df.RetryOptions(2000, 3), 1)
        except Exception:
            yield context.call_activity("echo", "after")

    drive = Drive(program)
    assert list(drive.ledger.open) == [0]
    for attempt_id, timer_id in ((0, 1), (2, 3), (4, 5)):
        drive.answer((attempt_id, True))
        [timer] = drive.decision.timers
        assert timer.task_id == timer_id
        # Two seconds between attempts; the last timer delays nothing.
        assert timer.fire_at_us - drive.clock_us == (0 if timer_id == 5 else 2_000_000)
        drive.answer((timer_id, False))
    assert [work.task_id for work in drive.decision.activities] == [6]


def test_retry_that_succeeds_draws_nothing_more() -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        yield context.call_activity_with_retry("echo", df.RetryOptions(1000, 3), 1)
        yield context.call_activity("echo", 2)

    drive = Drive(program)
    drive.answer((0, True))
    drive.answer((1, False))
    drive.answer((2, False))
    assert list(drive.ledger.open) == [3]
    assert not drive.ledger.has_open_retry


def test_long_timer_is_split_and_each_part_draws_an_id() -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        yield context.create_timer(context.current_utc_datetime + timedelta(days=8))

    drive = Drive(program)
    days = []
    while not drive.decision.is_final:
        [timer] = drive.decision.timers
        days.append(round((timer.fire_at_us - START_US) / 86_400e6))
        drive.clock_us = timer.fire_at_us
        drive.answer((timer.task_id, False))
    # More than six days ahead: three-day parts until the rest is short enough.
    assert days == [3, 8]


@pytest.mark.parametrize("cancels", [True, False])
def test_instance_ends_only_when_the_losing_timer_is_out_of_the_way(cancels: bool) -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
        yield context.task_any([context.call_activity("echo", 1), timer])
        if cancels:
            timer.cancel()
        return "done"

    drive = Drive(program)
    drive.answer((0, False))
    if cancels:
        assert drive.decision.cancelled == [1]
        assert drive.decision.completed == '"done"'
    else:
        assert not drive.decision.is_final
        drive.answer((1, False))
        assert drive.decision.completed == '"done"'


def test_timer_cancelled_before_it_was_scheduled_is_never_armed() -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        timer = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
        timer.cancel()
        yield context.task_any([context.call_activity("echo", 1), timer])
        return "done"

    drive = Drive(program)
    assert drive.decision.timers == []
    assert list(drive.ledger.open) == [0]
    assert Ledger.rebuild(drive.stored) == drive.ledger
    drive.answer((0, False))
    assert drive.decision.completed == '"done"'


def test_failure_waits_for_open_tasks_and_keeps_its_actions() -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        calls = [context.call_activity("echo", n) for n in range(2)]
        yield context.task_any(calls)
        raise KeyError("lost")

    drive = Drive(program)
    drive.answer((1, False))
    assert not drive.decision.is_final
    drive.answer((0, False))
    assert drive.decision.failed == "Orchestrator function 'program' failed: 'lost'"


def test_continue_as_new_waits_for_open_tasks() -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        yield context.task_any([context.call_activity("echo", 1), context.call_activity("echo", 2)])
        context.continue_as_new({"again": True})

    drive = Drive(program)
    drive.answer((0, False))
    assert not drive.decision.is_final
    drive.answer((1, False))
    assert drive.decision.continued == '{"again": true}'


def test_unknown_activity_fails_the_orchestration_after_what_came_before_it() -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        yield context.task_all([context.call_activity("echo", 1), context.call_activity("unknown", 2)])

    drive = Drive(program)
    assert [work.name for work in drive.decision.activities] == ["echo"]
    assert not drive.decision.is_final
    drive.answer((0, False))
    assert drive.decision.failed == "unknown activity"


def test_changed_code_is_detected_when_it_schedules_less_or_something_else() -> None:
    names = iter(["echo", "other", ""])

    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        name = next(names)
        if name:
            yield context.call_activity(name, 1)
        yield context.wait_for_external_event("never")

    drive = Drive(program)
    drive.answer((0, False))
    assert drive.decision.failed is not None
    assert drive.decision.failed.startswith(
        "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
    )
    drive.step([], [])
    assert drive.decision.failed is not None
    assert "hasn't (yet?) scheduled" in drive.decision.failed


def test_names_in_another_case_are_not_a_change_of_code() -> None:
    names = iter(["echo", "ECHO"])

    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        yield context.call_activity(next(names), 1)

    drive = Drive(program)
    drive.answer((0, False))
    assert drive.decision.completed == "null"


def test_timer_with_an_impossible_time_fails_the_orchestration() -> None:
    def program(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
        yield context.create_timer(datetime(1, 1, 1, tzinfo=UTC))

    drive = Drive(program)
    assert drive.decision.failed is not None
    assert "is not valid" in drive.decision.failed
