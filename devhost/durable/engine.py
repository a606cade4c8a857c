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
from devhost.durable.limits import too_large
from devhost.durable.registry import Registry
from devhost.durable.replay import rewind
from devhost.durable.replay.episode import bad_instance_id
from devhost.durable.replay.instance import Instance, loaded_instance, start_message
from devhost.durable.settings import DurableSettings
from devhost.durable.store import history
from devhost.durable.store.history import EventType, now_us
from devhost.durable.store.records import (
    TERMINAL,
    InstanceRow,
    Message,
    MessageKind,
    Parent,
    Status,
    TaskKind,
    Unit,
)
from devhost.durable.store.store import Store
from devhost.durable.workers.activities import Activities
from devhost.durable.workers.entities import Entities
from devhost.durable.workers.orchestrations import Orchestrations
from devhost.extensions.contract import Host
from devhost.ids import new_guid, new_id

logger = logging.getLogger("devhost.durable")

_LONGEST_END_S = 30.0
_ARGUMENT_EXCEPTION = "System.ArgumentException"
_BAD_ARGUMENT = "One or more of the arguments submitted is incorrect"


class BadRequest(Exception):
    """The command's arguments are wrong.

    message: how the answer begins; `str()`: the text of the exception in it. kind: its .NET type; None: there is none,
    and `str()` is the whole answer.
    """

    def __init__(
        self, text: str, *, message: str = _BAD_ARGUMENT, kind: str | None = "System.ArgumentException"
    ) -> None:
        super().__init__(text)
        self.message = message
        self.kind = kind


class Refused(Exception):
    """The instance's state does not allow the command, or the backend does not take it."""


class Exists(Exception):
    """A live instance has the id. is_restart: it was to be restarted."""

    def __init__(self, text: str, *, is_restart: bool = False) -> None:
        super().__init__(text)
        self.is_restart = is_restart


class WrongState(Exception):
    """The command is for instances in another state; `str()` is the whole answer."""


class StartLost(Exception):
    """A harsh engine failed between the two halves of a start."""


class NotFound(Exception):
    """There is no such instance."""


class Gone(Exception):
    """The instance has ended."""


