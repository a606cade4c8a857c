"""Orchestration instances on the host's pages: the newest, all by status, and one with its timeline and history.

Invariant: every page is bounded, however many instances or events there are. Invalid query values count as absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from devhost.durable.engine import Engine
from devhost.durable.management.lanes import Event, timeline
from devhost.durable.management.status import history_events, seconds
from devhost.durable.store import jsontext
from devhost.durable.store.history import EventType, now_us
from devhost.durable.store.records import TERMINAL, InstanceRow, Status
from devhost.extensions.contract import Cell, Link, Shown, Table
from devhost.extensions.timescale import span

_NEWEST = 20
_PAGE = 100
_EVENTS = 500
_MAX_CHARS = 400
_FILTERS = tuple(status for status in Status if status not in {Status.CANCELED, Status.CONTINUED_AS_NEW})


def newest_instances(engine: Engine) -> Table:
    rows = engine.store.newest(_NEWEST)
    total = sum(engine.store.count_by_status().values())
    part = f", the newest {_NEWEST} of {total}" if total > len(rows) else ""
    return _instances(f"Orchestration instances{part}", rows, [Link("All, by status")] if rows else [])


def instance_list(engine: Engine, query: Mapping[str, str]) -> Sequence[Shown]:
    """Newest first; `status` and `before` (a generation) choose the page."""
    status = next((known for known in _FILTERS if known.value.lower() == query.get("status", "").lower()), None)
    before = _number(query.get("before", ""))
    rows = engine.store.newest(_PAGE + 1, before_gen=before, status=status)
    counts = engine.store.count_by_status()
    links = [Link(f"All ({sum(counts.values())})", query={}, is_current=status is None)]
    for known in _FILTERS:
        text = f"{known.value} ({counts.get(known, 0)})"
        links.append(Link(text, query={"status": known.value}, is_current=known is status))
    chosen = {} if status is None else {"status": status.value}
    if before is not None:
        links.append(Link("Newest", query=chosen))
    if len(rows) > _PAGE:
        links.append(Link("Older", query=chosen | {"before": str(rows[_PAGE - 1].gen)}))
    return [_instances("Orchestration instances", rows[:_PAGE], links)]


def instance_page(engine: Engine, instance_id: str, query: Mapping[str, str]) -> Sequence[Shown]:
    """One instance; empty when it does not exist. Query `from`: number of the first event to show."""
    row = engine.status(instance_id)
    if row is None:
        return []
    chunks = engine.store.history(row.gen)
    events = cast("list[Event]", jsontext.loads(f"[{','.join(chunks)}]"))
    picture = timeline(
        row.instance_id,
        events,
        now_us=now_us(),
        is_over=row.status in TERMINAL,
        armed=engine.store.armed_timers(row.gen),
    )
    history = _history(row, chunks, _number(query.get("from", "")) or 0)
    return [_facts(row), picture, *_children(events), history]


def _instances(title: str, rows: Sequence[InstanceRow], links: Sequence[Link]) -> Table:
    columns = ("Instance", "Status", "Orchestrator", "Lasted", "Created (UTC)", "Parent")
    cells: list[list[Cell]] = []
    for row in rows:
        parent = None if row.parent is None else row.parent.instance_id
        cells.append(
            [
                (row.instance_id, row.instance_id),
                (row.status.value, None),
                (row.name, None),
                (_lasted(row), None),
                (seconds(row.created_us), None),
                ("", None) if parent is None else (parent, parent),
            ]
        )
    return Table(title, columns, cells, links)


def _lasted(row: InstanceRow) -> str:
    if row.status in TERMINAL:
        return span(max(0, row.updated_us - row.created_us))
    return f"{span(max(0, now_us() - row.created_us))} so far"


def _facts(row: InstanceRow) -> Table:
    facts: dict[str, str | None] = {
        "Orchestrator": row.name,
        "Status": row.status.value,
        "Input": row.input,
        "Output": row.output,
        "Custom status": row.custom_status,
        "Created": seconds(row.created_us),
        "Updated": seconds(row.updated_us),
        "Lasted": _lasted(row),
    }
    rows: list[list[Cell]] = [[(name, None), (_short(value), None)] for name, value in facts.items() if value]
    if row.parent is not None:
        rows.append([("Parent", None), (row.parent.instance_id, row.parent.instance_id)])
    return Table(f"Instance {row.instance_id}", ("", ""), rows)


def _children(events: Sequence[Event]) -> list[Table]:
    children = {
        str(event.get("InstanceId")): str(event.get("Name"))
        for event in events
        if event["EventType"] == EventType.SUB_CREATED
    }
    if not children:
        return []
    rows: list[list[Cell]] = [[(child, child), (name, None)] for child, name in list(children.items())[:_PAGE]]
    more = f", the first {_PAGE} of {len(children)}" if len(children) > _PAGE else ""
    return [Table(f"Sub-orchestrations{more}", ("Instance", "Orchestrator"), rows)]


def _history(row: InstanceRow, chunks: list[str], first: int) -> Table:
    """Each event with the time since the instance began and its duration."""
    shown = history_events(chunks, show_input=True, show_output=True, shows_given=True)
    events = [cast("Mapping[str, object]", event) for event in shown]
    began = _at(events[0]["Timestamp"]) if events else None
    rows = [_event(event, began) for event in events[first : first + _EVENTS] if began is not None]
    links = []
    if first > 0:
        links.append(Link("Earlier", row.instance_id, {"from": str(max(0, first - _EVENTS))}))
    if first + _EVENTS < len(events):
        links.append(Link("Later", row.instance_id, {"from": str(first + _EVENTS)}))
    part = f", events {first + 1} to {first + len(rows)} of {len(events)}" if links else ""
    return Table(f"History{part}", ("When", "Event", "What", "Took", "With"), rows, links)


def _event(event: Mapping[str, object], began: datetime) -> list[Cell]:
    at = _at(event["Timestamp"])
    took = _since(_at(event["ScheduledTime"]), at) if "ScheduledTime" in event else ""
    result = event.get("Result", event.get("Reason", event.get("Input")))
    what = str(event.get("FunctionName") or event.get("Name") or "")
    return [
        (f"+{_since(began, at)}", None),
        (str(event["EventType"]), None),
        (what, None),
        (took, None),
        ("" if result is None else _short(result if isinstance(result, str) else json.dumps(result)), None),
    ]


def _since(start: datetime, end: datetime) -> str:
    return span(max(0, round((end - start).total_seconds() * 1_000_000)))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _at(value: object) -> datetime:
    return datetime.fromisoformat(str(value))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
