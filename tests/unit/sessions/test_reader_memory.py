"""ReaderMemory without servers: who waits for room, who is closed to make it, and what is given back."""

from __future__ import annotations

import asyncio

import pytest

from shared.sessions.live.reading import ReaderMemory, TooSlow

pytestmark = pytest.mark.timeout(30)


async def _never(_: str) -> None:
    await asyncio.Event().wait()


async def _taken(_: str) -> None:
    return None


def _memory(total_bytes: int = 100, *, send_s: float = 600, slow_s: float = 600) -> ReaderMemory:
    return ReaderMemory(total_bytes, send_s=send_s, slow_s=slow_s)


async def _steps() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_reader_waits_for_room_and_gets_it_in_its_turn() -> None:
    memory = _memory()
    first, second, third = memory.open(), memory.open(), memory.open()
    await first.take(80)
    waiting = [asyncio.create_task(second.take(60)), asyncio.create_task(third.take(10))]
    await _steps()
    # Not the third before the second, though it would fit.
    assert (memory.held_bytes, [task.done() for task in waiting]) == (80, [False, False])

    first.keep(0)
    await asyncio.gather(*waiting)

    assert memory.held_bytes == 70


async def test_what_a_reader_takes_replaces_what_it_held() -> None:
    memory = _memory()
    reader = memory.open()
    await reader.take(100)
    await reader.take(100)
    reader.keep(30)
    assert memory.held_bytes == 30


async def test_one_alone_may_hold_more_than_everything() -> None:
    memory = _memory()
    alone, next_one = memory.open(), memory.open()
    await alone.take(1_000)
    waiting = asyncio.create_task(next_one.take(1))
    await _steps()
    assert not waiting.done()

    alone.close()
    await waiting

    assert memory.held_bytes == 1


async def test_a_reader_that_gives_up_its_place_holds_up_nobody() -> None:
    memory = _memory()
    first, second, third = memory.open(), memory.open(), memory.open()
    await first.take(80)
    gives_up = asyncio.create_task(second.take(60))
    waits = asyncio.create_task(third.take(10))
    await _steps()

    gives_up.cancel()
    await waits

    assert memory.held_bytes == 90


async def test_the_one_whose_client_has_taken_nothing_for_longest_makes_room() -> None:
    memory = _memory(slow_s=0.05)
    slowest, slow, wants = memory.open(), memory.open(), memory.open()
    sends = []
    for reader in (slowest, slow):
        await reader.take(50)
        sends.append(asyncio.create_task(reader.send(_never, "piece")))
        await _steps()
    sends[0].add_done_callback(lambda _: slowest.close())

    await wants.take(50)

    with pytest.raises(TooSlow):
        await sends[0]
    assert not sends[1].done()
    assert memory.held_bytes == 100
    sends[1].cancel()


async def test_nobody_is_closed_whose_client_is_not_slow() -> None:
    memory = _memory(slow_s=600)
    holds, wants = memory.open(), memory.open()
    await holds.take(100)
    send = asyncio.create_task(holds.send(_never, "piece"))
    waiting = asyncio.create_task(wants.take(50))
    await _steps()
    assert not send.done()

    holds.close()
    await waiting
    send.cancel()


async def test_a_client_that_takes_nothing_is_closed_in_time() -> None:
    reader = _memory(send_s=0.01).open()
    await reader.send(_taken, "piece")
    with pytest.raises(TooSlow):
        await reader.send(_never, "piece")


async def test_a_reader_that_sends_nothing_is_not_cut() -> None:
    reader = _memory().open()
    reader.cut()
    await reader.send(_taken, "piece")


async def test_what_is_closed_holds_nothing_whatever_comes_later() -> None:
    memory = _memory()
    reader = memory.open()
    await reader.take(40)
    reader.close()
    reader.keep(40)
    reader.close()
    assert memory.held_bytes == 0
