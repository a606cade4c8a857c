"""What a look at the dependencies says, costs and tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from shared.errors import ErrorCode, Transient
from shared.health import Check, Health, HealthAnswer, HealthChecks, HealthStatus
from shared.sessions.live.realtime import DeliveryFailed


async def _well() -> None:
    return None


async def _silent() -> None:
    await asyncio.Event().wait()


def _failing(error: Exception) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        raise error

    return ask


def _transient() -> Transient:
    error = Transient(ErrorCode.DATABASE_ERROR, "The database cannot be reached just now.")
    error.__cause__ = OSError("no route to 10.0.0.7, password=hunter2")
    return error


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ([Check("a", _well, needed=True), Check("b", _well)], HealthStatus.OK),
        ([Check("a", _well, needed=True), Check("b", _failing(OSError()))], HealthStatus.DEGRADED),
        ([Check("a", _well, needed=True), Check("b", _silent, limit_s=0.01)], HealthStatus.DEGRADED),
        ([Check("a", _failing(OSError()), needed=True), Check("b", _well)], HealthStatus.UNAVAILABLE),
        ([Check("a", _silent, needed=True, limit_s=0.01), Check("b", _well)], HealthStatus.UNAVAILABLE),
    ],
)
async def test_only_what_a_turn_needs_makes_it_unavailable(checks: list[Check], status: HealthStatus) -> None:
    health = await HealthChecks(checks).look()

    assert health.status is status
    assert list(health.answers) == ["a", "b"]


async def test_what_only_the_caller_can_ask_counts_too() -> None:
    health = await HealthChecks([Check("a", _well)]).look(Check("b", _failing(OSError()), needed=True))

    assert health == Health(HealthStatus.UNAVAILABLE, {"a": HealthAnswer.OK, "b": HealthAnswer.UNAVAILABLE})


async def test_the_silent_and_the_failing_are_told_apart_and_nothing_more() -> None:
    checks = [Check("silent", _silent, limit_s=0.01), Check("failing", _failing(_transient()))]

    health = await HealthChecks(checks).look()

    assert {name: str(answer) for name, answer in health.answers.items()} == {
        "silent": "no answer",
        "failing": "unavailable",
    }


async def test_callers_at_once_and_within_a_second_cost_one_question() -> None:
    asked, release = 0, asyncio.Event()

    async def ask() -> None:
        nonlocal asked
        asked += 1
        await release.wait()

    now = [0.0]
    health = HealthChecks([Check("a", ask)], clock=lambda: now[0])
    looks = [asyncio.create_task(health.look()) for _ in range(20)]
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*looks)
    assert asked == 1

    for seconds, expected in ((0.9, 1), (1.0, 2), (1.5, 2), (2.0, 3)):
        now[0] = seconds
        await health.look()
        assert asked == expected, seconds


async def test_a_caller_who_gives_up_takes_the_answer_from_nobody() -> None:
    release = asyncio.Event()
    health = HealthChecks([Check("a", release.wait)])
    first, second = (asyncio.create_task(health.look()) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.wait([first])
    release.set()

    assert (await second).status is HealthStatus.OK


async def test_the_answer_follows_what_happens() -> None:
    errors: list[Exception] = [OSError()]

    async def ask() -> None:
        if errors:
            raise errors[0]

    health = HealthChecks([Check("a", ask, needed=True)], clock=count(0, 1).__next__)
    assert (await health.look()).status is HealthStatus.UNAVAILABLE
    errors.clear()
    assert (await health.look()).status is HealthStatus.OK


async def test_the_log_tells_each_change_once_and_no_drivers_text(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = []

    async def ask() -> None:
        if errors:
            raise errors[0]

    health = HealthChecks([Check("postgres", ask)], clock=count(0, 1).__next__)
    with caplog.at_level(logging.INFO):
        for wrong in (None, _transient(), _transient(), None, None, DeliveryFailed("the service answered 403")):
            errors[:] = [] if wrong is None else [wrong]
            await health.look()

    assert [record.getMessage() for record in caplog.records] == [
        "health: postgres: unavailable (Transient from OSError)",
        "health: postgres is back",
        "health: postgres: unavailable (the service answered 403)",
    ]
