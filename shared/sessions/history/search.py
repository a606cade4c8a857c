"""SearchService: full-text search over every message the caller may read, best match first.

Invariant: every hit is in a session that the caller owns or participates in; the search statement itself checks this. A
snippet is plain text and its highlights are positions, so no text of a message can become HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import Field

from shared.errors import ErrorCode, InvalidInput
from shared.principal import Principal
from shared.sessions.history.query import Term, parse_query
from shared.sessions.history.snippets import Highlighter
from shared.sessions.models import MessageRole, Value
from shared.sessions.records.pages import Page

MAX_QUERY_CHARS = 500


class Highlight(Value):
    """A hit in a snippet: code points from `start` (inclusive) to `end` (exclusive)."""

    start: int
    end: int


class SearchHit(Value):
    """A message that matches."""

    message_id: str
    session_id: str
    session_name: str | None
    turn_id: str | None
    role: MessageRole
    created_at: datetime
    rank: float = Field(
        description="Relevance, from 0, and from 1 for an exact match; comparable only within one search"
    )
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
    """A match as stored. rank: in billionths, so that a cursor holds it exactly. content: the indexed part. is_cut: it
    has more words than the index has places for, so whether phrases occur in it is not certain."""

    rank: int
    message_id: str
    session_id: str
    session_name: str | None
    turn_id: str | None
    role: MessageRole
    created_at: datetime
    content: str
    is_cut: bool = False


class SearchRepository(Protocol):
    async def search(self, user_id: str, terms: Sequence[Term], wanted: SearchFilter, page: Page) -> list[FoundMessage]:
        """Messages that match all terms and that the user may read, best first; one more than `page.limit` when there
        are more, or CutRows. Those that match in the exact spelling are before those that match folded or in part."""
        ...


class SearchBackfill(Protocol):
    async def split(self, *, limit: int) -> int:
        """Split at most `limit` messages that an older version indexed into words; returns how many there were.

        Idempotent and safe beside others that do the same. Raises Transient.
        """
        ...


class SearchService:
    """Finds messages."""

    def __init__(self, rows: SearchRepository) -> None:
        self._rows = rows

    async def search(
        self, principal: Principal, question: str, wanted: SearchFilter, page: Page
    ) -> tuple[list[SearchHit], str | None]:
        """Hits and the next cursor; no message is on two pages. Raises InvalidInput(VALIDATION_ERROR).

        question: words, "phrases in quotes" and prefix*; all must occur. A query without any word finds nothing. A page
        may have fewer hits than `page.limit` although there are more.
        """
        if len(question) > MAX_QUERY_CHARS:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                f"A search query can have at most {MAX_QUERY_CHARS} characters.",
                errors=[{"field": "q", "message": f"at most {MAX_QUERY_CHARS} characters"}],
            )
        terms = parse_query(question)
        if not terms:
            return [], None
        found = await self._rows.search(principal.user_id, terms, wanted, page)
        found, cursor = page.cut(found, lambda message: (message.rank, message.message_id))
        highlighter = Highlighter(terms)
        sure = (message for message in found if not message.is_cut or highlighter.has_all(message.content))
        return [_hit(message, highlighter) for message in sure], cursor


def _hit(found: FoundMessage, highlighter: Highlighter) -> SearchHit:
    snippet = highlighter.snippet(found.content)
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
