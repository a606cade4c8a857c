"""Rows of the version before answers said how they ended: read, gone on with, forked and counted by today's code."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.pool import PostgresPool
from shared.adapters.sql.migrate import migrate, migrations
from shared.sessions.limits.budgets import TokensUsed, usage_day
from shared.sessions.models import MessageRole, MessageStatus, TurnStatus, Usage
from shared.sessions.records.pages import MessageFilter, Page
from shared.sessions.records.steps import StoredStep
from tests.integration.branches.branching import Conversation
from tests.integration.domain import OWNER, WRITER, Stores, utc_now
from tests.support.servers import fresh_database

pytestmark = pytest.mark.integration

NUMBER = 24
PLAN = json.dumps(
    {
        "schema_version": 1,
        "agent_id": "assistant",
        "agent_version": 1,
        "instructions": "Be brief.",
        "model": "scripted",
        "temperature": None,
        "max_output_tokens": None,
        "max_steps": 8,
        "tools": ["calculate"],
        "approval_mode": "policy",
        "approval_timeout_seconds": 3_600,
        "tool_timeout_seconds": 60,
        "max_context_tokens": 100_000,
    }
)
"""As the version before wrote it."""
OLD_ROWS = f"""
INSERT INTO sessions (id, owner_id, status, config, created_at, updated_at, event_seq_ceiling, last_message_number,
                      last_turn_number, used_tokens)
VALUES ('s', '{OWNER}', 'ACTIVE', '{{}}', now(), now(), 0, 4, 2, 120);
INSERT INTO session_participants (session_id, user_id, access) VALUES ('s', '{WRITER}', 'write');
INSERT INTO turns (id, session_id, number, message_id, requested_by, status, plan, steps, input_tokens, output_tokens,
                   created_at, started_at, ended_at, dispatched_at)
VALUES ('t1', 's', 1, 'm1', '{WRITER}', 'completed', '{PLAN}', 1, 100, 20, now(), now(), now(), now()),
       ('t2', 's', 2, 'm3', '{OWNER}', 'waiting_approval', '{PLAN}', 1, 10, 5, now(), now(), NULL, now());
INSERT INTO messages (id, session_id, turn_id, number, turn_number, step, ordinal, role, content, status, calls, tokens,
                      created_at)
VALUES ('m1', 's', 't1', 1, 1, 0, 0, 'user', 'a', 'completed', NULL, 5, now()),
       ('m2', 's', 't1', 2, 1, 1, 0, 'assistant', 'A', 'completed', NULL, 5, now()),
       ('m3', 's', 't2', 3, 2, 0, 0, 'user', 'b', 'completed', NULL, 5, now()),
       ('m4', 's', 't2', 4, 2, 1, 0, 'assistant', 'B?', 'completed',
        '[{{"id": "call_1", "name": "calculate", "arguments": {{"expression": "1"}}}}]', 5, now());
INSERT INTO tool_calls (id, session_id, turn_id, message_id, step, ordinal, provider_call_id, name, arguments,
                        needs_approval, status)
