"""Shared state of the durable engine: the store, the live instances, sequence numbers and the app.

Invariant: a message is delivered to an instance in memory only after it is stored, so every message in an
inbox survives the process.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable

from devhost.durable.late import LateMessages, revenant
from devhost.durable.registry import Registry
from devhost.durable.replay.instance import Instance, InstanceCache
from devhost.durable.settings import DurableSettings
from devhost.durable.store.records import Message, MessageKind, Unit
from devhost.durable.store.store import Store
from devhost.extensions.contract import Host

logger = logging.getLogger("devhost.durable")

_COMMIT_RETRY_S = 1.0


class Core:
    """wake is called with an instance that may have work."""

    def __init__(self, host: Host, store: Store, registry: Registry, settings: DurableSettings) -> None:
        self.host = host
        self.store = store
        self.registry = registry
        self.settings = settings
        self.harsh = None if host.context.harsh is None else host.context.harsh.of_engine()
        self.cache = InstanceCache(store)
        self.late = LateMessages(self.harsh, self._hand_over)
        self.wake: Callable[[Instance], None] = lambda instance: None
        self._gen, self._seq = store.highest()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    def next_gen(self) -> int:
        self._gen += 1
        return self._gen

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def live(self, instance_id: str, execution_id: str = "") -> Instance | None:
        """The running instance of an id; with execution_id, only if that generation still runs."""
        instance = self.cache.get(instance_id)
        if instance is None or instance.is_over:
            return None
        if execution_id and instance.row.execution_id != execution_id:
            return None
        return instance

    def deliver(self, message: Message, *, after_s: float = 0.0) -> None:
        """Deliver a stored message to its instance; an instance that has ended drops it."""
        if self.harsh is None:
            self._hand_over(message)
        else:
            self.late.deliver(message, after_s)

    def _hand_over(self, message: Message) -> None:
        instance = self.live(message.instance_id)
        if instance is None:
            self._discard(message)
            return
        instance.take_in(message)
        self.wake(instance)

    async def send(self, message: Message, unit: Unit | None = None) -> None:
        """Store a message (with the rest of the unit) and deliver it. Raises sqlite3.Error.

        A stored message is delivered even if the caller is cancelled meanwhile (a client disconnected).
        """
        unit = unit or Unit()
        unit.messages.append(message)
        await self.commit_then(unit, lambda: self.deliver(message))

    async def commit_then(self, unit: Unit, then: Callable[[], None]) -> None:
        """Store a unit and call `then`, even if the caller is cancelled while it waits."""

        def stored(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                then()

        future = self.store.commit(unit)
        future.add_done_callback(stored)
        await asyncio.shield(future)

    async def insist(self, unit: Unit) -> None:
        """Store a unit, and retry as long as the store fails."""
        while True:
            try:
                await self.store.commit(unit)
            except sqlite3.Error:
                logger.exception("the durable store cannot write; trying again in %s s", _COMMIT_RETRY_S)
                await asyncio.sleep(_COMMIT_RETRY_S)
            else:
                return

    async def wait_until_over(self, instance_id: str, timeout_s: float) -> None:
        """Return when the instance ends (its end is stored) or after the timeout."""
        if self.cache.get(instance_id) is None:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(instance_id, []).append(future)
        try:
            await asyncio.wait([future], timeout=timeout_s)
        finally:
            waiting = self._waiters.get(instance_id, [])
            if future in waiting:
                waiting.remove(future)
            if not waiting:
                self._waiters.pop(instance_id, None)

    def announce_end(self, instance_id: str) -> None:
        for future in self._waiters.pop(instance_id, []):
            if not future.done():
                future.set_result(None)

    def release_waiters(self) -> None:
        """Release everyone who waits for an instance to end, since the host is stopping."""
        for instance_id in list(self._waiters):
            self.announce_end(instance_id)

    def _discard(self, message: Message) -> None:
        unit = Unit(drop_messages=[message.seq])
        is_late = self.harsh is not None and message.kind is MessageKind.TERMINATE
        if is_late and self.store.instance(message.instance_id) is None:
            # Azure Storage writes the status of an instance that a terminate does not find, also of a purged one.
            unit.instances.append(revenant(message, gen=self.next_gen()))
        future = self.store.commit(unit)
        # If this fails, the row is dropped when the store is opened next.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
