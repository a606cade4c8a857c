"""Statistics in PostgreSQL: the marker of what is counted, and the counting itself, each from one snapshot.

Implements `StatisticsRepository`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from shared.adapters.postgres.pool import Connection, PostgresPool, Row
from shared.adapters.postgres.queries import load_queries
from shared.sessions.features.models import (
    MAX_DAYS,
    MAX_MODELS,
    ApprovalCounts,
    DayUsage,
    Durations,
    FinishReasonCounts,
    MessageCounts,
    ModelUsage,
    PeriodStatistics,
    SessionStatistics,
    ToolCallCounts,
    TurnCounts,
)
from shared.sessions.models import Usage

_Q = load_queries("features/statistics")

_TOKENS = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")


class PostgresStatistics:
    """`StatisticsRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def session_marker(self, session_id: str, user_id: str) -> str | None:
        row = await self._pool.fetch_one(_Q["session_marker"], {"session_id": session_id, "user_id": user_id})
        return None if row is None else str(row["marker"])

    async def compute_session(self, session_id: str, user_id: str) -> tuple[str, SessionStatistics] | None:
        parameters = {"session_id": session_id, "user_id": user_id}
        async with self._snapshot() as connection:
            found = await _rows(connection, "session_marker", parameters)
            if not found:
                return None
            figures = await _figures(connection, "session", parameters)
        return str(found[0]["marker"]), SessionStatistics(session_id=session_id, **figures)

    async def period_marker(self, user_id: str) -> str:
        row = await self._pool.fetch_one(_Q["period_marker"], {"user_id": user_id})
        assert row is not None  # aggregates always have a row
        return str(row["marker"])

    async def compute_period(
        self, user_id: str, since: datetime | None, until: datetime | None
    ) -> tuple[str, PeriodStatistics]:
        parameters = {
            "user_id": user_id,
            "since": "-infinity" if since is None else since.isoformat(),
            "until": "infinity" if until is None else until.isoformat(),
            "days": MAX_DAYS,
        }
        async with self._snapshot() as connection:
            (marker,) = await _rows(connection, "period_marker", parameters)
            (sessions,) = await _rows(connection, "period_sessions", parameters)
            days = await _rows(connection, "period_days", parameters)
            figures = await _figures(connection, "period", parameters)
        return str(marker["marker"]), PeriodStatistics(
            since=since,
            until=until,
            sessions=sessions["number"],
            days=[DayUsage(day=row["day"], **_used([row])) for row in reversed(days)],
            **figures,
        )

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        """A transaction whose queries all see the same state: figures that do not fit their marker would be kept."""
        async with self._pool.transaction() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection


async def _rows(connection: Connection, query: str, parameters: Mapping[str, Any]) -> list[Row]:
    cursor = await connection.execute(_Q[query], parameters)
    return [*await cursor.fetchall()]


async def _figures(connection: Connection, scope: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Figures`. scope: `session` or `period`, whose queries there are."""
    messages = await _rows(connection, f"{scope}_messages", parameters)
    turns = await _rows(connection, f"{scope}_turns", parameters)
    tool_calls = await _rows(connection, f"{scope}_tool_calls", parameters)
    approvals = await _rows(connection, f"{scope}_approvals", parameters)
    (waits,) = await _rows(connection, f"{scope}_approval_waits", parameters)
    (durations,) = await _rows(connection, f"{scope}_turn_durations", parameters)
    return {
        "messages": MessageCounts(**_counts(messages)),
        "finish_reasons": FinishReasonCounts(**_counts(messages, "finish_reason", of="assistant")),
        "turns": TurnCounts(**_counts(turns)),
        "usage": Usage(**_used(turns)),
        "models": _by_model(turns),
        "tool_calls": ToolCallCounts(**_counts(tool_calls)),
        "approvals": ApprovalCounts(**_counts(approvals)),
        "approval_waits": _durations(waits),
        "turn_durations": _durations(durations),
    }


def _counts(rows: Sequence[Row], column: str = "kind", *, of: str | None = None) -> dict[str, int]:
    """How many there are by the value of a column, and in total; those without a value are in none.

    of: those of this kind alone.
    """
    found: Counter[str] = Counter()
    for row in rows:
        if row[column] is not None and of in (None, row["kind"]):
            found[row[column]] += row["number"]
    return {**found, "total": found.total()}


def _used(rows: Sequence[Row]) -> dict[str, Any]:
    """The fields of `Usage`, of all the rows together."""
    costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    return {
        **{name: sum(row[name] for row in rows) for name in _TOKENS},
        "cost_usd": float(sum(costs)) if costs else None,
    }


def _by_model(turns: Sequence[Row]) -> list[ModelUsage]:
    """The most used first; all that are too many to name are one, the last."""
    rows: dict[str | None, list[Row]] = {}
    for row in turns:
        rows.setdefault(row["model"], []).append(row)

    def used(name: str | None) -> int:
        return sum(row["input_tokens"] + row["output_tokens"] for row in rows[name])

    names = sorted(rows, key=lambda name: (-used(name), name))
    named = [(name, rows[name]) for name in names[:MAX_MODELS]]
    if len(names) > MAX_MODELS:
        named.append((None, [row for name in names[MAX_MODELS:] for row in rows[name]]))
    return [ModelUsage(model=name, turns=sum(row["number"] for row in own), **_used(own)) for name, own in named]


def _durations(row: Row) -> Durations:
    if not row["number"]:
        return Durations()
    p50, p95 = row["percentiles"]
    return Durations(
        count=row["number"],
        mean_seconds=round(row["mean"], 3),
        p50_seconds=round(p50, 3),
        p95_seconds=round(p95, 3),
        max_seconds=round(row["longest"], 3),
    )
