"""ToolThreads: the threads of sync tools, apart from all others, and a count of those that never came back.

A function that blocks cannot be stopped: its call ends, and its thread is lost until the function returns.

Invariant: lost threads are counted, so that they can never be more than `threads`; when all are lost, calls fail at
once and say which tools hold them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from shared.errors import ErrorCode, ToolFailed, Transient
from shared.work_pool import DaemonThreads, PoolLimits, WorkPool

log = logging.getLogger(__name__)

TOLD_AFTER_S = 5.0
"""A function that was told to end has this long before it counts as blocked in the log."""
_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True)
class _Ended[T]:
    result: T | None
    error: BaseException | None


class ToolThreads:
    """Bound to its event loop. Its threads do not hold up the end of the process."""

    def __init__(self, threads: int, per_user: int, *, told_after_s: float = TOLD_AFTER_S) -> None:
        self._threads = threads
        self._per_user = per_user
        self._told_after_s = told_after_s
        # Calls wait no longer than their own time, and lanes bound how many there are.
        limits = PoolLimits(threads, per_user, _NO_LIMIT, _NO_LIMIT, wait_s=_NO_LIMIT, retry_after_s=1)
        self._pool = WorkPool("tool calls", limits, threads=DaemonThreads)
        self._blocked: dict[int, tuple[str, str]] = {}
        """Tool and user of each thread whose call is over."""
        self._keys = itertools.count()

    async def run[T](self, tool: str, user_id: str, work: Callable[[], T]) -> T:
        """What `work` returns or raises; waits for a thread as long as its caller does.

        Raises ToolFailed when every thread, or every one that this user may have, is blocked.
        """
        self._refuse_when_blocked(user_id)
        key, loop = next(self._keys), asyncio.get_running_loop()
        is_over = False

        def ended() -> None:
            if self._blocked.pop(key, None) is not None:
                log.info("a blocked thread of the tool %s has ended; %s", tool, self._tally())

        def in_thread() -> _Ended[T]:
            nonlocal is_over
            try:
                return _Ended(work(), None)
            except (
                BaseException
            ) as exc:  # the caller's to judge, even SystemExit: no future takes each of them as it is
                return _Ended(None, exc)
            finally:
                is_over = True
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(ended)

        def left() -> None:
            if not is_over:
                self._blocked[key] = tool, user_id
                loop.call_later(self._told_after_s, tell)

        def tell() -> None:
            if key in self._blocked:
                log.warning("the tool %s does not end although its call is over; %s", tool, self._tally())

        found = await self._pool.run(user_id, in_thread, stop=left, is_admitted=True)
        if found.error is not None:
            raise found.error
        return cast(T, found.result)

    @property
    def blocked(self) -> int:
        return len(self._blocked)

    async def check(self) -> None:
        """Raises Transient (RATE_LIMITED) while half of the threads or more are blocked."""
        if self.blocked and self.blocked * 2 >= self._threads:
            raise Transient(ErrorCode.RATE_LIMITED, f"Threads for tools: {self._tally()}.")

    def _refuse_when_blocked(self, user_id: str) -> None:
        of_user = sum(user == user_id for _, user in self._blocked.values())
        if self.blocked >= self._threads or of_user >= self._per_user:
            held = Counter(tool for tool, _ in self._blocked.values())
            names = ", ".join(f"{tool} ({count})" for tool, count in held.most_common(5))
            raise ToolFailed(
                f"The tool did not run: all threads for tools are held by calls that never ended: {names}."
            )

    def _tally(self) -> str:
        return f"{self.blocked} of {self._threads} threads for tools are blocked"


class _OneEach:
    """A thread for each call, without limits: for tests of tools, which have no process around them."""

    async def run[T](self, tool: str, user_id: str, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(DaemonThreads(1, tool).submit(work))


ONE_EACH = _OneEach()
