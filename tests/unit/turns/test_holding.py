"""Telling a session's orchestrations what its row says, while others change it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from azure.durable_functions import OrchestrationRuntimeStatus

from activities.holding import follow
from shared.sessions.records.sessions import Hold


class Rows:
    """A session's row; `meanwhile` changes it once, as soon as its orchestrations have been told something."""

    def __init__(self, *, is_held: bool, settled: int = 0, version: int = 1) -> None:
        self.is_held, self.version, self.settled = is_held, version, settled
        self.meanwhile: Callable[[], None] = lambda: None

    async def hold(self, session_id: str) -> Hold:
        return Hold(self.is_held, self.version, self.settled == self.version, ["turn", "approval"])

    async def settle_hold(self, session_id: str, version: int) -> bool:
        change, self.meanwhile = self.meanwhile, lambda: None
        change()
        if version != self.version:
            return False
        self.settled = version
        return True


class Client:
    """A durable backend; `failing` refuses to be told anything."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.held: set[str] = set()
        self.told = 0

    async def suspend(self, instance_id: str, reason: str) -> None:
        await self._tell(instance_id, self.held.add)

    async def resume(self, instance_id: str, reason: str) -> None:
        await self._tell(instance_id, self.held.discard)

    async def get_status(self, instance_id: str) -> Any:
        status = OrchestrationRuntimeStatus
        return SimpleNamespace(runtime_status=status.Suspended if instance_id in self.held else status.Running)

    async def _tell(self, instance_id: str, change: Callable[[str], None]) -> None:
        self.told += 1
        if instance_id == self.failing:
            raise ConnectionError("away")
        change(instance_id)


async def _follow(rows: Rows, client: Client) -> None:
    await follow(cast("Any", SimpleNamespace(session_rows=rows)), cast("Any", client), "s1")


async def test_everything_of_a_suspended_session_is_held() -> None:
    rows, client = Rows(is_held=True), Client()
    await _follow(rows, client)
    assert (client.held, rows.settled) == ({"turn", "approval"}, 1)


async def test_what_was_told_is_not_told_again() -> None:
    client = Client()
    await _follow(Rows(is_held=True, settled=1), client)
    assert client.told == 0


@pytest.mark.parametrize("settled_by_another", [True, False])
async def test_who_was_overtaken_tells_them_what_the_row_says_now(settled_by_another: bool) -> None:
    """Also where the other one had told them before, and this one undid it."""
    rows, client = Rows(is_held=False), Client()

    def suspended_by_another() -> None:
        rows.is_held, rows.version = True, 2
        if settled_by_another:
            rows.settled = 2

    rows.meanwhile = suspended_by_another
    await _follow(rows, client)
    assert (client.held, rows.settled) == ({"turn", "approval"}, 2)


async def test_one_that_could_not_be_told_leaves_it_to_the_sweep() -> None:
    rows, client = Rows(is_held=True), Client(failing="approval")
    await _follow(rows, client)
    assert rows.settled == 0
    client.failing = ""
    await _follow(rows, client)
    assert (client.held, rows.settled) == ({"turn", "approval"}, 1)
