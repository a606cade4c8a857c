"""Messages as a harsh engine delivers them: late, sometimes twice, in order per instance only.

Invariant: a message that waits here is stored, so it arrives after a crash as well.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from devhost.durable.store.history import now_us
from devhost.durable.store.records import InstanceRow, Message, MessageKind, Status
from devhost.harsh import Harsh

_CONTROL = frozenset(
    {MessageKind.START, MessageKind.EVENT, MessageKind.SUSPEND, MessageKind.RESUME, MessageKind.TERMINATE}
)


class LateMessages:
    """hand_over: called on the loop with each message when it arrives."""

    def __init__(self, harsh: Harsh | None, hand_over: Callable[[Message], None]) -> None:
        self._harsh = harsh
        self._hand_over = hand_over
        self._arrives: dict[str, float] = {}
        """Loop time of the last message on its way to an instance."""
        self._waiting: dict[int, asyncio.TimerHandle] = {}
        self._keys = itertools.count()
        self._starting: set[str] = set()

    def is_starting(self, instance_id: str) -> bool:
        """Whether an instance's start has not arrived: another start of it is accepted, and the instance runs once."""
        return instance_id in self._starting

    def expect(self, instance_id: str) -> None:
        """Note that a start is about to be stored."""
        if self._harsh is not None:
            self._starting.add(instance_id)

    def deliver(self, message: Message, after_s: float = 0.0) -> None:
        """Hand a stored message over now or later. after_s: not before that."""
        harsh = self._harsh
        assert harsh is not None
        if message.kind not in _CONTROL:
            self._in(after_s, message)
            return
        kind = message.kind.name
        self._send(message, max(after_s, harsh.delay_s("late_message", kind)))
        if message.kind is MessageKind.EVENT and harsh.strikes("repeated_message"):
            self._send(message, harsh.delay_s("late_message", kind))

    def close(self) -> None:
        for handle in self._waiting.values():
            handle.cancel()
        self._waiting.clear()

    def _send(self, message: Message, after_s: float) -> None:
        now = asyncio.get_running_loop().time()
        arrives = max(now + after_s, self._arrives.get(message.instance_id, 0.0))
        self._arrives[message.instance_id] = arrives
        self._in(arrives - now, message)

    def _in(self, seconds: float, message: Message) -> None:
        if seconds <= 0:
            self._arrive(message)
            return
        key = next(self._keys)
        self._waiting[key] = asyncio.get_running_loop().call_later(seconds, self._arrived, key, message)

    def _arrived(self, key: int, message: Message) -> None:
        del self._waiting[key]
        self._arrive(message)

    def _arrive(self, message: Message) -> None:
        if message.kind is MessageKind.START:
            self._starting.discard(message.instance_id)
        if self._arrives.get(message.instance_id, 0.0) <= asyncio.get_running_loop().time():
            self._arrives.pop(message.instance_id, None)
        self._hand_over(message)


def revenant(terminate: Message, *, gen: int) -> InstanceRow:
    """The row that a terminate writes which finds no instance: an id and a status, and nothing else."""
    now = now_us()
    return InstanceRow(
        gen=gen,
        instance_id=terminate.instance_id,
        execution_id="",
        name="",
        version="",
        status=Status.TERMINATED,
        input=None,
        output=terminate.text,
        custom_status=None,
        created_us=now,
        updated_us=now,
    )
