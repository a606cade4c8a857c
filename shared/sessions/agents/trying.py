"""Reading an agent without a deployment around it: for the tests of those who write agents."""

from __future__ import annotations

from pathlib import Path

from shared.sessions.agents.agent import NewAgent
from shared.sessions.agents.files import read_agents
from shared.sessions.tools import registry


def read_agent(file: Path) -> NewAgent:
    """An agent as the app reads it from its file. Raises AssertionError with what is wrong with the file."""
    registry.take_from(file.parent)
    try:
        agents, problems = read_agents(file.parent)
    finally:
        registry.take_from(None)
    told = [str(problem) for problem in problems if Path(problem.path).name == file.name]
    assert not told, "\n".join(told)
    (found,) = (agent.body for agent in agents if agent.id == file.stem)
    return found
