"""What the database does not take is kept and stored later."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import ErrorCode, InvalidInput, Transient
from shared.sessions.turns.keeping import Keeper


class Database:
    """Fails the first `away` calls."""

    def __init__(self, away: int) -> None:
        self.away = away
        self.calls = 0
        self.is_back = asyncio.Event()

    async def save(self) -> str:
        self.calls += 1
        if self.calls <= self.away:
            raise Transient(ErrorCode.DATABASE_ERROR, "away")
        self.is_back.set()
        return "stored"


@pytest.mark.parametrize("away", [0, 1, 5])
async def test_it_is_stored_when_the_database_is_back(away: int) -> None:
    database, keeper = Database(away), Keeper(retry_s=0)
    assert await keeper.store("c1", database.save) == "stored"
    assert database.calls == away + 1
    await keeper.wait("c1")


async def test_the_activity_is_told_after_a_while_and_the_saving_goes_on() -> None:
    database, keeper = Database(3), Keeper(stay_s=0, retry_s=0.01)
    with pytest.raises(Transient, match="cannot be reached"):
        await keeper.store("c1", database.save)
    with pytest.raises(Transient, match="cannot be reached"):
        await keeper.wait("c1")
    await database.is_back.wait()
    await asyncio.sleep(0)
    await keeper.wait("c1")


async def test_a_repeat_waits_for_what_is_kept_and_nobody_else_does() -> None:
    database, keeper = Database(3), Keeper(retry_s=0.01)
    first = asyncio.create_task(keeper.store("c1", database.save))
    await asyncio.sleep(0.005)
    await keeper.wait("c2")
    assert database.calls < 4
    await keeper.wait("c1")
    assert database.calls == 4
    assert await first == "stored"


async def test_an_activity_that_is_cancelled_leaves_the_saving_behind() -> None:
    database, keeper = Database(2), Keeper(retry_s=0.01)
    activity = asyncio.create_task(keeper.store("c1", database.save))
    await asyncio.sleep(0.005)
    activity.cancel()
    await database.is_back.wait()


async def test_other_errors_are_the_callers() -> None:
    async def refuse() -> None:
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "no")

    with pytest.raises(InvalidInput):
        await Keeper().store("c1", refuse)
