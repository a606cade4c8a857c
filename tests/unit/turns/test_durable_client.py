"""The durable client against a backend that is as the extension: commands arrive later, and refusals are exceptions."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azure.durable_functions import OrchestrationRuntimeStatus as State

from activities import durable_client
from shared.durable.names import KEEPER_INSTANCE


class Backend:
    """states: by instance; what is not there does not exist. cut: so many starts fail after the row was written.
    late: a terminate changes nothing until `arrive`."""

    def __init__(self, *, cut: int = 0, late: bool = False, **states: State) -> None:
        self.states = dict(states)
        self.cut, self.late = cut, late
        self.started: list[str] = []
        self.terminated: list[str] = []
        self.purged: list[str] = []
        self.inputs: dict[str, str] = {}
        self.created_at = datetime.now(UTC)

    async def get_status(self, instance_id: str, show_input: bool = False) -> Any:
        return SimpleNamespace(
            runtime_status=self.states.get(instance_id),
            output=None,
            input_=self.inputs.get(instance_id),
            created_time=self.created_at,
        )

    async def start_new(self, name: str, instance_id: str, client_input: object = None) -> str:
        state = self.states.get(instance_id)
        if state in {State.Running, State.Pending, State.Suspended}:
            raise Exception({"Message": f"An Orchestration instance with the status {state} already exists."})
        self.states[instance_id] = State.Pending
        self.inputs[instance_id] = json.dumps(client_input)
        if self.cut:
            self.cut -= 1
            raise Exception({"Message": "Something went wrong while processing your request"})
        self.states[instance_id] = State.Running
        self.started.append(instance_id)
        return instance_id

    async def terminate(self, instance_id: str, reason: str) -> None:
        self.terminated.append(instance_id)
        if not self.late:
            self.arrive()

    def arrive(self) -> None:
        for instance_id in self.terminated:
            if self.states.get(instance_id) in {State.Running, State.Pending, State.Suspended, None}:
                self.states[instance_id] = State.Terminated

    async def purge_instance_history(self, instance_id: str) -> None:
        del self.states[instance_id]
        self.purged.append(instance_id)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_client, "_LOOK_SECONDS", 0)


async def start(backend: Backend) -> None:
    await durable_client.start_turn(cast("Any", backend), "t")


async def erase(backend: Backend, *, may_arrive: bool = False) -> tuple[list[str], bool]:
    return await durable_client.erase(cast("Any", backend), ["t"], may_arrive=may_arrive)


async def test_a_start_that_was_cut_after_its_row_was_written_is_made_again() -> None:
    backend = Backend(cut=2)
    await start(backend)
    assert (backend.started, backend.terminated, backend.states) == (["t"], ["t", "t"], {"t": State.Running})


async def test_a_start_that_is_cut_again_and_again_says_so() -> None:
    backend = Backend(cut=9)
    with pytest.raises(Exception, match="Something went wrong"):
        await start(backend)


@pytest.mark.parametrize("state", [State.Pending, State.Running, State.Suspended])
async def test_who_comes_second_leaves_the_start_of_another_alone(state: State) -> None:
    backend = Backend(t=state)
    await start(backend)
    assert (backend.started, backend.terminated) == ([], [])


async def test_an_ended_instance_is_replaced() -> None:
    backend = Backend(t=State.Failed)
    await start(backend)
    assert backend.started == ["t"]


async def test_a_live_instance_is_terminated_and_purged() -> None:
    backend = Backend(t=State.Running)
    assert (await erase(backend), backend.purged) == ((["t"], True), ["t"])


async def test_nothing_is_purged_before_its_terminate_has_arrived() -> None:
    """A terminate that finds no instance writes a row of its own."""
    backend = Backend(late=True, t=State.Running)
    assert (await erase(backend), backend.purged) == (([], True), [])
    backend.states["t"] = State.Completed  # by itself, before the command arrives
    assert (await erase(backend, may_arrive=True), backend.purged) == (([], False), [])
    backend.arrive()
    assert (await erase(backend), backend.states) == ((["t"], False), {})


async def test_what_was_terminated_before_is_not_purged_when_it_is_terminated_again() -> None:
    backend = Backend(t=State.Running)
    assert (await erase(backend, may_arrive=True), backend.purged) == (([], True), [])


async def test_an_instance_that_is_not_there_is_gone() -> None:
    backend = Backend()
    assert (await erase(backend), backend.terminated, backend.purged) == ((["t"], False), [], [])


async def find_hub(backend: Backend, otherwise: str) -> str | None:
    return await durable_client.find_hub(cast("Any", backend), otherwise=otherwise)


async def test_a_hub_has_the_identity_that_it_was_given_first() -> None:
    backend = Backend()
    assert await find_hub(backend, "a") is None
    for _ in range(2):
        assert await find_hub(backend, "b") == "a"
    assert backend.started == [KEEPER_INSTANCE]


@pytest.mark.parametrize(("age_s", "replaced"), [(30, False), (90, True)])
async def test_an_identity_counts_only_once_its_keeper_runs(age_s: float, replaced: bool) -> None:
    """Of two who start it at once the second may write the row of the first; and its start may have been cut."""
    backend = Backend(**{KEEPER_INSTANCE: State.Pending})
    backend.inputs[KEEPER_INSTANCE] = '{"hub": "a"}'
    backend.created_at -= timedelta(seconds=age_s)
    assert await find_hub(backend, "b") is None
    assert await find_hub(backend, "c") == ("b" if replaced else None)


@pytest.mark.parametrize("state", [State.Terminated, State.Failed, State.Completed])
async def test_a_keeper_that_was_ended_by_hand_keeps_its_identity(state: State) -> None:
    backend = Backend(**{KEEPER_INSTANCE: state})
    backend.inputs[KEEPER_INSTANCE] = '{"hub": "a"}'
    assert await find_hub(backend, "b") is None
    assert await find_hub(backend, "c") == "a"


async def test_a_keeper_that_somebody_suspended_says_its_identity() -> None:
    backend = Backend(**{KEEPER_INSTANCE: State.Suspended})
    backend.inputs[KEEPER_INSTANCE] = '{"hub": "a"}'
    assert await find_hub(backend, "b") == "a"
