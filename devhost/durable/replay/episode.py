"""The decision of one episode: from the history and the handle's output to what is stored and started.

Invariant: pure. The same ledger, answers and output give the same decision; the clock and new ids are passed
in. Ids are drawn exactly when the SDK draws them: first for the steps that a retry policy adds because of the
event just processed, then for the new leaves in depth-first order. That order is only known if an episode with
an open retry processes one event at a time, which the engine ensures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from devhost.durable.limits import too_large
from devhost.durable.replay.actions import (
    HTTP_ACTIVITY,
    RETRIED,
    SCHEDULES,
    Action,
    ActionKind,
    EpisodeOutput,
    fire_at,
    leaf_name,
    retry_delay_us,
)
from devhost.durable.replay.ledger import Ledger, Retry
from devhost.durable.store import history, jsontext
from devhost.durable.store.history import DEAD_TIMER, FAILURES, GIVEN, LAST_TIMER, RETRY_OF, EventType

CUSTOM_STATUS_LIMIT_BYTES = 16 * 1024
STATUS_TOO_LONG = (
    "The UTF-16 size of the JSON-serialized payload must not exceed 16 KB. The current payload is larger; keep the "
    "custom status small."
)
MAX_ID_LENGTH = 256
_MESSAGES = "Microsoft.Azure.WebJobs.Extensions.DurableTask"
_NO_PREDECESSOR = "0001-01-01T00:00:00"
_BAD_ID = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]")
# The sentences of DurableTask.Core.
_NON_DETERMINISM = "Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
_CHANGED = "Was a change made to the orchestrator code after this instance had already started running?"
_NOT_SCHEDULED = f"but the current replay execution hasn't (yet?) scheduled this task. {_CHANGED}"
_NOUNS = {
    EventType.TASK_SCHEDULED: "an activity task",
    EventType.SUB_CREATED: "a sub-orchestration task",
    EventType.TIMER_CREATED: "a timer task",
    EventType.EVENT_SENT: "a send event task",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion that was added to the history in this episode."""

    task_id: int
    kind: EventType


@dataclass(frozen=True, slots=True)
class Self:
    """The instance of an episode."""

    name: str
    instance_id: str
    execution_id: str
    parent_instance_id: str | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What decisions depend on besides the instance.

    check_*: None when the name is registered, else the failure message.
    new_guid: makes a new id for an entity call.
    """

    check_activity: Callable[[str], str | None]
    check_orchestrator: Callable[[str], str | None]
    check_entity: Callable[[str], str | None]
    new_guid: Callable[[], str]
    default_version: str = ""
    max_actions: int = 100_000
    max_payload_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ActivityWork:
    task_id: int
    name: str
    input: str
    """JSON text; for the built-in HTTP activity, the request object."""


@dataclass(frozen=True, slots=True)
class TimerWork:
    task_id: int
    fire_at_us: int


@dataclass(frozen=True, slots=True)
class ChildWork:
    task_id: int
    name: str
    instance_id: str
    version: str
    input: str
    """The child's raw input: one JSON text."""
    is_again: bool = False
    """A rewind took the call back, so an instance of this id may exist."""


@dataclass(frozen=True, slots=True)
class EntityWork:
    entity_id: str
    operation: str
    input: str
    request_id: str
    is_signal: bool
    """Nobody waits for an answer."""


@dataclass(slots=True)
class Decision:
    """events: encoded, to be appended in order (OrchestratorCompleted not included).

    Exactly one of `completed`, `failed`, `continued` is set when the generation ends.
    completed: JSON text of the output. failed: plain text. continued: JSON text of the next input.
    custom_status: JSON text, or None when the SDK reported none.
    """

    events: list[str] = field(default_factory=list)
    activities: list[ActivityWork] = field(default_factory=list)
    timers: list[TimerWork] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    children: list[ChildWork] = field(default_factory=list)
    entities: list[EntityWork] = field(default_factory=list)
    custom_status: str | None = None
    completed: str | None = None
    failed: str | None = None
    continued: str | None = None
    awaited: list[Action] = field(default_factory=list)
    """What it waited for before it continued."""

    @property
    def is_final(self) -> bool:
        return self.completed is not None or self.failed is not None or self.continued is not None


