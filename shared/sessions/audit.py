"""The audit trail of what people allowed and what then ran. Append-only; written beside the turn, never in its way."""

from __future__ import annotations

from typing import Protocol

from shared.sessions.models import JsonObject

SYSTEM = "system"
"""Who did what no person did."""


class AuditTrail(Protocol):
    """Where audit lines go (Azure Tables)."""

    async def record(self, session_id: str, action: str, details: JsonObject, *, who: str = SYSTEM) -> None:
        """Append one line. Never raises: a store that is away costs the line and is logged as an error.

        who: the user id of the person who did it.
        """
        ...
