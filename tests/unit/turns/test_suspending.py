"""A session's orchestrations are brought to what its row says, while others change it and commands arrive late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azure.durable_functions import OrchestrationRuntimeStatus

from activities import suspending
from activities.suspending import ARRIVED, follow
from shared.sessions.records.sessions import Hold

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SWEEP = timedelta(seconds=15)
SETTLED = ARRIVED + timedelta(seconds=suspending.TELLING_S)


class Rows:
    """A session's row; `meanwhile` changes it once, as soon as its orchestrations have been told something."""

    def __init__(self, *, is_held: bool, settled: int = 0, version: int = 1) -> None:
        self.is_held, self.version, self.settled = is_held, version, settled
        self.told_at: datetime | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def change(self, *, is_held: bool) -> None:
        self.is_held, self.version, self.told_at = is_held, self.version + 1, None

    async def hold(self, session_id: str) -> Hold:
        is_settled = self.settled == self.version
        return Hold(self.is_held, self.version, is_settled, ["turn", "approval"], self.told_at)

    async def told_hold(self, session_id: str, version: int, *, now: datetime) -> bool:
        change, self.meanwhile = self.meanwhile, lambda: None
        change()
        if version != self.version:
            return False
        self.told_at, self.settled = now, 0
        return True

    async def settle_hold(self, session_id: str, version: int) -> bool:
        if version != self.version:
            return False
        self.settled = version
        return True


class Client:
    """A durable backend; `failing` refuses to be told anything. late: commands arrive when `arrive` is called; one that
    would change nothing yet is refused, as the extension refuses it."""

    def __init__(self, failing: str = "", *, late: bool = False) -> None:
        self.failing, self.late = failing, late
        self.held: set[str] = set()
        self.ended: set[str] = set()
        self.told = 0
        self.queue: list[tuple[str, bool]] = []

    async def suspend(self, instance_id: str, reason: str) -> None:
        await self._tell(instance_id, held=True)

    async def resume(self, instance_id: str, reason: str) -> None:
        await self._tell(instance_id, held=False)

    async def get_status(self, instance_id: str) -> Any:
        status = OrchestrationRuntimeStatus
        if instance_id in self.ended:
            return SimpleNamespace(runtime_status=status.Completed)
        return SimpleNamespace(runtime_status=status.Suspended if instance_id in self.held else status.Running)

    def arrive(self, count: int = 100) -> None:
        for instance_id, held in self.queue[:count]:
            (self.held.add if held else self.held.discard)(instance_id)
        del self.queue[:count]

    async def _tell(self, instance_id: str, *, held: bool) -> None:
        self.told += 1
        if instance_id == self.failing:
            raise ConnectionError("away")
        if (instance_id in self.held) is held:
            raise RuntimeError("500: it is so already")
        self.queue.append((instance_id, held))
        if not self.late:
            self.arrive()


async def _follow(rows: Rows, client: Client, at: timedelta = timedelta()) -> None:
    await follow(cast("Any", SimpleNamespace(session_rows=rows)), cast("Any", client), "s1", now=NOW + at)


async def test_everything_of_a_suspended_session_is_held() -> None:
    rows, client = Rows(is_held=True), Client()
    await _follow(rows, client)
    assert (client.held, rows.told_at) == ({"turn", "approval"}, NOW)


async def test_what_follows_is_looked_at_until_earlier_commands_have_arrived_and_told_nothing_more() -> None:
    rows, client = Rows(is_held=True), Client()
    await _follow(rows, client)
    told = client.told
    for seconds in (15, 30, 45, 60, 75):
        await _follow(rows, client, timedelta(seconds=seconds))
        assert rows.settled == 0
    await _follow(rows, client, SETTLED)
    assert (rows.settled, client.told) == (1, told)


async def test_what_was_settled_is_not_told_again() -> None:
    client = Client()
    await _follow(Rows(is_held=True, settled=1), client)
    assert client.told == 0


@pytest.mark.parametrize("settled_by_another", [True, False])
async def test_who_was_overtaken_tells_them_what_the_row_says_now(settled_by_another: bool) -> None:
    """Also where the other one had told them before, and this one undid it."""
    rows, client = Rows(is_held=False), Client()

    def suspended_by_another() -> None:
        rows.change(is_held=True)
        if settled_by_another:
            rows.settled = 2

    rows.meanwhile = suspended_by_another
    await _follow(rows, client)
    assert (client.held, rows.settled) == ({"turn", "approval"}, 0)
    await _follow(rows, client, SETTLED)
    assert (client.held, rows.settled) == ({"turn", "approval"}, 2)


async def test_one_that_could_not_be_told_leaves_it_to_the_sweep() -> None:
    rows, client = Rows(is_held=True), Client(failing="approval")
    await _follow(rows, client)
    assert (rows.settled, rows.told_at) == (0, None)
    client.failing = ""
    await _follow(rows, client, SWEEP)
    await _follow(rows, client, SWEEP + SETTLED)
    assert (client.held, rows.settled) == ({"turn", "approval"}, 1)


@pytest.mark.parametrize("first", [True, False], ids=["suspend, then resume", "resume, then suspend"])
@pytest.mark.parametrize("arrives_after", range(4), ids=lambda sweeps: f"{sweeps} sweeps")
async def test_a_command_that_arrives_late_does_not_have_the_last_word(first: bool, arrives_after: int) -> None:
    """The second command finds the instance as it is to be, and is refused; then the first one arrives."""
    client = Client(late=True)
    client.held = set() if first else {"turn", "approval"}
    rows = Rows(is_held=first)
    await _follow(rows, client)
    rows.change(is_held=not first)
    await _follow(rows, client)

    for sweep in range(1, 12):
        if sweep > arrives_after:
            client.arrive()
        await _follow(rows, client, sweep * SWEEP)
    client.arrive()

    assert client.held == (set() if first else {"turn", "approval"})
    assert rows.settled == rows.version
    assert client.told <= 4 * 2, "each change once, and once more for what arrived late"


async def test_what_has_ended_follows() -> None:
    rows, client = Rows(is_held=True), Client()
    client.ended = {"turn"}
    await _follow(rows, client)
    await _follow(rows, client, SETTLED)
    assert rows.settled == 1


@pytest.mark.parametrize("hangs_in", ["suspend", "get_status"])
async def test_who_hangs_while_it_tells_and_dies_then_leaves_nothing_held(
    hangs_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read that they are to be held; another one let them go meanwhile, and saw all of them follow."""
    monkeypatch.setattr(suspending, "TELLING_S", 0.05)
    rows, client, hanging = Rows(is_held=True), Client(), Client()
    hanging.held = client.held
    free = asyncio.Event()
    looks, tells = hanging.get_status, hanging.suspend

    async def look(instance_id: str) -> Any:
        await free.wait()
        return await looks(instance_id)

    async def tell_and_die(instance_id: str, reason: str) -> None:
        await free.wait()
        await tells(instance_id, reason)
        raise asyncio.CancelledError

    hanging.suspend = tell_and_die  # type: ignore[method-assign]
    if hangs_in == "get_status":
        hanging.get_status = look  # type: ignore[method-assign]
        rows.told_at = NOW  # and a process before it did not finish
    stalled = asyncio.create_task(_follow(rows, hanging))
    await asyncio.sleep(0)
    rows.change(is_held=False)
    for at in (timedelta(), SWEEP, SETTLED):
        await _follow(rows, client, at)
    assert rows.settled == rows.version
    await asyncio.wait([stalled], timeout=0.2)
    free.set()
    await asyncio.wait([stalled])
    assert client.held == set()
