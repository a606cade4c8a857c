"""WorkPool: bounded, fair, and honest about what still runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from shared.errors import ErrorCode, Transient
from shared.work_pool import PoolLimits, WorkPool, in_new_thread

LIMITS = PoolLimits(threads=2, per_user=1, waiting=6, waiting_per_user=3, wait_s=60, retry_after_s=7)


class Gate:
    """Work that runs until it is opened."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.opened.wait(30)
        return "done"


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., WorkPool]]:
    pools: list[WorkPool] = []

    def made(**changes: float) -> WorkPool:
        pools.append(WorkPool("files", replace(LIMITS, **changes)))  # type: ignore[arg-type]
        return pools[-1]

    yield made
    for pool in pools:
        pool.close()


async def _settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def _began(gate: Gate) -> None:
    assert await in_new_thread(lambda: gate.began.wait(30))


async def test_one_users_queue_does_not_hold_up_another(make: Callable[..., WorkPool]) -> None:
    pool, gates = make(), [Gate() for _ in range(4)]
    anns = [asyncio.create_task(pool.run("ann", gate)) for gate in gates]
    await _began(gates[0])

    assert await pool.run("bob", lambda: "bob's") == "bob's"

    assert not gates[1].began.is_set(), "ann's second waits although a thread is free"
    for gate in gates:
        gate.opened.set()
    assert await asyncio.gather(*anns) == ["done"] * 4


async def test_users_who_wait_take_turns(make: Callable[..., WorkPool]) -> None:
    pool, gate, order = make(threads=1), Gate(), list[str]()
    holder = asyncio.create_task(pool.run("eve", gate))
    await _began(gate)
    waiting = [
        asyncio.create_task(pool.run(user, lambda user=user: order.append(user)))  # type: ignore[misc]
        for user in ("ann", "ann", "ann", "bob", "cid")
    ]
    await _settle()
    gate.opened.set()
    await asyncio.gather(holder, *waiting)

    assert order == ["ann", "bob", "cid", "ann", "ann"]


async def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(make: Callable[..., WorkPool]) -> None:
    pool, gate = make(), Gate()
    tasks = [asyncio.create_task(pool.run("ann", gate)) for _ in range(4)]
    await _settle()

    with pytest.raises(Transient) as refused:
        await pool.run("ann", gate)
    with pytest.raises(Transient):
        pool.check("ann")

    assert (refused.value.code, refused.value.status, refused.value.retry_after_s) == (ErrorCode.RATE_LIMITED, 429, 7)
    pool.check("bob")
    assert await pool.run("bob", lambda: 1) == 1
    gate.opened.set()
    assert await asyncio.gather(*tasks) == ["done"] * 4
    pool.check("ann")


async def test_all_users_together_wait_in_a_bounded_queue(make: Callable[..., WorkPool]) -> None:
    pool, gate = make(threads=1, waiting=2), Gate()
    tasks = [asyncio.create_task(pool.run(user, gate)) for user in ("ann", "bob", "cid")]
    await _settle()

    with pytest.raises(Transient):
        await pool.run("dan", gate)

    gate.opened.set()
    await asyncio.gather(*tasks)


async def test_what_was_admitted_waits_beyond_the_queue(make: Callable[..., WorkPool]) -> None:
    pool, gate = make(waiting_per_user=0, wait_s=0), Gate()
    first = asyncio.create_task(pool.run("ann", gate))
    await _began(gate)
    next_piece = asyncio.create_task(pool.run("ann", lambda: "next", is_admitted=True))
    await _settle()
    assert not next_piece.done()
    gate.opened.set()
    assert await asyncio.gather(first, next_piece) == ["done", "next"]


async def test_who_waits_too_long_is_refused_and_leaves_the_queue(make: Callable[..., WorkPool]) -> None:
    pool, gate = make(wait_s=0), Gate()
    running = asyncio.create_task(pool.run("ann", gate))
    await _began(gate)

    for _ in range(5):  # more than may wait
        with pytest.raises(Transient) as refused:
            await pool.run("ann", lambda: None)
        assert refused.value.code is ErrorCode.RATE_LIMITED

    gate.opened.set()
    assert await running == "done"
    assert await pool.run("ann", lambda: 1) == 1


async def test_abandoned_work_keeps_its_slot_until_it_ends_and_is_asked_to(make: Callable[..., WorkPool]) -> None:
    pool, gate, asked = make(threads=1), Gate(), list[str]()
    left = asyncio.create_task(pool.run("ann", gate, stop=lambda: asked.append("stop")))
    await _began(gate)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert asked == ["stop"]

    bobs = asyncio.create_task(pool.run("bob", lambda: "bob's"))
    await _settle()
    assert not bobs.done(), "the thread still runs"
    gate.opened.set()
    assert await bobs == "bob's"


async def test_who_leaves_the_queue_is_never_run(make: Callable[..., WorkPool]) -> None:
    pool, gate, ran = make(threads=1), Gate(), list[str]()
    running = asyncio.create_task(pool.run("ann", gate))
    await _began(gate)
    left = asyncio.create_task(pool.run("bob", lambda: ran.append("bob")))
    after = asyncio.create_task(pool.run("cid", lambda: ran.append("cid")))
    await _settle()
    left.cancel()
    gate.opened.set()
    await asyncio.gather(running, after)

    assert ran == ["cid"]
    assert left.cancelled()


async def test_a_slot_that_comes_as_its_caller_leaves_is_passed_on() -> None:
    left: list[asyncio.Task[None]] = []

    class Pool(WorkPool):
        def _start_next(self, user_id: str) -> None:
            super()._start_next(user_id)
            for task in left:
                task.cancel()  # before it has run again

    pool, gate = Pool("files", replace(LIMITS, threads=1)), Gate()
    running = asyncio.create_task(pool.run("ann", gate))
    await _began(gate)
    left.append(asyncio.create_task(pool.run("bob", lambda: None)))
    await _settle()
    gate.opened.set()
    await running
    with pytest.raises(asyncio.CancelledError):
        await left[0]

    assert await pool.run("cid", lambda: "cid's") == "cid's"
    pool.close()


async def test_work_that_fails_frees_its_slot_and_tells_why(make: Callable[..., WorkPool]) -> None:
    pool = make(threads=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await pool.run("ann", lambda: 1 // 0)


async def test_no_thread_is_started_before_there_is_work() -> None:
    pool = WorkPool("idle", LIMITS)
    assert not any(thread.name.startswith("idle") for thread in threading.enumerate())
    assert (await pool.run("ann", lambda: threading.current_thread().name)).startswith("idle")
    pool.close()


async def test_a_slot_that_comes_as_the_first_of_a_queue_leaves_goes_to_the_next(make: Callable[..., WorkPool]) -> None:
    pool, gate = make(threads=1), Gate()
    holder = asyncio.create_task(pool.run("ann", gate))
    await _began(gate)
    first, second = (asyncio.create_task(pool.run("ann", lambda: "done")) for _ in range(2))
    await _settle()

    first.cancel()  # its waiter is done from here on, and its task has not run yet
    pool._leave("ann")
    async with asyncio.timeout(10):
        gate.opened.set()
        assert await second == "done"
    await holder
