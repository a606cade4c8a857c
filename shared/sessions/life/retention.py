"""How long sessions are kept, where the operator sets a limit: idle ones are ended, ended ones are erased.

Invariant: a session with an open turn or a pending approval is never touched, and what is erased goes the way of a
session that its owner deletes: on record first, then from every store, with one audit line that stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from shared.sessions.events import Event, EventType, SessionEventPublisher
from shared.sessions.records.sessions import SessionRecord


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Days; 0: no limit."""

    idle_days: int = 0
    """Since anything last happened in a session; then it is ended."""
    ended_days: int = 0
    """Since a session ended; then it is erased."""


@dataclass(frozen=True, slots=True)
class IdleEnded:
    """One look for idle sessions."""

    looked: int = 0
    """As many as were allowed: there may be more."""
    ended: int = 0
    messages: Sequence[bytes] = ()
    """The events to send."""


class RetentionRepository(Protocol):
    async def end_idle(self, *, before: datetime, now: datetime, limit: int) -> tuple[int, list[SessionRecord]]:
        """Look at `limit` sessions that were not found in use since `before`, and end those in which nothing has
        happened since. How many were looked at, and those that were ended, as they are now."""
        ...

    async def claim_old(self, *, before: datetime, now: datetime, limit: int) -> list[str]:
        """Put the erasure of sessions on record that ended before then, oldest first; each is claimed once."""
        ...


class SessionRetention:
    """What the timer asks."""

    def __init__(self, rows: RetentionRepository, publisher: SessionEventPublisher, policy: RetentionPolicy) -> None:
        self._rows = rows
        self._publisher = publisher
        self._policy = policy

    async def end_idle(self, *, now: datetime, limit: int) -> IdleEnded:
        """Look at `limit` sessions that may be idle, and end those that are."""
        if not self._policy.idle_days:
            return IdleEnded()
        before = now - timedelta(days=self._policy.idle_days)
        looked, ended = await self._rows.end_idle(before=before, now=now, limit=limit)
        messages: list[bytes] = []
        for record in ended:
            event = Event(EventType.SESSION_ENDED, {"session": record.session.model_dump(mode="json")})
            messages += await self._publisher.publish(record.target, [event])
        return IdleEnded(looked, len(ended), messages)

    async def claim_old(self, *, now: datetime, limit: int) -> list[str]:
        """Ids of at most `limit` sessions to erase now. Cut after this, their erasure is the sweep's to go on with."""
        if not self._policy.ended_days:
            return []
        before = now - timedelta(days=self._policy.ended_days)
        return await self._rows.claim_old(before=before, now=now, limit=limit)
