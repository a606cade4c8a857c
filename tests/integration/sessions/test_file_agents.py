"""Agents that are files of the app: when they become versions, over a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, AgentSourceKind, NewAgent
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.agents.file_versions import AgentFolder, FileAgents
from shared.sessions.models import NewSession
from shared.sessions.posting.planner import TurnPlanner
from shared.sessions.service import SessionService
from tests.integration.domain import Stores

pytestmark = pytest.mark.integration

ADMIN = Principal("ada", frozenset({Role.USER, Role.ADMIN}))
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


class App:
    """A folder of agents; each `start` is a new process of the app."""

    def __init__(self, path: Path, stores: Stores) -> None:
        self.path, self.stores = path, stores
        self.agent_id = f"support-{new_id()}"
        path.mkdir()

    def write(self, instructions: str) -> None:
        (self.path / f"{self.agent_id}.md").write_text(f"---\nname: Support\n---\n{instructions}\n")

    def process(self, *, packaged_at: datetime | None = None) -> AgentCatalog:
        rows = PostgresAgents(self.stores.pool)
        return AgentCatalog(rows, FileAgents(AgentFolder(self.path, packaged_at), rows))

    async def start(self, *, packaged_at: datetime | None = None) -> Agent:
        """What a new process has as the newest version."""
        return await self.process(packaged_at=packaged_at).get(self.agent_id)


@pytest.fixture
def app(tmp_path: Path, stores: Stores) -> App:
    return App(tmp_path / "agents", stores)


def put(instructions: str) -> NewAgent:
    return NewAgent(name="Support", instructions=instructions)


async def test_a_file_is_an_agent_and_says_where_it_comes_from(app: App) -> None:
    app.write("Help.")

    agent = await app.start(packaged_at=NOON)

    assert (agent.version, agent.instructions, agent.created_by) == (1, "Help.", None)
    assert agent.source.kind is AgentSourceKind.FILE
    assert (agent.source.path, agent.source.packaged_at) == (f"agents/{app.agent_id}.md", NOON)
    assert len(agent.source.sha256 or "") == 64
    assert await app.process().get(app.agent_id) == agent


async def test_a_restart_adds_nothing_and_a_changed_file_adds_a_version(app: App) -> None:
    app.write("Help.")
    first = await app.start()

    assert await app.start() == first
    app.write("Help well.")
    second = await app.start()

    assert (second.version, second.instructions) == (2, "Help well.")
    assert await app.process().get(app.agent_id, 1) == first, "a version never changes"


async def test_of_many_processes_that_start_at_once_one_makes_the_version(app: App) -> None:
    app.write("Help.")
    versions = {agent.version for agent in await asyncio.gather(*(app.start() for _ in range(6)))}
    app.write("Help well.")
    again = {agent.version for agent in await asyncio.gather(*(app.start() for _ in range(6)))}

    assert (versions, again) == ({1}, {2})


async def test_what_an_admin_stored_stays_until_the_file_changes(app: App) -> None:
    app.write("Help.")
    stored, _ = await app.process().put(app.agent_id, put("By Ada."), ADMIN, if_match=None)
    assert (stored.version, stored.source.kind) == (2, AgentSourceKind.API)

    assert await app.start() == stored, "a restart undoes nobody's work"
    app.write("Help well.")
    third = await app.start()

    assert (third.version, third.instructions, third.source.kind) == (3, "Help well.", AgentSourceKind.FILE)


async def test_the_file_of_an_agent_that_a_request_made_becomes_its_next_version(app: App) -> None:
    await app.process().put(app.agent_id, put("By Ada."), ADMIN, if_match=None)
    app.write("Help.")

    assert (await app.start()).version == 2


async def test_two_deployments_that_start_in_turns_do_not_undo_each_other(app: App) -> None:
    """While a deployment rolls: old instances are replaced, scaled out and restarted beside new ones."""
    old, new = NOON, NOON + timedelta(minutes=5)
    for _ in range(3):
        app.write("Old.")
        await app.start(packaged_at=old)
        app.write("New.")
        last = await app.start(packaged_at=new)

    assert (last.version, last.instructions) == (2, "New.")
    # Going back is a package of the old file, which is the newest.
    app.write("Old.")
    back = await app.start(packaged_at=new + timedelta(minutes=5))
    assert (back.version, back.instructions) == (3, "Old.")


async def test_a_file_of_the_agent_that_ships_is_its_second_version(stores: Stores, tmp_path: Path) -> None:
    app = App(tmp_path / "agents", stores)
    app.agent_id = DEFAULT_AGENT.id
    app.write("Help.")

    agent = await app.start()

    assert (agent.id, agent.version) == ("assistant", 2)
    assert (await app.process().get("assistant", 1)).source.kind is AgentSourceKind.BUILT_IN


async def test_a_message_to_a_session_waits_for_the_agents_of_the_app(app: App, service: SessionService) -> None:
    """Posting reads the agent with its session, without the catalog."""
    session, _, _ = await service.create(NewSession(), ADMIN, idempotency_key=None)
    asked: list[str] = []

    async def ready() -> None:
        asked.append("agents")

    planner = TurnPlanner(app.stores.sessions, default_model="m", ready=ready)
    await planner.plan(session.id, ADMIN, None, now=NOON)

    assert asked == ["agents"]


async def test_a_broken_file_leaves_what_was_stored_and_is_told(app: App) -> None:
    app.write("Help.")
    first = await app.start()
    (app.path / f"{app.agent_id}.md").write_text("---\nmodle: x\n---\nHelp well.\n")
    process = app.process()

    assert await process.get(app.agent_id) == first
    assert [str(each) for each in process.files.problems] == [
        f"agents/{app.agent_id}.md:2: modle: there is no such setting"
    ]


async def test_a_database_that_is_away_is_asked_again_by_the_next_caller(app: App) -> None:
    app.write("Help.")

    class Away(PostgresAgents):
        tries = 0

        async def last_from_files(self, agent_ids):  # type: ignore[no-untyped-def]
            self.tries += 1
            if self.tries == 1:
                raise ConnectionError
            return await super().last_from_files(agent_ids)

    rows = Away(app.stores.pool)
    catalog = AgentCatalog(rows, FileAgents(AgentFolder(app.path), rows))
    with pytest.raises(ConnectionError):
        await catalog.get(app.agent_id)

    assert (await catalog.get(app.agent_id)).version == 1
    await catalog.get(app.agent_id)
    assert rows.tries == 3, "once a process is ready it asks no more"


async def test_an_app_without_files_asks_the_database_nothing(app: App) -> None:
    class Untouched(PostgresAgents):
        async def last_from_files(self, agent_ids):  # type: ignore[no-untyped-def]
            raise AssertionError

    await FileAgents(AgentFolder(app.path), Untouched(app.stores.pool)).ready()


async def test_a_file_may_name_agents_of_other_files_and_no_others(app: App) -> None:
    helper = f"z-helper-{new_id()}"
    (app.path / f"{helper}.md").write_text("---\nname: Helper\n---\nHelp.\n")
    (app.path / "asks-nobody.md").write_text("---\nagents: [nobody]\n---\nAsk.\n")
    (app.path / f"{app.agent_id}.md").write_text(f"---\nagents: [{helper}]\n---\nAsk.\n")
    catalog = app.process()

    assert (await catalog.get(app.agent_id)).agents == [helper]
    assert [str(one) for one in catalog.files.problems] == [
        "agents/asks-nobody.md: The agent is not valid: there is no agent nobody."
    ]
