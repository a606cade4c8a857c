"""Instances as a host has stored them: from the store of a local host, and from exported files.

An exported file is a JSON array of instances:

    [{"orchestration": "turn", "instance_id": "01a2...", "status": "Running", "events": [...]}, ...]

`events` is the history that the Durable extension gives to a worker, oldest first: objects in PascalCase with integer
event types. `status` is the runtime status; an instance without one has ended if its history says so. `backend` is
`storage` for instances of Azure Storage, whose host cuts long timers.

Invariant: nothing is written, and a store is read while its host runs.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devhost.durable.store.history import EventType, without_notes
from devhost.durable.store.records import TERMINAL, Status
from devhost.durable.store.schema import SCHEMA_VERSION

type Json = dict[str, Any]

STORAGE = "storage"
_LONG_TIMERS = {"maximumShortTimerDuration": "6.00:00:00", "longRunningTimerIntervalDuration": "3.00:00:00"}
"""As the extension sends it with Azure Storage. Source: recorded contexts of the extension 3.19.0."""
_ENDS = frozenset({EventType.EXECUTION_COMPLETED, EventType.EXECUTION_FAILED, EventType.EXECUTION_TERMINATED})


class Unreadable(Exception):
    """The message says which file, and why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One instance. status: of `Status`; events: decoded, oldest first, empty before its first episode."""

    orchestration: str
    instance_id: str
    events: list[Json] = field(repr=False)
    status: str = Status.RUNNING
    backend: str = ""

    @property
    def waits(self) -> bool:
        return self.status not in TERMINAL

    def context(self, events: Sequence[Json]) -> Json:
        """What a worker is given to replay these events."""
        started = next((event for event in events if event["EventType"] == EventType.EXECUTION_STARTED), None)
        text = None if started is None else started.get("Input")
        parent = None if started is None else started.get("ParentInstance")
        return {
            "history": [_for_the_app(event) for event in events],
            "input": None if text is None else json.loads(text),
            "instanceId": self.instance_id,
            "isReplaying": True,
            "parentInstanceId": None if parent is None else parent["OrchestrationInstance"]["InstanceId"],
            "upperSchemaVersion": 1,
            "upperSchemaVersionNew": 3,
        } | (_LONG_TIMERS if self.backend == STORAGE else {})


def _for_the_app(event: Json) -> Json:
    told = dict(event)
    without_notes(told)
    return told


def read(path: Path) -> list[Stored]:
    """Every instance of a file, or of a folder's stores (`durable-*.sqlite3`), else of its exports (`*.json`).

    Raises Unreadable, also where there is no such file.
    """
    if path.is_dir():
        files = sorted(path.glob("durable-*.sqlite3")) or sorted(path.glob("*.json"))
    else:
        files = [path]
    if not files:
        raise Unreadable(f"{path} has no histories: name a store (*.sqlite3) or exported histories (*.json)")
    return [stored for file in files for stored in (_of_store(file) if file.suffix == ".sqlite3" else _exported(file))]


def _exported(path: Path) -> Iterator[Stored]:
    try:
        items = json.loads(path.read_text("utf-8"))
        if not isinstance(items, list):
            raise Unreadable(f"{path} holds no exported histories: it is no array")
        for item in items:
            events = item["events"]
            status = item.get("status") or status_of(events)
            yield Stored(item["orchestration"], item["instance_id"], events, status, item.get("backend") or "")
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(f"{path} holds no exported histories: {type(error).__name__}: {error}") from error


def status_of(events: Sequence[Json]) -> str:
    """Running, or Completed for every end."""
    return Status.COMPLETED if any(event["EventType"] in _ENDS for event in events) else Status.RUNNING


def _of_store(path: Path) -> list[Stored]:
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise Unreadable(f"{path} was written by another version of the dev host (schema {version})")
            # One snapshot: the host that writes goes on beside it.
            connection.execute("BEGIN")
            rows = connection.execute("SELECT gen, instance_id, name, status FROM instances ORDER BY gen").fetchall()
            return [_instance(connection, *row) for row in rows if row[3] not in TERMINAL]
    except sqlite3.Error as error:
        raise Unreadable(f"{path}: {error}") from error


def _instance(connection: sqlite3.Connection, gen: int, instance_id: str, name: str, status: str) -> Stored:
    chunks = connection.execute("SELECT events FROM history WHERE gen = ? ORDER BY position", (gen,))
    return Stored(name, instance_id, json.loads(f"[{','.join(chunk for (chunk,) in chunks)}]"), status)


def episodes(events: Sequence[Json], scheduling: frozenset[EventType]) -> Iterator[tuple[list[Json], list[Json]]]:
    """(history as the episode saw it, everything scheduled up to its end), oldest episode first."""
    start = 0
    while start < len(events):
        ends = (n for n in range(start, len(events)) if events[n]["EventType"] == EventType.ORCHESTRATOR_COMPLETED)
        end = next(ends)
        scheduled = [
            n for n in range(start, end) if events[n]["EventType"] in {*scheduling, EventType.EXECUTION_COMPLETED}
        ]
        yield (
            list(events[: scheduled[0] if scheduled else end]),
            [event for event in events[:end] if event["EventType"] in scheduling],
        )
        start = end + 1
        while start < len(events) and events[start]["EventType"] != EventType.ORCHESTRATOR_STARTED:
            start += 1  # suspended and resumed: no user code ran
