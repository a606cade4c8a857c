"""The time that an invocation has.

Azure's host ends a worker whose function is past `functionTimeout`: everything that this worker has in hand fails with
the same text, and the host runs none of it again. When the function has ended and only its answer is still being sent,
the answer is cut, and the worker goes on.

Source: azure-functions-host, `WebScriptHostExceptionHandler` and `GrpcWorkerChannel.TryFailExecutions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from devhost.app.workers import Worker, Workers
from devhost.extensions.contract import FunctionFailed


@dataclass(slots=True)
class Held:
    """An invocation. worker: the one whose function has not ended."""

    worker: Worker | None = None


@asynccontextmanager
async def time_limit(name: str, seconds: float | None, workers: Workers) -> AsyncIterator[Held]:
    """Limit the block's time. seconds: `functionTimeout`; None: unlimited. Raises FunctionFailed when it is up."""
    held = Held()
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield held
    except TimeoutError as exc:
        if not deadline.expired():
            raise
        # 0:10:00 as the host writes it.
        limit = str(timedelta(seconds=seconds or 0)).zfill(8)
        text = f"FunctionTimeoutException: Timeout value of {limit} was exceeded by function: Functions.{name}"
        if held.worker is not None:
            workers.end(held.worker, text)
        raise FunctionFailed(text) from exc
