"""SQL of the durable store: converts units to statements and rows to records.

Invariant: puts come before drops. All changes of a group of units use one statement per table, so a commit
costs few statements however many units it contains.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from devhost.durable.store.records import InstanceRow, Parent, Status, Unit

INSTANCE_COLUMNS = (
    "gen, instance_id, execution_id, name, version, status, input, output, custom_status, "
    "created_us, updated_us, parent_instance_id, parent_execution_id, parent_task_id"
)


def apply(connection: sqlite3.Connection, units: list[Unit]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, rows in _statements(units):
            if rows:
                connection.executemany(sql, rows)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


type _Rows = list[tuple[str | int | None, ...]]


def _statements(units: list[Unit]) -> Iterable[tuple[str, _Rows]]:
    """All changes of the units, merged by table; puts first, so that a later unit can drop an earlier put."""
    yield (
        f"INSERT OR REPLACE INTO instances ({INSTANCE_COLUMNS}) VALUES ({','.join('?' * 14)})",  # noqa: S608  # constants
        [_instance_values(row) for unit in units for row in unit.instances],
    )
    yield (
        "UPDATE instances SET status = ?, custom_status = ?, output = ?, updated_us = ? WHERE gen = ?",
        [
            (row.status, row.custom_status, row.output, row.updated_us, row.gen)
            for unit in units
            for row in unit.updates
        ],
    )
    yield (
        "INSERT INTO history (gen, position, events) VALUES (?, ?, ?)",
        [chunk for unit in units for chunk in unit.history],
    )
    yield (
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (m.seq, m.instance_id, m.kind, m.event, m.execution_id, m.task_id, m.event_type, m.text)
            for unit in units
            for m in unit.messages
        ],
    )
    yield (
        "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (t.gen, t.task_id, t.kind, t.instance_id, t.execution_id, t.name, t.input, t.fire_at_us)
            for unit in units
            for t in unit.tasks
        ],
    )
    yield (
        "INSERT OR REPLACE INTO entities VALUES (?, ?, ?, ?)",
        [(e.entity_id, e.exists, e.state, e.updated_us) for unit in units for e in unit.entities],
    )
    yield (
        "INSERT INTO entity_ops VALUES (?, ?, ?, ?, ?, ?)",
        [(o.seq, o.entity_id, o.operation, o.input, o.caller, o.request_id) for unit in units for o in unit.entity_ops],
    )
    yield "DELETE FROM messages WHERE seq = ?", [(s,) for unit in units for s in unit.drop_messages]
    yield (
        "DELETE FROM tasks WHERE gen = ? AND task_id = ?",
        [pair for unit in units for pair in unit.drop_tasks],
    )
    gens: _Rows = [(gen,) for unit in units for gen in unit.drop_gens]
    yield "DELETE FROM history WHERE gen = ?", gens
    yield "DELETE FROM tasks WHERE gen = ?", gens
    yield "DELETE FROM instances WHERE gen = ?", gens
    yield "DELETE FROM entity_ops WHERE seq = ?", [(s,) for unit in units for s in unit.drop_entity_ops]


def _instance_values(row: InstanceRow) -> tuple[str | int | None, ...]:
    parent = row.parent
    return (
        row.gen,
        row.instance_id,
        row.execution_id,
        row.name,
        row.version,
        row.status,
        row.input,
        row.output,
        row.custom_status,
        row.created_us,
        row.updated_us,
        None if parent is None else parent.instance_id,
        None if parent is None else parent.execution_id,
        None if parent is None else parent.task_id,
    )


def decode_instance(row: tuple[object, ...]) -> InstanceRow:
    (gen, instance, execution, name, version, status, input_text, output, custom, created, updated) = row[:11]
    parent = None if row[11] is None else Parent(str(row[11]), str(row[12]), int(str(row[13])))
    return InstanceRow(
        gen=int(str(gen)),
        instance_id=str(instance),
        execution_id=str(execution),
        name=str(name),
        version=str(version),
        status=Status(str(status)),
        input=None if input_text is None else str(input_text),
        output=None if output is None else str(output),
        custom_status=None if custom is None else str(custom),
        created_us=int(str(created)),
        updated_us=int(str(updated)),
        parent=parent,
    )
