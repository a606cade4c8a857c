"""Workflows as the durable client starts, ends and watches them, page by page of what they have started."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import azure.durable_functions as df
import pytest

from activities import durable_client
from activities.durable_client import Watched
from shared.sessions.records.waits import WorkflowStart

ROOT = "turn:call:workflow"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
State = df.OrchestrationRuntimeStatus
PAGE = 2
START = WorkflowStart("ship", ROOT, "call", "olga", ("user",), "session", "clerk", 1, {"item": "kettle"})


@dataclass
class Hub:
    """A task hub that ends what it is told to, at once, and lists two instances at a time."""

    states: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    started: list[tuple[str, Any]] = field(default_factory=list)

    async def get_status(self, instance_id: str, **_: Any) -> Any:
        state = self.states.get(instance_id)
        return SimpleNamespace(
            instance_id=instance_id, runtime_status=state, output=self.output, created_time=NOW - timedelta(minutes=5)
        )

    async def get_status_by(self, *, instance_id_prefix: str, runtime_status: Any = None) -> list[Any]:
        found = [
            SimpleNamespace(instance_id=name)
            for name, state in self.states.items()
            if name.startswith(instance_id_prefix) and (runtime_status is None or state in runtime_status)
        ]
        return found[:PAGE]

    async def terminate(self, instance_id: str, reason: str) -> None:
        self.states[instance_id] = State.Terminated

    async def purge_instance_history(self, instance_id: str) -> None:
        del self.states[instance_id]

    async def start_new(self, name: str, *, instance_id: str, client_input: Any) -> None:
        self.started.append((name, client_input))
        self.states[instance_id] = State.Pending


def _family(state: Any, *, size: int = 5) -> dict[str, Any]:
    return {ROOT: state} | {f"{ROOT}:{number}": state for number in range(size)}


async def test_all_that_it_has_started_is_ended_with_it_however_much_that_is() -> None:
    hub = Hub(_family(State.Running) | {"turn:call:workflows-of-another": State.Running})

    assert await durable_client.end_workflow(hub, ROOT, "why")

    assert {hub.states[name] for name in _family(None)} == {State.Terminated}
    assert hub.states["turn:call:workflows-of-another"] is State.Running


async def test_its_histories_are_purged_once_what_ended_them_has_arrived() -> None:
    hub = Hub(_family(State.Running))

    gone, was_told = await durable_client.erase(hub, [ROOT], may_arrive=False)
    assert (gone, was_told) == ([], True)
    gone, was_told = await durable_client.erase(hub, [ROOT], may_arrive=True)
    assert (gone, hub.states.keys()) == ([], _family(None).keys())
    assert (await durable_client.erase(hub, [ROOT], may_arrive=False))[0] == [ROOT]
    assert hub.states == {}


async def test_it_is_started_unless_it_is_there_and_again_after_a_start_that_was_cut() -> None:
    hub = Hub()
    for _ in range(2):
        await durable_client.start_workflow(hub, START)
    ((name, given),) = hub.started
    assert (name, given["input"], given["caller"]["user_id"]) == ("ship", {"item": "kettle"}, "olga")

    hub.states[ROOT] = State.Terminated
    await durable_client.start_workflow(hub, START)
    assert len(hub.started) == 1, "what has ended is not run again by a repeated call"
    await durable_client.start_workflow(hub, START, is_cut=True)
    assert len(hub.started) == 2
    assert hub.started[0][1]["start"] != hub.started[1][1]["start"], "each start is one of its own"


@pytest.mark.parametrize(
    ("state", "output", "expected"),
    [
        (None, "", Watched.NOWHERE),
        (State.Pending, "", Watched.CUT),
        (State.Running, "", Watched.LIVE),
        (State.Suspended, "", Watched.HELD),
        (State.Completed, "", Watched.ENDED),
        (State.Terminated, "", Watched.ENDED),
        (State.Failed, "Orchestrator function 'ship' failed", Watched.ENDED),
        (State.Failed, "Non-Deterministic workflow detected: scheduled 'pack', now 'call'", Watched.CHANGED),
    ],
)
async def test_from_outside_it_is_what_the_backend_says(state: Any, output: str, expected: Watched) -> None:
    assert await durable_client.watch_workflow(Hub({ROOT: state}, output), ROOT, now=NOW) is expected
