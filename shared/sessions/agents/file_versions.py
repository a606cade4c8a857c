"""Makes versions of the agents that are files of the app (`files.py`), once per process, when agents are first needed.

A file becomes a version when its bytes are not those of the agent's last version from a file. So a restart changes
nothing, and what an admin has stored since stays until the file itself changes.

While a deployment rolls, old instances start beside new ones. So that they do not undo each other, a package takes no
file's place that came with a package built later. To go back, build a package of the old files: it is the newest.

Invariant: of however many instances that start at once, one makes the version (docs/decisions/0038).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import ErrorCode, InvalidInput, ToolFailed
from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, AgentSource, AgentSourceKind, NewAgent
from shared.sessions.tools import registry as tools
from shared.sessions.tools.modules.problems import Problem
from shared.work_pool import in_own_thread

if TYPE_CHECKING:
    from shared.sessions.agents.catalog import AgentRepository
    from shared.sessions.agents.files import AgentFile
    from shared.sessions.mcp.pinning import Pinning
    from shared.sessions.mcp.pins import McpPin

log = logging.getLogger("parley.agents")


@dataclass(frozen=True, slots=True)
class AgentFolder:
    """The folder `agents/` of this app. packaged_at: when the package that it came in was built; None: a checkout."""

    path: Path
    packaged_at: datetime | None = None


class FileAgents:
    """The agents of one folder, in one process."""

    def __init__(self, folder: AgentFolder | None, agents: AgentRepository, pinning: Pinning | None = None) -> None:
        """pinning: None: files with MCP servers are refused."""
        self._folder = folder
        self._agents = agents
        self._pinning = pinning
        self._problems: tuple[Problem, ...] = ()
        self._is_done = False
        self._doing = asyncio.Lock()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the files, those of tools included."""
        return (*tools.problems(), *self._problems)

    async def ready(self) -> None:
        """Wait until this process has its tools, and every file is a version. Raises Transient (DATABASE_ERROR)."""
        if self._is_done:
            return
        async with self._doing:
            if self._is_done:
                return
            await tools.ready()
            if self._folder is not None:
                await self._make(self._folder)
            self._is_done = True

    async def _make(self, folder: AgentFolder) -> None:
        from shared.sessions.agents.catalog import check_calls
        from shared.sessions.agents.files import agent_files, read_agents

        if not agent_files(folder.path):
            return
        files, problems = await in_own_thread("read agents", lambda: read_agents(folder.path))
        last = await self._agents.last_from_files([file.id for file in files])
        sources = {
            file.id: AgentSource(
                kind=AgentSourceKind.FILE, path=file.path, sha256=file.sha256, packaged_at=folder.packaged_at
            )
            for file in files
        }
        coming = [file for file in files if replaces(sources[file.id], last.get(file.id))]
        # A file may name the agent of another one that comes after it.
        edges = {file.id: file.body.agents for file in coming}
        for file in coming:
            try:
                if file.body.agents or file.body.hands_over_to:
                    check_calls(file.id, file.body, {**await self._agents.edges(), **edges})
                await self._add(file, sources[file.id])
            except (InvalidInput, ToolFailed) as exc:
                # Of the agents it calls, or of its MCP servers, which are asked for their tools. The next start asks
                # again.
                problems = [*problems, Problem(file.path, None, exc.safe_message)]
        self._problems = tuple(problems)
        for each in problems:
            log.error("%s", each)

    async def _add(self, file: AgentFile, source: AgentSource) -> None:
        while True:
            # In this order: what another process adds after the first read takes the number that we would take.
            newest = await self._agents.newest(file.id)
            last = await self._agents.last_from_files([file.id])
            if not replaces(source, last.get(file.id)):
                return
            if newest is None and file.id == DEFAULT_AGENT.id:
                newest = DEFAULT_AGENT
            pins = await self._pins(file.body, newest)
            agent = new_version(file.id, file.body, newest, source, pins, created_by=None, now=datetime.now(UTC))
            if await self._agents.add(agent):
                log.info("agent %s version %d comes from %s", agent.id, agent.version, file.path)
                return

    async def _pins(self, body: NewAgent, newest: Agent | None) -> list[McpPin]:
        """Raises InvalidInput, and ToolFailed when a server could not be read."""
        if not body.mcp_servers:
            return []
        if self._pinning is None:
            raise no_servers()
        return await self._pinning.pins_for(body.mcp_servers, [] if newest is None else newest.mcp_pins)


def replaces(file: AgentSource, last: AgentSource | None) -> bool:
    """Whether a file becomes a version. last: of the agent's newest version from a file."""
    if last is None:
        return True
    if file.sha256 == last.sha256:
        return False
    if file.packaged_at is None or last.packaged_at is None:
        return True
    return file.packaged_at > last.packaged_at


def new_version(
    agent_id: str,
    body: NewAgent,
    newest: Agent | None,
    source: AgentSource,
    pins: list[McpPin],
    *,
    created_by: str | None,
    now: datetime,
) -> Agent:
    """The version that follows `newest`. now: aware UTC."""
    return Agent.model_validate(
        dict(body)  # not `model_dump`, which would lose which fields were set
        | {
            "id": agent_id,
            "version": 1 if newest is None else newest.version + 1,
            "created_at": now,
            "created_by": created_by,
            "source": source,
            "mcp_pins": pins,
        }
    )


def no_servers() -> InvalidInput:
    """The error where there is nothing that could read MCP servers."""
    message = "MCP servers are not available here"
    errors = [{"field": "mcp_servers", "message": message}]
    return InvalidInput(ErrorCode.VALIDATION_ERROR, f"{message}.", errors=errors)
