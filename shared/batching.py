"""One flush at a time: what arrives while a flush is under way leaves together with the next.

An idle batcher adds no delay (the first item leaves at once); a busy one turns many small round trips into
few, which is where a streaming server's time goes. Order is kept: items flush in the order submitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Batcher[Item, Result]:
    """Coalesces calls into `flush(items) -> results`, one result (or exception) per item, same order.

    Bound to the event loop of its first `submit`. An exception raised by `flush` reaches every item of that batch.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | BaseException]]],
        *,
        max_items: int = 256,
    ) -> None:
        self._flush = flush
        self._max_items = max_items
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Result:
        """Queue `item` and wait for its result. Raises what `flush` raised or returned for it."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        # Shielded by construction: a cancelled caller leaves its item to be sent, never half sent.
        return await future

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._max_items], self._waiting[self._max_items :]
                results: Sequence[Result | BaseException]
                try:
                    results = await self._flush([item for item, _ in batch])
                    if len(results) != len(batch):
                        raise RuntimeError(f"{len(results)} results for {len(batch)} items")
                except Exception as exc:  # handed to every waiter, who knows what it means
                    results = [exc] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, BaseException):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None
