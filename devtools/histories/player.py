"""Plays an orchestrator as a host does: the SDK's own handle, a growing history, answers that a test decides on.

Ids, retries and the check for non-determinism are the dev host's pure functions; clock, answers and events are the
test's. Every episode replays the whole history, so an orchestrator that is not deterministic fails in every test.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from devhost.durable.replay.actions import EpisodeOutput, parse_failure, parse_output
from devhost.durable.replay.episode import ActivityWork, Answer, ChildWork, Decision, Rules, Self, TimerWork, decide
from devhost.durable.replay.ledger import Ledger
from devhost.durable.store import history
from devhost.durable.store.history import EventType

type Json = dict[str, Any]

START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""
_SECOND_US = 1_000_000
MOST_EPISODES = 200
_SLICES = {
    "upperSchemaVersionNew": 3,
    "maximumShortTimerDuration": "6.00:00:00",
    "longRunningTimerIntervalDuration": "3.00:00:00",
}
"""As the extension sends it with Azure Storage. Source: recorded contexts of the extension 3.19.0."""


class ActivityFailed(Exception):
    """Raised by a test's activity: the activity fails under the orchestrator."""


def handle_of(builder: Any) -> Callable[[str], str]:
    """The SDK handle of an orchestrator as it is registered: context JSON in, state JSON out."""
    handle: Callable[[str], str] = builder._function.get_user_function()
    return handle


def run_handle(handle: Callable[[str], str], context: Json) -> EpisodeOutput:
    """One call of a handle, as the dev host reads it."""
    try:
        with warnings.catch_warnings():
            # An event that nobody waits for yet: the SDK calls it a potential duplicate, here it is the point.
            warnings.filterwarnings("ignore", "Potential duplicate Task completion")
            warnings.filterwarnings("ignore", ".*expected_type", DeprecationWarning)
            return parse_output(handle(json.dumps(context)))
    except Exception as exc:  # the SDK reports an orchestrator's failure, with its state, as an exception
        return parse_failure(f"{type(exc).__name__}: {exc}")


