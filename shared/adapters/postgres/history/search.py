"""Full-text search in PostgreSQL. What is indexed is in `lexemes.py`, where in `sql/migrations/0032_search_words.sql`.

Implements `SearchRepository`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.adapters.postgres.history.lexemes import CUT, INDEXED_CHARS, question_of
from shared.adapters.postgres.listing import bounded
from shared.adapters.postgres.pool import Cursor, PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.sessions.history.query import Term
from shared.sessions.history.search import FoundMessage, SearchFilter
from shared.sessions.models import MessageRole
from shared.sessions.records.pages import CutRows, Page

_Q = load_queries("history/search")
_FOUND = {
    name: bounded(_Q[name], size="200 + octet_length(page.content)")
    for name in ("search_everywhere", "search_session", "old_everywhere", "old_session")
}

_RANKED = 300
"""How many matches, the newest ones, are ranked at most: older ones show when the time is narrowed."""
_EXACT_RANK = 1_000_000_000
"""Added to the rank of an exact match; `ts_rank` is below 1, and counted in billionths."""
_TIMEOUT_MS = 5_000
"""A question that takes longer is given up (DATABASE_ERROR): one caller's must not hold up everybody's."""


class PostgresSearch:
    """`SearchRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def search(self, user_id: str, terms: Sequence[Term], wanted: SearchFilter, page: Page) -> list[FoundMessage]:
        """Best first, one more than `page.limit` when there are more, or CutRows."""
        question = question_of(terms)
        after_rank, after_id = page.after or (None, None)
        parameters: dict[str, Any] = {
            "user_id": user_id,
            "exact": question.exact,
            "exact_rank": _EXACT_RANK,
            "cut": CUT,
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
            "chars": INDEXED_CHARS,
        }
        where = "everywhere" if wanted.session_id is None else "session"
        async with self._pool.pipelined() as connection:

            async def ask(query: str, asked: str | None = None) -> Cursor:
                # Not prepared: which index is right depends on how common the words are, so each question has its own
                # plan.
                return await connection.execute(
                    _FOUND[f"{query}_{where}"], parameters | {"asked": asked}, prepare=False, binary=True
                )

            begun = await connection.execute(_Q["begin"], {"timeout_ms": str(_TIMEOUT_MS)}, binary=True)
            rows: list[Row] = []
            cuts: list[tuple[int, str]] = []

            async def take(query: str, asked: str | None = None) -> None:
                found = await (await ask(query, asked)).fetchall()
                rows.extend(found)
                if found and found[-1]["page_goes_on"] and len(found) <= page.limit:
                    cuts.append((found[-1]["rank"], found[-1]["id"]))

            if after_rank is None or after_rank >= _EXACT_RANK:
                await take("search", question.exact)
            if question.loose and len(rows) <= page.limit and not cuts:
                # They include the newest exact ones, which are taken once.
                await take("search", question.loose)
            first = await begun.fetchone()
            if first is None or first["has_old"]:
                await take("old")
        best = sorted({row["id"]: _found(row) for row in rows}.values(), key=_rank_and_id, reverse=True)
        if cuts:
            # Below the best place at which a query ended early, some may be missing.
            best = [message for message in best if _rank_and_id(message) >= max(cuts)]
            if len(best) <= page.limit:
                return CutRows(best)
        return best[: page.limit + 1]


def _rank_and_id(message: FoundMessage) -> tuple[int, str]:
    return message.rank, message.message_id


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
        is_cut=row["is_cut"],
    )
