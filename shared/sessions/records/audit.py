"""What an audit line tells, before it has a number and a seal."""

from __future__ import annotations

from dataclasses import dataclass

from shared.sessions.models import JsonObject

SYSTEM = "system"
"""The `who` of actions that no person took."""


@dataclass(frozen=True, slots=True)
class AuditNote:
    """Stored as a line of a session's trail, in the transaction of what it tells."""

    action: str
    details: JsonObject
    who: str = SYSTEM
    """A user id."""
