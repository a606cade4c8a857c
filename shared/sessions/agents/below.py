"""The agents that a turn may call and hand over to, in the versions that are the newest when it is posted.

Invariant: what is pinned ends: no agent is below itself, and there are no more of them than versions are let list.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from shared.sessions.agents.agent import Agent
from shared.sessions.agents.graph import MAX_BELOW, MAX_DEPTH
from shared.sessions.records.plan import PlannedAgent
from shared.sessions.tools.kinds.handovers import handover_name
from shared.sessions.tools.kinds.subagents import function_name

log = logging.getLogger(__name__)

type Newest = Callable[[str], Awaitable[Agent | None]]


class AgentPins:
    """Finds the agents below one."""

    def __init__(self, newest: Newest) -> None:
        self._newest = newest

    async def below(self, agent: Agent) -> dict[str, PlannedAgent]:
        """By the name of their function. One that is not there any more, or that two writers at once have put in a
        circle, is left out."""
        if not agent.agents:
            return {}
        return await self._below(agent, (agent.id,), {})

    async def after(self, agent: Agent) -> dict[str, PlannedAgent]:
        """Those to which it may hand over, by the name of their function. What is below them is pinned when they take
        over."""
        pinned: dict[str, PlannedAgent] = {}
        for agent_id in agent.hands_over_to:
            other = await self._newest(agent_id)
            if other is None:
                log.warning("agent %s cannot hand over to %s: there is no such agent any more", agent.id, agent_id)
                continue
            pinned[handover_name(agent_id)] = PlannedAgent(
                id=other.id, version=other.version, name=other.name, description=other.description
            )
        return pinned

    async def _below(
        self, agent: Agent, above: tuple[str, ...], found: dict[str, Agent | None]
    ) -> dict[str, PlannedAgent]:
        pinned: dict[str, PlannedAgent] = {}
        for agent_id in agent.agents:
            if agent_id in above or len(above) > MAX_DEPTH or (len(found) >= MAX_BELOW and agent_id not in found):
                log.warning("agent %s cannot call %s: it would be below itself, or too deep", above[-1], agent_id)
                continue
            if agent_id not in found:
                found[agent_id] = await self._newest(agent_id)
            other = found[agent_id]
            if other is None:
                log.warning("agent %s cannot call %s: there is no such agent any more", above[-1], agent_id)
                continue
            pinned[function_name(agent_id)] = PlannedAgent(
                id=other.id,
                version=other.version,
                name=other.name,
                description=other.description,
                agents=await self._below(other, (*above, agent_id), found),
                # What is asked itself waits for all that it asks: its answer is its last word.
                background=len(above) == 1 and agent_id in agent.background_agents,
            )
        return pinned
