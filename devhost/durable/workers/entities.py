"""Durable entities: one piece of state per id, one batch of operations at a time per entity.

Invariant: one transaction contains an entity's new state, the removal of the processed operations and the
answers to their callers. Operations of one entity never overlap and keep their order of arrival.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import cast

from devhost.durable.core import Core
from devhost.durable.limits import too_large
from devhost.durable.replay.episode import EntityWork, entity_answer
from devhost.durable.store import history, jsontext
from devhost.durable.store.history import now_us
from devhost.durable.store.records import EntityOp, EntityRow, Message, MessageKind, Unit
from devhost.durable.workers.slots import Slots
from devhost.extensions.contract import FunctionFailed
from devhost.ids import new_guid

logger = logging.getLogger("devhost.durable")

_LARGEST_BATCH = 100


def entity_id(name: str, key: str) -> str:
    """`@name@key` with the name in lower case."""
    return f"@{name.lower()}@{key}"


def split_entity_id(text: str) -> tuple[str, str]:
    """Name and key of `@name@key`."""
    name, _, key = text[1:].partition("@")
    return name, key


def orchestration_op(seq: int, work: EntityWork, *, caller: str) -> EntityOp:
    """The operation an orchestrator asked for; a signal has no caller."""
    return EntityOp(
        seq,
        work.entity_id,
        work.operation,
        jsontext.dumps(work.input),
        "" if work.is_signal else caller,
        work.request_id,
    )


class Entities:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._slots = Slots(core.settings.max_entities)
        self._queues: dict[str, deque[EntityOp]] = {}
        self._busy: set[str] = set()

    def take_in(self, op: EntityOp) -> None:
        """Queue a stored operation."""
        self._queues.setdefault(op.entity_id, deque()).append(op)
        self._wake(op.entity_id)

    async def signal(self, target: str, operation: str, body: str | None) -> None:
        """Store and queue a client's signal. body: JSON text as posted, or None."""
        op = EntityOp(self._core.next_seq(), target, operation, body, request_id=new_guid())
        await self._core.commit_then(Unit(entity_ops=[op]), lambda: self.take_in(op))

    async def close(self) -> None:
        await self._slots.close()

    def _wake(self, target: str) -> None:
        if target not in self._busy and self._queues.get(target):
            self._busy.add(target)
            self._slots.submit(partial(self._run, target))

    async def _run(self, target: str) -> None:
        queue = self._queues[target]
        batch = [queue.popleft() for _ in range(min(len(queue), _LARGEST_BATCH))]
        if not queue:
            del self._queues[target]
        try:
            await self._run_batch(target, batch)
        finally:
            self._busy.discard(target)
        self._wake(target)

    async def _run_batch(self, target: str, batch: list[EntityOp]) -> None:
        core = self._core
        before = core.store.entity(target) or EntityRow(target, False, None, 0)
        unit = Unit(drop_entity_ops=[op.seq for op in batch])
        try:
            after, results = await self._call(before, batch)
            unit.entities.append(after)
        except (FunctionFailed, ValueError) as failure:
            text = jsontext.dumps(str(failure))
            results = [(True, text)] * len(batch)
        except asyncio.CancelledError:
            raise  # The operations are stored and run again at the next start.
        for op, (is_error, result) in zip(batch, results, strict=True):
            if is_error:
                # The function itself ended well, so nothing else says it.
                logger.error("entity %s failed operation '%s': %s", target, op.operation, result)
            if op.caller and core.live(op.caller) is not None:
                unit.messages.append(self._reply(op, is_error=is_error, result=result))
        await core.insist(unit)
        for message in unit.messages:
            core.deliver(message)

    async def _call(self, before: EntityRow, batch: list[EntityOp]) -> tuple[EntityRow, list[tuple[bool, str]]]:
        """Run a batch. Raises FunctionFailed, or ValueError when the answer is not an entity's."""
        core = self._core
        name, key = split_entity_id(before.entity_id)
        function = core.registry.entities.get(name.casefold())
        if function is None:
            raise FunctionFailed(core.registry.check_entity(name) or name)
        payload = jsontext.dumps(
            {
                "self": {"name": name, "key": key},
                "exists": before.exists,
                "state": before.state,
                "batch": [
                    {"name": op.operation, "input": op.input, "isSignal": not op.caller, "id": op.request_id}
                    for op in batch
                ],
            }
        )
        text = await core.host.invoke(function, payload, correlation_id=before.entity_id)
        answer = jsontext.loads(text or "null")
        if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
            raise ValueError("the entity function did not return an entity state")
        results = cast("list[dict[str, object]]", answer["results"])
        if len(results) != len(batch):
            raise ValueError("the entity function did not answer every operation")
        exists = bool(answer.get("entityExists"))
        state = answer.get("entityState")
        texts = [str(state or ""), *(str(result.get("result") or "") for result in results)]
        problems = [too_large("the state or a result", text, core.settings.max_payload_bytes) for text in texts]
        if (problem := next(filter(None, problems), None)) is not None:
            raise ValueError(problem)
        after = EntityRow(before.entity_id, exists, str(state) if exists and state is not None else None, now_us())
        return after, [(bool(result.get("isError")), str(result.get("result") or "null")) for result in results]

    def _reply(self, op: EntityOp, *, is_error: bool, result: str) -> Message:
        event = history.event_raised(now_us(), op.request_id, entity_answer(result, is_error=is_error))
        return Message(self._core.next_seq(), op.caller, MessageKind.EVENT, event)
