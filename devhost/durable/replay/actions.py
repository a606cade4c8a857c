"""Decodes the result of an orchestrator handle and flattens its actions to leaves.

Invariant: leaves are in depth-first order, the order in which the SDK draws their ids. The list is
cumulative: each episode returns every action since the start of the generation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypedDict, cast

from devhost.durable.store import jsontext
from devhost.durable.store.history import EventType, parse_timestamp

HTTP_ACTIVITY = "BuiltIn::HttpActivity"
_MARKER = "$OutOfProcData$:"


class ActionKind(IntEnum):
    """Numbers of the wire protocol."""

    CALL_ACTIVITY = 0
    CALL_ACTIVITY_RETRY = 1
    CALL_SUB = 2
    CALL_SUB_RETRY = 3
    CONTINUE_AS_NEW = 4
    CREATE_TIMER = 5
    WAIT_EVENT = 6
    CALL_ENTITY = 7
    CALL_HTTP = 8
    SIGNAL_ENTITY = 9
    SCHEDULED_SIGNAL = 10
    WHEN_ANY = 11
    WHEN_ALL = 12


class RetryOptions(TypedDict, total=False):
    firstRetryIntervalInMilliseconds: int
    maxNumberOfAttempts: int
    backoffCoefficient: float
    maxRetryIntervalInMilliseconds: int


class Action(TypedDict, total=False):
    """One action as the SDK writes it; which keys exist depends on `actionType`."""

    actionType: int
    functionName: str
    input: str
    instanceId: str | None
    version: str | None
    retryOptions: RetryOptions
    fireAt: str
    isCanceled: bool
    operation: str
    externalEventName: str
    httpRequest: dict[str, jsontext.Json]
    compoundActions: list[Action]


SCHEDULES: dict[int, EventType] = {
    ActionKind.CALL_ACTIVITY: EventType.TASK_SCHEDULED,
    ActionKind.CALL_ACTIVITY_RETRY: EventType.TASK_SCHEDULED,
    ActionKind.CALL_HTTP: EventType.TASK_SCHEDULED,
    ActionKind.CALL_SUB: EventType.SUB_CREATED,
    ActionKind.CALL_SUB_RETRY: EventType.SUB_CREATED,
    ActionKind.CREATE_TIMER: EventType.TIMER_CREATED,
    ActionKind.CALL_ENTITY: EventType.EVENT_SENT,
    ActionKind.SIGNAL_ENTITY: EventType.EVENT_SENT,
}
"""The event written when a leaf is scheduled; exactly these kinds draw an id."""

RETRIED = frozenset({ActionKind.CALL_ACTIVITY_RETRY, ActionKind.CALL_SUB_RETRY})


@dataclass(frozen=True, slots=True)
class EpisodeOutput:
    """One episode's result.

    leaves: actions that draw an id, oldest first; None when the handle failed without a list of actions.
    output, custom_status: JSON text; None when the SDK left the key out.
    continue_with: JSON text of the new input when the orchestrator continues as new.
    awaited: the actions as the orchestrator waited for them, with what they are made of.
    error: what the orchestrator raised, or None.
    """

    is_done: bool = False
    leaves: list[Action] | None = field(default_factory=list)
    output: str | None = None
    error: str | None = None
    custom_status: str | None = None
    continue_with: str | None = None
    awaited: list[Action] = field(default_factory=list)


def parse_output(text: str) -> EpisodeOutput:
    """Decode the handle's return text. Raises ValueError when it is not a result of an SDK handle."""
    state = jsontext.loads(text)
    if not isinstance(state, dict) or not isinstance(state.get("actions"), list):
        raise ValueError("the orchestrator did not return an orchestrator state; is it a Durable orchestrator?")
    leaves: list[Action] = []
    continue_with: str | None = None
    for group in cast("list[list[Action]]", state["actions"]):
        for leaf in _flatten(group):
            kind = leaf["actionType"]
            if kind in SCHEDULES:
                leaves.append(leaf)
            elif kind == ActionKind.CONTINUE_AS_NEW:
                continue_with = leaf.get("input") or "null"
            elif kind != ActionKind.WAIT_EVENT:
                raise ValueError(f"the SDK asked for action type {kind}, which the dev host does not know")
    error = state.get("error")
    return EpisodeOutput(
        is_done=bool(state.get("isDone")),
        leaves=leaves,
        output=jsontext.dumps_like(text, state["output"]) if "output" in state else None,
        error=None if error is None else str(error),
        custom_status=jsontext.dumps_like(text, state["customStatus"]) if "customStatus" in state else None,
        continue_with=continue_with,
        awaited=[action for group in cast("list[list[Action]]", state["actions"]) for action in group],
    )


def parse_failure(message: str) -> EpisodeOutput:
    """Decode the failure of a handle: the SDK puts its state after a marker in the message.

    message: the worker's text, "ExcType: message".
    """
    _, marker, tail = message.partition(_MARKER)
    if marker:
        try:
            known = parse_output(tail)
        except ValueError:
            return EpisodeOutput(error=message, leaves=None)
        return EpisodeOutput(leaves=known.leaves, error=known.error or message, custom_status=known.custom_status)
    return EpisodeOutput(error=message, leaves=None)


def leaf_name(leaf: Action) -> str:
    """The name of a leaf's function, operation or built-in; empty for timers."""
    if leaf["actionType"] == ActionKind.CALL_HTTP:
        return HTTP_ACTIVITY
    return leaf.get("functionName") or leaf.get("operation") or ""


def fire_at(leaf: Action) -> int:
    """Due time of a timer leaf, microseconds since the epoch."""
    return parse_timestamp(leaf["fireAt"])


def retry_delay_us(options: RetryOptions, failures: int) -> int:
    """How long to wait after the given number of failed attempts (1 = the first)."""
    first_ms = options.get("firstRetryIntervalInMilliseconds", 0)
    delay_ms = first_ms * options.get("backoffCoefficient", 1.0) ** (failures - 1)
    longest_ms = options.get("maxRetryIntervalInMilliseconds")
    if longest_ms:
        delay_ms = min(delay_ms, longest_ms)
    return int(delay_ms * 1000)


def _flatten(actions: list[Action]) -> list[Action]:
    flat: list[Action] = []
    for action in actions:
        if action["actionType"] in (ActionKind.WHEN_ANY, ActionKind.WHEN_ALL):
            flat.extend(_flatten(action["compoundActions"]))
        else:
            flat.append(action)
    return flat
