"""Turns between services and stores: posted, interrupted, open, finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from shared.sessions.events import EventTarget
from shared.sessions.models import (
    FinishReason,
    Message,
    Turn,
    TurnError,
    TurnStatus,
    Usage,
)
from shared.sessions.records.plan import TurnPlan


@dataclass(frozen=True, slots=True)
class ReadableTurn:
    """A turn as a reader of its session sees it. feed: key of the session's event log."""

    turn: Turn
    feed: str


@dataclass(frozen=True, slots=True)
class PostedMessage:
    """The result of posting a message."""

    message: Message
    turn: Turn
    target: EventTarget
    activated: bool = False
    dispatched: bool = False
    """The turn is the next to run: start its orchestration now."""
    interrupted: Interruption | None = None
    replayed: bool = False
    """Answered from an earlier request with the same idempotency key; nothing was done."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """Orchestrations that must be told that their turn was cancelled."""

    turn_ids: list[str] = field(default_factory=list)
    """Dispatched turns that will end themselves."""
    closed_turn_ids: list[str] = field(default_factory=list)
    """Turns that had not started and are cancelled now."""
    approvals: list[tuple[str, str]] = field(default_factory=list)
    """(approval id, waiting instance id)."""
    waits: list[tuple[str, str]] = field(default_factory=list)
    """(wait id, waiting instance id)."""

    def with_those_of(self, other: Interruption) -> Interruption:
        return Interruption(
            [*self.turn_ids, *other.turn_ids],
            [*self.closed_turn_ids, *other.closed_turn_ids],
            [*self.approvals, *other.approvals],
            [*self.waits, *other.waits],
        )


@dataclass(frozen=True, slots=True)
class BrokenAnswer:
    """What an attempt that failed has told of its answer."""

    message_id: str
    attempt: int
    content: str
    reasoning: str


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """An answer without an end. feed: where its events are. content, reasoning: what its last attempt left when it
    failed; empty while it runs."""

    message_id: str
    feed: str
    content: str
    reasoning: str


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """What readers saw of an answer that is not finished any more. tokens: estimated."""

    content: str
    reasoning: str
    tokens: int


@dataclass(frozen=True, slots=True)
class FinishedTurn:
    """A closed turn, and the turn that runs next."""

    target: EventTarget
    closed_now: bool
    """False for a repeat; status and error are then those that it was closed with."""
    status: TurnStatus
    error: TurnError | None
    usage: Usage
    steps: int
    next_turn_id: str | None
    """A turn to start; a repeat names it again until it has begun."""
    agent_id: str | None
    agent_version: str | None
    model: str
    traceparent: str | None
    correlation_id: str | None
    began_at: datetime
    """Start of its first step; without steps, the time of its message."""
    ended_at: datetime
    finish_reason: FinishReason | None = None
    """Of its last answer."""
    answers: tuple[str, str] | None = None
    """Of a subagent's turn: (wait id, waiting instance id) of the call that it answers."""


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that has not ended. quiet_until: nothing need be heard of it before then."""

    turn_id: str
    session_id: str
    status: TurnStatus
    quiet_until: datetime
    runs_until: datetime | None = None
    """The time limit of tool calls that have begun and not ended."""
    restarts: int = 0
    """Since its last step was stored."""
    names_hub: bool = True
    """False: of older code, or of a process that did not know its hub yet."""


def queued_turn(turn_id: str, session_id: str, message_id: str, *, now: datetime, plan: TurnPlan) -> Turn:
    """A turn that has not started."""
    return Turn(
        id=turn_id,
        session_id=session_id,
        message_id=message_id,
        agent_id=plan.agent_id,
        agent_version=plan.agent_version,
        model=plan.model,
        status=TurnStatus.QUEUED,
        steps=0,
        usage=Usage(),
        created_at=now,
        started_at=None,
        ended_at=None,
        error=None,
    )
