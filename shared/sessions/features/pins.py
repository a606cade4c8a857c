"""PinService: the sessions that a user keeps at the top of their list.

Invariant: a pin is private to the user who made it, and shows nothing of a session that the user may not read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from shared.errors import ErrorCode, InvalidInput
from shared.principal import Principal
from shared.sessions.cache import SessionReader

MAX_PINS = 100
"""Of one user: a list of more is no short way to anything."""


class PinRepository(Protocol):
    """Pins by user. The caller has checked that the user may read the session."""

    async def put(self, session_id: str, user_id: str, *, limit: int, now: datetime) -> bool:
        """Idempotent. False when the user has `limit` others already. Raises NotFound."""
        ...

    async def delete(self, session_id: str, user_id: str) -> None:
        """Idempotent."""
        ...


class PinService:
    """A user's pins. Checks access in every method."""

    def __init__(self, sessions: SessionReader, pins: PinRepository) -> None:
        self._sessions = sessions
        self._pins = pins

    async def put(self, session_id: str, principal: Principal) -> None:
        """Idempotent. Raises NotFound, InvalidInput at the limit."""
        await self._sessions.get(session_id, principal.user_id)
        if not await self._pins.put(session_id, principal.user_id, limit=MAX_PINS, now=datetime.now(UTC)):
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR, f"You can pin at most {MAX_PINS} sessions; take another one off first."
            )

    async def delete(self, session_id: str, principal: Principal) -> None:
        """Idempotent. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        await self._pins.delete(session_id, principal.user_id)
