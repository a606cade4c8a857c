"""A thin wrapper around azure-functions-durable for orchestrators.

The coming 2.x changes how tasks are cancelled and events decoded; then only this file changes, no orchestrator.
The durable client is wrapped in `activities/durable_client.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from datetime import datetime, timedelta
from typing import Any

import azure.durable_functions as df

from orchestrators import replaying
from shared.durable.messages import is_outage
from shared.sessions.turns.retry import activity_delay_s, outage_delay_s

replaying.install()

type Steps[Result] = Generator[Any, Any, Result]
"""A part of an orchestrator: yields durable tasks and returns a value; used with `yield from`."""

_PARALLEL_RETRY = df.RetryOptions(2_000, 30)
"""For activities that run side by side, where the loop below cannot be used: every 2 s for a minute."""
_TIMER = timedelta(days=5)
"""Below the six days beyond which Azure Storage cuts a timer into slices of three. Source: the extension's
`maximumShortTimerDuration`, in every history."""
_LONGEST_LAST_TIMER = timedelta(days=5, hours=12)
"""So that the last timer of a wait runs for half a day at least: fired a little early it is still known as the last."""
_EARLY = timedelta(hours=1)
"""Timers may fire before their time: 0.2 s were seen on Azure Storage."""


def call_activity(
    context: df.DurableOrchestrationContext,
    name: str,
    payload: dict[str, Any],
    *,
    delay_s: Callable[[int], float | None] = activity_delay_s,
) -> Steps[Any]:
    """Call an activity; after an infrastructure failure, retry with a durable back-off.

    Raises the last exception when `delay_s` gives up; while the database is away, only after hours.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return (yield context.call_activity(name, payload if tries == 1 else payload | {"again": tries - 1}))
        except Exception as exc:
            # The SDK raises every failure as a bare Exception. Our activities raise only for infrastructure and bugs;
            # a failure of a model or a tool is a result.
            delay = delay_s(tries)
            if delay is None and is_outage(str(exc)):
                delay = outage_delay_s(tries)
            if delay is None:
                raise
        yield from pause(context, delay)


def parallel_activity(context: df.DurableOrchestrationContext, name: str, payload: dict[str, Any]) -> Any:
    """An activity task for `all_of`, retried by the durable retry policy."""
    return context.call_activity_with_retry(name, _PARALLEL_RETRY, payload)


def sub_orchestration(
    context: df.DurableOrchestrationContext, name: str, payload: dict[str, Any], *, instance_id: str
) -> Any:
    """A sub-orchestration task."""
    return context.call_sub_orchestrator(name, payload, instance_id)


def all_of(context: df.DurableOrchestrationContext, tasks: Sequence[Any]) -> Any:
    """A task that is done when all are. Raises the first failure."""
    return context.task_all(list(tasks))


def any_of(context: df.DurableOrchestrationContext, tasks: Sequence[Any]) -> Any:
    """A task that is done when one is, whether it failed or not. All of them begin."""
    return context.task_any(list(tasks))


def wait(context: df.DurableOrchestrationContext, event: str, until: datetime) -> Steps[bool]:
    """Wait for an external event or a time (aware UTC). True when the event came. The event's payload is not used: the
    decision is in the store."""
    return (yield from wait_for(context, listen(context, event), until))


def pause(context: df.DurableOrchestrationContext, seconds: float) -> Steps[None]:
    """Wait for a while, whatever happens."""
    yield context.create_timer(context.current_utc_datetime + timedelta(seconds=seconds))


def listen(context: df.DurableOrchestrationContext, event: str) -> Any:
    """A task for an external event. Make one task per event name and wait for it as often as needed: of two tasks with
    the same name, an abandoned one could receive the event."""
    return context.wait_for_external_event(event)


def wait_for(context: df.DurableOrchestrationContext, arrived: Any, until: datetime) -> Steps[bool]:
    """Wait for a task of `listen` or a time. True when the event came, also when it came before this call.

    Long waits have several timers, one after the other: an open timer keeps an instance Running until it fires, and the
    SDK's `cancel` has no effect on a timer of more than six days (durable-python 573). The losing timer is cancelled
    before anything else is yielded.

    A history that began with one long timer goes on: each of its timers, however long, stands for one of these.
    """
    while not arrived.is_completed:
        now = context.current_utc_datetime
        timer = context.create_timer(until if until - now <= _LONGEST_LAST_TIMER else now + _TIMER)
        winner = yield context.task_any([arrived, timer])
        if winner != timer:
            timer.cancel()
        elif until - context.current_utc_datetime < _EARLY:
            return False
    return True
