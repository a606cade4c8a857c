"""AgentCatalog: lists agents, the built-in one included, and stores new versions of them.

Invariant: concurrent writes lose nothing: each creates a version of its own, or fails with a conflict.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import Conflict, ErrorCode, InvalidInput, NotFound
from shared.principal import Principal, Role
from shared.sessions.agents.agent import DEFAULT_AGENT, Agent, NewAgent
from shared.sessions.records.approval_policy import Containment
from shared.sessions.records.pages import CutRows, Page
from shared.sessions.tools.registry import find_tool

log = logging.getLogger(__name__)

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


class AgentCatalog:
    """All signed-in users may read agents; only admins may change them."""

    def __init__(self, agents: AgentRepository) -> None:
        self._agents = agents

    async def check(self, agent_id: str | None) -> None:
        """Raises InvalidInput(VALIDATION_ERROR) for an unknown agent."""
        if agent_id not in {None, DEFAULT_AGENT.id} and await self._agents.newest(agent_id or "") is None:
            raise unknown_agent(agent_id)

    async def get(self, agent_id: str, version: int | None = None) -> Agent:
        """The newest version, or the given one. Raises NotFound."""
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

        Raises NotFound (not an admin), Conflict (`if_match` names another version), InvalidInput.
        """
        if Role.ADMIN not in principal.roles:
            raise NotFound(ErrorCode.SESSION_NOT_FOUND, "Only an admin can change agents.")
        _check(body)
        for _ in range(_TRIES):
            newest = await self._agents.newest(agent_id)
            if newest is None and agent_id == DEFAULT_AGENT.id:
                newest = DEFAULT_AGENT
            _check_match(newest, if_match)
            if newest is not None and _content(newest) == body.model_dump():
                return newest, False
            agent = Agent.model_validate(
                dict(body)  # not `model_dump`, which would lose which fields were set
                | {
                    "id": agent_id,
                    "version": 1 if newest is None else newest.version + 1,
                    "created_at": datetime.now(UTC),
                    "created_by": principal.user_id,
                }
            )
            if await self._agents.add(agent):
                if agent.containment is Containment.OFF:
                    who = principal.user_id
                    log.warning("agent %s version %d, by %s, is free of the rule of two", agent_id, agent.version, who)
                return agent, newest is None
        raise Conflict(ErrorCode.CONFLICT, "The agent is being changed by others at the same time; read it again.")


def unknown_agent(agent_id: str | None) -> InvalidInput:
    """The error for an unknown agent."""
    return InvalidInput(
        ErrorCode.VALIDATION_ERROR,
        f"There is no agent {agent_id!r}.",
        errors=[{"field": "agent_id", "message": "unknown agent"}],
    )


def agent_etag(agent: Agent) -> str:
    """The strong validator of an agent's representation: versions never change."""
    return f'"{agent.id}-{agent.version}"'


def _check_match(newest: Agent | None, if_match: str | None) -> None:
    if if_match is None:
        return
    known = [tag.strip() for tag in if_match.split(",")]
    if newest is None or ("*" not in known and agent_etag(newest) not in known):
        raise Conflict(ErrorCode.CONFLICT, "The agent has changed since you read it.")


def _check(body: NewAgent) -> None:
    errors = [
        {"field": f"tools.{index}", "message": "unknown tool"}
        for index, name in enumerate(body.tools or ())
        if find_tool(name) is None
    ]
    errors += [
        {"field": f"{field}.{name}", "message": "unknown tool"}
        for field, names in (("policies", body.policies), ("approval_floor", body.approval_floor))
        for name in names
        if find_tool(name) is None
    ]
    if body.defaults.expires_after_seconds is not None:
        # A session's lifetime counts from its creation; a later agent version must not change it.
        errors.append({"field": "defaults.expires_after_seconds", "message": "set it on a session or a template"})
    if errors:
        raise InvalidInput(ErrorCode.VALIDATION_ERROR, "The agent is not valid.", errors=errors[:20])


def _content(agent: Agent) -> dict[str, object]:
    """The content of a version; of its defaults only the fields that were set."""
    return agent.model_dump(include=set(NewAgent.model_fields))
