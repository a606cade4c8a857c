"""HistoryManager: the messages of a session, page by page.

Invariant: a page is a range of one branch in the order of the conversation: by turn, then step. When messages arrive or
another branch becomes active, no message is repeated, and none that was there from the first page on is skipped.
Results and answers of a turn are inserted before the messages that are queued behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from shared.errors import ErrorCode, NotFound
from shared.ids import is_valid_id
from shared.principal import Principal
from shared.sessions.cache import SessionReader, SessionView
from shared.sessions.models import Message, ToolCall
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.repository import TurnRepository


class HistoryManager:
    """Reads a session's messages. Checks access in every method."""

    def __init__(self, sessions: SessionReader, turns: TurnRepository) -> None:
        self._sessions = sessions
        self._turns = turns

    async def get_message(self, session_id: str, message_id: str, principal: Principal) -> Message:
        """A message of any branch. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        return await self._turns.get_message(session_id, message_id)

    async def tool_calls(self, session_id: str, principal: Principal, ids: Sequence[str]) -> dict[str, ToolCall]:
        """Tool calls of a session and of its subagents by id; others are left out. Raises NotFound."""
        await self._sessions.get(session_id, principal.user_id)
        known = [call_id for call_id in ids if is_valid_id(call_id)]
        found = await self._turns.tool_calls(session_id, known) if known else []
        return {call.id: call for call in found}

    async def list_messages(
        self, session_id: str, principal: Principal, wanted: MessageFilter, page: Page
    ) -> tuple[list[Message], str | None]:
        """The messages of a branch (by default the active one) in the order of the conversation, and the next cursor.

        Raises NotFound (SESSION_NOT_FOUND, MESSAGE_NOT_FOUND for an unknown branch), InvalidInput for a cursor that
        names no message.
        """
        record = await self._sessions.get(session_id, principal.user_id)
        branch = _branch(record, wanted.branch, page)
        found = await self._turns.list_messages(session_id, replace(wanted, branch=branch), page)
        found, cursor = page.cut(found, lambda row: (row[0], str(branch)))
        return [message for _, message in found], cursor


def _branch(record: SessionView, asked: int | None, page: Page) -> int:
    """The requested branch, else the previous page's, else the active one."""
    if asked is None and page.after is not None and page.after[1].isdecimal():
        asked = int(page.after[1][:10])
    if asked is None:
        return record.active_branch
    if not 0 <= asked <= record.last_branch:
        raise NotFound(ErrorCode.MESSAGE_NOT_FOUND, "No such branch.")
    return asked
