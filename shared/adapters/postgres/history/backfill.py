"""Splits what was indexed by the version before into words, some messages at a time. Implements `SearchBackfill`.

Invariant: a message is in exactly one of the two tables at any moment, so it is found once throughout; a run that is
cut has moved nothing of its batch.
"""

from __future__ import annotations

import asyncio
import time

from shared.adapters.postgres.history.lexemes import INDEXED_CHARS, vector_of
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.queries import load_queries

_Q = load_queries("history/backfill")

_BATCH_S = 2.0
"""A batch of long messages ends early: the server ends a transaction in which nothing is said for long."""


class PostgresSearchBackfill:
    """`SearchBackfill` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._after = ("", "")
        """Where the last batch ended: what was deleted before it would have to be skipped by every batch anew."""

    async def split(self, *, limit: int) -> int:
        moved = await self._split_next(limit)
        if not moved and self._after != ("", ""):
            # What was skipped, or has come since, is before the place that was reached.
            self._after = ("", "")
            moved = await self._split_next(limit)
        return moved

    async def _split_next(self, limit: int) -> int:
        async with self._pool.transaction() as connection:
            parameters = {
                "after_session": self._after[0],
                "after_message": self._after[1],
                "limit": limit,
                "chars": INDEXED_CHARS,
            }
            rows = await (await connection.execute(_Q["claim_old"], parameters)).fetchall()
            if not rows:
                return 0
            words: list[str | None] = []
            began = time.monotonic()
            for row in rows:
                words.append(vector_of(row["content"] or ""))
                await asyncio.sleep(0)  # A batch of long messages must not hold up the requests of this process.
                if time.monotonic() - began > _BATCH_S:
                    break
            rows = rows[: len(words)]
            ids = [row["message_id"] for row in rows]
            sessions = [row["session_id"] for row in rows]
            await connection.execute(_Q["replace_old"], {"sessions": sessions, "ids": ids, "words": words})
        self._after = (sessions[-1], ids[-1])
        return len(rows)
