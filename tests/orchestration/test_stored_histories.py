"""Histories of a real host, replayed: what runs today must be able to go on with the code of tomorrow.

A failure here means that instances which are waiting right now would break: see `record.py`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devhost.durable.replay.actions import SCHEDULES, Action, EpisodeOutput, leaf_name
from devhost.durable.store.history import RETRY_OF, EventType
from devtools.histories.player import Json, handle_of, run_handle
from devtools.histories.stored import Stored, episodes, read
from orchestrators import approval, notification, turn
from shared.durable.names import APPROVAL, NOTIFICATION, TURN

HISTORIES = Path(__file__).parent / "histories"
ORCHESTRATORS = {TURN: turn.turn, APPROVAL: approval.approval, NOTIFICATION: notification.notification}
SCHEDULING = frozenset(SCHEDULES.values())


STORED = {
    f"{path.stem}-{index}-{stored.orchestration}": stored
    for path in sorted(HISTORIES.glob("*.json"))
    for index, stored in enumerate(read(path))
}


def _episodes(stored: Stored) -> list[tuple[list[Json], list[Json]]]:
    return list(episodes(stored.events, SCHEDULING))


def _replay(stored: Stored, seen: list[Json]) -> EpisodeOutput:
    return run_handle(handle_of(ORCHESTRATORS[stored.orchestration]), stored.context(seen))


def _as_scheduled(leaf: Action) -> tuple[int, str, Any]:
    """What a leaf asks for, in the terms of the event it becomes."""
    kind = SCHEDULES[leaf["actionType"]]
    return kind, leaf_name(leaf), None if kind is EventType.TIMER_CREATED else json.loads(leaf.get("input") or "null")


def _as_recorded(event: Json) -> tuple[int, str, Any]:
    kind = event["EventType"]
    given = None
    if kind == EventType.TASK_SCHEDULED:
        given = json.loads(json.loads(event["Input"])[0])
    elif kind == EventType.SUB_CREATED:
        given = json.loads(json.loads(event["Input"]))
    return kind, event.get("Name", ""), given


@pytest.mark.parametrize("stored", STORED.values(), ids=list(STORED))
def test_every_episode_asks_again_for_what_it_asked_for(stored: Stored) -> None:
    played = _episodes(stored)
    assert len(played) >= 2
    for seen, scheduled in played:
        output = _replay(stored, seen)
        assert output.error is None
        assert output.leaves is not None
        # Further attempts of a retry policy are the host's own doing, not the orchestrator's.
        expected = [_as_recorded(event) for event in scheduled if event.get(RETRY_OF) in {None, event["EventId"]}]
        assert [_as_scheduled(leaf) for leaf in output.leaves] == expected


@pytest.mark.parametrize("stored", STORED.values(), ids=list(STORED))
def test_last_episode_ends_as_it_did(stored: Stored) -> None:
    [ended] = [event for event in stored.events if event["EventType"] == EventType.EXECUTION_COMPLETED]
    output = _replay(stored, _episodes(stored)[-1][0])
    assert output.is_done
    assert json.loads(output.output or "null") == json.loads(ended["Result"])


def test_stored_histories_meet_every_way_a_turn_can_go() -> None:
    assert {stored.orchestration for stored in STORED.values()} == set(ORCHESTRATORS)
    met = {event["EventType"] for stored in STORED.values() for event in stored.events}
    wanted = {
        EventType.TASK_SCHEDULED,
        EventType.SUB_CREATED,
        EventType.TIMER_CREATED,
        EventType.TIMER_FIRED,
        EventType.EVENT_RAISED,
        EventType.EXECUTION_SUSPENDED,
        EventType.EXECUTION_RESUMED,
    }
    assert wanted <= met


def test_changed_orchestrator_would_be_found_out() -> None:
    """The guard guards: a history whose first activity has another name does not pass for this code's."""
    stored = next(stored for stored in STORED.values() if stored.orchestration == TURN)
    text = json.dumps(stored.events).replace('"call_model"', '"call_another_model"')
    changed = replace(stored, events=json.loads(text))
    with pytest.raises(AssertionError):
        test_every_episode_asks_again_for_what_it_asked_for(changed)
