"""Messages as a harsh engine delivers them: late, sometimes twice, in order per instance only.

Invariant: a message that waits here is stored, so it arrives after a crash as well.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
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
        self._lines: dict[str, deque[tuple[float, Message]]] = {}
        """By instance: what is on its way to it, in order, with the loop time of its arrival."""
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
            if after_s <= 0:
                self._arrive(message)
            else:
                self._at(asyncio.get_running_loop().time() + after_s, lambda: self._arrive(message))
            return
        kind = message.kind.name
        self._send(message, max(after_s, harsh.delay_s("late_message", kind)))
        if message.kind is MessageKind.EVENT and harsh.strikes("repeated_message"):
            self._send(message, harsh.delay_s("late_message", kind))

    def close(self) -> None:
        for handle in self._waiting.values():
            handle.cancel()
        self._waiting.clear()
        self._lines.clear()

    def _send(self, message: Message, after_s: float) -> None:
        line = self._lines.get(message.instance_id)
        if line is None and after_s <= 0:
            self._arrive(message)
            return
        arrives = asyncio.get_running_loop().time() + after_s
        if line is not None:
            line.append((max(arrives, line[-1][0]), message))
            return
        self._lines[message.instance_id] = deque([(arrives, message)])
        self._at(arrives, lambda: self._move_up(message.instance_id))

    def _move_up(self, instance_id: str) -> None:
        """Hand over the first of a line, and all behind it that are due. One timer for a line: timers that are due at
        the same moment ring in any order."""
        line = self._lines[instance_id]
        now = asyncio.get_running_loop().time()
        self._arrive(line.popleft()[1])
        while line and line[0][0] <= now:
            self._arrive(line.popleft()[1])
        if line:
            self._at(line[0][0], lambda: self._move_up(instance_id))
        else:
            del self._lines[instance_id]

    def _at(self, moment: float, do: Callable[[], None]) -> None:
        key = next(self._keys)

        def ring() -> None:
            del self._waiting[key]
            do()

        self._waiting[key] = asyncio.get_running_loop().call_at(moment, ring)

    def _arrive(self, message: Message) -> None:
        if message.kind is MessageKind.START:
            self._starting.discard(message.instance_id)
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
