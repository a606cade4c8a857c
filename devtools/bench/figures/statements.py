"""What PostgreSQL does for one turn, statement by statement: `pg_stat_statements` over one window of load.

Statements inside of functions and triggers are shown, too, indented; their time is part of the time of the statement
that called them. The times are the wall clock's: on a busy machine they tell more than the processor did. Buffers,
WAL and plans are counts, which depend on no load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from devtools.bench.contender import Contender
from devtools.bench.plan import Case
from devtools.bench.run import Bench
from devtools.statement_log import texts

_MOST = 45
_NO_WORD = re.compile(r"'(?:[^']|'')*'|/\*.*?\*/|%\(\w+\)s|\$\d+|\b(?:true|false|null)\b", re.IGNORECASE)
"""What the server replaces by numbered places, or what the app's text has there."""
_WORD = re.compile(r"[a-z_]\w*", re.IGNORECASE)
_FIRST = 70
_COSTS = """
SELECT s.toplevel, s.query, s.calls, s.plans, s.total_plan_time AS plan_ms, s.total_exec_time AS run_ms,
       s.shared_blks_hit + s.shared_blks_read AS blocks, s.wal_records, s.wal_bytes
FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = %s
ORDER BY s.total_plan_time + s.total_exec_time DESC
"""
_UPDATES = """
SELECT relname, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_hot_upd AS hot, n_tup_del AS deleted
FROM pg_stat_user_tables ORDER BY relname
"""

type Row = Mapping[str, Any]


async def statements(bench: Bench, contender: Contender, case: Case, watch: str) -> str:
    """Load a contender with `case`, and tell what each statement cost per turn."""
    database = contender.postgres_url.rpartition("/")[2]
    admin_url = bench.postgres.superuser_url.rpartition("/")[0] + f"/{database}"
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True, row_factory=dict_row) as admin:
        await admin.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        before = await _turns(admin)
        updates = {row["relname"]: row for row in await _all(admin, _UPDATES)}
        await admin.execute("SELECT pg_stat_statements_reset()")
        await bench.measure(case, contender, watch)
        rows = await _all(admin, _COSTS, database)
        turns = await _turns(admin) - before
        written = [_since(row, updates.get(row["relname"])) for row in await _all(admin, _UPDATES)]
    return (
        f"{contender.label}, {case.name}, {turns} turns; per turn:\n{table(rows, turns)}\n\n{_writes(written, turns)}"
    )


def table(rows: Sequence[Row], turns: int) -> str:
    """Per turn: calls, plans made, milliseconds of planning and running, blocks touched, records and bytes of WAL."""
    names = {_words(text): name for name, text in texts()}
    lines = [f"{'calls':>6} {'plans':>6} {'plan ms':>8} {'run ms':>7} {'blocks':>7} {'wal':>6} {'bytes':>7}  statement"]
    top = [row for row in rows if row["toplevel"]]
    for row in rows[:_MOST]:
        said = names.get(_words(row["query"]), " ".join(row["query"].split())[:_FIRST])
        lines.append(_line(row, turns, said if row["toplevel"] else f"    {said}"))
    whole = {name: sum(row[name] for row in top) for name in _FIGURES}
    return "\n".join([*lines, _line(whole, turns, "all")])


_FIGURES = ("calls", "plans", "plan_ms", "run_ms", "blocks", "wal_records", "wal_bytes")


def _line(row: Row, turns: int, said: str) -> str:
    calls, plans, plan_ms, run_ms, blocks, records, wal = (float(row[name]) / max(turns, 1) for name in _FIGURES)
    return f"{calls:6.2f} {plans:6.2f} {plan_ms:8.3f} {run_ms:7.3f} {blocks:7.1f} {records:6.1f} {wal:7.0f}  {said}"


def _writes(rows: Sequence[Row], turns: int) -> str:
    lines = [f"{'insert':>7} {'update':>7} {'hot':>6} {'delete':>7}  table"]
    for row in rows:
        if any(row[name] for name in ("inserted", "updated", "deleted")):
            figures = [row[name] / max(turns, 1) for name in ("inserted", "updated", "hot", "deleted")]
            lines.append("{:7.2f} {:7.2f} {:6.2f} {:7.2f}  {}".format(*figures, row["relname"]))
    return "\n".join(lines)


def _since(row: Row, earlier: Row | None) -> Row:
    return {
        name: value - (earlier[name] if earlier else 0) if isinstance(value, int) else value
        for name, value in row.items()
    }


def _words(text: str) -> str:
    """A statement without its constants: as the app has it, and as the server shows it."""
    return " ".join(_WORD.findall(_NO_WORD.sub(" ", text))).lower()


async def _turns(admin: psycopg.AsyncConnection[dict[str, Any]]) -> int:
    rows = await _all(admin, "SELECT count(*) AS n FROM turns WHERE ended_at IS NOT NULL")
    return int(rows[0]["n"])


async def _all(admin: psycopg.AsyncConnection[dict[str, Any]], query: str, *parameters: str) -> list[dict[str, Any]]:
    return await (await admin.execute(query.encode(), parameters or None)).fetchall()
