"""What a model reads in place of an agent's answer. Pure functions."""

from __future__ import annotations

from shared.sessions.models import TurnStatus
from shared.sessions.records.children import Child


def why_no_answer(child: Child | None) -> str:
    """Of a call whose agent has not answered. None: its session is gone."""
    if child is None:
        return "The session of the agent was deleted before it answered."
    if child.status is TurnStatus.CANCELLED:
        return f"The turn of the agent {child.agent_id} was cancelled."
    if child.error is None:
        return f"The agent {child.agent_id} did not answer."
    return f"The agent {child.agent_id} failed: {child.error.detail}"
