"""Full-text search in PostgreSQL; the index and what counts as a word are in `sql/migrations/0002_history.sql`.

Implements `SearchRepository`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.adapters.postgres.pool import PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.sessions.history.query import Term
from shared.sessions.history.search import FoundMessage, SearchFilter
from shared.sessions.models import MessageRole
from shared.sessions.records.pages import Page

_Q = load_queries("history/search")

_RANKED = 300
"""How many matches, the newest ones, are ranked at most: older ones show when the time is narrowed."""
_INDEXED_CHARS = 100_000
"""Of a message; the same bound as in the migration."""
_TIMEOUT_MS = 5_000
"""A question that takes longer is given up (DATABASE_ERROR): one caller's must not hold up everybody's."""


class PostgresSearch:
    """`SearchRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def search(self, user_id: str, terms: Sequence[Term], wanted: SearchFilter, page: Page) -> list[FoundMessage]:
        """Best first, one more than `page.limit` when there are more."""
        after_rank, after_id = page.after or (None, None)
        parameters: dict[str, Any] = {
            "user_id": user_id,
            "terms": [term.text for term in terms],
            "prefixes": [term.is_prefix for term in terms],
            "session_id": wanted.session_id,
            "role": wanted.role.value if wanted.role else None,
            "since": wanted.since,
            "until": wanted.until,
            "after_rank": after_rank,
            "after_id": after_id,
            "limit": page.limit + 1,
            "ranked": _RANKED,
            "chars": _INDEXED_CHARS,
        }
        query = _Q["search_everywhere" if wanted.session_id is None else "search_session"]
        async with self._pool.pipelined() as connection:
            await connection.execute(_Q["bounded"], {"timeout_ms": str(_TIMEOUT_MS)})
            # Not prepared: which index is right depends on how common the words are, so each question has its own plan.
            cursor = await connection.execute(query, parameters, prepare=False, binary=True)
            return [_found(row) for row in await cursor.fetchall()]


def _found(row: Row) -> FoundMessage:
    return FoundMessage(
        rank=row["rank"],
        message_id=row["id"],
        session_id=row["session_id"],
        session_name=row["session_name"],
        turn_id=row["turn_id"],
        role=MessageRole(row["role"]),
        created_at=row["created_at"],
        content=row["content"],
    )
