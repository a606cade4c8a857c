"""Code that is live while a newer version migrates: its statements are prepared, and its tables get new columns."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import sql
from pydantic import ValidationError

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.pool import json
from shared.errors import ErrorCode, Transient
from shared.sessions.agents.agent import DEFAULT_AGENT, effective_config
from shared.sessions.models import JsonObject, SessionConfig, SessionStatus
from tests.integration.domain import OWNER, Stores

pytestmark = pytest.mark.integration

AT_ONCE = 4
"""Callers side by side, so that several connections have prepared their statements."""


async def _turn(stores: Stores) -> tuple[str, str]:
    """A whole turn; its session and itself."""
    posted = await stores.turn()
    await stores.answer(posted.turn.id)
    await stores.finish(posted.turn.id)
    return posted.message.session_id, posted.turn.id


async def _prepared(stores: Stores) -> tuple[str, str]:
    """A statement is prepared when a connection sees it a second time."""
    for _ in range(4):
        made = await asyncio.gather(*(_turn(stores) for _ in range(AT_ONCE)))
        await asyncio.gather(*(stores.sessions.get(session_id, OWNER) for session_id, _ in made))
        await asyncio.gather(*(stores.turns.get_turn(*one) for one in made))
        await asyncio.gather(*(stores.move(session_id, SessionStatus.ACTIVE) for session_id, _ in made))
    return made[0]


async def _migrate(stores: Stores, column: str) -> None:
    tables = await stores.rows(b"SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    async with stores.pool.transaction() as connection:
        for table in tables:
            await connection.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN {} text NOT NULL DEFAULT 'x'").format(
                    sql.Identifier(table["name"]), sql.Identifier(column)
                )
            )


async def test_a_single_statement_is_run_again_and_nobody_notices(stores: Stores) -> None:
    session_id, turn_id = await _prepared(stores)

    await _migrate(stores, "of_a_newer_version")

    found = await asyncio.gather(*(stores.turns.get_turn(session_id, turn_id) for _ in range(AT_ONCE)))
    assert [turn.id for turn in found] == [turn_id] * AT_ONCE
    assert (await stores.sessions.get(session_id, OWNER)).session.id == session_id


async def test_several_statements_are_refused_once_as_what_passes(stores: Stores) -> None:
    session_id, _ = await _prepared(stores)

    await _migrate(stores, "of_the_newest_version")

    with pytest.raises(Transient) as refused:
        await stores.move(session_id, SessionStatus.SUSPENDED)
    assert refused.value.code is ErrorCode.DATABASE_ERROR
    assert (await stores.sessions.get(session_id, OWNER)).session.status is SessionStatus.ACTIVE
    for status in (SessionStatus.SUSPENDED, SessionStatus.ACTIVE):
        await asyncio.gather(*(stores.move(session_id, status) for _ in range(AT_ONCE)))
    await asyncio.gather(*(_turn(stores) for _ in range(AT_ONCE)))


async def test_what_newer_code_stored_in_a_config_is_left_by_this_code(stores: Stores) -> None:
    """And a schema that was taken under other rules is not refused where it is only read."""
    agents = PostgresAgents(stores.pool)
    session = await stores.session()
    agent = DEFAULT_AGENT.model_copy(update={"id": "newer", "created_at": session.created_at, "created_by": OWNER})
    assert await agents.add(agent)
    newer: JsonObject = {"max_steps": 3, "of_a_newer_version": {"x": 1}, "output_schema": {"$ref": "#/nowhere"}}
    await stores.sql(b"UPDATE sessions SET config = %(config)s", config=json(newer))
    await stores.sql(b"UPDATE agents SET defaults = %(config)s WHERE id = 'newer'", config=json(newer))

    configs = [(await stores.sessions.get(session.id, OWNER)).session.config]
    found = await agents.newest("newer")
    assert found is not None
    configs += [found.defaults, effective_config(found, SessionConfig())]

    for config in configs:
        assert config.model_dump(exclude_unset=True) == {"max_steps": 3, "output_schema": newer["output_schema"]}
    with pytest.raises(ValidationError):
        SessionConfig.model_validate(newer)
