"""AgentCatalog: lists agents, the built-in one included, and stores new versions of them.

Invariant: concurrent writes lose nothing: each creates a version of its own, or fails with a conflict.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import Conflict, ErrorCode, InvalidInput, NotFound
from shared.principal import Principal, Role
from shared.sessions.agents.agent import BY_API, DEFAULT_AGENT, Agent, AgentSource, NewAgent, faults_of
from shared.sessions.agents.file_versions import FileAgents, new_version, no_servers
from shared.sessions.agents.graph import Edges, agent_faults, handover_faults
from shared.sessions.mcp.pinning import AcceptedDefinitions, McpServerReport, Pinning
from shared.sessions.mcp.pins import McpPin
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.pages import CutRows, Page

log = logging.getLogger(__name__)

DRAFT = 0
"""The version of an agent that is tried before it is stored."""

_TRIES = 10
"""Lost races after which a write without `If-Match` fails with a conflict."""


class AgentRepository(Protocol):
    async def newest(self, agent_id: str) -> Agent | None: ...

    async def version(self, agent_id: str, version: int) -> Agent | None: ...

    async def list_newest(self, *, after: str, page: Page) -> list[Agent]:
        """The newest version of each agent whose id is above `after`, by id; one more than `page.limit` when there are
        more, or CutRows."""
        ...

    async def add(self, agent: Agent) -> bool:
        """False when that version exists already."""
        ...

    async def edges(self) -> Edges:
        """Of every agent that is stored: those that its newest version may call."""
        ...

    async def last_from_files(self, agent_ids: Sequence[str]) -> Mapping[str, AgentSource]:
        """Of each agent that was ever made from a file: the source of its newest such version, by id."""
        ...


class AgentCatalog:
    """All signed-in users may read agents; only admins may change them."""

    def __init__(
        self, agents: AgentRepository, files: FileAgents | None = None, pinning: Pinning | None = None
    ) -> None:
        """files: agents that come with the app; None: there are none. pinning: None: agents with MCP servers are
        refused."""
        self._agents = agents
        self.files = files or FileAgents(None, agents)
        self._pinning = pinning

    async def check(self, agent_id: str | None) -> None:
        """Raises InvalidInput(VALIDATION_ERROR) for an unknown agent."""
        await self.files.ready()
        if agent_id not in {None, DEFAULT_AGENT.id} and await self._agents.newest(agent_id or "") is None:
            raise unknown_agent(agent_id)

    async def get(self, agent_id: str, version: int | None = None) -> Agent:
        """The newest version, or the given one. Raises NotFound."""
        await self.files.ready()
        if version is None:
            found = await self._agents.newest(agent_id)
        else:
            found = await self._agents.version(agent_id, version)
        if found is None and agent_id == DEFAULT_AGENT.id and version in {None, DEFAULT_AGENT.version}:
            return DEFAULT_AGENT
        if found is None:
            raise NotFound(ErrorCode.SESSION_NOT_FOUND, "No such agent, or no such version of it.")
        return found

    async def list_for(self, page: Page) -> tuple[list[Agent], str | None]:
        """Newest versions by id, and the next cursor."""
        await self.files.ready()
        after = page.after[1] if page.after is not None else ""
        rows = await self._agents.list_newest(after=after, page=page)
        is_cut = isinstance(rows, CutRows)
        found = {agent.id: agent for agent in rows}
        if DEFAULT_AGENT.id > after and not (is_cut and DEFAULT_AGENT.id > rows[-1].id):
            found.setdefault(DEFAULT_AGENT.id, DEFAULT_AGENT)
        ordered = [found[agent_id] for agent_id in sorted(found)]
        return page.cut(CutRows(ordered) if is_cut else ordered, lambda agent: (0, agent.id))

    async def put(
        self, agent_id: str, body: NewAgent, principal: Principal, *, if_match: str | None
    ) -> tuple[Agent, bool]:
        """Add a version, unless the newest has the same content; the flag is True for a new agent.

        Tools of MCP servers that the newest version pins keep their pins; the definitions of others are read now.

        Raises NotFound (not an admin), Conflict (`if_match` names another version), InvalidInput, and ToolFailed when
        an MCP server could not be read.
        """
        _check_admin(principal)
        await self.files.ready()
        check_agent(body)
        if body.agents or body.hands_over_to:
            check_calls(agent_id, body, await self._agents.edges())
        pins: list[McpPin] = []
        for _ in range(_TRIES):
            newest = await self._newest(agent_id)
            _check_match(newest, if_match)
            pins = await self._pins(body, [*(newest.mcp_pins if newest is not None else ()), *pins])
            if newest is not None and _content(newest) == body.model_dump() and newest.mcp_pins == pins:
                return newest, False
            agent = await self._added(agent_id, newest, body, pins, principal)
            if agent is not None:
                return agent, newest is None
        raise _busy()

    async def of_trial(self, agent_id: str, version: int | None, draft: NewAgent | None, principal: Principal) -> Agent:
        """The stored version to try, or what would be the next one; that has the version DRAFT and is not stored.

        Raises NotFound (not an admin, no such version), InvalidInput, and ToolFailed when an MCP server could not be
        read.
        """
        _check_admin(principal)
        if draft is None:
            return await self.get(agent_id, version)
        await self.files.ready()
        check_agent(draft)
        if draft.agents:
            check_calls(agent_id, draft, await self._agents.edges())
        newest = await self._newest(agent_id)
        pins = await self._pins(draft, list(newest.mcp_pins) if newest is not None else [])
        who, now = principal.user_id, datetime.now(UTC)
        agent = new_version(agent_id, draft, newest, BY_API, pins, created_by=who, now=now)
        return agent.model_copy(update={"version": DRAFT})

    async def pinned(self, agent_id: str, version: int) -> Agent | None:
        """A version that a turn pins; None when it is gone."""
        found = await self._agents.version(agent_id, version)
        return (
            DEFAULT_AGENT
            if found is None and (agent_id, version) == (DEFAULT_AGENT.id, DEFAULT_AGENT.version)
            else found
        )

    async def newest(self, agent_id: str) -> Agent | None:
        """None: there is no such agent."""
        return await self._newest(agent_id)

    async def compare_mcp(self, agent_id: str, principal: Principal) -> list[McpServerReport]:
        """What the MCP servers of the newest version say now, beside its pins. Raises NotFound."""
        _check_admin(principal)
        agent = await self.get(agent_id)
        if self._pinning is None or not agent.mcp_servers:
            return []
        return await self._pinning.compared(agent.mcp_servers, agent.mcp_pins)

    async def accept_mcp(
        self, agent_id: str, body: AcceptedDefinitions, principal: Principal, *, if_match: str | None
    ) -> Agent:
        """A version with the definitions that an admin has seen and accepts.

        Raises NotFound, Conflict (a definition or the agent has changed since), InvalidInput, ToolFailed.
        """
        _check_admin(principal)
        for _ in range(_TRIES):
            newest = await self.get(agent_id)
            _check_match(newest, if_match)
            if self._pinning is None:
                raise no_servers()
            pins = await self._pinning.accepted(newest.mcp_servers, newest.mcp_pins, body.digests)
            if pins == newest.mcp_pins:
                return newest
            body_now = NewAgent.model_validate({name: getattr(newest, name) for name in NewAgent.model_fields})
            agent = await self._added(agent_id, newest, body_now, pins, principal)
            if agent is not None:
                names = ", ".join(sorted(body.digests))
                log.info("agent %s version %d: %s accepts %s", agent_id, agent.version, principal.user_id, names)
                return agent
        raise _busy()

    async def _newest(self, agent_id: str) -> Agent | None:
        newest = await self._agents.newest(agent_id)
        return DEFAULT_AGENT if newest is None and agent_id == DEFAULT_AGENT.id else newest

    async def _pins(self, body: NewAgent, kept: list[McpPin]) -> list[McpPin]:
        if not body.mcp_servers:
            return []
        if self._pinning is None:
            raise no_servers()
        return await self._pinning.pins_for(body.mcp_servers, kept)

    async def _added(
        self,
        agent_id: str,
        newest: Agent | None,
        body: NewAgent,
        pins: list[McpPin],
        principal: Principal,
    ) -> Agent | None:
        """The new version; None when somebody else was faster."""
        who, now = principal.user_id, datetime.now(UTC)
        agent = new_version(agent_id, body, newest, BY_API, pins, created_by=who, now=now)
        if not await self._agents.add(agent):
            return None
        if agent.containment is Containment.OFF:
            log.warning("agent %s version %d, by %s, is free of the rule of two", agent_id, agent.version, who)
        return agent


def _check_admin(principal: Principal) -> None:
    if Role.ADMIN not in principal.roles:
        raise NotFound(ErrorCode.SESSION_NOT_FOUND, "Only an admin can change agents.")


def _busy() -> Conflict:
    return Conflict(ErrorCode.CONFLICT, "The agent is being changed by others at the same time; read it again.")


def unknown_agent(agent_id: str | None) -> InvalidInput:
    """The error for an unknown agent."""
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        f"There is no agent {agent_id!r}.",
        errors=[{"field": "agent_id", "message": "unknown agent"}],
    )


def agent_etag(agent: Agent) -> str:
    """The validator of an agent: versions never change. Which of its tools are missing is the instance's."""
    return f'"{agent.id}-{agent.version}"'


