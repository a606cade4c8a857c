"""WorkPool: bounded threads for one kind of blocking work, shared fairly among users.

The event loop's default pool is never used: libraries resolve host names in it, so whatever fills it stops every new
connection (`tests/unit/house/test_default_pool.py`).

Invariant: a slot is free again when the work has really ended, not when its caller has left. So abandoned work cannot
pile up beyond the pool's threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

from shared.errors import ErrorCode, Transient


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """threads, per_user: work that runs at once. waiting, waiting_per_user: work that waits. wait_s: for how long."""

    threads: int
    per_user: int
    waiting: int
    waiting_per_user: int
    wait_s: float
    retry_after_s: float
    """What a refused caller is told."""


type _Waiter = asyncio.Future[None]


class WorkPool:
    """Runs blocking work of one process. Bound to its event loop; starts no thread before the first work."""

    def __init__(
        self, name: str, limits: PoolLimits, *, threads: Callable[[int, str], Executor] = ThreadPoolExecutor
    ) -> None:
        """name: of its threads and, in plural, of its work in the refusal, such as "files". threads: makes them."""
        self._name = name
        self._limits = limits
        self._make_threads = threads
        self._threads: Executor | None = None
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        """By user; who was served last is last."""

    def check(self, user_id: str) -> None:
        """Refuse before a request's body is read what `run` would refuse. Raises Transient (RATE_LIMITED)."""
        if not self._may_start(user_id):
            self._check_queue(user_id)

    async def run[T](
        self, user_id: str, work: Callable[[], T], *, stop: Callable[[], None] | None = None, is_admitted: bool = False
    ) -> T:
        """Run `work` in a thread and return its result.

        stop: asks running work to end early; called when the caller is cancelled. is_admitted: the work continues
        something admitted before, so it waits as long as it must.

        Raises Transient (RATE_LIMITED) when the queue is full or the wait too long, and whatever `work` raises.
        """
        await self._enter(user_id, is_admitted=is_admitted)
        loop = asyncio.get_running_loop()
        try:
            job = self._executor().submit(contextvars.copy_context().run, work)
        except BaseException:
            self._leave(user_id)
            raise
        job.add_done_callback(lambda _: _call_in(loop, lambda: self._leave(user_id)))
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            raise

    def close(self) -> None:
        """Accept no more work. Does not wait for what runs."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _executor(self) -> Executor:
        if self._threads is None:
            self._threads = self._make_threads(self._limits.threads, self._name)
        return self._threads

    def _may_start(self, user_id: str) -> bool:
        """Nobody who waits could start instead: `_leave` starts them as soon as they may."""
        return self._running.total() < self._limits.threads and self._running[user_id] < self._limits.per_user

    def _check_queue(self, user_id: str) -> None:
        waiting = len(self._waiting.get(user_id, ()))
        total = sum(map(len, self._waiting.values()))
        if waiting >= self._limits.waiting_per_user or total >= self._limits.waiting:
            raise self._refusal()

    async def _enter(self, user_id: str, *, is_admitted: bool) -> None:
        if self._may_start(user_id):
            self._running[user_id] += 1
            return
        if not is_admitted:
            self._check_queue(user_id)
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, deque()).append(waiter)
        try:
            async with asyncio.timeout(None if is_admitted else self._limits.wait_s):
                await waiter
        except BaseException as exc:
            if waiter.done() and not waiter.cancelled():
                self._leave(user_id)  # its slot came at the same moment
            else:
                self._forget(user_id, waiter)
            if isinstance(exc, TimeoutError):
                raise self._refusal() from None
            raise

    def _leave(self, user_id: str) -> None:
        self._running[user_id] -= 1
        if not self._running[user_id]:
            del self._running[user_id]
        for waiting_user in list(self._waiting):
            if self._may_start(waiting_user):
                self._start_next(waiting_user)

    def _start_next(self, user_id: str) -> None:
        queue = self._waiting[user_id]
        while queue:
            waiter = queue.popleft()
            if not waiter.done():  # else its caller was cancelled, and has not run yet to say so
                self._running[user_id] += 1
                waiter.set_result(None)
                break
        if queue:
            self._waiting.move_to_end(user_id)
        else:
            del self._waiting[user_id]

    def _forget(self, user_id: str, waiter: _Waiter) -> None:
        queue = self._waiting.get(user_id)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._waiting[user_id]

    def _refusal(self) -> Transient:
        return Transient(
            ErrorCode.RATE_LIMITED,
            f"Too many {self._name} are being processed; try again later.",
            retry_after_s=self._limits.retry_after_s,
        )


class DaemonThreads(Executor):
    """A new thread for each piece of work, for which nobody waits when the process ends. Whoever uses it bounds it."""

    def __init__(self, _threads: int, name: str) -> None:
        self._name = name

    def submit[**P, T](self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def run() -> None:
            try:
                result = work(*args, **kwargs)
            except BaseException as exc:  # SystemExit too: it would end the thread, and nobody would know
                future.set_exception(exc)
            else:
                future.set_result(result)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        return future


async def in_new_thread[T](work: Callable[[], T]) -> T:
    """Run short work that happens once, such as reading certificates, in a thread that ends with it."""
    threads = ThreadPoolExecutor(1, "once")
    try:
        return await asyncio.wrap_future(threads.submit(contextvars.copy_context().run, work))
    finally:
        threads.shutdown(wait=False)


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)


async def in_own_thread[T](name: str, work: Callable[[], T]) -> T:
    """Run blocking work that a process does once in a thread of its own, and return its result.

    The thread ends with the work, whoever has left, and never keeps the process.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def end(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return  # cancelled
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as exc:
            error = exc
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(end, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
