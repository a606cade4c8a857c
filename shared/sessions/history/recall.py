"""What the tool `search_history` asks for, answered by the search. Tools know neither principals nor pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from shared.principal import Principal, Role
from shared.sessions.history.search import SearchFilter, SearchService
from shared.sessions.models import MessageRole
from shared.sessions.records.pages import Page
from shared.sessions.tools.services import FoundText, HistoryAnswer, HistoryQuestion

_OF_ONE_TURN = 16
"""Matches of the asking turn to reckon with: its message, its answers and what its tools returned."""


class HistorySearch:
    """`HistorySearcher` over the search service."""

    def __init__(self, search: SearchService, is_private: Callable[[str, str], Awaitable[bool]]) -> None:
        """is_private: whether a session is a user's own and nobody else takes part in it."""
        self._search = search
        self._is_private = is_private

    async def find(self, question: HistoryQuestion) -> HistoryAnswer:
        """Raises InvalidInput, Transient."""
        # Whoever joins later reads what was found before: sharing a session shows what stands in it.
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
        # Results of tools repeat what others said; they are found when they are asked for.
        found = [
            FoundText(hit.session_id, hit.session_name, hit.message_id, hit.role.value, hit.created_at, hit.snippet)
            for hit in hits
            if hit.turn_id != question.not_turn_id
            and (hit.role is not MessageRole.TOOL or wanted.role is MessageRole.TOOL)
        ]
        return HistoryAnswer(found[: question.limit], only_there)
