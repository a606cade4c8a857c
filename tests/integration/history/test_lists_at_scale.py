"""What lists read among many other people's rows: as little as if those were not there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from shared.adapters.postgres.features.features import PostgresTags, PostgresTemplates
from shared.adapters.postgres.features.statistics import PostgresStatistics
from shared.adapters.postgres.history.search import PostgresSearch
from shared.adapters.postgres.pool import PostgresPool
from shared.principal import Principal, Role
from shared.sessions.history.query import parse_query
from shared.sessions.history.search import SearchFilter
from shared.sessions.models import ApprovalStatus, SessionStatus
from shared.sessions.records.pages import SESSION_SORTS, ApprovalFilter, MessageFilter, Page, SessionFilter
from tests.integration.domain import Stores, utc_now

pytestmark = pytest.mark.integration

PEOPLE = 1_000
SESSIONS = 10_000
"""Ten of each, and as many that others let a quarter of them into."""
REPEATS = 8
MOST_ROWS = 400
"""Through indexes, for one list: what is one's own, in each of the tables that it is about."""

_FILL = b"""
WITH made AS (
    INSERT INTO sessions (id, owner_id, name, status, config, tags, created_at, updated_at, event_seq_ceiling)
    SELECT 's' || n, 'user' || n %% %(people)s, 'Plan ' || n, 'ACTIVE', '{}', ARRAY['x'],
           now() - n * interval '1 second', now(), 10000
    FROM generate_series(1, %(sessions)s) n
    RETURNING id, owner_id, created_at
), let_in AS (
    INSERT INTO session_participants (session_id, user_id, access)
    SELECT 's' || n, 'user' || (n + 7) %% %(people)s, 'read' FROM generate_series(1, %(sessions)s, 4) n
), turned AS (
    INSERT INTO turns (id, session_id, number, message_id, requested_by, status, plan, created_at, started_at, ended_at)
    SELECT 't' || id, id, 1, 'm' || id, owner_id, 'completed', '{}', created_at, created_at, created_at FROM made
), written AS (
    INSERT INTO messages (id, session_id, turn_id, number, turn_number, step, ordinal, role, content, status, tokens,
                          created_at, words)
    SELECT 'm' || id, id, 't' || id, 1, 1, 0, 0, 'user', 'the budget of ' || owner_id, 'completed', 4, created_at,
           array_to_tsvector(ARRAY['the', 'budget', 'of', owner_id])
    FROM made
), called AS (
    INSERT INTO tool_calls (id, session_id, turn_id, message_id, step, ordinal, provider_call_id, name, arguments,
                            needs_approval, status)
    SELECT 'c' || id, id, 't' || id, 'm' || id, 1, 0, 'call', 'http_request', '{}', true, 'completed' FROM made
), asked AS (
    INSERT INTO approvals (id, tool_call_id, session_id, turn_id, tool, arguments, arguments_digest, status,
                           requested_by, requested_at, expires_at, decided_at, instance_id)
    SELECT 'a' || id, 'c' || id, id, 't' || id, 'http_request', '{}', '', 'approved', owner_id, created_at, created_at,
           created_at, 'i'
    FROM made
), tagged AS (
    INSERT INTO tags (owner_id, name, created_at) SELECT DISTINCT owner_id, 'mine', now() FROM made
)
INSERT INTO session_templates (id, owner_id, name, config, tags, metadata, created_at)
SELECT 'p' || owner_id, owner_id, 'mine', '{}', '{}', '{}', now() FROM (SELECT DISTINCT owner_id FROM made) owners
"""


@pytest.fixture
async def crowd(postgres_url: str) -> AsyncIterator[Stores]:
    """Many people's rows, over a single connection, whose statistics are therefore all there are."""
    pool = PostgresPool(postgres_url, size=1)
    stores = Stores.over(pool)
    if not await stores.value(b"SELECT count(*) FROM sessions"):
        await stores.sql(_FILL, people=PEOPLE, sessions=SESSIONS)
        await stores.sql(b"ANALYZE")
    yield stores
    await pool.aclose()


async def _rows_read(stores: Stores) -> tuple[int, int]:
    """Rows of our tables read so far, by reading whole tables and through indexes."""
    await stores.rows(b"SELECT pg_stat_force_next_flush()::text")
    (row,) = await stores.rows(
        b"SELECT sum(seq_tup_read)::bigint AS whole, sum(coalesce(idx_tup_fetch, 0))::bigint AS indexed"
        b" FROM pg_stat_user_tables"
    )
    return row["whole"], row["indexed"]


