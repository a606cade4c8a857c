"""Whether the database can be reached, found out beside those who need it. Implements no port: the pool asks it.

Invariant: while the database is away nobody waits for it, and within a second of its return all are let in again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from shared.adapters.watch import Watch

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


class OutageWatch(Watch):
    """Probes the database when somebody suspects it, and every half second while it is away.

    arguments: what a connection is opened with; it may ask for a token. probe: opens one so and closes it. away: called
    when the database is found to be away.
    """

    name = "the database"

    def __init__(
        self,
        arguments: Callable[[], Awaitable[Arguments]],
        probe: Callable[[Arguments], Awaitable[None]],
        *,
        away: Callable[[], None],
    ) -> None:
        super().__init__()
        self._arguments = arguments
        self._probe = probe
        self._away = away

    def _leave(self) -> None:
        self._away()

    async def _return(self) -> None:
        """The next use opens new connections."""

    def _pause_s(self) -> float:
        return PROBE_EVERY_S

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
