"""Orchestration instances for the host's pages: the newest, and one with its history as a timeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from devhost.durable.engine import Engine
from devhost.durable.records import InstanceRow
from devhost.durable.status import history_events, seconds
from devhost.extension import Table

_NEWEST = 100
_MAX_CHARS = 400


def instance_tables(engine: Engine, instance_id: str | None) -> list[Table]:
    """Empty when there is no such instance."""
    if instance_id is None:
        return [_overview(engine)]
    row = engine.status(instance_id)
    return [] if row is None else [_facts(row), _history(engine, row)]


def _overview(engine: Engine) -> Table:
    columns = ("Instance", "Orchestrator", "Status", "Created", "Updated")
    rows = [
        [
            (row.instance_id, row.instance_id),
            (row.name, None),
            (row.status.value, None),
            (seconds(row.created_us), None),
            (seconds(row.updated_us), None),
        ]
        for row in engine.store.newest(_NEWEST)
    ]
    return Table(f"Orchestration instances (the newest {_NEWEST})", columns, rows)


def _facts(row: InstanceRow) -> Table:
    facts = {
        "Orchestrator": row.name,
        "Status": row.status.value,
        "Input": row.input,
        "Output": row.output,
        "Custom status": row.custom_status,
        "Created": seconds(row.created_us),
        "Updated": seconds(row.updated_us),
    }
    rows = [[(name, None), (_short(value), None)] for name, value in facts.items() if value is not None]
    return Table(f"Instance {row.instance_id}", ("", ""), rows)


def _history(engine: Engine, row: InstanceRow) -> Table:
    """Each event with the time since the instance began and what it took."""
    shown = history_events(engine.store.history(row.gen), show_input=True, show_output=True)
    events = [cast("Mapping[str, object]", event) for event in shown]
    times = [_at(event["Timestamp"]) for event in events]
    rows = []
    for event, at in zip(events, times, strict=True):
        took = f"{(at - _at(event['ScheduledTime'])).total_seconds():.3f} s" if "ScheduledTime" in event else ""
        what = event.get("FunctionName") or event.get("Name") or ""
        result = event.get("Result", event.get("Reason", event.get("Input")))
        rows.append(
            [
                (f"+{(at - times[0]).total_seconds():.3f} s", None),
                (str(event["EventType"]), None),
                (str(what), None),
                (took, None),
                ("" if result is None else _short(result if isinstance(result, str) else json.dumps(result)), None),
            ]
        )
    return Table("History", ("When", "Event", "What", "Took", "With"), rows)


def _at(value: object) -> datetime:
    return datetime.fromisoformat(str(value))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
