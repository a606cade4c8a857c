"""Runs activities at least once each, with a concurrency limit.

Invariant: one transaction deletes the task row and stores the answer. After a crash before it the row is
still there, and the activity runs again.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from devhost.durable.core import Core
from devhost.durable.limits import too_large
from devhost.durable.replay.actions import HTTP_ACTIVITY
from devhost.durable.replay.step import answer
from devhost.durable.store import history
from devhost.durable.store.history import EventType, now_us
from devhost.durable.store.records import Parent, TaskRow, Unit
from devhost.durable.workers.http_activity import HttpActivity, HttpActivityFailed
from devhost.durable.workers.slots import Slots
from devhost.extensions.contract import FunctionFailed
from devhost.harsh import Harsh

logger = logging.getLogger("devhost.durable")


class Activities:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._slots = Slots(core.settings.max_activities)
        self._http = HttpActivity()
        self._wanted: set[tuple[int, int]] = set()

    def submit(self, task: TaskRow, *, after_s: float = 0.0) -> None:
        """Run a stored activity as soon as a slot is free, and not before after_s."""
        self._wanted.add((task.gen, task.task_id))
        if after_s > 0:
            asyncio.get_running_loop().call_later(after_s, self._slots.submit, partial(self._run, task))
        else:
            self._slots.submit(partial(self._run, task))

    def forget(self, gen: int, task_id: int) -> None:
        """Drop an activity that nothing waits for any more, if it has not begun."""
        self._wanted.discard((gen, task_id))

    async def drain(self, seconds: float) -> None:
        """Begin no more activities, and let those that run end and store their answers."""
        await self._slots.drain(seconds)

    async def close(self) -> None:
        await self._slots.close()
        await self._http.close()

    async def _run(self, task: TaskRow) -> None:
        if (task.gen, task.task_id) not in self._wanted:
            return
        kind = EventType.TASK_COMPLETED
        try:
            result = await self._call(task)
            problem = too_large("the result", result, self._core.settings.max_payload_bytes)
            if problem is not None:
                logger.error("activity %s failed (%s): %s", task.name, task.instance_id, problem)
                raise FunctionFailed(problem)
            event = history.task_completed(now_us(), task.task_id, result)
        except (FunctionFailed, HttpActivityFailed) as failure:
            kind = EventType.TASK_FAILED
            event = self._failed(task, str(failure), getattr(failure, "stack", ""), task.name == HTTP_ACTIVITY)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # The host is stopping; the task row stays, so the activity runs again at the next start.
            kind = EventType.TASK_FAILED
            event = self._failed(task, "CancelledError: the activity was cancelled", "")
        except Exception as defect:
            logger.exception("activity %s could not be run", task.name)
            kind = EventType.TASK_FAILED
            event = self._failed(task, f"{type(defect).__name__}: {defect}", "")
        if self._core.harsh is not None and self._loses_answer(self._core.harsh, task):
            return
        await self._finish(task, kind, event)
        if self._core.harsh is not None and self._core.harsh.strikes("repeated_activity", task.name):
            await self._repeat(task)

    def _loses_answer(self, harsh: Harsh, task: TaskRow) -> bool:
        """Whether an answer is lost although the activity has run. Its row stays, so it runs again: after its
        visibility time, or only when the host starts next."""
        if harsh.strikes("lost_result", task.name):
            logger.warning("harsh: the answer of %s is refused until the host restarts", task.name)
            self._wanted.discard((task.gen, task.task_id))
            return True
        if (again_s := harsh.delay_s("unsaved_activity", task.name)) > 0:
            logger.warning("harsh: the answer of %s is not saved; it runs again in %.1f s", task.name, again_s)
            self.submit(task, after_s=again_s)
            return True
        return False

    async def _repeat(self, task: TaskRow) -> None:
        """Run an activity once more whose answer is stored: its message was delivered twice."""
        logger.warning("harsh: %s runs once more", task.name)
        try:
            await self._call(task)
        except (FunctionFailed, HttpActivityFailed) as failure:
            logger.info("harsh: the second run of %s failed: %s", task.name, failure)

    async def _call(self, task: TaskRow) -> str | None:
        if task.name == HTTP_ACTIVITY:
            return await self._http.call(task.input)
        function = self._core.registry.activities.get(task.name.casefold())
        if function is None:
            raise FunctionFailed(self._core.registry.check_activity(task.name) or task.name)
        return await self._core.host.invoke(function, task.input, correlation_id=task.instance_id)

    def _failed(self, task: TaskRow, message: str, stack: str, is_built_in: bool = False) -> str:
        # The real runtime also writes two spaces, and names no function for the built-in activity.
        reason = message if is_built_in else f"Activity function '{task.name}' failed:  {message}"
        return history.task_failed(now_us(), task.task_id, reason, history.failure_details(message, stack))

    async def _finish(self, task: TaskRow, kind: EventType, event: str) -> None:
        core = self._core
        self._wanted.discard((task.gen, task.task_id))
        unit = Unit(drop_tasks=[(task.gen, task.task_id)])
        message = None
        if core.live(task.instance_id, task.execution_id) is not None:
            whose = Parent(task.instance_id, task.execution_id, task.task_id)
            message = answer(core.next_seq(), whose, kind, event)
            unit.messages.append(message)
        await core.insist(unit)
        if message is not None:
            core.deliver(message)
