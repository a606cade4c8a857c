"""A heartbeat for an async generator that is silent for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any


class Heartbeat:
    """Nothing happened for a while."""


async def with_heartbeat[Item](
    source: AsyncGenerator[Item], seconds: float, until: asyncio.Future[None]
) -> AsyncGenerator[Item | Heartbeat]:
    """`source` with a heartbeat whenever it is silent for `seconds`. Ends when `until` is done; closes `source` with
    itself."""
    pending: asyncio.Task[Item] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.ensure_future(_next(source))
            both: set[asyncio.Future[Any]] = {pending, until}
            done, _ = await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if until.done():
                return
            if not done:
                yield Heartbeat()
                continue
            task, pending = pending, None
            try:
                item = task.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        await source.aclose()


async def _next[Item](source: AsyncIterator[Item]) -> Item:
    return await anext(source)
