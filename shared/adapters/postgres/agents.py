"""Agents in PostgreSQL: versions that are added and never changed. Implements `AgentRepository`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.adapters.postgres.listing import bounded, rows_of_page
from shared.adapters.postgres.pool import PostgresPool, json
from shared.adapters.postgres.queries import load_queries
from shared.adapters.postgres.rows import agent_from_row, stored_agent
from shared.sessions.agents.agent import Agent, AgentSource
from shared.sessions.records.pages import Page

_Q = load_queries("agents")
_LIST = bounded(_Q["newest_agents"])
_JSON = ("policies", "defaults", "approval_floor", "mcp_servers", "mcp_pins", "source")


class PostgresAgents:
    """`AgentRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def newest(self, agent_id: str) -> Agent | None:
        row = await self._pool.fetch_one(_Q["newest_agent"], {"agent_id": agent_id})
        return None if row is None else agent_from_row(row)

    async def version(self, agent_id: str, version: int) -> Agent | None:
        row = await self._pool.fetch_one(_Q["agent_version"], {"agent_id": agent_id, "version": version})
        return None if row is None else agent_from_row(row)

    async def list_newest(self, *, after: str, page: Page) -> list[Agent]:
        rows = await self._pool.fetch_all(_LIST, {"after": after, "limit": page.limit + 1})
        return rows_of_page(rows, page, agent_from_row)

    async def add(self, agent: Agent) -> bool:
        values = stored_agent(agent)
        values |= {name: json(values[name]) for name in _JSON} | {"created_at": agent.created_at}
        row = await self._pool.fetch_one(_Q["insert_agent"], values)
        return row is not None

    async def edges(self) -> Mapping[str, Sequence[str]]:
        return {row["id"]: row["agents"] for row in await self._pool.fetch_all(_Q["edges"], {})}

    async def last_from_files(self, agent_ids: Sequence[str]) -> Mapping[str, AgentSource]:
        rows = await self._pool.fetch_all(_Q["last_from_files"], {"agent_ids": list(agent_ids)})
        return {row["id"]: AgentSource.of_store(row["source"]) for row in rows}
