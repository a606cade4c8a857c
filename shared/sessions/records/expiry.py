"""When a session expires: `expires_after_seconds` after it was made. From then on it is read, never written.

Invariant: the moment follows from the session alone, as does the column `expires_at` that the sweep looks at.
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
    """What every write asks first. Raises Gone(SESSION_EXPIRED), from the very moment on."""
    moment = expires_at(session)
    if moment is not None and now >= moment:
        raise Gone(ErrorCode.SESSION_EXPIRED, "The session has expired; it can only be read.")
