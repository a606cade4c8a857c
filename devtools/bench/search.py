"""Search and history over many messages: `python -m devtools.bench.search [--messages 1000000]`.

Fills its own database with generated messages and measures the app's own services, as called by a request after
authentication: full-text search by a user with an ordinary and by one with a very long history, and a page of history.

A tenth each of the messages is written in accented Latin, Chinese, Thai and Korean. Also says what the index costs: its
size, and what storing a message takes with and without it.

Invariant: the rows are as the app stores them, and the index is the migration's own; only the rows are loaded in bulk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from devhost.servers import ServerError
from devhost.servers.postgres import Postgres
from devtools.bench.figures.statistics import percentile
from devtools.bench.search_texts import contents, vocabulary
from shared.adapters.postgres.history.lexemes import vector_of
from shared.adapters.postgres.history.search import PostgresSearch
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.postgres.sessions.sessions import PostgresSessions
from shared.adapters.postgres.turns.turns import PostgresTurns
from shared.adapters.sql.migrate import migrate
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.history.manager import HistoryManager
from shared.sessions.history.search import SearchFilter, SearchService
from shared.sessions.models import MessageRole
from shared.sessions.records.pages import MessageFilter, Page

_PER_SESSION = 100
_LONG_SESSION = 10_000
_HEAVY_SHARE = 0.3
"""Share of all messages that belongs to one user; the others share the rest evenly."""
_PER_USER = 2_000
_HEAVY, _USER = "heavy", "user-7"
_DEADLINE_S = 60.0
_SESSIONS_AT_ONCE = 200
_STORES = 1_000
"""Messages that are stored one by one, to time it."""

type _Figures = dict[str, dict[str, float]]
"""Milliseconds by the name of the query: p50, p95, max."""

_COPY = (
    b"COPY messages (id, session_id, number, turn_number, step, ordinal, role, content, status, tokens, created_at)"
    b" FROM STDIN"
)
_COPY_WORDS = b"COPY message_words (session_id, message_id, owner_id, role, created_at, words) FROM STDIN"
_STORED = (
    b"INSERT INTO messages (id, session_id, number, turn_number, step, ordinal, role, content, status, tokens,"
    b" created_at, words) VALUES (%(id)s, 'stored', %(number)s, %(number)s, 0, 0, 'user', %(content)s, 'completed', 50,"
    b" now(), %(words)s::tsvector)"
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.bench.search")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        figures, costs = asyncio.run(_bench(options.messages, options.requests))
    except ServerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.json is not None:
        document = {"at": datetime.now(UTC).isoformat(), "messages": options.messages, "ms": figures, "costs": costs}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


async def _bench(messages: int, requests: int) -> tuple[_Figures, dict[str, float]]:
    folder = _temporary_folder()
    try:
        async with Postgres(folder / "postgres") as postgres:
            await asyncio.to_thread(migrate, postgres.url)
            began = time.perf_counter()
            await asyncio.to_thread(_fill, postgres.superuser_url, postgres.database, messages)
            _say(f"{messages:,} messages made and indexed in {time.perf_counter() - began:.0f} s")
            pool = PostgresPool(postgres.url, size=4)
            try:
                figures = await _measure(pool, requests, long_session=_long_session(messages))
            finally:
                await pool.aclose()
            return figures, await asyncio.to_thread(_costs, postgres.superuser_url, postgres.database, messages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bench-search-"))
    # When we are root, PostgreSQL runs under another account, which must be able to reach the folder.
    folder.chmod(0o711)
    return folder


async def _measure(pool: PostgresPool, requests: int, *, long_session: int) -> _Figures:
    """long_session: the number of its messages."""
    figures: _Figures = {}
    search = SearchService(PostgresSearch(pool))
    history = HistoryManager(PostgresSessions(pool), PostgresTurns(pool))
    chooser = random.Random(2)  # noqa: S311  # the same queries every time
    words = vocabulary()
    latin = words.latin
    accented = [plain for plain, marked in zip(latin[:5_000], words.accented, strict=False) if plain != marked]
    questions: dict[str, Callable[[], str]] = {
        "one of the 20 commonest words": lambda: chooser.choice(latin[:20]),
        "a word": lambda: chooser.choice(latin[100:5_000]),
        "a rare word": lambda: chooser.choice(latin[-5_000:]),
        "three words": lambda: " ".join(chooser.choices(latin[:300], k=3)),
        "a phrase": lambda: '"' + " ".join(chooser.choices(latin[:30], k=2)) + '"',
        "a prefix": lambda: chooser.choice(latin[:2_000])[:3] + "*",
        "a word whose accents are left out": lambda: chooser.choice(accented),
        "a Chinese word": lambda: chooser.choice(words.chinese[:5_000]),
        "a Thai word": lambda: chooser.choice(words.thai[:5_000]),
        "a Korean word without its particle": lambda: chooser.choice(words.korean[:5_000]),
    }
    _say(f"\n{'':<50}{'p50':>9}{'p95':>9}{'max':>9}   ms, {requests} requests each, one at a time")
    everything: list[float] = []
    for user, who in ((_USER, "ordinary user"), (_HEAVY, "heavy user")):
        principal = Principal(user, frozenset({Role.USER}))
        for kind, question in questions.items():

            async def ask(principal: Principal = principal, question: Callable[[], str] = question) -> None:
                await search.search(principal, question(), SearchFilter(), Page())

            everything += await _timed(figures, f"search, {who}: {kind}", ask, requests)
        filtered = SearchFilter(role=MessageRole.USER, since=datetime(2026, 1, 2, tzinfo=UTC))

        async def ask_filtered(principal: Principal = principal, wanted: SearchFilter = filtered) -> None:
            await search.search(principal, chooser.choice(latin[:2_000]), wanted, Page())

        everything += await _timed(figures, f"search, {who}: filtered", ask_filtered, requests)
    principal = Principal(_HEAVY, frozenset({Role.USER}))

    async def ask_session() -> None:
        await search.search(principal, chooser.choice(latin[:2_000]), SearchFilter(session_id="long"), Page())

    everything += await _timed(figures, "search in one session of 10,000", ask_session, requests)
    _row(figures, "search, all of these", everything)

    async def read_page() -> None:
        after = (chooser.randrange(1, long_session + 1), "")
        wanted = MessageFilter(descending=chooser.random() < 0.5)
        await history.list_messages("long", principal, wanted, Page(after=after))

    await _timed(figures, "a page of history (50 of 10,000)", read_page, requests)
    return figures


async def _timed(figures: _Figures, name: str, ask: Callable[[], Awaitable[None]], requests: int) -> list[float]:
    """Milliseconds of each request, after a few warm-up requests."""
    took: list[float] = []
    stop_at = time.perf_counter() + _DEADLINE_S
    for number in range(requests + 5):
        began = time.perf_counter()
        await ask()
        ended = time.perf_counter()
        if number >= 5:
            took.append((ended - began) * 1e3)
            if ended > stop_at:
                _say(f"({name}: only {len(took)} requests in {_DEADLINE_S:.0f} s)")
                break
    _row(figures, name, took)
    return took


def _row(figures: _Figures, name: str, took: Sequence[float]) -> None:
    one = figures[name] = {
        "p50": round(percentile(took, 0.5), 1),
        "p95": round(percentile(took, 0.95), 1),
        "max": round(max(took), 1),
    }
    _say(f"{name:<50}{one['p50']:>9.1f}{one['p95']:>9.1f}{one['max']:>9.1f}")


# Data. -----------------------------------------------------------------------------------------


def _long_session(messages: int) -> int:
    return min(_LONG_SESSION, messages // 10)


def _sessions(messages: int) -> Iterator[tuple[str, str, int]]:
    """(id, owner, messages)."""
    long = _long_session(messages)
    yield "long", _HEAVY, long
    left, heavy, number = messages - long, int(messages * _HEAVY_SHARE) - long, 0
    while left > 0:
        size = min(_PER_SESSION, left)
        yield new_id(), _HEAVY if heavy > 0 else f"user-{number * _PER_SESSION // _PER_USER}", size
        number += heavy <= 0
        heavy -= size
        left -= size


def _fill(superuser_url: str, database: str, messages: int) -> None:
    sessions = list(_sessions(messages))
    with psycopg.connect(_as_superuser(superuser_url, database), autocommit=True) as connection:
        # In bulk, without the trigger and foreign keys; the index is made at the end from its own definition.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET maintenance_work_mem = '256MB'")
        row = connection.execute("SELECT pg_get_indexdef('message_words_words'::regclass)").fetchone()
        assert row is not None
        connection.execute("DROP INDEX message_words_words")
        with connection.cursor().copy(
            "COPY sessions (id, owner_id, status, config, created_at, updated_at, event_seq_ceiling) FROM STDIN"
        ) as copy:
            at = datetime(2026, 1, 1, tzinfo=UTC)
            for session_id, owner, _ in sessions:
                copy.write_row((session_id, owner, "ACTIVE", "{}", at, at, 0))
        texts = contents(messages)
        for first in range(0, len(sessions), _SESSIONS_AT_ONCE):
            _fill_sessions(connection, first, sessions[first : first + _SESSIONS_AT_ONCE], texts)
        connection.execute(str(row[0]).encode())
        connection.execute("VACUUM ANALYZE")


def _fill_sessions(
    connection: psycopg.Connection, first: int, sessions: Sequence[tuple[str, str, int]], texts: Iterator[str]
) -> None:
    """Messages of some sessions, and their words."""
    roles = (MessageRole.USER.value, MessageRole.ASSISTANT.value)
    split: list[tuple[object, ...]] = []
    with connection.cursor().copy(_COPY) as copy:
        for session_number, (session_id, owner, size) in enumerate(sessions, first):
            at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=session_number)
            for number in range(1, size + 1):
                message_id, role, content = new_id(), roles[(number + 1) % 2], next(texts)
                created_at = at + timedelta(seconds=number)
                place = (number, (number + 1) // 2, (number + 1) % 2, 0)
                copy.write_row((message_id, session_id, *place, role, content, "completed", 50, created_at))
                split.append((session_id, message_id, owner, role, created_at, vector_of(content)))
    with connection.cursor().copy(_COPY_WORDS) as copy:
        for row in split:
            copy.write_row(row)


def _as_superuser(superuser_url: str, database: str) -> str:
    return superuser_url.rpartition("/")[0] + f"/{database}"


# What it costs. --------------------------------------------------------------------------------


def _costs(superuser_url: str, database: str, messages: int) -> dict[str, float]:
    """Bytes of the index per message, and milliseconds for storing one, with the index and without it (medians)."""
    costs: dict[str, float] = {}
    with psycopg.connect(_as_superuser(superuser_url, database), autocommit=True) as connection:
        for name, size in (
            ("messages", "pg_total_relation_size('messages')"),
            ("words", "pg_total_relation_size('message_words')"),
            ("words, the inverted index alone", "pg_relation_size('message_words_words')"),
        ):
            row = connection.execute(f"SELECT {size}".encode()).fetchone()
            assert row is not None
            costs[f"bytes per message: {name}"] = round(row[0] / messages)
        connection.execute(
            "INSERT INTO sessions (id, owner_id, status, config, created_at, updated_at, event_seq_ceiling)"
            " VALUES ('stored', 'writer', 'ACTIVE', '{}', now(), now(), 0)"
        )
        number = 0
        for mode, name in (("replica", "without the index"), ("origin", "with it")):
            connection.execute(f"SET session_replication_role = {mode}".encode())
            took: list[float] = []
            for content in contents(_STORES):
                number += 1
                began = time.perf_counter()
                words = vector_of(content) if mode == "origin" else None
                split = time.perf_counter()
                connection.execute(_STORED, {"id": new_id(), "number": number, "content": content, "words": words})
                took.append((time.perf_counter() - began) * 1e3)
                if mode == "origin":
                    costs["ms: splitting"] = costs.get("ms: splitting", 0.0) + (split - began) * 1e3 / _STORES
            costs[f"ms: storing {name}"] = percentile(took, 0.5)
    for name, value in costs.items():
        costs[name] = round(value, 3)
        _say(f"{name:<50}{costs[name]:>9}")
    return costs


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
