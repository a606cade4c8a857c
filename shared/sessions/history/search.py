"""SearchService: full-text search over every message the caller may read, best match first.

Invariant: a hit is in a session the caller owns or takes part in, decided by the statement that finds it. A snippet is
text, never markup: its highlights are positions, so nothing a message holds can become HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import Field

from shared.errors import ErrorCode, InvalidInput
from shared.principal import Principal
from shared.sessions.history.query import Term, parse_query, snippet_of
from shared.sessions.models import MessageRole, Value
from shared.sessions.records.pages import Page

MAX_QUERY_CHARS = 500


class Highlight(Value):
    """A hit in a snippet: characters (code points) from `start` to before `end`."""

    start: int
    end: int


class SearchHit(Value):
    """A message that was found."""

    message_id: str
    session_id: str
    session_name: str | None
    turn_id: str | None
    role: MessageRole
    created_at: datetime
    rank: float = Field(description="How well it fits, from 0; comparable within one search only")
    snippet: str = Field(description="The part around the first hit; plain text")
    highlights: list[Highlight] = Field(description="Where the hits are in `snippet`, counted in code points")


@dataclass(frozen=True, slots=True)
class SearchFilter:
    session_id: str | None = None
    role: MessageRole | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A match as stored. rank: a whole number, so that a cursor holds it exactly; content: its indexed part."""

    rank: int
    message_id: str
    session_id: str
    session_name: str | None
    turn_id: str | None
    role: MessageRole
    created_at: datetime
    content: str


class SearchRepository(Protocol):
    async def search(self, user_id: str, terms: Sequence[Term], wanted: SearchFilter, page: Page) -> list[FoundMessage]:
        """Matches of all terms that the user may read, best first, one more than `page.limit` when there are more."""
        ...


class SearchService:
    """Finds messages."""

    def __init__(self, rows: SearchRepository) -> None:
        self._rows = rows

    async def search(
        self, principal: Principal, question: str, wanted: SearchFilter, page: Page
    ) -> tuple[list[SearchHit], str | None]:
        """Hits and the next cursor; a message is found on one page only. Raises InvalidInput(VALIDATION_ERROR).

        question: words, "phrases in quotes" and prefix*; all of them must be there. One without any word finds nothing.
        """
        if len(question) > MAX_QUERY_CHARS:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                f"A question may hold {MAX_QUERY_CHARS} characters.",
                errors=[{"field": "q", "message": f"at most {MAX_QUERY_CHARS} characters"}],
            )
        terms = parse_query(question)
        if not terms:
            return [], None
        found = await self._rows.search(principal.user_id, terms, wanted, page)
        found, cursor = page.cut(found, lambda message: (message.rank, message.message_id))
        return [_hit(message, terms) for message in found], cursor


def _hit(found: FoundMessage, terms: Sequence[Term]) -> SearchHit:
    snippet = snippet_of(found.content, terms)
    return SearchHit(
        message_id=found.message_id,
        session_id=found.session_id,
        session_name=found.session_name,
        turn_id=found.turn_id,
        role=found.role,
        created_at=found.created_at,
        rank=found.rank / 1e9,
        snippet=snippet.text,
        highlights=[Highlight(start=start, end=end) for start, end in snippet.hits],
    )
