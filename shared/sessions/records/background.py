"""Subagents in the background as the stores keep them: what was asked for, and the message that tells its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.sessions.models import Message, SubagentResult, Turn
from shared.sessions.records.plan import TurnPlan


@dataclass(frozen=True, slots=True)
class AskedFor:
    """The call of a subagent that has ended."""

    session_id: str
    turn_id: str
    tool_call_id: str
    requested_by: str
    """The user for whom the turn ran."""
    plan: TurnPlan
    """Of that turn, as it is now."""
    is_late: bool
    """The subagent was cancelled at its deadline."""


@dataclass(frozen=True, slots=True)
class NewResult:
    """The message that tells a result, and the turn that it begins where none runs that it may join."""

    message: Message
    turn: Turn
    plan: TurnPlan
    told: SubagentResult
    note: str
    """What models read of it."""
    tokens: int
    """Of content and note, estimated."""
    sources: tuple[str, ...]
    """Of what the model of the subagent had read."""


type WriteResult = Callable[[AskedFor], NewResult]
"""Without input or output: it runs in a transaction."""
