"""Batcher: one flush at a time, in order, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shared.batching import Batcher


class Flushes:
    """A flush that waits for the test before each answer."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.running = 0

    async def __call__(self, items: Sequence[int]) -> Sequence[int | BaseException]:
        self.running += 1
        assert self.running == 1, "two flushes at once"
        self.batches.append(list(items))
        await self.gate.wait()
        self.running -= 1
        return [ValueError(str(item)) if item < 0 else item * 10 for item in items]


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_idle_batcher_sends_at_once_and_a_busy_one_gathers_in_order() -> None:
    flushes = Flushes()
    batcher = Batcher[int, int](flushes)
    tasks = [asyncio.create_task(batcher.submit(1))]
    await _settle()
    tasks += [asyncio.create_task(batcher.submit(item)) for item in (2, 3, 4)]
    await _settle()

    flushes.gate.set()

    assert await asyncio.gather(*tasks) == [10, 20, 30, 40]
    assert flushes.batches == [[1], [2, 3, 4]]


async def test_a_batch_has_a_largest_size() -> None:
    flushes = Flushes()
    flushes.gate.set()
    batcher = Batcher[int, int](flushes, max_items=2)

    assert await asyncio.gather(*(batcher.submit(item) for item in range(5))) == [0, 10, 20, 30, 40]
    assert flushes.batches == [[0, 1], [2, 3], [4]]


async def test_an_error_of_one_item_is_only_its_own() -> None:
    flushes = Flushes()
    flushes.gate.set()

    batcher = Batcher[int, int](flushes)
    outcomes = await asyncio.gather(*(batcher.submit(item) for item in (1, -2, 3)), return_exceptions=True)

    assert outcomes[0] == 10
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[2] == 30


async def test_a_flush_that_raises_tells_all_of_its_batch_and_the_next_goes_on() -> None:
    calls = 0

    async def flush(items: Sequence[int]) -> Sequence[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("away")
        return items

    batcher = Batcher[int, int](flush)
    first = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)

    assert [type(outcome) for outcome in first] == [OSError, OSError]
    assert await batcher.submit(3) == 3


@pytest.mark.parametrize("answer", [[], [1, 2, 3]])
async def test_a_flush_that_answers_for_too_few_or_too_many_leaves_nobody_waiting(answer: list[int]) -> None:
    async def flush(items: Sequence[int]) -> Sequence[int]:
        return answer

    batcher = Batcher[int, int](flush)
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]


async def test_a_waiter_that_leaves_does_not_take_its_item_or_the_others_along() -> None:
    flushes = Flushes()
    batcher = Batcher[int, int](flushes)
    tasks = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
    await _settle()

    tasks[1].cancel()
    flushes.gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert (outcomes[0], outcomes[2]) == (10, 30)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert flushes.batches == [[1, 2, 3]]
    assert await batcher.submit(4) == 40
