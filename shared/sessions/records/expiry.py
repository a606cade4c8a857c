"""Expiry of a session: `expires_after_seconds` after its creation it becomes read-only.

Invariant: the time follows from the session alone, and the column `expires_at`, which the sweep reads, is the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.errors import ErrorCode, Gone
from shared.sessions.models import Session


def expires_at(session: Session) -> datetime | None:
    """None: never."""
    seconds = session.config.expires_after_seconds
    return None if seconds is None else session.created_at + timedelta(seconds=seconds)


def refuse_expired(session: Session, now: datetime) -> None:
    """Every write calls this first. Raises Gone(SESSION_EXPIRED) at or after the expiry time."""
    moment = expires_at(session)
    if moment is not None and now >= moment:
        raise Gone(ErrorCode.SESSION_EXPIRED, "The session has expired; it can only be read.")
