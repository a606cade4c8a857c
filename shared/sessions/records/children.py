"""The session and the turn that answer a call of an agent, as the stores keep them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.sessions.events import EventTarget
from shared.sessions.models import JsonObject, Message, TurnError, TurnStatus
from shared.sessions.records.plan import TurnPlan


@dataclass(frozen=True, slots=True)
class NewChild:
    """A session with its one turn, as input for the store."""

    tool_call_id: str
    """Of the call that it answers."""
    session_id: str
    turn_id: str
    message_id: str
    agent_id: str
    name: str
    plan: TurnPlan
    content: str
    """What the agent is asked."""
    tokens: int
    """Estimated tokens of `content`."""
    sources: frozenset[str]
    """The sources of what the model above had read when it wrote that."""
    now: datetime
    background_until: datetime | None = None
    """In the background: when it is cancelled. None: its call waits for it."""


@dataclass(frozen=True, slots=True)
class Child:
    """What became of it."""

    tool_call_id: str
    """Of the call that it answers."""
    session_id: str
    turn_id: str
    agent_id: str
    status: TurnStatus
    is_started: bool
    error: TurnError | None
    message: Message
    """What the agent was asked."""
    content: str
    """Of its last answer; empty: there is none."""
    output: Any
    sources: frozenset[str]
    """Of what the model of that answer had read."""
    target: EventTarget

    def named(self) -> JsonObject:
        """Where clients find it."""
        return {"agent_id": self.agent_id, "session_id": self.session_id, "turn_id": self.turn_id}
