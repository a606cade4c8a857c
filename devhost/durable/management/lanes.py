"""Converts an instance's history into the lanes of its timeline.

A history does not record when a timer was cancelled or which event an orchestrator waits for, so neither is drawn. An
event's lane begins where the orchestrator last went idle before it.

Invariant: pure. The number of lanes is bounded: if there are too many, calls of the same name share one lane.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from devhost.durable.store import jsontext
from devhost.durable.store.history import DEAD_TIMER, RETRY_OF, EventType, note, operation, parse_timestamp
from devhost.extensions.timeline import MOST_LANES, Bar, Lane, Timeline, Tone
from devhost.extensions.timescale import span

type Event = Mapping[str, jsontext.Json]

_CALLS = {EventType.TASK_SCHEDULED: "activity", EventType.SUB_CREATED: "sub"}
_ANSWERS = {
    EventType.TASK_COMPLETED: ("TaskScheduledId", Tone.DONE),
    EventType.TASK_FAILED: ("TaskScheduledId", Tone.FAILED),
    EventType.SUB_COMPLETED: ("TaskScheduledId", Tone.DONE),
    EventType.SUB_FAILED: ("TaskScheduledId", Tone.FAILED),
    EventType.TIMER_FIRED: ("TimerId", Tone.DONE),
}
_NOUNS = (("activity", "activity call"), ("sub", "sub-orchestration"), ("timer", "timer"), ("event", "event"))
_ENDS = {EventType.EXECUTION_COMPLETED, EventType.EXECUTION_FAILED, EventType.EXECUTION_TERMINATED}


@dataclass(slots=True)
class _Row:
    kind: str
    label: str
    start_us: int
    task_id: int = -1
    due_us: int | None = None
    end_us: int | None = None
    tone: Tone = Tone.OPEN
    is_dead: bool = False


@dataclass(slots=True)
class _Reading:
    """State while a history is read."""

    rows: list[_Row] = field(default_factory=list)
    open: dict[int, _Row] = field(default_factory=dict)
    asked: dict[str, _Row] = field(default_factory=dict)
    """Entity calls by the request id that their answer names."""
    attempts: Counter[int] = field(default_factory=Counter)
    episodes: list[Bar] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    suspended: list[Bar] = field(default_factory=list)
    suspended_us: int | None = None
    awake_us: int | None = None
    asleep_us: int | None = None
    first_us: int | None = None


def timeline(
    instance_id: str, events: Iterable[Event], *, now_us: int, is_over: bool, armed: Collection[int]
) -> Timeline:
    """events: decoded, oldest first. armed: ids of timers that will still fire."""
    reading = _Reading()
    for event in events:
        _take(reading, event)
    if reading.awake_us is not None and not is_over:
        reading.episodes.append(Bar(reading.awake_us, now_us, Tone.OPEN))
    if reading.suspended_us is not None:
        reading.suspended.append(Bar(reading.suspended_us, now_us, Tone.OPEN))
    lanes = [_lane(row, now_us=now_us, is_over=is_over, armed=armed) for row in reading.rows]
    counted = Counter(row.kind for row in reading.rows)
    failed = sum(row.tone is Tone.FAILED for row in reading.rows)
    shown, notes = (lanes, []) if len(lanes) <= MOST_LANES - 2 else _grouped(lanes)
    is_asleep = reading.asleep_us is not None and reading.awake_us is None and not is_over
    if is_asleep and not any(bar.tone is Tone.OPEN for lane in lanes for bar in lane.bars):
        notes = [*notes, "Nothing is open: it can only wait for an event, which a history names when it comes."]
    top = [Lane("orchestrator", "orchestrator", reading.episodes, reading.marks, note="when its code ran")]
    if reading.suspended:
        top.append(Lane("orchestrator", "suspended", reading.suspended))
    return Timeline(
        title="Timeline",
        summary=_summary(instance_id, counted, failed, reading, now_us),
        lanes=[*top, *shown],
        notes=notes,
    )


def _take(reading: _Reading, event: Event) -> None:
    kind = EventType(cast("int", event["EventType"]))
    at = parse_timestamp(str(event["Timestamp"]))
    reading.first_us = at if reading.first_us is None else min(at, reading.first_us)
    if kind is EventType.ORCHESTRATOR_STARTED:
        reading.awake_us = at
    elif kind is EventType.ORCHESTRATOR_COMPLETED:
        reading.episodes.append(Bar(min(at, at if reading.awake_us is None else reading.awake_us), at))
        reading.awake_us, reading.asleep_us = None, at
    elif kind in _CALLS:
        _schedule(reading, event, _Row(_CALLS[kind], str(event.get("Name") or ""), at))
    elif kind is EventType.TIMER_CREATED:
        due_us = parse_timestamp(str(event["FireAt"]))
        label = "timer" if note(event, RETRY_OF) is None else "delay after a failure"
        _schedule(reading, event, _Row("timer", label, at, due_us=due_us, is_dead=bool(note(event, DEAD_TIMER))))
    elif kind in _ANSWERS:
        key, tone = _ANSWERS[kind]
        row = reading.open.pop(cast("int", event[key]), None)
        if row is not None:
            row.end_us, row.tone = max(at, row.start_us), tone
    elif kind is EventType.EVENT_SENT:
        _send(reading, event, at)
    elif kind is EventType.EVENT_RAISED:
        _raise(reading, event, at)
    elif kind is EventType.EXECUTION_SUSPENDED:
        reading.suspended_us = at
    elif kind is EventType.EXECUTION_RESUMED and reading.suspended_us is not None:
        reading.suspended.append(Bar(reading.suspended_us, max(at, reading.suspended_us)))
        reading.suspended_us = None
    elif kind in _ENDS:
        reading.marks.append(at)
        reading.suspended_us = None


def _schedule(reading: _Reading, event: Event, row: _Row) -> None:
    root = note(event, RETRY_OF)
    if isinstance(root, int) and row.kind != "timer":
        reading.attempts[root] += 1
        if reading.attempts[root] > 1:
            row.label += f" (attempt {reading.attempts[root]})"
    row.task_id = cast("int", event["EventId"])
    reading.open[row.task_id] = row
    reading.rows.append(row)


def _send(reading: _Reading, event: Event, at: int) -> None:
    """Read a call of an entity, which an event named after the request answers, or a signal, which has no answer."""
    row = _Row("entity", f"{event.get('InstanceId')} {operation(event)}", at)
    reading.rows.append(row)
    sent = jsontext.loads(str(event.get("Input") or "null"))
    if isinstance(sent, dict) and not sent.get("signal"):
        reading.asked[str(sent.get("id"))] = row
    else:
        row.end_us, row.tone = at, Tone.DONE


def _raise(reading: _Reading, event: Event, at: int) -> None:
    name = str(event.get("Name"))
    answered = reading.asked.pop(name, None)
    if answered is not None:
        answered.end_us, answered.tone = max(at, answered.start_us), Tone.DONE
        return
    since = at if reading.asleep_us is None else min(at, reading.asleep_us)
    reading.rows.append(_Row("event", f"event {name}", since, end_us=at, tone=Tone.IDLE))


def _lane(row: _Row, *, now_us: int, is_over: bool, armed: Collection[int]) -> Lane:
    if row.kind == "event":
        assert row.end_us is not None, "an event is known by its arrival"
        return Lane("event", row.label, [Bar(row.start_us, row.end_us, Tone.IDLE)], [row.end_us], note="arrived")
    if row.end_us is not None:
        took = span(row.end_us - row.start_us)
        note = f"failed after {took}" if row.tone is Tone.FAILED else took
        return Lane(row.kind, row.label, [Bar(row.start_us, row.end_us, row.tone)], note=note)
    if row.kind == "timer" and (is_over or row.is_dead or row.task_id not in armed):
        # No event records when it was cancelled.
        due = "" if row.due_us is None else f" (due after {span(max(0, row.due_us - row.start_us))})"
        return Lane("timer", row.label, marks=[row.start_us], note=f"cancelled{due}")
    if is_over:
        return Lane(row.kind, row.label, marks=[row.start_us], note="never answered")
    end_us = max(now_us, row.start_us)
    note = f"open for {span(end_us - row.start_us)}"
    if row.due_us is not None:
        note += f", due in {span(row.due_us - end_us)}" if row.due_us > end_us else ", due now"
    return Lane(row.kind, row.label, [Bar(row.start_us, end_us, Tone.OPEN)], note=note)


def _grouped(lanes: Sequence[Lane]) -> tuple[list[Lane], list[str]]:
    """One lane for all lanes of the same kind and name, in order of the first."""
    groups: dict[tuple[str, str], list[Lane]] = {}
    for lane in lanes:
        groups.setdefault((lane.kind, lane.label.partition(" (attempt ")[0]), []).append(lane)
    merged = []
    for (kind, label), members in groups.items():
        bars = [bar for lane in members for bar in lane.bars]
        failed = sum(bar.tone is Tone.FAILED for bar in bars)
        still = sum(bar.tone is Tone.OPEN for bar in bars)
        told = [f"{len(members)} times"] * (len(members) > 1)
        told += [f"{failed} failed"] * bool(failed) + [f"{still} open"] * bool(still)
        marks = [at for lane in members for at in lane.marks]
        merged.append(Lane(kind, label, bars, marks, note=", ".join(told)))
    return merged, [f"{len(lanes)} lanes are too many: those of one name share one."]


def _summary(instance_id: str, counted: Counter[str], failed: int, reading: _Reading, now_us: int) -> str:
    parts = [f"{counted[kind]} {noun}{'' if counted[kind] == 1 else 's'}" for kind, noun in _NOUNS if counted[kind]]
    since = now_us if reading.first_us is None else reading.first_us
    until = max([since, *reading.marks]) if reading.marks else now_us
    told = f"{', '.join(parts) or 'nothing scheduled'}; {failed} failed" if failed else ", ".join(parts)
    return (
        f"Timeline of {instance_id}: {told or 'nothing scheduled'}; "
        f"{'took' if reading.marks else 'open for'} {span(max(0, until - since))}. The table below lists every event."
    )
