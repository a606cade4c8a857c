"""The durable engine: recovery at start, and the commands of clients.

Invariant: every command is stored before it is acknowledged, and start() restores exactly the stored state:
queued messages, unanswered activities, armed timers and waiting entity operations.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from devhost.durable.core import Core
from devhost.durable.ids import new_id
from devhost.durable.registry import Registry
from devhost.durable.replay.episode import bad_instance_id
from devhost.durable.replay.instance import Instance, start_message
from devhost.durable.settings import DurableSettings
from devhost.durable.store import history
from devhost.durable.store.history import EventType, now_us
from devhost.durable.store.records import (
    TERMINAL,
    InstanceRow,
    Message,
    MessageKind,
    Status,
    TaskKind,
    Unit,
)
from devhost.durable.store.store import Store
from devhost.durable.workers.activities import Activities
from devhost.durable.workers.entities import Entities
from devhost.durable.workers.orchestrations import Orchestrations
from devhost.extensions.contract import Host

logger = logging.getLogger("devhost.durable")

_LONGEST_END_S = 30.0


class BadRequest(Exception):
    """The command's arguments are wrong."""


class Refused(Exception):
    """The instance's state does not allow the command."""


class NotFound(Exception):
    """There is no such instance."""


class Gone(Exception):
    """The instance has ended."""


