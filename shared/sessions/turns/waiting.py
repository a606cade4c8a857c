"""TurnWaiter: for a caller who would rather wait a little for a turn than come back for it.

Invariant: what is answered was read from the store; events only say when to look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from shared.sessions.events import EventLog, EventLogUnavailable, EventTarget, EventType
from shared.sessions.models import Turn
from shared.sessions.repository import TurnRepository

_POLL_SECONDS = 1.0
"""How often the store is asked while the event log is away."""

_SETTLING = (EventType.STREAM_ENDED, EventType.TOOL_CALL_PENDING, EventType.TOOL_CALL_WAITING)
_TELLING = tuple(f'"type":"{kind}"'.encode() for kind in _SETTLING)
"""How the bodies of the events begin after which a turn may have settled."""


class TurnWaiter:
    """Waits for turns."""

    def __init__(self, log: EventLog, turns: TurnRepository) -> None:
        self._log = log
        self._turns = turns

    async def settled(self, target: EventTarget, turn_id: str, user_id: str, seconds: float) -> Turn:
        """The turn as soon as it has ended or waits for a person, or as it is after `seconds`. Raises NotFound, also
        when the user may no longer read it."""

        async def look() -> Turn:
            return (await self._turns.readable_turn(target.session_id, turn_id, user_id)).turn

        try:
            async with asyncio.timeout(seconds), aclosing(self._occasions(target.feed)) as occasions:
                async for _ in occasions:
                    turn = await look()
                    if turn.status.is_terminal or turn.status.waits:
                        return turn
        except TimeoutError:
            pass
        return await look()

    async def _occasions(self, feed: str) -> AsyncGenerator[None]:
        """Yields whenever a look is worth it, at once for the first time."""
        try:
            async with aclosing(self._log.follow(feed, reads=False)) as live:
                async for batch in live:
                    if batch is None or any(body.startswith(_TELLING) for _, body in batch):
                        yield
        except EventLogUnavailable:
            pass
        while True:
            yield
            await asyncio.sleep(_POLL_SECONDS)
