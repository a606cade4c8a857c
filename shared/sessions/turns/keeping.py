"""Outcomes of work that cannot be done again, kept while the database does not take them.

Invariant: what a tool or a model did is stored by the process that knows it, while that process lives. A repeat
of the activity in the same process waits for it here, and does not judge that the outcome is unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from shared.errors import ErrorCode, Transient

log = logging.getLogger(__name__)

STAY_S = 60.0
"""How long an activity stays for the database before it is asked for again: with an answer's 480 s and the binding's
100 s after it, below `functionTimeout` less what else the activity does."""
RETRY_S = 1.0
"""How often it is tried again. Without a back-off: while the database is away the try costs nothing."""


class Keeper:
    """One for each kind of work of a process. key: the id of the tool call, or the turn and step."""

    def __init__(self, *, stay_s: float = STAY_S, retry_s: float = RETRY_S) -> None:
        self._stay_s = stay_s
        self._retry_s = retry_s
        self._kept: dict[str, asyncio.Task[Any]] = {}

    async def store[R](self, key: str, save: Callable[[], Awaitable[R]]) -> R:
        """What `save` returns. It may run again after it was stored, so it must be idempotent.

        Raises Transient(DATABASE_ERROR) when that takes too long here; the saving goes on beside it.
        """
        try:
            return await save()
        except Transient as exc:
            if exc.code is not ErrorCode.DATABASE_ERROR:
                raise
            log.warning("the outcome of %s is kept until the database takes it: %s", key, exc)
        task = asyncio.create_task(self._until_stored(key, save))
        self._kept[key] = task
        task.add_done_callback(lambda _: self._kept.pop(key, None))
        return await self._stay(task)

    async def wait(self, key: str) -> None:
        """Wait until what is kept of it is stored; returns at once when nothing is. Raises as `store`."""
        task = self._kept.get(key)
        if task is not None:
            await self._stay(task)

    async def _stay[R](self, task: asyncio.Task[R]) -> R:
        try:
            async with asyncio.timeout(self._stay_s):
                return await asyncio.shield(task)
        except TimeoutError as exc:
            raise Transient(ErrorCode.DATABASE_ERROR, "The database cannot be reached just now.") from exc

    async def _until_stored[R](self, key: str, save: Callable[[], Awaitable[R]]) -> R:
        while True:
            await asyncio.sleep(self._retry_s)
            try:
                stored = await save()
            except Transient as exc:
                if exc.code is not ErrorCode.DATABASE_ERROR:
                    raise
            else:
                log.warning("the outcome of %s is stored", key)
                return stored