class Engine:
    """One task hub. Commands raise the four errors above and sqlite3.Error."""

    def __init__(self, host: Host, path: Path, registry: Registry, settings: DurableSettings) -> None:
        """Open the store. Raises HostError when the file is in use or of another version."""
        self.store = Store(path)
        self.core = Core(host, self.store, registry, settings)
        self.activities = Activities(self.core)
        self.entities = Entities(self.core)
        self.orchestrations = Orchestrations(self.core, self.activities, self.entities)
        self._closed = False

    def start(self) -> None:
        """Resume everything that was in flight."""
        core = self.core
        tasks = self.store.tasks()
        messages = self.store.messages()
        ops = self.store.entity_ops()
        for task in tasks:
            if task.kind is TaskKind.TIMER:
                self.orchestrations.timers.arm(task)
            else:
                self.activities.submit(task)
        for message in messages:
            core.deliver(message)
        for op in ops:
            self.entities.take_in(op)
        if tasks or messages or ops:
            logger.info(
                "durable: going on with %d tasks, %d messages, %d entity operations",
                len(tasks),
                len(messages),
                len(ops),
            )

    async def stop(self) -> None:
        """Abandon running work (it runs again at the next start), finish commits, release the file."""
        if self._closed:
            return
        self._closed = True
        self.core.release_waiters()
        await self.orchestrations.close()
        await self.activities.close()
        await self.entities.close()
        self.store.close()

    def status(self, instance_id: str) -> InstanceRow | None:
        return self.store.instance(instance_id)

    async def start_instance(
        self, name: str, *, instance_id: str | None, input_text: str | None, version: str | None = None
    ) -> str:
        """Start an orchestration; returns its id. input_text: raw input, one JSON text."""
        core = self.core
        problem = core.registry.check_orchestrator(name)
        if problem is None and instance_id is not None:
            problem = bad_instance_id(instance_id)
        if problem is not None:
            raise BadRequest(problem)
        if instance_id is None:
            # A new id cannot exist yet, so it is not looked up.
            instance_id = new_id()
            await self._start(name, instance_id, input_text, version, None)
            return instance_id
        while (live := core.cache.get(instance_id)) is not None:
            if live.is_over:
                await core.wait_until_over(instance_id, _LONGEST_END_S)
                continue
            if not core.settings.replaces_live_instances:
                raise Refused(f"An Orchestration instance with the status {live.row.status} already exists.")
            await self.terminate(instance_id, "Replaced by a new instance")
            await core.wait_until_over(instance_id, 30)
            return await self.start_instance(name, instance_id=instance_id, input_text=input_text, version=version)
        await self._start(name, instance_id, input_text, version, self.store.instance(instance_id))
        return instance_id

    async def raise_event(self, instance_id: str, name: str, input_text: str) -> None:
        """input_text: the payload, one JSON text."""
        self.require_live(instance_id)
        event = history.event_raised(now_us(), name, input_text)
        await self._send(instance_id, MessageKind.EVENT, event)

    async def terminate(self, instance_id: str, reason: str) -> None:
        self.require_live(instance_id)
        event = history.execution_terminated(now_us(), reason)
        await self._send(instance_id, MessageKind.TERMINATE, event, text=reason)

    async def suspend(self, instance_id: str, reason: str) -> None:
        if self.require_live(instance_id).will_be_suspended:
            raise Refused(f"Instance {instance_id} is suspended already.")
        event = history.encode(EventType.EXECUTION_SUSPENDED, now_us(), Reason=reason)
        await self._send(instance_id, MessageKind.SUSPEND, event)

    async def resume(self, instance_id: str, reason: str) -> None:
        if not self.require_live(instance_id).will_be_suspended:
            raise Refused(f"Instance {instance_id} is not suspended.")
        event = history.encode(EventType.EXECUTION_RESUMED, now_us(), Reason=reason)
        await self._send(instance_id, MessageKind.RESUME, event)

    async def restart(self, instance_id: str, *, with_new_id: bool) -> str:
        """Start again with the same name, input and version; returns the id."""
        row = self.store.instance(instance_id)
        if row is None:
            raise BadRequest(f"An orchestrator instance with the id {instance_id} was not found.")
        return await self.start_instance(
            row.name,
            instance_id=None if with_new_id else instance_id,
            input_text=row.input,
            version=row.version,
        )

    async def purge(self, instance_id: str) -> int:
        """Delete an ended instance; returns how many were deleted."""
        row = self.store.instance(instance_id)
        if row is None:
            raise NotFound(instance_id)
        return await self._purge([row])

    async def purge_where(self, *, created_from_us: int, created_to_us: int | None, statuses: Sequence[Status]) -> int:
        """Delete every ended instance created in a period; returns how many."""
        wanted = [status for status in (statuses or TERMINAL) if status in TERMINAL]
        if not wanted:
            return 0
        return await self._purge(
            self.store.instances(created_from_us=created_from_us, created_to_us=created_to_us, statuses=wanted)
        )

    async def _start(
        self,
        name: str,
        instance_id: str,
        input_text: str | None,
        version: str | None,
        replaced: InstanceRow | None,
    ) -> None:
        core, now = self.core, now_us()
        row = InstanceRow(
            gen=core.next_gen(),
            instance_id=instance_id,
            execution_id=new_id(),
            name=name,
            version=version or core.settings.default_version,
            status=Status.PENDING,
            input=input_text,
            output=None,
            custom_status=None,
            created_us=now,
            updated_us=now,
        )
        unit = Unit(instances=[row])
        if replaced is not None:
            unit.drop_gens.append(replaced.gen)
        instance = Instance(row)
        # From here on, a second start of the same id is refused, although nothing is stored yet.
        core.cache.add(instance)
        try:
            await core.send(start_message(row, core.next_seq(), now), unit)
        except sqlite3.Error:
            core.cache.forget(instance)
            raise

    async def _purge(self, rows: Sequence[InstanceRow]) -> int:
        gens = [row.gen for row in rows if row.status in TERMINAL]
        if gens:
            await self.store.commit(Unit(drop_gens=gens))
        return len(gens)

    def require_live(self, instance_id: str) -> Instance:
        """The running instance of an id. Raises NotFound or Gone."""
        live = self.core.live(instance_id)
        if live is not None:
            return live
        row = self.store.instance(instance_id)
        if row is None:
            raise NotFound(instance_id)
        raise Gone(instance_id)

    async def _send(self, instance_id: str, kind: MessageKind, event: str, *, text: str = "") -> None:
        message = Message(self.core.next_seq(), instance_id, kind, event)
        await self.core.send(replace(message, text=text) if text else message)