class Engine:
    """One task hub. Commands raise the errors above and sqlite3.Error."""

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
                self.activities.submit(task, after_s=self._invisible_s())
        for message in messages:
            core.deliver(message, after_s=self._invisible_s())
        for op in ops:
            self.entities.take_in(op)
        if tasks or messages or ops:
            logger.info(
                "durable: going on with %d tasks, %d messages, %d entity operations",
                len(tasks),
                len(messages),
                len(ops),
            )

    def _invisible_s(self) -> float:
        """How long work that was in flight is not handed out again."""
        harsh = self.core.harsh
        return 0.0 if harsh is None else harsh.delay_s("late_work")

    async def stop(self) -> None:
        """Let running activities end within the grace period, abandon other work (it runs again at the next start),
        finish commits, release the file."""
        if self._closed:
            return
        self._closed = True
        await self.activities.drain(self.core.settings.grace_s)
        self.core.release_waiters()
        self.core.late.close()
        await self.orchestrations.close()
        await self.activities.close()
        await self.entities.close()
        self.store.close()

    def status(self, instance_id: str) -> InstanceRow | None:
        return self.store.instance(instance_id)

    async def start_instance(
        self,
        name: str,
        *,
        instance_id: str | None,
        input_text: str | None,
        version: str | None = None,
        source_id: str | None = None,
        is_restart: bool = False,
    ) -> str:
        """Start an orchestration; returns its id.

        input_text: raw input, one JSON text. source_id: the instance that is repeated under a new id.
        """
        core = self.core
        problem = core.registry.check_orchestrator(name)
        if problem is None and instance_id is not None:
            problem = bad_instance_id(instance_id)
        if problem is not None:
            raise BadRequest(problem)
        self.check_size("the input", input_text)
        if instance_id is None:
            # A new id cannot exist yet, so it is not looked up.
            instance_id = new_id()
            await self._start(name, instance_id, input_text, version, None, source_id)
            return instance_id
        while (live := core.cache.get(instance_id)) is not None:
            if core.late.is_starting(instance_id):
                return instance_id  # Azure looks at what has arrived: both starts are accepted, and one of them runs.
            if live.is_over:
                await core.wait_until_over(instance_id, _LONGEST_END_S)
                continue
            if not core.settings.replaces_live_instances:
                raise Exists(
                    f"An Orchestration instance with the status {live.row.status} already exists.",
                    is_restart=is_restart,
                )
            await self.terminate(instance_id, "Replaced by a new instance")
            await core.wait_until_over(instance_id, 30)
            return await self.start_instance(name, instance_id=instance_id, input_text=input_text, version=version)
        await self._start(name, instance_id, input_text, version, self.store.instance(instance_id))
        return instance_id

    async def raise_event(self, instance_id: str, name: str, input_text: str) -> None:
        """input_text: the payload, one JSON text."""
        self.require_live(instance_id)
        self.check_size("the event", input_text)
        event = history.event_raised(now_us(), name, input_text)
        await self._send(instance_id, MessageKind.EVENT, event)

    async def terminate(self, instance_id: str, reason: str) -> None:
        self.require_live(instance_id)
        event = history.execution_terminated(now_us(), reason)
        await self._send(instance_id, MessageKind.TERMINATE, event, text=reason)

    async def suspend(self, instance_id: str, reason: str) -> None:
        if self.require_live(instance_id).will_be_suspended:
            raise Refused(_cannot("suspend", instance_id, Status.SUSPENDED))
        event = history.encode(EventType.EXECUTION_SUSPENDED, now_us(), Reason=reason)
        await self._send(instance_id, MessageKind.SUSPEND, event, text=reason)

    async def resume(self, instance_id: str, reason: str) -> None:
        live = self.require_live(instance_id)
        if not live.will_be_suspended:
            raise Refused(_cannot("resume", instance_id, live.row.status))
        event = history.encode(EventType.EXECUTION_RESUMED, now_us(), Reason=reason)
        await self._send(instance_id, MessageKind.RESUME, event)

    async def restart(self, instance_id: str, *, with_new_id: bool) -> str:
        """Start again with the same name, input and version; returns the id."""
        row = self.store.instance(instance_id)
        if row is None:
            raise BadRequest(
                f"No instance with ID '{instance_id}' was found. (Parameter 'instanceId')",
                message="InstanceId does not match a valid orchestration instance.",
            )
        return await self.start_instance(
            row.name,
            instance_id=None if with_new_id else instance_id,
            input_text=row.input,
            version=row.version,
            source_id=instance_id if with_new_id else None,
            is_restart=True,
        )

    async def rewind(self, instance_id: str, reason: str) -> None:
        """Retry what failed in a failed instance: its activities, and its failed sub-orchestrations likewise.

        One transaction writes the histories without the failures and the messages that bring the instances back to
        life. Raises NotFound, or WrongState when the instance has not failed.
        """
        core = self.core
        while (live := core.cache.get(instance_id)) is not None and live.is_over:
            await core.wait_until_over(instance_id, _LONGEST_END_S)
        row = self.store.instance(instance_id) if live is None else live.row
        if row is None:
            raise NotFound(instance_id)
        if row.status is not Status.FAILED:
            raise WrongState(
                f'This orchestration has status {row.status}, but only orchestrations in the "Failed" state can be '
                "rewound."
            )
        unit = Unit()
        revived = self._take_back(row, reason, unit)
        for instance in revived:
            # From here on, a second rewind or a start of these ids is refused, although nothing is stored yet.
            core.cache.add(instance)

        def deliver() -> None:
            for message in unit.messages:
                core.deliver(message)

        try:
            await core.commit_then(unit, deliver)
        except sqlite3.Error:
            for instance in revived:
                core.cache.forget(instance)
            raise

    def _take_back(self, row: InstanceRow, reason: str, unit: Unit) -> list[Instance]:
        """Rewind a failed instance and its failed descendants; only the deepest are woken, the others wait for them."""
        core, now = self.core, now_us()
        stored = self.store.history(row.gen)
        revived: list[Instance] = []
        rewound: set[int] = set()
        for task_id, child_id in rewind.failed_children(stored).items():
            child = self.store.instance(child_id)
            whose = Parent(row.instance_id, row.execution_id, task_id)
            if child is not None and child.status is Status.FAILED and child.parent == whose:
                rewound.add(task_id)
                revived += self._take_back(child, reason, unit)
        chunks = rewind.take_back(stored, rewound)
        again = replace(row, gen=core.next_gen(), status=Status.PENDING, output=None, updated_us=now)
        unit.instances.append(again)
        unit.history += [(again.gen, position, chunk) for position, chunk in enumerate(chunks)]
        unit.drop_gens.append(row.gen)
        if not rewound:
            event = history.generic(now, reason)
            unit.messages.append(Message(core.next_seq(), row.instance_id, MessageKind.EVENT, event))
        return [*revived, loaded_instance(again, chunks)]

    async def purge(self, instance_id: str) -> int:
        """Delete an ended instance; returns how many were deleted."""
        row = self.store.instance(instance_id)
        if row is None:
            raise NotFound(instance_id)
        if row.status not in TERMINAL:
            raise WrongState(
                "Only orchestrations in a terminal state can be purged, but the orchestration with instance ID "
                f"{instance_id} has status {row.status}"
            )
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
        source_id: str | None = None,
    ) -> None:
        core, now = self.core, now_us()
        row = InstanceRow(
            gen=core.next_gen(),
            instance_id=instance_id,
            execution_id=new_guid(),
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
        generation = 0
        if replaced is not None:
            unit.drop_gens.append(replaced.gen)
            generation = history.generation_after(next(iter(self.store.history(replaced.gen)), ""))
        instance = Instance(row)
        # From here on, a second start of the same id is refused, although nothing is stored yet.
        core.cache.add(instance)
        if core.harsh is not None and core.harsh.strikes("lost_start", name):
            await self.store.commit(unit)
            raise StartLost(f"harsh: the start of {name} is lost after its row was written")
        core.late.expect(instance_id)
        try:
            message = start_message(row, core.next_seq(), now, generation=generation, source_id=source_id)
            await core.send(message, unit)
        except sqlite3.Error:
            core.cache.forget(instance)
            raise

    async def _purge(self, rows: Sequence[InstanceRow]) -> int:
        gens = [row.gen for row in rows if row.status in TERMINAL]
        if gens:
            await self.store.commit(Unit(drop_gens=gens))
        return len(gens)

    def check_size(self, what: str, text: str | None) -> None:
        """Raises Refused for a payload that the backend does not take."""
        if (problem := too_large(what, text, self.core.settings.max_payload_bytes)) is not None:
            raise Refused(problem)

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


def _cannot(verb: str, instance_id: str, status: Status) -> str:
    return f"Cannot {verb} the orchestration instance {instance_id} because instance is in the {status} state."
