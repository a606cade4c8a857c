"""The tools of a turn: those of the registry that its plan names, those of MCP servers and the agents that it pins, and
those that its message declared.

Invariant: a name that a plan defines means that definition, whatever the registry holds.
"""

from __future__ import annotations

from shared.sessions.records.plan import TurnPlan
from shared.sessions.tools.base import Tool
from shared.sessions.tools.kinds.client import client_tool
from shared.sessions.tools.kinds.handovers import handover_tool
from shared.sessions.tools.kinds.pinned import pinned_tool
from shared.sessions.tools.kinds.subagents import subagent_tool
from shared.sessions.tools.registry import find_tool


def tool_of(name: str, plan: TurnPlan) -> Tool | None:
    """The tool that the turn means by that name, or None."""
    declared = plan.client_tools.get(name)
    if declared is not None:
        return client_tool(declared)
    successor = plan.handovers.get(name)
    if successor is not None:
        return handover_tool(name, successor)
    agent = plan.agents.get(name)
    if agent is not None:
        return subagent_tool(name, agent)
    pinned = plan.mcp.get(name)
    return find_tool(name) if pinned is None else pinned_tool(pinned)


def tools_of(plan: TurnPlan) -> list[Tool]:
    """All that its model is offered, in the plan's order."""
    return [tool for name in plan.tools if (tool := tool_of(name, plan)) is not None]
