"""Whether the database can be reached, found out beside those who need it. Implements no port: the pool asks it.

Invariant: while the database is away nobody waits for it, and within a second of its return all are let in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

log = logging.getLogger(__name__)

type Arguments = Mapping[str, Any]

PROBE_LIMIT_S = 2.0
"""A database that opens no connection within this time is away. Twice what libpq waits for at least."""
PROBE_EVERY_S = 0.5
"""How often it is asked while it is away. Without a back-off: one small connection of each process, twice a second."""
TOKEN_LIMIT_S = 20.0
"""A fresh token takes this long at most."""
_LATE_S = 0.1
"""A timer of ours that is this late says something of this process, and nothing of the database."""
_FULL = ("too many clients already", "too many connections for", "remaining connection slots are reserved")
"""Refusals by a database that works: existing connections are served."""


class OutageWatch:
    """Probes the database when somebody suspects it, and every half second while it is away.

    arguments: what a connection is opened with; it may ask for a token. probe: opens one so and closes it. away: called
    when the database is found to be away.
    """

    def __init__(
        self,
        arguments: Callable[[], Awaitable[Arguments]],
        probe: Callable[[Arguments], Awaitable[None]],
        *,
        away: Callable[[], None],
    ) -> None:
        self.is_away = False
        self._arguments = arguments
        self._probe = probe
        self._away = away
        self._task: asyncio.Task[None] | None = None

    def suspect(self) -> None:
        """Somebody waits for long, or lost a connection. Find out, unless that is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._find_out())

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _find_out(self) -> None:
        began = time.monotonic()
        while not await self._answers():
            if not self.is_away:
                self.is_away = True
                self._away()
            await asyncio.sleep(PROBE_EVERY_S)
        if self.is_away:
            self.is_away = False
            log.warning("the database is back after %.1f s", time.monotonic() - began)

    async def _answers(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TOKEN_LIMIT_S):
                arguments = await self._arguments()
        except Exception as exc:
            # Says nothing of the database: connections that are open serve on, and new ones wait for a token anyway.
            log.warning("the database cannot be probed: %s: %s", type(exc).__name__, exc)
            return not self.is_away
        while True:
            until = loop.time() + PROBE_LIMIT_S
            try:
                async with asyncio.timeout_at(until):
                    await self._probe(arguments)
            except psycopg.OperationalError as exc:
                if any(words in str(exc) for words in _FULL):
                    return True
                self._tell(exc)
            except Exception as exc:
                if isinstance(exc, TimeoutError) and loop.time() - until > _LATE_S:
                    continue
                self._tell(exc)
            else:
                return True
            return False

    def _tell(self, exc: Exception) -> None:
        if not self.is_away:
            log.warning("the database is away: %s: %s", type(exc).__name__, exc)


@dataclass(slots=True, eq=False)
class Use:
    """One use of a connection, from asking for it to giving it back."""

    connection: AsyncConnection[DictRow] | None = None
    timer: asyncio.TimerHandle = field(init=False)

    def cut(self) -> None:
        """Close its socket, so that whoever waits for an answer gets an error now. A driver's own cancelling waits for
        the server."""
        if self.connection is None or self.connection.closed:
            return
        with contextlib.suppress(OSError, psycopg.Error):
            end = socket.socket(fileno=self.connection.fileno())
            try:
                end.shutdown(socket.SHUT_RDWR)
            finally:
                end.detach()  # the driver closes it
