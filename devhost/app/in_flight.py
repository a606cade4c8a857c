"""The invocations that the worker has in hand, and the time that each of them has.

Azure's host restarts a worker whose function is past `functionTimeout`. Everything else that this worker has in hand
then fails with the same text, and the host retries none of it; a harsh host does so too. A function that has ended
and whose answer is still being sent is cut when its time is up, and the worker goes on.

Source: azure-functions-host, `WebScriptHostExceptionHandler` and `GrpcWorkerChannel.TryFailExecutions`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from devhost.extensions.contract import FunctionFailed
from devhost.harsh import Harsh

logger = logging.getLogger("devhost.host")


class Stage(Enum):
    """Where an invocation is."""

    CALLED = auto()
    """The worker runs the function, or waits for its request."""
    ANSWERING = auto()
    """The function has ended; the worker still produces the body of its answer."""
    DONE = auto()
    """The worker has no part in what is left, such as sending outputs."""


@dataclass(slots=True, eq=False)
class Held:
    """One invocation. Whoever runs it says when it enters its next stage."""

    deadline: asyncio.Timeout
    stage: Stage = Stage.CALLED
    lost_with: str = ""
    """Why it fails although its own time is not up."""


class InFlight:
    """All invocations of one host. limit_s: `functionTimeout`; None: unlimited."""

    def __init__(self, limit_s: float | None, harsh: Harsh | None) -> None:
        self._limit_s = limit_s
        self._harsh = harsh
        self._held: set[Held] = set()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Held]:
        """Limit the block's time. Raises FunctionFailed when it is up, or when the worker is restarted."""
        held = Held(asyncio.timeout(self._limit_s))
        self._held.add(held)
        try:
            async with held.deadline:
                yield held
        except TimeoutError as exc:
            if not held.deadline.expired():
                raise
            if held.lost_with:
                raise FunctionFailed(held.lost_with) from exc
            # 0:10:00 as the host writes it.
            limit = str(timedelta(seconds=self._limit_s or 0)).zfill(8)
            text = f"FunctionTimeoutException: Timeout value of {limit} was exceeded by function: Functions.{name}"
            if held.stage is Stage.CALLED:
                self._restart_worker(name, text)
            raise FunctionFailed(text) from exc
        finally:
            self._held.discard(held)

    def _restart_worker(self, name: str, text: str) -> None:
        if self._harsh is None or not self._harsh.strikes("restarted_worker", name):
            return
        lost = [held for held in self._held if held.stage is not Stage.DONE and not held.deadline.expired()]
        logger.warning("harsh: %s restarts the worker; %d other invocations fail", name, len(lost))
        for held in lost:
            held.lost_with = text
            held.deadline.reschedule(asyncio.get_running_loop().time())