class _Refused(Exception):
    """The orchestration fails with this text."""


def decide(
    me: Self, ledger: Ledger, answers: Sequence[Answer], output: EpisodeOutput, *, rules: Rules, now_us: int
) -> Decision:
    """Decide one episode. `ledger` already includes `answers` and is updated."""
    if output.custom_status is not None and len(output.custom_status.encode("utf-16-le")) > CUSTOM_STATUS_LIMIT_BYTES:
        # As in the extension, which looks at the status first: nothing is scheduled.
        return Decision(failed=_failed_text(me.name, STATUS_TOO_LONG))
    decision = Decision(custom_status=output.custom_status)
    failure = None if output.error is None else _failed_text(me.name, output.error)
    for what, text in (("its output", output.output), ("its next input", output.continue_with)):
        if failure is None and (problem := too_large(what, text, rules.max_payload_bytes)) is not None:
            failure = _failed_text(me.name, problem)
    if output.leaves is not None:
        mismatch = _mismatch(ledger, output.leaves)
        if mismatch is not None:
            decision.failed = mismatch
            return decision
        scheduler = _Scheduler(me, ledger, decision, rules, now_us)
        try:
            for task_id, index in list(ledger.taken_back.items()):
                scheduler.schedule(output.leaves[index], task_id)
            for answer in answers:
                found = ledger.retry_of(answer.task_id)
                if found is not None:
                    scheduler.continue_retry(*found, output.leaves, failed=answer.kind in FAILURES)
            scheduler.cancel_timers(output.leaves)
            if len(output.leaves) > rules.max_actions:
                raise _Refused(
                    f"The orchestrator asked for more than {rules.max_actions} actions; the limit is "
                    "maxOrchestrationActions in host.json."
                )
            for index in range(len(ledger.leaves), len(output.leaves)):
                scheduler.schedule(output.leaves[index])
        except _Refused as refusal:
            failure = str(refusal)
    if ledger.open:
        # An instance does not end while an activity, a sub-orchestration or an uncancelled timer is outstanding.
        return decision
    if failure is not None:
        decision.failed = failure
    elif output.continue_with is not None:
        decision.continued, decision.awaited = output.continue_with, output.awaited
    elif output.is_done:
        decision.completed = output.output if output.output is not None else "null"
    return decision


def bad_instance_id(instance_id: str) -> str | None:
    """Why an instance id is refused, or None."""
    if not instance_id:
        return "An instance id must not be empty."
    if instance_id.startswith("@"):
        return "Orchestration instance ids must not start with '@'."
    if len(instance_id) > MAX_ID_LENGTH:
        return f"Instance ids must not be longer than {MAX_ID_LENGTH} characters."
    if _BAD_ID.search(instance_id):
        return "Instance ids must not contain /, \\, #, ? or control characters."
    return None


def _failed_text(name: str, error: str) -> str:
    return f"Orchestrator function '{name}' failed: {error}"


def _mismatch(ledger: Ledger, leaves: Sequence[Action]) -> str | None:
    """Why the replay does not match what was scheduled before, or None."""
    if ledger.rewound_retries:
        # The timers of its retries stay in the history, and no replay asks for them any more.
        return f"{_NON_DETERMINISM}a timer of a retried call that was rewound, {_NOT_SCHEDULED}"
    for index, scheduled in enumerate(ledger.leaves):
        was = f"{_NOUNS[scheduled.kind]} with sequence ID {scheduled.task_id} and name '{scheduled.name}'"
        if index >= len(leaves):
            return f"{_NON_DETERMINISM}{was}, {_NOT_SCHEDULED}"
        leaf = leaves[index]
        kind, name = SCHEDULES[leaf["actionType"]], leaf_name(leaf)
        if kind != scheduled.kind or name.casefold() != scheduled.name.casefold():
            return (
                f"{_NON_DETERMINISM}{was}, but the current orchestration replay instead produced {_NOUNS[kind]} with "
                f"name '{name}' in its place. {_CHANGED}"
            )
    return None


