"""Runs orchestration instances: one episode at a time per instance, with a limit over all instances.

Invariant: an episode takes effect only with its transaction. History, status, consumed messages, work items,
children and answers to a parent change together, and only then is work dispatched. An interrupted episode
leaves no trace and is run again.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from functools import partial

from devhost.durable.core import Core
from devhost.durable.replay.actions import EpisodeOutput, parse_failure, parse_output
from devhost.durable.replay.carrying import carried_over
from devhost.durable.replay.episode import Answer, ChildWork, Decision, Rules, Self, decide
from devhost.durable.replay.instance import Instance, start_message
from devhost.durable.replay.step import Step, answer, child_row, log_end
from devhost.durable.store import history
from devhost.durable.store.history import EventType, now_us
from devhost.durable.store.records import (
    InstanceRow,
    Message,
    MessageKind,
    Parent,
    Status,
    TaskKind,
    TaskRow,
    Unit,
)
from devhost.durable.workers.activities import Activities
from devhost.durable.workers.entities import Entities, orchestration_op
from devhost.durable.workers.hardships import dead_worker, run_suspended
from devhost.durable.workers.slots import Slots
from devhost.durable.workers.timers import Timers
from devhost.extensions.contract import FunctionFailed
from devhost.harsh import Harsh
from devhost.ids import new_guid

logger = logging.getLogger("devhost.durable")

_STORE_RETRY_S = 1.0


class Orchestrations:
    def __init__(self, core: Core, activities: Activities, entities: Entities) -> None:
        self._core = core
        self._activities = activities
        self._entities = entities
        self._slots = Slots(core.settings.max_orchestrators)
        self.timers = Timers(self._fire, self._early_s)
        self._firing: set[asyncio.Task[None]] = set()
        self._rules = Rules(
            check_activity=core.registry.check_activity,
            check_orchestrator=core.registry.check_orchestrator,
            check_entity=core.registry.check_entity,
            new_guid=new_guid,
            default_version=core.settings.default_version,
            max_actions=core.settings.max_actions,
            max_payload_bytes=core.settings.max_payload_bytes,
        )
        core.wake = self.wake

    def _early_s(self) -> float:
        harsh = self._core.harsh
        return 0.0 if harsh is None else harsh.delay_s("early_timer")

    def wake(self, instance: Instance) -> None:
        """Run the instance's next step, if it has one, as soon as a slot is free."""
        if not instance.is_busy and instance.has_work:
            instance.is_busy = True
            work = partial(self._step, instance)
            if pause_s := instance.pause_s:
                asyncio.get_running_loop().call_later(pause_s, self._slots.submit, work)
            else:
                self._slots.submit(work)
        elif self._core.harsh is not None and self._shows(self._core.harsh, instance):
            instance.is_busy = True
            self._slots.submit(partial(self._run_suspended, instance))

    def _shows(self, harsh: Harsh, instance: Instance) -> bool:
        """Whether a suspended instance's code is called with messages that it has not seen."""
        has_news = instance.is_suspended and len(instance.inbox) > instance.shown
        return has_news and not (instance.is_busy or instance.is_over) and harsh.strikes("suspended_code")

    async def _run_suspended(self, instance: Instance) -> None:
        try:
            function = self._core.registry.orchestrators.get(instance.row.name.casefold())
            if function is not None:
                await run_suspended(self._core, function, instance)
        finally:
            instance.is_busy = False
        self.wake(instance)

    async def close(self) -> None:
        self.timers.close()
        for task in list(self._firing):
            task.cancel()
        await self._slots.close()

    async def _step(self, instance: Instance) -> None:
        try:
            await self._advance(instance)
        except sqlite3.Error:
            logger.exception("the durable store cannot write; instance %s waits", instance.row.instance_id)
            await asyncio.sleep(_STORE_RETRY_S)
            instance = await self._reload(instance)
        except Exception as defect:
            logger.exception("the dev host cannot run instance %s", instance.row.instance_id)
            instance = await self._give_up(await self._reload(instance), defect)
        finally:
            instance.is_busy = False
        if not instance.is_over:
            self.wake(instance)
        self._core.cache.trim()

    async def _give_up(self, instance: Instance, defect: Exception) -> Instance:
        """Fail an instance with the text of a defect in this host, so that it does not hang."""
        if not instance.is_over:
            text = f"The dev host failed to run '{instance.row.name}': {type(defect).__name__}: {defect}"
            number = history.STATUS_NUMBERS[Status.FAILED]
            event = history.execution_completed(now_us(), instance.ledger.next_id, status=number, result=text)
            await self._end_now(instance, Status.FAILED, text, [event])
        return instance

    async def _reload(self, instance: Instance) -> Instance:
        """Reload an instance whose state in memory is ahead of the store."""
        instance.is_over = True
        self._core.cache.forget(instance)
        while True:
            try:
                return self._read_again(instance)
            except sqlite3.Error:
                logger.exception("the durable store cannot read; instance %s waits", instance.row.instance_id)
                await asyncio.sleep(_STORE_RETRY_S)

    def _read_again(self, instance: Instance) -> Instance:
        instance_id = instance.row.instance_id
        stored = [message for message in self._core.store.messages() if message.instance_id == instance_id]
        fresh = self._core.cache.get(instance_id)
        if fresh is None:
            return instance
        fresh.is_busy = True  # Until the step that reloads it has finished.
        queued = {message.seq for message in fresh.inbox}
        for message in stored:
            if message.seq not in queued:
                fresh.take_in(message)
        # Messages that the writer stored may still be in delivery; they must not be queued twice.
        fresh.known = frozenset(message.seq for message in stored)
        return fresh

    async def _advance(self, instance: Instance) -> None:
        terminate = next((m for m in instance.inbox if m.kind is MessageKind.TERMINATE), None)
        if terminate is not None:
            await self._terminate(instance, terminate)
        elif instance.is_suspended:
            resume = next(m for m in instance.inbox if m.kind is MessageKind.RESUME)
            await self._switch(instance, resume, Status.RUNNING)
        elif instance.inbox[0].kind is MessageKind.SUSPEND:
            await self._switch(instance, instance.inbox[0], Status.SUSPENDED)
        else:
            await self._episode(instance)

    async def _switch(self, instance: Instance, message: Message, status: Status) -> None:
        """Suspend or resume: one event, no user code. A suspend that was already resumed has no effect."""
        step = Step()
        for queued in list(instance.inbox):
            void = queued.kind is MessageKind.SUSPEND and queued.seq < message.seq
            if queued is message or (void and status is Status.RUNNING):
                instance.inbox.remove(queued)
                step.unit.drop_messages.append(queued.seq)
        instance.shown = 0
        now = now_us()
        # As in the extension, the output of a suspended instance is the reason.
        output = message.text if status is Status.SUSPENDED else None
        row = instance.row.changed(at_us=now, status=status, custom_status=instance.row.custom_status, output=output)
        bounds = (history.orchestrator_started(now), history.orchestrator_completed(now))
        self._record(instance, step, row, [bounds[0], message.event, bounds[1]])
        await self._commit(instance, step)

    async def _terminate(self, instance: Instance, message: Message) -> None:
        events = [] if instance.chunks else [m.event for m in instance.inbox if m.kind is MessageKind.START]
        await self._end_now(instance, Status.TERMINATED, message.text, [*events, message.event])

    async def _end_now(self, instance: Instance, status: Status, output: str, events: list[str]) -> None:
        """End at once, with tasks still open; running activities are not awaited."""
        now = now_us()
        step = Step()
        row = instance.row.changed(at_us=now, status=status, custom_status=instance.row.custom_status, output=output)
        self._record(instance, step, row, events)
        for task_id in instance.ledger.open:
            step.forget.append((row.gen, task_id))
            step.unit.drop_tasks.append((row.gen, task_id))
        self._end(instance, step, now)
        await self._commit(instance, step)

    async def _episode(self, instance: Instance) -> None:
        step = Step()
        taken = self._take(instance, step)
        if not taken:
            if step.unit.drop_messages:
                await self._core.store.commit(step.unit)
            return
        began = now_us()
        new_events = [history.orchestrator_started(began), *(message.event for message in taken)]
        output = await self._call(instance, new_events)
        row = instance.row
        now = now_us()
        parent_id = row.parent.instance_id if row.parent else None
        answers = [Answer(m.task_id, m.event_type) for m in taken if m.kind is MessageKind.ANSWER]
        decision = decide(
            Self(row.name, row.instance_id, row.execution_id, parent_id),
            instance.ledger,
            answers,
            output,
            rules=self._rules,
            now_us=now,
        )
        self._schedule(instance, step, decision, now)
        self._conclude(instance, step, decision, new_events, now)
        await self._commit(instance, step)

    def _take(self, instance: Instance, step: Step) -> list[Message]:
        """The messages of the next episode; duplicates and stray messages are dropped with the step.

        While a retry is open, each message gets its own episode. Otherwise the order of ids drawn by the retry and
        by the orchestrator would be unknown.
        """
        ledger = instance.ledger
        is_single = ledger.has_open_retry
        taken: list[Message] = []
        while instance.inbox and instance.inbox[0].kind not in (MessageKind.SUSPEND, MessageKind.TERMINATE):
            message = instance.inbox.popleft()
            step.unit.drop_messages.append(message.seq)
            is_stray = message.kind is MessageKind.RESUME or (
                message.execution_id not in ("", instance.row.execution_id)
            )
            if is_stray or (
                message.kind is MessageKind.ANSWER and not ledger.complete(message.task_id, message.event_type)
            ):
                continue
            taken.append(message)
            if is_single or message.event_type is EventType.CONTINUE_AS_NEW:
                break
        return taken

    async def _call(self, instance: Instance, new_events: list[str]) -> EpisodeOutput:
        core, row = self._core, instance.row
        function = core.registry.orchestrators.get(row.name.casefold())
        if function is None:
            return EpisodeOutput(error=core.registry.check_orchestrator(row.name), leaves=None)
        if core.harsh is not None and (dead := dead_worker(core.harsh, instance)) is not None:
            return dead
        payload = instance.payload(
            new_events,
            splits_long_timers=core.settings.splits_long_timers,
            http_poll_ms=core.settings.http_poll_ms,
        )
        try:
            text = await core.host.invoke(function, payload, correlation_id=row.instance_id, quiet=True)
            return parse_output(text or "null")
        except FunctionFailed as failure:
            return parse_failure(failure.message)
        except ValueError as error:
            return EpisodeOutput(error=str(error), leaves=None)

    def _schedule(self, instance: Instance, step: Step, decision: Decision, now: int) -> None:
        """Turn the decision's work into rows."""
        row, unit = instance.row, step.unit
        ids = (row.instance_id, row.execution_id)
        for work in decision.activities:
            step.activities.append(TaskRow(row.gen, work.task_id, TaskKind.ACTIVITY, *ids, work.name, work.input))
        for timer in decision.timers:
            step.timers.append(TaskRow(row.gen, timer.task_id, TaskKind.TIMER, *ids, fire_at_us=timer.fire_at_us))
        unit.tasks += step.activities + step.timers
        for task_id in decision.cancelled:
            unit.drop_tasks.append((row.gen, task_id))
            step.forget.append((row.gen, task_id))
        for child in decision.children:
            self._start_child(instance, step, child, now)
        for entity in decision.entities:
            step.entity_ops.append(orchestration_op(self._core.next_seq(), entity, caller=row.instance_id))
        unit.entity_ops += step.entity_ops

    def _start_child(self, instance: Instance, step: Step, work: ChildWork, now: int) -> None:
        core, row = self._core, instance.row
        parent = Parent(row.instance_id, row.execution_id, work.task_id)
        # A generated id contains this generation's id, so no other instance can have it.
        is_fresh = work.instance_id == f"{row.execution_id}:{work.task_id}" and not work.is_again
        existing = None if is_fresh else core.cache.get(work.instance_id)
        if existing is not None:
            reason = f"An Orchestration instance with the status {existing.row.status} already exists."
            event = history.sub_failed(now, work.task_id, reason, history.failure_details(reason))
            self._answer_parent(step, parent, EventType.SUB_FAILED, event)
            return
        replaced = None if is_fresh else core.store.instance(work.instance_id)
        if replaced is not None:
            step.unit.drop_gens.append(replaced.gen)
        child = child_row(work, parent, gen=core.next_gen(), now_us=now)
        start = start_message(child, core.next_seq(), now, parent_name=row.name)
        core.cache.add(Instance(child))
        step.unit.instances.append(child)
        step.unit.messages.append(start)
        step.deliver.append(start)

    def _conclude(self, instance: Instance, step: Step, decision: Decision, new_events: list[str], now: int) -> None:
        """Write the history and status of the episode, and end the generation if it is over."""
        status, output = Status.RUNNING, None
        if decision.completed is not None:
            status, output = Status.COMPLETED, decision.completed
        elif decision.failed is not None:
            status, output = Status.FAILED, decision.failed
        row = instance.row.changed(at_us=now, status=status, custom_status=decision.custom_status, output=output)
        if decision.continued is not None:
            carried = carried_over(
                decision.awaited,
                [leaf.task_id for leaf in instance.ledger.leaves],
                ",".join(instance.chunks),
                ",".join(new_events),
            )
            self._continue_as_new(instance, step, row, decision.continued, carried, now)
            return
        events = [*new_events, *decision.events]
        if output is not None:
            events.append(
                history.execution_completed(
                    now,
                    instance.ledger.next_id,
                    status=history.STATUS_NUMBERS[status],
                    result=output,
                )
            )
        if not history.ends_an_episode(events[-1]):
            events.append(history.orchestrator_completed(now))
        self._record(instance, step, row, events)
        if output is not None:
            self._end(instance, step, now)

    def _continue_as_new(
        self, instance: Instance, step: Step, row: InstanceRow, input_text: str, carried: list[str], now: int
    ) -> None:
        """Begin the next generation of the instance; it keeps queued events but no history."""
        core = self._core
        step.unit.drop_gens.append(row.gen)
        core.cache.grew(-instance.size)
        instance.row = row
        instance.next_generation(
            gen=core.next_gen(), execution_id=new_guid(), input_text=history.nested(input_text), at_us=now
        )
        parent = None if row.parent is None else core.store.instance(row.parent.instance_id)
        name = "" if parent is None else parent.name
        start = start_message(instance.row, core.next_seq(), now, parent_name=name, continues=True, carried=carried)
        step.unit.instances.append(instance.row)
        step.unit.messages.append(start)
        # Before queued messages, since a generation begins with its START.
        instance.inbox.appendleft(start)

    def _record(self, instance: Instance, step: Step, row: InstanceRow, events: list[str]) -> None:
        instance.row = row
        before = instance.size
        step.unit.history.append(instance.append(events))
        step.unit.updates.append(row)
        self._core.cache.grew(instance.size - before)

    def _end(self, instance: Instance, step: Step, now: int) -> None:
        """End the instance: it accepts no more messages, and its parent gets the outcome."""
        row = instance.row
        instance.is_over = True
        step.unit.drop_messages += [message.seq for message in instance.inbox]
        instance.inbox.clear()
        parent, output = row.parent, row.output or ""
        if parent is None or self._core.live(parent.instance_id, parent.execution_id) is None:
            return
        if row.status is Status.COMPLETED:
            event = history.sub_completed(now, parent.task_id, output)
            self._answer_parent(step, parent, EventType.SUB_COMPLETED, event)
        else:
            # The details are left empty: repeating the reason there would double the text at each level.
            details = history.failure_details(output.partition("\n")[0])
            event = history.sub_failed(now, parent.task_id, output, details)
            self._answer_parent(step, parent, EventType.SUB_FAILED, event)

    def _answer_parent(self, step: Step, parent: Parent, kind: EventType, event: str) -> None:
        message = answer(self._core.next_seq(), parent, kind, event)
        step.unit.messages.append(message)
        step.deliver.append(message)

    async def _commit(self, instance: Instance, step: Step) -> None:
        """Store the step, then apply its effects."""
        core = self._core
        try:
            await core.store.commit(step.unit)
        except sqlite3.Error:
            for child in step.unit.instances:
                made = core.cache.peek(child.instance_id)
                if made is not None and made is not instance:
                    core.cache.forget(made)
            raise
        for gen, task_id in step.forget:
            self.timers.cancel(gen, task_id)
            self._activities.forget(gen, task_id)
        if instance.is_over:
            core.cache.forget(instance)
            core.announce_end(instance.row.instance_id)
            log_end(instance.row)
        for task in step.activities:
            self._activities.submit(task)
        for timer in step.timers:
            self.timers.arm(timer)
        for message in step.deliver:
            core.deliver(message)
        for op in step.entity_ops:
            self._entities.take_in(op)

    def _fire(self, due: list[TaskRow]) -> None:
        task = asyncio.get_running_loop().create_task(self._store_fired(due))
        self._firing.add(task)
        task.add_done_callback(self._firing.discard)

    async def _store_fired(self, due: list[TaskRow]) -> None:
        core = self._core
        unit = Unit()
        for timer in due:
            unit.drop_tasks.append((timer.gen, timer.task_id))
            if core.live(timer.instance_id, timer.execution_id) is None:
                continue
            event = history.timer_fired(now_us(), timer.task_id, timer.fire_at_us)
            whose = Parent(timer.instance_id, timer.execution_id, timer.task_id)
            unit.messages.append(answer(core.next_seq(), whose, EventType.TIMER_FIRED, event))
        await core.insist(unit)
        for message in unit.messages:
            core.deliver(message)
