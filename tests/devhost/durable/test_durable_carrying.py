"""Which events of an episode belong to the next generation."""

from __future__ import annotations

from typing import Any

import pytest

from devhost.durable.replay.actions import Action, ActionKind
from devhost.durable.replay.carrying import carried_over
from devhost.durable.store.history import event_raised, task_completed
from devhost.durable.store.jsontext import loads

CALL: Action = {"actionType": ActionKind.CALL_ACTIVITY, "functionName": "echo"}
ONE: Action = {"actionType": ActionKind.WAIT_EVENT, "externalEventName": "One"}
TWO: Action = {"actionType": ActionKind.WAIT_EVENT, "externalEventName": "Two"}
GO_ON: Action = {"actionType": ActionKind.CONTINUE_AS_NEW, "input": "1"}


def either(*actions: Action) -> Action:
    return {"actionType": ActionKind.WHEN_ANY, "compoundActions": list(actions)}


def both(*actions: Action) -> Action:
    return {"actionType": ActionKind.WHEN_ALL, "compoundActions": list(actions)}


def events(text: str) -> str:
    """One letter an event: a, b ... of the name that its case says; 0 to 9 the answer of that call."""
    made = [
        task_completed(1, int(letter), None)
        if letter.isdigit()
        else event_raised(1, "One" if letter.islower() else "Two", f'"{letter}"')
        for letter in text
    ]
    return ",".join(made)


@pytest.mark.parametrize(
    ("awaited", "before", "episode", "carried"),
    [
        ([ONE], "", "abc", "bc"),
        ([ONE, ONE], "", "abc", "c"),
        ([ONE, ONE], "a", "bc", "c"),
        # What came before the event that mattered is lost, waited for or not.
        ([ONE], "", "ABcD", "D"),
        ([either(ONE, TWO)], "", "Ab", "b"),
        ([both(ONE, TWO)], "", "abC", ""),
        ([CALL], "", "a0b", "b"),
        ([CALL, ONE], "a", "b0c", "c"),
        ([either(CALL, ONE)], "", "ab0", "b"),
        ([], "", "a", "a"),
    ],
)
def test_what_comes_after_the_cause_is_carried_over(
    awaited: list[Action], before: str, episode: str, carried: str
) -> None:
    found: list[Any] = [loads(event) for event in carried_over([*awaited, GO_ON], [0], events(before), events(episode))]
    assert "".join(event["Input"].strip('"') for event in found) == carried
