"""What a harsh engine does to orchestrators: their worker dies inside them, and their code runs while suspended."""

from __future__ import annotations

import logging

from devhost.durable.core import Core
from devhost.durable.replay.actions import EpisodeOutput, parse_output
from devhost.durable.replay.instance import Instance
from devhost.durable.store import history
from devhost.durable.store.history import EventType, now_us
from devhost.durable.store.records import MessageKind, Unit
from devhost.extensions.contract import Function, FunctionFailed
from devhost.harsh import Harsh

logger = logging.getLogger("devhost.durable")

_KINDS = {
    EventType.TASK_SCHEDULED: "an activity task",
    EventType.SUB_CREATED: "a sub-orchestration task",
    EventType.TIMER_CREATED: "a timer task",
}


def dead_worker(harsh: Harsh, instance: Instance) -> EpisodeOutput | None:
    """The outcome of an episode whose worker dies in it; None when it lives.

    The extension takes what the worker did not say for what it did not do, so an instance that has scheduled anything
    fails as if its code had changed (the extension's words, 3.19.0).
    """
    leaves = instance.ledger.leaves
    if not leaves or not harsh.strikes("dead_worker", instance.row.name):
        return None
    leaf = leaves[-1]
    kind = _KINDS.get(leaf.kind, "an event")
    logger.warning("harsh: the worker dies inside %s (%s)", instance.row.name, instance.row.instance_id)
    return EpisodeOutput(
        error="Non-Deterministic workflow detected: A previous execution of this orchestration scheduled "
        f"{kind} with sequence ID {leaf.task_id} and name '{leaf.name}' (version ''), but the current replay execution "
        "hasn't (yet?) scheduled this task. Was a change made to the orchestrator code after this instance had already "
        "started running?",
        leaves=None,
    )


async def run_suspended(core: Core, function: Function, instance: Instance) -> None:
    """Call a suspended orchestrator with what has arrived. Its custom status changes; what it schedules waits for the
    resume, which replays it."""
    instance.shown = len(instance.inbox)
    arrived = [m.event for m in instance.inbox if m.kind in (MessageKind.EVENT, MessageKind.ANSWER)]
    payload = instance.payload(
        [history.orchestrator_started(now_us()), *arrived],
        splits_long_timers=core.settings.splits_long_timers,
        http_poll_ms=core.settings.http_poll_ms,
    )
    try:
        text = await core.host.invoke(function, payload, correlation_id=instance.row.instance_id, quiet=True)
        output = parse_output(text or "null")
    except (FunctionFailed, ValueError):
        return  # The episode after the resume fails alike, and says so.
    if output.custom_status is None or output.custom_status == instance.row.custom_status:
        return
    row = instance.row
    instance.row = row.changed(at_us=now_us(), status=row.status, custom_status=output.custom_status)
    await core.store.commit(Unit(updates=[instance.row]))
