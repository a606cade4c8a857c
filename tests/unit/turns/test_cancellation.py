"""CancelWatch: ours is reported as ours, everyone else's cancellation stays theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from shared.errors import ErrorCode, Transient
from shared.sessions.turns.cancellation import CancelWatch, TurnCancelled

pytestmark = pytest.mark.timeout(30)


class Requests:
    """The store's side: which turns were asked to stop."""

    def __init__(self) -> None:
        self.cancelled: set[str] = set()
        self.asked: list[list[str]] = []
        self.fails = 0

    async def __call__(self, turn_ids: Sequence[str]) -> set[str]:
        self.asked.append(sorted(turn_ids))
        if self.fails:
            self.fails -= 1
            raise Transient(ErrorCode.DATABASE_ERROR, "away")
        return self.cancelled & set(turn_ids)


@pytest.fixture
def requests() -> Requests:
    return Requests()


def _watch(requests: Requests) -> CancelWatch:
    return CancelWatch(requests, poll_s=0.005)


async def _forever(watch: CancelWatch, turn_id: str) -> None:
    async with watch.guard(turn_id):
        await asyncio.Event().wait()


def _count() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_a_cancelled_turn_stops_its_bodies_and_no_others(requests: Requests) -> None:
    watch = _watch(requests)
    stopped = [asyncio.create_task(_forever(watch, "a")) for _ in range(2)]
    other = asyncio.create_task(_forever(watch, "b"))

    requests.cancelled = {"a"}
    outcomes = await asyncio.gather(*stopped, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [TurnCancelled, TurnCancelled]
    assert not other.done()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other


async def test_one_question_covers_all_that_runs_and_none_is_asked_when_nothing_does(requests: Requests) -> None:
    watch = _watch(requests)
    tasks = [asyncio.create_task(_forever(watch, turn_id)) for turn_id in ("a", "b", "b")]
    while not requests.asked:  # noqa: ASYNC110  # the poll itself is what is awaited
        await asyncio.sleep(0.001)

    assert requests.asked[0] == ["a", "b"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    while watch._task is not None:  # noqa: ASYNC110  # until the poll has ended
        await asyncio.sleep(0.001)
    count = len(requests.asked)
    await asyncio.sleep(0.03)
    assert len(requests.asked) == count
    # ... and the next body is watched again.
    requests.cancelled = {"c"}
    with pytest.raises(TurnCancelled):
        await _forever(watch, "c")


async def test_a_store_that_is_away_is_asked_again(requests: Requests) -> None:
    requests.fails, requests.cancelled = 3, {"a"}

    with pytest.raises(TurnCancelled):
        await _forever(_watch(requests), "a")

    assert len(requests.asked) == 4


async def test_a_cancellation_from_outside_is_not_taken_for_ours(requests: Requests) -> None:
    task = asyncio.create_task(_forever(_watch(requests), "a"))
    await asyncio.sleep(0)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_when_both_come_at_once_the_one_from_outside_wins(requests: Requests) -> None:
    watch = _watch(requests)
    task = asyncio.create_task(_forever(watch, "a"))
    await asyncio.sleep(0)
    (guard,) = watch._watched["a"]

    guard.fire()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_body_that_ends_as_the_cancel_arrives_leaves_no_cancellation_behind(requests: Requests) -> None:
    watch = _watch(requests)

    async def body() -> str:
        async with watch.guard("a"):
            (guard,) = watch._watched["a"]
            guard.fire()  # delivered at the next await, and there is none inside
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        assert _count() == 0
        return "done"

    assert await asyncio.create_task(body()) == "done"


async def test_a_body_that_swallows_the_cancellation_leaves_none_behind(requests: Requests) -> None:
    watch, requests.cancelled = _watch(requests), {"a"}

    async def body() -> int:
        async with watch.guard("a"):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return _count()

    assert await asyncio.create_task(body()) == 0


async def test_a_body_that_makes_another_error_of_it_reports_that_and_leaves_none_behind(requests: Requests) -> None:
    watch, requests.cancelled = _watch(requests), {"a"}

    async def translate() -> None:
        async with watch.guard("a"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise OSError("closed") from None

    async def body() -> int:
        with pytest.raises(OSError, match="closed"):
            await translate()
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        return _count()

    assert await asyncio.create_task(body()) == 0


async def test_errors_of_the_body_pass_unchanged(requests: Requests) -> None:
    with pytest.raises(KeyError):
        async with _watch(requests).guard("a"):
            raise KeyError("x")


async def test_a_time_limit_inside_stays_a_time_limit(requests: Requests) -> None:
    with pytest.raises(TimeoutError):
        async with _watch(requests).guard("a"), asyncio.timeout(0.001):
            await asyncio.Event().wait()
    assert _count() == 0


async def test_a_time_limit_around_it_stays_one_too(requests: Requests) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001), _watch(requests).guard("a"):
            await asyncio.Event().wait()
    assert _count() == 0


async def test_a_guard_inside_a_guard(requests: Requests) -> None:
    watch, requests.cancelled = _watch(requests), {"outer"}

    with pytest.raises(TurnCancelled):
        async with watch.guard("outer"), watch.guard("inner"):
            await asyncio.Event().wait()
    assert _count() == 0
    assert watch._watched == {}
