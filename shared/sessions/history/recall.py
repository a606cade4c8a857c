"""Adapts the search service for the tool `search_history`: tools know neither principals nor pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from shared.principal import Principal, Role
from shared.sessions.history.search import SearchFilter, SearchService
from shared.sessions.models import MessageRole
from shared.sessions.records.pages import Page
from shared.sessions.tools.services import FoundText, HistoryAnswer, HistoryQuestion

_OF_ONE_TURN = 16
"""Extra results to request, since matches in the current turn (message, answers, tool results) are dropped."""


class HistorySearch:
    """`HistorySearcher` over the search service."""

    def __init__(self, search: SearchService, is_private: Callable[[str, str], Awaitable[bool]]) -> None:
        """is_private: whether a user owns a session and it has no other participants."""
        self._search = search
        self._is_private = is_private

    async def find(self, question: HistoryQuestion) -> HistoryAnswer:
        """Raises InvalidInput, Transient."""
        # A participant who joins later can also read what is found now; sharing a session shares its messages.
        only_there = question.only_there or not await self._is_private(question.asked_in, question.user_id)
        wanted = SearchFilter(
            session_id=question.asked_in if only_there else None,
            role=MessageRole(question.role) if question.role else None,
            since=question.since,
            until=question.until,
        )
        principal = Principal(question.user_id, frozenset({Role.USER}))
        page = Page(limit=question.limit + _OF_ONE_TURN)
        hits, _ = await self._search.search(principal, question.query, wanted, page)
        # Tool results repeat other texts, so they are included only when asked for.
        found = [
            FoundText(hit.session_id, hit.session_name, hit.message_id, hit.role.value, hit.created_at, hit.snippet)
            for hit in hits
            if hit.turn_id != question.not_turn_id
            and (hit.role is not MessageRole.TOOL or wanted.role is MessageRole.TOOL)
        ]
        return HistoryAnswer(found[: question.limit], only_there)
