"""Pages end where their bytes are used up: the database sends no more, and no row is left out or shown twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.branches.checkpoints import PostgresCheckpoints
from shared.adapters.postgres.history.search import PostgresSearch
from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import DEFAULT_AGENT, MAX_INSTRUCTIONS_CHARS
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.history.query import parse_query
from shared.sessions.history.search import SearchFilter
from shared.sessions.models import Concurrency
from shared.sessions.records.pages import (
    MAX_LIMIT,
    PAGE_BYTES,
    ApprovalFilter,
    CutRows,
    MessageFilter,
    Page,
    SessionFilter,
    decode_cursor,
)
from tests.integration.domain import OWNER, Stores, call, utc_now

pytestmark = pytest.mark.integration

ANN = Principal(OWNER, frozenset({Role.USER, Role.APPROVER}))
HALF = PAGE_BYTES // 2


async def _pages(read: Callable[[Page], Awaitable[list[Any]]], place: Callable[[Any], tuple[Any, str]]) -> list[int]:
    """How many rows each page has, of all pages; no row is on two of them."""
    sizes: list[int] = []
    seen: list[tuple[Any, str]] = []
    page = Page(limit=MAX_LIMIT)
    while True:
        found = await read(page)
        rows, cursor = page.cut(found, place)
        sizes.append(len(rows))
        seen += [place(row) for row in rows]
        if cursor is None:
            assert len(set(seen)) == len(seen)
            return sizes
        assert isinstance(found, CutRows), "the bytes ended it, not the rows"
        page = Page(limit=MAX_LIMIT, after=place(rows[-1]))


async def _said(stores: Stores, *contents: str) -> str:
    session = await stores.session()
    for content in contents:
        await stores.post(session.id, content, concurrency=Concurrency.ENQUEUE)
    return session.id


@pytest.mark.parametrize("branch", [None, 0, 1])
@pytest.mark.parametrize("descending", [False, True])
async def test_messages(stores: Stores, branch: int | None, descending: bool) -> None:
    larger_than_a_page = "z" * (2 * PAGE_BYTES)
    contents = ["small", "x" * HALF, "x" * HALF, larger_than_a_page, "small", "small", "x" * HALF]
    session_id = await _said(stores, *contents)
    if branch == 1:
        await stores.sql(
            b"INSERT INTO session_branches (session_id, branch, parent_branch, fork_turn_number, fork_step, created_at)"
            b" VALUES (%(s)s, 1, 0, 1000, 0, now())",
            s=session_id,
        )
    wanted = MessageFilter(branch=branch, descending=descending)

    sizes = await _pages(
        lambda page: stores.turns.list_messages(session_id, wanted, page), lambda row: (row[0], str(branch))
    )

    # A page ends with the row at which it has its bytes.
    assert sizes == ([3, 1, 3] if not descending else [4, 2, 1])


async def test_what_calls_hold_counts_with_their_message(stores: Stores) -> None:
    posted = await stores.turn()
    for step in (1, 2, 3):
        proposal = call(arguments={"expression": "é" * (HALF // 4)})
        await stores.answer(posted.turn.id, step, calls=[proposal])
        await stores.tool_result(proposal.id, result={"text": "ü" * (HALF // 4)})

    wanted = MessageFilter(turn_id=posted.turn.id)
    sizes = await _pages(
        lambda page: stores.turns.list_messages(posted.turn.session_id, wanted, page), lambda row: (row[0], "")
    )

    # question, (answer, result), (answer, result) | (answer, result): each pair has a half, and a little more.
    assert sizes == [4, 3]


async def test_turns_with_their_calls(stores: Stores) -> None:
    session = await stores.session()
    for _ in range(4):
        posted = await stores.post(session.id)
        await stores.answer(posted.turn.id, calls=[call(arguments={"expression": "x" * HALF})])
        await stores.finish(posted.turn.id)
    lifecycle = PostgresLifecycle(stores.pool)

    sizes = await _pages(lambda page: lifecycle.list_turns(session.id, page), lambda row: (row[0], row[1].id))

    assert sizes == [2, 2]


async def test_approvals(stores: Stores) -> None:
    posted = await stores.turn()
    calls = [call("http_request", {"body": "x" * HALF}, needs_approval=True, ordinal=ordinal) for ordinal in range(4)]
    await stores.answer(posted.turn.id, calls=calls)
    for proposal in calls:
        await stores.request_approval(proposal, expires_in=timedelta(hours=1))
    wanted = ApprovalFilter(session_id=posted.turn.session_id)

    def place(record: Any) -> tuple[Any, str]:
        return record.requested_at, record.id

    of_session = await _pages(
        lambda page: stores.approvals.list_in_session(posted.turn.session_id, wanted, page), place
    )
    of_decider = await _pages(lambda page: stores.approvals.list_for(wanted, page, ANN, now=utc_now()), place)

    assert of_session == of_decider == [2, 2]


async def test_sessions_and_checkpoints(stores: Stores) -> None:
    owner = new_id()
    large = {"text": "x" * HALF}  # more than a request may bring
    sessions = [await stores.session(owner=owner, metadata=large) for _ in range(4)]
    for _ in range(4):
        await stores.post(sessions[0].id, user=owner, concurrency=Concurrency.ENQUEUE)
    checkpoints = PostgresCheckpoints(stores.pool)

    listed = await _pages(
        lambda page: stores.sessions.list_for(owner, SessionFilter(), page),
        lambda session: (session.created_at, session.id),
    )
    kept = await _pages(lambda page: checkpoints.list_for(sessions[0].id, page), lambda one: (one.created_at, one.id))

    assert listed == [2, 2]
    assert sum(kept) == 4


async def test_search(stores: Stores) -> None:
    word = f"w{new_id().replace('-', '')}"
    chars = 90_000  # of the 100,000 that are searched
    exact = [f"{word} " + "y " * (chars // 2) for _ in range(20)]
    loose = [f"{word}x " + "y " * (chars // 2) for _ in range(4)]
    for content in exact + loose:
        await _said(stores, content)
    search = PostgresSearch(stores.pool)

    sizes = await _pages(
        lambda page: search.search(OWNER, parse_query(f"{word}*"), SearchFilter(), page),
        lambda found: (found.rank, found.message_id),
    )

    assert sizes == [12, 12]


async def test_agents_with_the_one_that_ships_among_them(stores: Stores) -> None:
    agents = PostgresAgents(stores.pool)
    catalog = AgentCatalog(agents)
    # Thirty of the largest that a request may bring, on either side of it.
    ids = [f"{first}{number:02}" for first in ("0", f"{DEFAULT_AGENT.id}-") for number in range(30)]
    large = {"instructions": "é" * MAX_INSTRUCTIONS_CHARS, "created_at": utc_now(), "created_by": OWNER}
    for agent_id in ids:
        await agents.add(DEFAULT_AGENT.model_copy(update={"id": agent_id, **large}))
    sizes: list[int] = []
    seen: list[str] = []
    page = Page(limit=MAX_LIMIT)
    while True:
        found, cursor = await catalog.list_for(page)
        sizes.append(len(found))
        seen += [agent.id for agent in found]
        if cursor is None:
            break
        page = Page(limit=MAX_LIMIT, after=decode_cursor(cursor, int))

    assert sizes == [17, 18, 17, 9]
    assert seen == [*ids[:30], DEFAULT_AGENT.id, *ids[30:]]