def _sessions(wanted: SessionFilter) -> Callable[[Stores, str], Awaitable[object]]:
    return lambda stores, user: stores.sessions.list_for(user, wanted, Page())


def _inbox(stores: Stores, user: str) -> Awaitable[object]:
    mine = Principal(user, frozenset({Role.USER}))
    return stores.approvals.list_for(ApprovalFilter(ApprovalStatus.PENDING), Page(), mine, now=utc_now())


def _inbox_of_all(stores: Stores, user: str) -> Awaitable[object]:
    mine = Principal(user, frozenset({Role.USER}))
    return stores.approvals.list_for(ApprovalFilter(), Page(), mine, now=utc_now())


def _search(stores: Stores, user: str) -> Awaitable[object]:
    return PostgresSearch(stores.pool).search(user, parse_query("budget"), SearchFilter(), Page())


LISTS: dict[str, Callable[[Stores, str], Awaitable[object]]] = {
    **{f"sessions by {name}": _sessions(SessionFilter(sort=sort)) for name, sort in SESSION_SORTS.items()},
    "sessions with a tag": _sessions(SessionFilter(tag="x")),
    "sessions with a state": _sessions(SessionFilter(status=SessionStatus.ACTIVE)),
    "sessions with a name": _sessions(SessionFilter(q="plan 1")),
    "search": _search,
    "approvals that wait": _inbox,
    "approvals": _inbox_of_all,
    "approvals of own turns": lambda stores, user: stores.approvals.list_of_turns(user, ApprovalFilter(), Page()),
    "messages": lambda stores, _: stores.turns.list_messages("s5", MessageFilter(), Page()),
    "tags": lambda stores, user: PostgresTags(stores.pool).own(user, limit=100),
    "templates": lambda stores, user: PostgresTemplates(stores.pool).own(user, limit=100),
    "marker of statistics": lambda stores, user: PostgresStatistics(stores.pool).period_marker(user),
    "statistics": lambda stores, user: PostgresStatistics(stores.pool).compute_period(user, None, None),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("user", ["user5", "nobody"])
async def test_a_list_reads_no_rows_of_others(crowd: Stores, name: str, user: str) -> None:
    whole, indexed = await _rows_read(crowd)

    # More often than PostgreSQL plans a statement anew for its parameters.
    for _ in range(REPEATS):
        await LISTS[name](crowd, user)

    whole_after, indexed_after = await _rows_read(crowd)
    assert whole_after - whole == 0
    assert indexed_after - indexed <= REPEATS * MOST_ROWS


PLANNED = 40
"""At most, for planning, which looks at both ends of indexes."""
WHO = {
    "may decide nothing": (frozenset({Role.USER}), 0),
    "may decide nothing and is an admin": (frozenset({Role.USER, Role.ADMIN}), 0),
    "may decide all": (frozenset({Role.USER, Role.APPROVER}), 51),
}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("tool", [None, "http_request", "no_such_tool"])
@pytest.mark.parametrize("status", [None, ApprovalStatus.APPROVED, ApprovalStatus.PENDING])
async def test_an_inbox_reads_a_page_of_what_its_reader_may_decide_and_no_other_row(
    crowd: Stores, who: str, tool: str | None, status: ApprovalStatus | None
) -> None:
    """Ten thousand approvals, all of them approved. A page and the row that tells of more: each is found by who may
    decide, and read with its session and its turn."""
    roles, found = WHO[who]
    if tool == "no_such_tool" or status is ApprovalStatus.PENDING:
        found = 0
    reader, after = Principal("someone", roles), None
    for _ in range(REPEATS):
        whole, indexed = await _rows_read(crowd)
        page = Page(after=after)
        listed = await crowd.approvals.list_for(ApprovalFilter(status, tool=tool), page, reader, now=utc_now())
        whole_after, indexed_after = await _rows_read(crowd)
        assert len(listed) == found
        assert whole_after - whole == 0
        assert 4 * found <= indexed_after - indexed <= 4 * found + PLANNED
        after = (listed[49].requested_at, listed[49].id) if listed else None
