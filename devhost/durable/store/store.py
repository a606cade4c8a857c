"""The durable store: one SQLite file in WAL mode, one writer thread, group commit.

Invariant: each Unit is atomic and durable before its future resolves. Units that wait together share one
transaction; if that fails, each is tried alone, so that one bad unit does not fail others.
`synchronous=NORMAL` in WAL mode survives a crash of the process at any point. A power failure may lose the last
commits (never consistency), which is acceptable for a development host.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue

from devhost.durable.store import schema
from devhost.durable.store.checkpoint import Checkpointer
from devhost.durable.store.crash import CrashPoint
from devhost.durable.store.history import EventType
from devhost.durable.store.records import (
    EntityOp,
    EntityRow,
    InstanceRow,
    Message,
    MessageKind,
    Status,
    TaskKind,
    TaskRow,
    Unit,
)
from devhost.durable.store.statements import INSTANCE_COLUMNS, apply, decode_instance
from devhost.extensions.contract import HostError

_LARGEST_GROUP = 256

type _Job = tuple[Unit, asyncio.Future[None]]


class Store:
    """Reads run on the caller's thread and see only committed data."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises HostError when it is in use or of another version."""
        self._path = path
        self._crash_point = CrashPoint.from_environment()
        self._lock = _lock(path)
        try:
            self._writer = _connect(path)
            schema.prepare(self._writer, path)
            self._reader = _connect(path)
            self._reader.execute("PRAGMA query_only = ON")
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise HostError(f"{path} cannot be used as the durable store: {error}") from error
        except HostError:
            self._lock.close()
            raise
        self._checkpointer = Checkpointer(_connect(path))
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="durable-store", daemon=True)
        self._thread.start()
        self._closed = False

    def commit(self, unit: Unit) -> asyncio.Future[None]:
        """Persist a unit; units are applied in call order. The future fails with sqlite3.Error."""
        if self._closed:
            raise sqlite3.ProgrammingError("the durable store is closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((unit, future))
        return future

    def close(self) -> None:
        """Finish pending units and release the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        self._checkpointer.close()
        self._reader.close()
        self._writer.close()
        self._lock.close()

    def instance(self, instance_id: str) -> InstanceRow | None:
        row = self._reader.execute(
            f"SELECT {INSTANCE_COLUMNS} FROM instances WHERE instance_id = ?",  # noqa: S608  # constant columns
            (instance_id,),
        ).fetchone()
        return None if row is None else decode_instance(row)

    def instances(
        self,
        *,
        after: str = "",
        prefix: str = "",
        created_from_us: int | None = None,
        created_to_us: int | None = None,
        statuses: Sequence[Status] = (),
        top: int | None = None,
    ) -> list[InstanceRow]:
        """Instances in order of their ids, from the first id greater than `after`."""
        where, values = ["instance_id > ?"], [after]
        arguments: list[str | int] = list(values)
        if prefix:
            where.append("substr(instance_id, 1, ?) = ?")
            arguments += [len(prefix), prefix]
        if created_from_us is not None:
            where.append("created_us >= ?")
            arguments.append(created_from_us)
        if created_to_us is not None:
            where.append("created_us <= ?")
            arguments.append(created_to_us)
        if statuses:
            where.append(f"status IN ({','.join('?' * len(statuses))})")
            arguments += list(statuses)
        arguments.append(-1 if top is None else top)
        rows = self._reader.execute(
            f"SELECT {INSTANCE_COLUMNS} FROM instances WHERE {' AND '.join(where)} "  # noqa: S608  # only markers
            "ORDER BY instance_id LIMIT ?",
            arguments,
        )
        return [decode_instance(row) for row in rows]

    def newest(self, top: int, *, before_gen: int | None = None, status: Status | None = None) -> list[InstanceRow]:
        """The instances whose generation began last, newest first."""
        rows = self._reader.execute(
            f"SELECT {INSTANCE_COLUMNS} FROM instances WHERE gen < ? AND (? IS NULL OR status = ?) "  # noqa: S608  # constant columns
            "ORDER BY gen DESC LIMIT ?",
            ((1 << 63) - 1 if before_gen is None else before_gen, status, status, top),
        )
        return [decode_instance(row) for row in rows]

    def count_by_status(self) -> dict[Status, int]:
        rows = self._reader.execute("SELECT status, count(*) FROM instances GROUP BY status")
        return {Status(status): count for status, count in rows}

    def armed_timers(self, gen: int) -> set[int]:
        """Ids of the timers of a generation that will still fire."""
        rows = self._reader.execute("SELECT task_id FROM tasks WHERE gen = ? AND kind = ?", (gen, TaskKind.TIMER))
        return {row[0] for row in rows}

    def history(self, gen: int) -> list[str]:
        """Encoded events of a generation, one text per episode, oldest first."""
        rows = self._reader.execute("SELECT events FROM history WHERE gen = ? ORDER BY position", (gen,))
        return [row[0] for row in rows]

    def messages(self) -> list[Message]:
        rows = self._reader.execute(
            "SELECT seq, instance_id, kind, event, execution_id, task_id, event_type, text FROM messages ORDER BY seq"
        )
        return [
            Message(seq, instance, MessageKind(kind), event, execution, task, EventType(event_type), text)
            for seq, instance, kind, event, execution, task, event_type, text in rows
        ]

    def tasks(self) -> list[TaskRow]:
        rows = self._reader.execute(
            "SELECT gen, task_id, kind, instance_id, execution_id, name, input, fire_at_us FROM tasks "
            "ORDER BY gen, task_id"
        )
        return [TaskRow(gen, task, TaskKind(kind), *rest) for gen, task, kind, *rest in rows]

    def entity(self, entity_id: str) -> EntityRow | None:
        row = self._reader.execute(
            "SELECT entity_id, is_alive, state, updated_us FROM entities WHERE entity_id = ?", (entity_id,)
        ).fetchone()
        return None if row is None else EntityRow(row[0], bool(row[1]), row[2], row[3])

    def entities(
        self,
        *,
        prefix: str,
        after: str = "",
        from_us: int | None = None,
        to_us: int | None = None,
        top: int | None = None,
    ) -> list[EntityRow]:
        """Living entities whose ids start with a prefix, in order of their ids."""
        rows = self._reader.execute(
            "SELECT entity_id, is_alive, state, updated_us FROM entities WHERE is_alive "
            "AND substr(entity_id, 1, ?) = ? AND entity_id > ? AND updated_us >= ? AND updated_us <= ? "
            "ORDER BY entity_id LIMIT ?",
            (
                len(prefix),
                prefix,
                after,
                from_us or 0,
                to_us if to_us is not None else 1 << 62,
                -1 if top is None else top,
            ),
        )
        return [EntityRow(row[0], True, row[2], row[3]) for row in rows]

    def entity_ops(self) -> list[EntityOp]:
        rows = self._reader.execute(
            "SELECT seq, entity_id, operation, input, caller, request_id FROM entity_ops ORDER BY seq"
        )
        return [EntityOp(*row) for row in rows]

    def highest(self) -> tuple[int, int]:
        """The highest generation and sequence number in use."""
        gen = self._reader.execute(
            "SELECT max(coalesce((SELECT max(gen) FROM instances), 0), "
            "coalesce((SELECT max(gen) FROM history), 0), coalesce((SELECT max(gen) FROM tasks), 0))"
        ).fetchone()[0]
        seq = self._reader.execute(
            "SELECT max(coalesce((SELECT max(seq) FROM messages), 0), coalesce((SELECT max(seq) FROM entity_ops), 0))"
        ).fetchone()[0]
        return int(gen), int(seq)

    def _write_all(self) -> None:
        while (job := self._jobs.get()) is not None:
            group = [job]
            ends = False
            while len(group) < _LARGEST_GROUP:
                try:
                    more = self._jobs.get_nowait()
                except Empty:
                    break
                if more is None:
                    ends = True
                    break
                group.append(more)
            self._write_group(group)
            self._checkpointer.note_commit()
            if ends:
                return

    def _write_group(self, group: list[_Job]) -> None:
        failures: list[BaseException | None] = [None] * len(group)
        if self._crash_point is not None:
            self._crash_point.about_to_commit([unit for unit, _ in group])
        try:
            apply(self._writer, [unit for unit, _ in group])
        except sqlite3.Error as error:
            if len(group) == 1:
                failures[0] = error
            else:
                for index, (unit, _) in enumerate(group):
                    try:
                        apply(self._writer, [unit])
                    except sqlite3.Error as alone:
                        failures[index] = alone
        if self._crash_point is not None:
            # Before anything learns that it is stored, which is the moment that tests need.
            self._crash_point.committed()
        loop = group[0][1].get_loop()
        try:
            loop.call_soon_threadsafe(_resolve, group, failures)
        except RuntimeError:
            return  # The loop is closed, so nothing waits any more; the units are stored.


def _resolve(group: list[_Job], failures: list[BaseException | None]) -> None:
    for (_, future), failure in zip(group, failures, strict=True):
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # The checkpointer's thread does it.
    return connection


def _lock(path: Path) -> sqlite3.Connection:
    """A lock that the operating system releases when the process ends, on every platform."""
    connection = sqlite3.connect(f"{path}.lock", isolation_level=None, check_same_thread=False, timeout=0)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        connection.close()
        raise HostError(f"{path} is in use by another dev host; stop it or choose another --data folder") from error
    return connection