@dataclass
class Play:
    """One instance. Work that was asked for waits in `activities`, `timers` and `children` until it is answered."""

    orchestrator: Any
    name: str
    instance_id: str = "turn-1"
    input: Json | None = None
    now_us: int = START_US
    slices: bool = False
    """The host cuts timers of more than six days into slices of three, as Azure Storage does."""
    activities: dict[int, ActivityWork] = field(default_factory=dict)
    timers: dict[int, TimerWork] = field(default_factory=dict)
    children: dict[int, ChildWork] = field(default_factory=dict)
    asked: list[tuple[str, Json]] = field(default_factory=list)
    """Every activity and sub-orchestration asked for, with its input, in order."""
    waited_s: list[float] = field(default_factory=list)
    """Of every timer, how far away it was."""
    output: Any = None
    failed: str | None = None
    is_over: bool = False
    _events: list[str] = field(default_factory=list)
    _ledger: Ledger = field(default_factory=Ledger)

    def begin(self) -> Play:
        """The first episode."""
        text = None if self.input is None else history.nested(json.dumps(self.input))
        started = history.execution_started(
            self.now_us,
            name=self.name,
            version="",
            input_text=text,
            instance_id=self.instance_id,
            execution_id="execution",
        )
        self._episode(started, [])
        return self

    # Answers. ----------------------------------------------------------------------------------

    def complete(self, name: str, result: Any = None) -> Play:
        """Answer the oldest open call of an activity."""
        task_id = self._open(name)
        del self.activities[task_id]
        return self._answer(task_id, EventType.TASK_COMPLETED, history.task_completed, json.dumps(result))

    def fail(self, name: str, reason: str = "DATABASE_ERROR: away") -> Play:
        """The oldest open call of an activity fails."""
        task_id = self._open(name)
        del self.activities[task_id]
        details = history.failure_details(reason)
        return self._answer(task_id, EventType.TASK_FAILED, history.task_failed, reason, details)

    def end_child(self, instance_id: str, output: Any) -> Play:
        task_id = next(key for key, child in self.children.items() if child.instance_id == instance_id)
        del self.children[task_id]
        return self._answer(task_id, EventType.SUB_COMPLETED, history.sub_completed, json.dumps(output))

    def fail_child(self, instance_id: str, reason: str) -> Play:
        task_id = next(key for key, child in self.children.items() if child.instance_id == instance_id)
        del self.children[task_id]
        details = history.failure_details(reason)
        return self._answer(task_id, EventType.SUB_FAILED, history.sub_failed, reason, details)

    def pass_time(self) -> Play:
        """Jump to when the next timer is due, and fire it."""
        task_id, timer = min(self.timers.items(), key=lambda item: item[1].fire_at_us)
        del self.timers[task_id]
        self.now_us = max(self.now_us, timer.fire_at_us)
        return self._answer(task_id, EventType.TIMER_FIRED, history.timer_fired, timer.fire_at_us)

    def hear(self, event: str, payload: Any = None) -> Play:
        """An external event arrives, whether anybody waits for it or not."""
        self._episode(history.event_raised(self.now_us, event, json.dumps(json.dumps(payload))), [])
        return self

    def run(self, table: Mapping[str, Callable[[Json], Any]]) -> Play:
        """Answer everything from a table of activities until the instance ends; timers fire when nothing else is open.

        An activity of the table returns its result or raises ActivityFailed.
        """
        for _ in range(MOST_EPISODES):
            if self.is_over:
                return self
            if self.activities:
                work = next(iter(self.activities.values()))
                try:
                    result = table[work.name](json.loads(work.input))
                except ActivityFailed as exc:
                    self.fail(work.name, str(exc))
                else:
                    self.complete(work.name, result)
            else:
                assert self.timers, "it waits for an event that nobody sends"
                self.pass_time()
        raise AssertionError(f"not over after {MOST_EPISODES} episodes")

    def calls(self, name: str) -> list[Json]:
        """Inputs of every call of an activity or sub-orchestration so far."""
        return [given for called, given in self.asked if called == name]

    @property
    def history(self) -> list[Json]:
        """Its events so far, decoded, oldest first."""
        events: list[Json] = json.loads(f"[{','.join(self._events)}]")
        return events

    # Inside. -----------------------------------------------------------------------------------

    def _open(self, name: str) -> int:
        return next(key for key, work in self.activities.items() if work.name == name)

    def _answer(self, task_id: int, kind: EventType, encode: Callable[..., str], *fields: Any) -> Play:
        event = encode(self.now_us, task_id, *fields)
        assert self._ledger.complete(task_id, kind), "an answer to something open"
        self._episode(event, [Answer(task_id, kind)])
        return self

    def _episode(self, event: str, answers: list[Answer]) -> None:
        assert not self.is_over, "nothing happens after the end"
        self.now_us += _SECOND_US // 100
        new = [history.orchestrator_started(self.now_us), event]
        context = self._context(new)
        output = run_handle(handle_of(self.orchestrator), context)
        me = Self(self.name, self.instance_id, "execution", None)
        decision = decide(me, self._ledger, answers, output, rules=_RULES, now_us=self.now_us)
        self._events += [*new, *decision.events, history.orchestrator_completed(self.now_us)]
        self._take(decision)

    def _context(self, new: list[str]) -> Json:
        events = json.loads(f"[{','.join([*self._events, history.as_new(new)])}]")
        return {
            "history": events,
            "input": None if self.input is None else json.dumps(self.input),
            "instanceId": self.instance_id,
            "isReplaying": len(self._events) > 0,
            "parentInstanceId": None,
            "upperSchemaVersion": 1,
            "upperSchemaVersionNew": 2,
        } | (_SLICES if self.slices else {})

    def _take(self, decision: Decision) -> None:
        for work in decision.activities:
            self.activities[work.task_id] = work
            self.asked.append((work.name, json.loads(work.input)))
        for child in decision.children:
            self.children[child.task_id] = child
            self.asked.append((child.name, json.loads(json.loads(child.input))))
        for timer in decision.timers:
            self.timers[timer.task_id] = timer
            self.waited_s.append((timer.fire_at_us - self.now_us) / _SECOND_US)
        for task_id in decision.cancelled:
            del self.timers[task_id]
        self.is_over = decision.is_final
        self.failed = decision.failed
        if decision.completed is not None:
            self.output = json.loads(decision.completed)


_RULES = Rules(
    check_activity=lambda _: None,
    check_orchestrator=lambda _: None,
    check_entity=lambda _: None,
    new_guid=lambda: "guid",
)


def instant(play: Play, seconds: float) -> str:
    """An RFC 3339 time that many seconds after now."""
    return datetime.fromtimestamp(play.now_us / _SECOND_US + seconds, UTC).isoformat()