def _check_match(newest: Agent | None, if_match: str | None) -> None:
    if if_match is None:
        return
    known = [tag.strip() for tag in if_match.split(",")]
    if newest is None or ("*" not in known and agent_etag(newest) not in known):
        raise Conflict(ErrorCode.CONFLICT, "The agent has changed since you read it.")


def check_agent(body: NewAgent) -> None:
    """Raises InvalidInput (VALIDATION_ERROR) for an agent that no version can be made of."""
    faults = faults_of(body)
    if faults:
        errors = [{"field": ".".join(map(str, fault.place)), "message": fault.text} for fault in faults[:20]]
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "The agent is not valid.", errors=errors)


def check_calls(agent_id: str, body: NewAgent, edges: Edges) -> None:
    """Raises InvalidInput (VALIDATION_ERROR) for a list of agents that no version can have."""
    known = {DEFAULT_AGENT.id: (), **edges}
    faults = [("agents", *fault) for fault in agent_faults(agent_id, body.agents, known)]
    faults += [("hands_over_to", *fault) for fault in handover_faults(agent_id, body.hands_over_to, known)]
    if faults:
        errors = [{"field": f"{field}.{index}", "message": text} for field, index, text in faults]
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, f"The agent is not valid: {faults[0][2]}.", errors=errors)


def _content(agent: Agent) -> dict[str, object]:
    """The content of a version; of its defaults only the fields that were set."""
    return agent.model_dump(include=set(NewAgent.model_fields))