@dataclass(slots=True)
class _Scheduler:
    """Assigns ids to leaves and retry steps, and writes their events and work."""

    me: Self
    ledger: Ledger
    decision: Decision
    rules: Rules
    now_us: int

    def cancel_timers(self, leaves: Sequence[Action]) -> None:
        for scheduled, leaf in zip(self.ledger.leaves, leaves, strict=False):
            if leaf.get("isCanceled") and self.ledger.open.pop(scheduled.task_id, None) is not None:
                self.decision.cancelled.append(scheduled.task_id)

    def schedule(self, leaf: Action, task_id: int | None = None) -> None:
        """task_id: the id of a call that a rewind took back; a new one when None."""
        kind = leaf["actionType"]
        if kind == ActionKind.CREATE_TIMER:
            try:
                due_us = fire_at(leaf)
            except ValueError as error:
                text = f"the timer's time '{leaf.get('fireAt')}' is not valid"
                raise _Refused(_failed_text(self.me.name, text)) from error
            self._timer(due_us, is_dead=bool(leaf.get("isCanceled")))
        elif kind in (ActionKind.CALL_ENTITY, ActionKind.SIGNAL_ENTITY):
            self._entity(leaf)
        else:
            root = self.ledger.next_id if kind in RETRIED else None
            self._call(leaf, root, task_id)

    def continue_retry(self, root: int, retry: Retry, leaves: Sequence[Action], *, failed: bool) -> None:
        """A failed attempt draws a timer; a fired timer draws the next attempt, or nothing after the last."""
        leaf = leaves[retry.leaf]
        options = leaf.get("retryOptions", {})
        if not failed:
            self._call(leaf, root)
            return
        is_last = retry.attempts >= options.get("maxNumberOfAttempts", 1)
        delay_us = 0 if is_last else retry_delay_us(options, retry.attempts)
        self._timer(self.now_us + delay_us, root=root, is_last=is_last)

    def _call(self, leaf: Action, root: int | None, task_id: int | None = None) -> None:
        if leaf["actionType"] in (ActionKind.CALL_SUB, ActionKind.CALL_SUB_RETRY):
            self._child(leaf, root, task_id)
        else:
            self._activity(leaf, root, task_id)

    def _activity(self, leaf: Action, root: int | None, task_id: int | None) -> None:
        name = leaf_name(leaf)
        if leaf["actionType"] == ActionKind.CALL_HTTP:
            text = jsontext.dumps(leaf["httpRequest"])
        else:
            self._require(self.rules.check_activity(name))
            text = leaf.get("input") or "null"
        self._check_size(f"the input of {name}", text)
        task_id = self.ledger.draw() if task_id is None else task_id
        self.ledger.schedule(task_id, EventType.TASK_SCHEDULED, name, root=root)
        notes: dict[str, jsontext.Json] = {GIVEN: text, **_retry_note(root)}
        self._event(
            EventType.TASK_SCHEDULED,
            task_id,
            notes,
            Name=name,
            Version="",
            Input=None,
            ParentTraceContext=None,
            Tags=None,
        )
        self.decision.activities.append(ActivityWork(task_id, name, text))

    def _child(self, leaf: Action, root: int | None, task_id: int | None) -> None:
        name = leaf_name(leaf)
        self._require(self.rules.check_orchestrator(name))
        child_id = leaf.get("instanceId")
        if child_id:
            self._require(bad_instance_id(child_id))
            if child_id in (self.me.instance_id, self.me.parent_instance_id):
                raise _Refused(
                    _failed_text(
                        self.me.name,
                        f"The sub-orchestration id '{child_id}' is the id of its parent or grandparent.",
                    )
                )
        is_again = task_id is not None
        task_id = self.ledger.draw() if task_id is None else task_id
        child_id = child_id or f"{self.me.execution_id}:{task_id}"
        # Encoded once more than the action's text: the child's raw input is a JSON string that holds JSON.
        given = leaf.get("input") or "null"
        self._check_size(f"the input of {name}", given)
        text = history.nested(given)
        version = leaf.get("version") or self.rules.default_version
        self.ledger.schedule(task_id, EventType.SUB_CREATED, name, root=root)
        self._event(
            EventType.SUB_CREATED,
            task_id,
            {GIVEN: given, **_retry_note(root)},
            Name=name,
            Version=version or None,
            InstanceId=child_id,
            Input=None,
            ClientSpanId=None,
            Tags=None,
        )
        self.decision.children.append(ChildWork(task_id, name, child_id, version, text, is_again))

    def _timer(self, due_us: int, *, root: int | None = None, is_dead: bool = False, is_last: bool = False) -> None:
        task_id = self.ledger.draw()
        self.ledger.schedule(task_id, EventType.TIMER_CREATED, "", root=root, is_dead=is_dead, is_last=is_last)
        marks = {DEAD_TIMER: True} if is_dead else {LAST_TIMER: True} if is_last else {}
        notes = {**marks, **_retry_note(root)}
        self._event(EventType.TIMER_CREATED, task_id, notes, FireAt=history.timestamp(due_us))
        if not is_dead:
            self.decision.timers.append(TimerWork(task_id, due_us))

    def _entity(self, leaf: Action) -> None:
        entity_id = leaf.get("instanceId") or ""
        self._require(self.rules.check_entity(entity_id[1:].partition("@")[0]))
        operation, text = leaf.get("operation") or "", leaf.get("input") or "null"
        self._check_size(f"the input of {operation}", text)
        is_signal = leaf["actionType"] == ActionKind.SIGNAL_ENTITY
        work = EntityWork(entity_id, operation, text, self.rules.new_guid(), is_signal)
        task_id = self.ledger.draw()
        self.ledger.schedule(task_id, EventType.EVENT_SENT, operation)
        message = jsontext.dumps(self._request(work))
        self._event(EventType.EVENT_SENT, task_id, {}, InstanceId=entity_id, Name="op", Input=message)
        self.decision.entities.append(work)

    def _request(self, work: EntityWork) -> dict[str, jsontext.Json]:
        """The message to an entity, in the extension's form."""
        at = history.timestamp(self.now_us)
        return {
            "$type": f"{_MESSAGES}.RequestMessage, {_MESSAGES}",
            "op": work.operation,
            **({"signal": True} if work.is_signal else {}),
            "input": jsontext.dumps(work.input),
            "id": work.request_id,
            "parent": self.me.instance_id,
            "parentExecution": self.me.execution_id,
            "Timestamp": at,
            "Predecessor": _NO_PREDECESSOR,
            "requestTime": at,
        }

    def _event(self, kind: EventType, task_id: int, notes: dict[str, jsontext.Json], **fields: object) -> None:
        self.decision.events.append(history.encode(kind, self.now_us, task_id, notes=notes, **fields))

    def _check_size(self, what: str, text: str) -> None:
        if (problem := too_large(what, text, self.rules.max_payload_bytes)) is not None:
            raise _Refused(_failed_text(self.me.name, problem))

    def _require(self, problem: str | None) -> None:
        if problem is not None:
            raise _Refused(problem)


def entity_answer(result: str, *, is_error: bool) -> str:
    """The input of the event that answers an entity call, in the extension's form. result: JSON text."""
    body = {"$type": f"{_MESSAGES}.ResponseMessage, {_MESSAGES}", "result": result}
    return jsontext.dumps(body | ({"exceptionType": "Error"} if is_error else {}))


def _retry_note(root: int | None) -> dict[str, jsontext.Json]:
    return {} if root is None else {RETRY_OF: root}


__all__ = [
    "HTTP_ACTIVITY",
    "ActivityWork",
    "Answer",
    "ChildWork",
    "Decision",
    "EntityWork",
    "Rules",
    "Self",
    "TimerWork",
    "bad_instance_id",
    "decide",
    "entity_answer",
]
