"""Here: which people of a session have it before them now, as their pages say it.

Nothing of a turn asks for this, and nothing is told unasked: a page that shows a shared session says so every AGAIN_S,
and is answered who else did within HERE_FOR_S. Who is on record with a connection (`subscriptions.py`) is not it:
nobody says when a connection is gone, so those names would stay.

Invariant: only people of the session are named, to people of the session, and nobody for longer than HERE_FOR_S after
their last page was closed, hidden or killed. Of a session of one nothing is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from shared.errors import CacheUnavailable
from shared.principal import Principal
from shared.sessions.models import SessionPresence

HERE_FOR_S = 50.0
"""Two announcements may be lost or late."""
AGAIN_S = 20
MOST_NAMED = 32
"""The latest; a page shows a few of them."""


class SharedSession(Protocol):
    """A session as somebody who may read it sees it."""

    @property
    def owner_id(self) -> str: ...

    @property
    def participants(self) -> Mapping[str, object]: ...

    @property
    def feed(self) -> str: ...


class HereMarks(Protocol):
    """Where it is kept who said it, by feed (Redis)."""

    async def announce(self, feed: str, user_id: str, *, lasts_s: float, limit: int) -> list[str]:
        """Keep that the user is here; all who are, the latest first, at most `limit`. Raises CacheUnavailable."""
        ...


class Here:
    """Checks access in every method."""

    def __init__(
        self,
        read: Callable[[str, str], Awaitable[SharedSession]],
        marks: HereMarks,
        *,
        lasts_s: float = HERE_FOR_S,
    ) -> None:
        """read: a session by its id and its reader's; raises NotFound for a stranger."""
        self._read = read
        self._marks = marks
        self._lasts_s = lasts_s

    async def announce(self, session_id: str, principal: Principal) -> SessionPresence:
        """The caller has the session before them; who else. While Redis is away nobody is known. Raises NotFound."""
        session = await self._read(session_id, principal.user_id)
        if not session.participants:
            return SessionPresence(session_id=session_id, is_shared=False, here=[], again_s=AGAIN_S)
        user_id, limit = principal.user_id, MOST_NAMED + 1
        try:
            found = await self._marks.announce(session.feed, user_id, lasts_s=self._lasts_s, limit=limit)
        except CacheUnavailable:
            found = []
        # Somebody who was taken out since they said it is no longer of the session.
        people = {session.owner_id, *session.participants} - {user_id}
        here = sorted(one for one in found if one in people)[:MOST_NAMED]
        return SessionPresence(session_id=session_id, is_shared=True, here=here, again_s=AGAIN_S)