VALUES ('c1', 's', 't2', 'm4', 1, 0, 'call_1', 'calculate', '{{"expression": "1"}}', true, 'pending');
INSERT INTO token_usage (user_id, day, input_tokens, output_tokens)
VALUES ('{WRITER}', (now() AT TIME ZONE 'UTC')::date, 100, 20);
INSERT INTO agents (id, version, name, instructions, policies, defaults, vision, created_at, created_by)
VALUES ('clerk', 1, 'Clerk', 'File things.', '{{}}', '{{}}', false, now(), 'ada');
"""
OLD_AGENT = b"""
INSERT INTO agents (id, version, name, instructions, policies, defaults, vision, created_at, created_by)
VALUES ('clerk', 2, 'Clerk', 'File things well.', '{}', '{}', false, now(), 'ada')
"""


@pytest.fixture
async def old(postgres_server: dict[str, str]) -> AsyncIterator[Stores]:
    """Stores over a database that had rows before it was migrated."""
    with fresh_database(postgres_server["POSTGRES_URL"], template="template0") as url:
        migrate(url, [migration for migration in migrations() if migration.number < NUMBER])
        with psycopg.connect(url) as connection:
            connection.execute(OLD_ROWS.encode())
        assert migrate(url)[0].startswith(f"00{NUMBER}_")
        pool = PostgresPool(url, size=2)
        yield Stores.over(pool)
        await pool.aclose()


async def test_old_messages_say_who_wrote_them_and_nothing_that_nobody_knows(old: Stores) -> None:
    found = [message for _, message in await old.turns.list_messages("s", MessageFilter(), Page())]

    assert [(message.content, message.author) for message in found] == [
        ("a", WRITER),
        ("A", None),
        ("b", OWNER),
        ("B?", None),
    ]
    for message in found:
        assert (message.finish_reason, message.reasoning, message.output, message.left_out) == (None,) * 4
        assert message.status is MessageStatus.COMPLETED


async def test_an_old_turn_used_what_it_used_and_its_cost_is_not_known(old: Stores) -> None:
    turn = await old.turns.get_turn("s", "t1")

    assert (turn.usage, turn.finish_reason) == (Usage(input_tokens=100, output_tokens=20), None)
    assert turn.usage.cost_usd is None
    record = await old.sessions.get("s", OWNER)
    assert (record.used_tokens, record.used_cost_usd) == (120, Decimal(0))


async def test_a_turn_that_waited_while_the_app_was_replaced_goes_on_and_counts_once(old: Stores) -> None:
    stored = await old.begin("t2", 1)
    assert isinstance(stored, StoredStep)
    assert (stored.finish_reason, stored.reasoning, [item.id for item in stored.calls]) == (None, None, ["c1"])
    assert await old.tool_result("c1", message_id="m5")

    start = await old.started("t2", 2)
    await old.answer("t2", 2, content="B")
    for _ in range(2):
        await old.finish("t2")

    # 120 of the first turn, which the other user ran; 15 of the step before, which nobody has counted yet.
    assert start.used == TokensUsed(turn=15, session=135, user_day=15)
    assert start.plan.compact_at is None
    # That of somebody else is told by its turn, since old messages have no author.
    assert {message.content: message.by_other for message in start.context if message.role == MessageRole.USER} == {
        "a": True,
        "b": False,
    }
    assert (await old.sessions.get("s", OWNER)).used_tokens == 120 + 15 + 15
    *_, today = await old.sessions.get_for_posting("s", OWNER, day=usage_day(utc_now()))
    assert today.tokens == 30
    turn = await old.turns.get_turn("s", "t2")
    assert (turn.status, turn.usage.input_tokens + turn.usage.output_tokens) == (TurnStatus.COMPLETED, 30)


async def test_a_fork_of_old_messages_keeps_their_authors_for_good(old: Stores) -> None:
    fork = await Conversation(old, "s").fork()

    rows = await old.rows(b"SELECT content, author FROM messages WHERE session_id = %(s)s ORDER BY number", s=fork.id)

    # The turn that is open there is no part of the copy.
    assert [tuple(row.values()) for row in rows] == [("a", WRITER), ("A", None)]


@pytest.mark.parametrize("by", ["before", "meanwhile"])
async def test_an_agent_of_older_code_summarises_as_every_agent_does_unless_it_says_otherwise(
    old: Stores, by: str
) -> None:
    if by == "meanwhile":  # older code that is still live
        await old.sql(OLD_AGENT)

    agent = await PostgresAgents(old.pool).newest("clerk")

    assert agent is not None
    assert agent.version == (1 if by == "before" else 2)
    shown: dict[str, Any] = agent.model_dump()
    assert (shown["model_api"], shown["model_context_tokens"], shown["compact_at"]) == (None, None, 0.8)
