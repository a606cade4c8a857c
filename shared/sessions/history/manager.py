"""HistoryManager: the messages of a session, page by page.

Invariant: a page is a range of arrival numbers, so it stays valid while messages arrive: none is left out or repeated.
"""

from __future__ import annotations

from shared.principal import Principal
from shared.sessions.models import Message
from shared.sessions.pages import MessageFilter, Page, encode_cursor
from shared.sessions.repository import SessionRepository, TurnRepository


class HistoryManager:
    """Reads what a session holds. Checks access in every method."""

    def __init__(self, sessions: SessionRepository, turns: TurnRepository) -> None:
        self._sessions = sessions
        self._turns = turns

    async def get_message(self, session_id: str, message_id: str, principal: Principal) -> Message:
        """Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        return await self._turns.get_message(session_id, message_id)

    async def list_messages(
        self, session_id: str, principal: Principal, wanted: MessageFilter, page: Page
    ) -> tuple[list[Message], str | None]:
        """Messages in order of arrival, and the next cursor. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        found = await self._turns.list_messages(session_id, wanted, page)
        more, found = len(found) > page.limit, found[: page.limit]
        cursor = encode_cursor(found[-1][0], found[-1][1].id) if more else None
        return [message for _, message in found], cursor
